"""Accounts that move: from a real Prosody and a real ejabberd to this server, and from here to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree as ET

import pytest

from tests.conversations import belongings
from tests.conversations.belongings import ENEMY, NAMES, PASSWORD, PRIVATE, ROSTER, TALK, VCARD, WAITING, Kept
from tests.conversations.peers import RealEjabberd, RealProsody
from tests.conversations.people import Person
from tests.conversations.process import RunningServer

Peer = TypeVar("Peer", RealProsody, RealEjabberd)
Make = Callable[..., RunningServer]
MakePeer = Callable[..., Peer]

# slixmpp takes the strongest mechanism there is; who moved here has no credentials but those for SCRAM-SHA-1.
SHA_1 = "disable_sasl_mechanisms = SCRAM-SHA-256, SCRAM-SHA-256-PLUS\n"

# Files of Prosody have no blocked contacts and no messages that wait, those of ejabberd no archives.
from_prosody = pytest.mark.parametrize("moved", [RealProsody], ids=["prosody"], indirect=True, scope="module")
from_ejabberd = pytest.mark.parametrize("moved", [RealEjabberd], ids=["ejabberd"], indirect=True, scope="module")


@dataclass(frozen=True)
class Moved:
    """This server after everybody moved to it, the files they came in, and their archives where they came from."""

    server: RunningServer
    files: list[Path]
    archives: dict[str, list[Kept]]

    def waiting(self) -> list[tuple[str, datetime]]:
        """The messages that wait for juliet, as the files have them."""
        messages = [
            message
            for file in self.files
            for message in ET.parse(file).iterfind(".//{urn:xmpp:pie:0}offline-messages/{jabber:client}message")
        ]
        return [(message.findtext("{jabber:client}body", ""), belongings.stamp(message)) for message in messages]


async def archives(server: RunningServer | RealProsody | RealEjabberd) -> dict[str, list[Kept]]:
    """What romeo and juliet have in their archives; neither is there for other messages."""
    read = {}
    for name in ("romeo", "juliet"):
        person = await Person(server, name, "reader", PASSWORD).arrives(presence=False)
        read[name] = await belongings.archive(person)
        await person.leaves()
    return read


@pytest.fixture(scope="module", params=[RealProsody, RealEjabberd], ids=["prosody", "ejabberd"])
def moved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """Everybody moves once; each test looks at something that the others leave alone."""
    old = request.param(tmp_path_factory.mktemp("old"))
    server = RunningServer(tmp_path_factory.mktemp("new"), SHA_1)
    try:
        old.start()
        old.user(*NAMES, password=PASSWORD)
        asyncio.run(belongings.fill(old))
        kept = asyncio.run(archives(old))
        files = old.export(tmp_path_factory.mktemp("files"))
        assert old.stop() == 0
        server.start()
        server.xmppctl("import", str(files[0].parent if isinstance(old, RealProsody) else files[0]))
        yield Moved(server, files, kept)
    finally:
        old.close()
        server.close()


@pytest.fixture
def make_peer(tmp_path: Path) -> Iterator[Callable[..., RealProsody | RealEjabberd]]:
    """Starts other servers, and ends them."""
    made: list[RealProsody | RealEjabberd] = []

    def make(kind: type[RealProsody | RealEjabberd], *options: str) -> RealProsody | RealEjabberd:
        folder = tmp_path / f"peer{len(made)}"
        folder.mkdir()
        made.append(kind(folder, *options))
        return made[-1].start()

    yield make
    for peer in made:
        peer.close()


def test_everybody_logs_in_with_the_old_password(moved: Moved) -> None:
    async def play() -> None:
        for name in NAMES:
            person = await Person(moved.server, name, "home", PASSWORD).arrives(presence=False)
            await person.leaves()

    asyncio.run(play())


def test_the_roster_is_there_and_subscriptions_that_wait_for_an_answer(moved: Moved) -> None:
    async def play() -> None:
        romeo = await Person(moved.server, "romeo", "home", PASSWORD).arrives()
        assert await belongings.roster(romeo) == ROSTER
        await romeo.sees("subscribe", "tybalt@localhost")
        benvolio = await Person(moved.server, "benvolio", "home", PASSWORD).arrives()
        await benvolio.sees("subscribe", "romeo@localhost")
        assert await belongings.roster(benvolio) == {}
        musketeer = await Person(moved.server, belongings.MUSKETEER, "home", PASSWORD).arrives()
        await romeo.sees("available", musketeer.boundjid.bare)
        for person in (romeo, benvolio, musketeer):
            await person.leaves()

    asyncio.run(play())


def test_the_vcard_and_private_data_are_there(moved: Moved) -> None:
    async def play() -> None:
        romeo = await Person(moved.server, "romeo", "home", PASSWORD).arrives(presence=False)
        assert await belongings.vcard(romeo) == belongings.fields(ET.fromstring(VCARD))
        assert await belongings.private(romeo) == [belongings.canonical(element) for element in PRIVATE.values()]
        await romeo.leaves()

    asyncio.run(play())


@from_ejabberd
def test_who_was_blocked_is_blocked(moved: Moved) -> None:
    async def play() -> None:
        romeo = await Person(moved.server, "romeo", "home", PASSWORD).arrives(presence=False)
        assert await belongings.blocked(romeo) == [ENEMY]
        await romeo.leaves()

    asyncio.run(play())


@from_prosody
def test_archives_have_the_same_messages_in_the_same_order(moved: Moved) -> None:
    assert [kept.body for kept in moved.archives["juliet"]] == [*TALK, *WAITING]
    here = asyncio.run(archives(moved.server))
    for name, there in moved.archives.items():
        assert [kept[1:] for kept in here[name]] == [kept[1:] for kept in there]
        assert len({kept.id for kept in here[name]}) == len(there)


@from_ejabberd
def test_messages_that_waited_arrive_with_the_times_when_they_came(moved: Moved) -> None:
    expected = moved.waiting()
    assert [body for body, _ in expected] == list(WAITING)

    async def play() -> None:
        juliet = await Person(moved.server, "juliet", "home", PASSWORD).arrives()
        for body, came in expected:
            heard = await juliet.hears()
            assert heard["body"] == body
            assert heard["from"] == "romeo@localhost/orchard"
            # What a server keeps of a time need not be finer than this.
            assert abs(belongings.stamp(heard.xml) - came) < timedelta(milliseconds=1)
        await juliet.leaves()

    asyncio.run(play())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (RealProsody, 'authentication = "internal_plain"'),
        (RealEjabberd, "auth_password_format: plain"),
        (RealEjabberd, "auth_password_format: scram\nauth_scram_hash: sha256"),
    ],
    ids=["prosody-plain", "ejabberd-plain", "ejabberd-sha-256"],
)
def test_a_folder_of_files_and_each_form_of_a_password(
    make_server: Make, make_peer: MakePeer[Peer], tmp_path: Path, kind: type[Peer], options: str
) -> None:
    old = make_peer(kind, options)
    old.user("romeo", belongings.MUSKETEER, password=PASSWORD)
    files = old.export(tmp_path / "files")
    server = make_server().start()
    server.xmppctl("import", str(files[0].parent))

    async def play() -> None:
        for name in ("romeo", belongings.MUSKETEER):
            person = await Person(server, name, "home", PASSWORD).arrives()
            await person.leaves()

    asyncio.run(play())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a server of our own that has everything."""
    folder = tmp_path_factory.mktemp("ours")
    server = RunningServer(folder)
    try:
        server.start()
        server.user(*NAMES, password=PASSWORD)
        asyncio.run(belongings.fill(server, pep=False))
        server.xmppctl("export", str(folder / "export.xml"))
    finally:
        server.close()
    return folder / "export.xml"


def one_by_one(file: Path, folder: Path) -> Path:
    """Put each account of a file into one of its own: Prosody takes no others."""
    folder.mkdir()
    for host in ET.parse(file).getroot().iterfind("{urn:xmpp:pie:0}host"):
        for user in host.iterfind("{urn:xmpp:pie:0}user"):
            root = ET.Element("{urn:xmpp:pie:0}server-data")
            ET.SubElement(root, host.tag, host.attrib).append(user)
            ET.ElementTree(root).write(folder / f"{user.attrib['name']}@{host.attrib['jid']}.xml", "utf-8")
    return folder


def test_prosody_takes_what_is_exported(make_peer: MakePeer[RealProsody], exported: Path, tmp_path: Path) -> None:
    prosody = make_peer(RealProsody)
    prosody.take(one_by_one(exported, tmp_path / "each"))

    async def play() -> None:
        romeo = await Person(prosody, "romeo", "there", PASSWORD).arrives(presence=False)
        assert await belongings.roster(romeo) == ROSTER
        assert await belongings.vcard(romeo) == belongings.fields(ET.fromstring(VCARD))
        assert await belongings.private(romeo) == [belongings.canonical(element) for element in PRIVATE.values()]
        assert [kept.body for kept in await belongings.archive(romeo)] == [*TALK, *WAITING]
        romeo.send_presence()
        await romeo.sees("subscribe", "tybalt@localhost")
        musketeer = await Person(prosody, belongings.MUSKETEER, "there", PASSWORD).arrives()
        await romeo.sees("available", musketeer.boundjid.bare)
        await musketeer.leaves()
        await romeo.leaves()

    asyncio.run(play())


def test_ejabberd_takes_what_is_exported(make_peer: MakePeer[RealEjabberd], exported: Path) -> None:
    ejabberd = make_peer(RealEjabberd)
    ejabberd.take(exported)
    # It knows SCRAM credentials only in the form that it writes itself: base64 of base64.
    for name in ("romeo", "juliet"):
        ejabberd.call("change_password", user=name, host="localhost", newpass=PASSWORD)
    # It leaves out that an answer is waited for.
    expected = {jid: contact._replace(ask="") for jid, contact in ROSTER.items()}

    async def play() -> None:
        romeo = await Person(ejabberd, "romeo", "there", PASSWORD).arrives()
        assert await belongings.roster(romeo) == expected
        assert await belongings.vcard(romeo) == belongings.fields(ET.fromstring(VCARD))
        assert await belongings.private(romeo) == [belongings.canonical(element) for element in PRIVATE.values()]
        await romeo.sees("subscribe", "tybalt@localhost")
        await romeo.leaves()
        juliet = await Person(ejabberd, "juliet", "there", PASSWORD).arrives()
        assert [(await juliet.hears())["body"] for _ in WAITING] == list(WAITING)
        await juliet.leaves()

    asyncio.run(play())
