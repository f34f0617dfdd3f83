"""Exports and imports (XEP-0227): between two stores, and from files that Prosody 0.12.3 and ejabberd 23.01 wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import fail

from xmppd.auth.credentials import verify_password
from xmppd.ctl import commands
from xmppd.ctl.commands import CommandError
from xmppd.ctl.portable import exporting, files
from xmppd.modules.mam.ids import time_of, to_text
from xmppd.storage import Archived, Range, RosterItem, StorageError
from xmppd.wire.delay import parse_stamp, stamp

from .conftest import NOW, World

EXPORTS = Path(__file__).parent / "exports"
PASSWORD = "O 'happy' <dagger> & ünicode"
PIE = "urn:xmpp:pie:0"


class Direct:
    """Commands on a world, as xmppctl has them."""

    def __init__(self, world: World) -> None:
        self.world = world

    def call(self, name: str, arguments: Any) -> Any:
        # Through JSON, as on the admin socket.
        result = self.world.run(commands.run(self.world.server, None, name, json.loads(json.dumps(arguments))))
        return json.loads(json.dumps(result))


def no_progress(what: str, total: int | None) -> Any:
    return nullcontext(lambda count, more=0: None)


def import_file(world: World, path: Path) -> dict[str, Any]:
    return files.import_(Direct(world), str(path), no_progress)


def export_file(world: World, path: Path) -> bytes:
    files.export(Direct(world), world.config.hosts, str(path), no_progress)
    return path.read_bytes()


@pytest.fixture
def import_user(world: World, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Imports juliet with what is given."""

    def run(inner: str, attributes: str = "name='juliet'", host: str = "example.org") -> dict[str, Any]:
        path = tmp_path / "users.xml"
        text = f"<server-data xmlns='{PIE}'><host jid='{host}'><user {attributes}>{inner}</user></host></server-data>"
        path.write_text(text)
        return import_file(world, path)

    return run


def account_id(world: World, local: str = "juliet", host: str = "example.org") -> int:
    row = world.run(_await(world.server.store.accounts.find(host, local)))
    assert row is not None
    return int(row.id)


async def _await(deferred: Any) -> Any:
    return await deferred


def get(world: World, deferred: Any) -> Any:
    return world.run(_await(deferred))


def archived(world: World, id: int) -> list[Archived]:
    rows: list[Archived] = get(world, world.server.store.archive.page(id, Range(), 1000, False, ()))[0]
    return rows


def body(row: Archived) -> str:
    return row.stanza.decode().partition("<body>")[2].partition("<")[0]


def result(body: str, when: str = "2023-11-14T22:00:00Z", id: str = "x", attributes: str = "") -> str:
    attributes = attributes or "from='romeo@example.net/o' to='juliet@example.org/b'"
    return (
        f"<result xmlns='urn:xmpp:mam:2' id='{id}'><forwarded xmlns='urn:xmpp:forward:0'>"
        f"<delay xmlns='urn:xmpp:delay' stamp='{when}'/>"
        f"<message xmlns='jabber:client' {attributes}><body>{body}</body></message></forwarded></result>"
    )


def archive(*results: str) -> str:
    return f"<archive xmlns='urn:xmpp:pie:0#mam'>{''.join(results)}</archive>"


# ---- what other servers wrote


@pytest.fixture
def localhost(config_path: Path) -> World:
    """A server with the host of the files."""
    config_path.write_text(config_path.read_text().replace("[host:example.com]", "[host:localhost]"))
    world = World(config_path)
    world.clock.advance(4e9 - NOW)  # long after the files were written
    return world


REAL = {
    "ejabberd/plain": {"SHA-1", "SHA-256", "SHA-512"},
    "ejabberd/scram-sha-1": {"SHA-1"},
    "ejabberd/scram-sha-512": {"SHA-512"},
    "prosody/plain": {"SHA-1", "SHA-256", "SHA-512"},
    "prosody/scram-sha-1": {"SHA-1"},
    "prosody/scram-sha-256-hash": {"SHA-256"},
}


@pytest.mark.parametrize("folder", REAL)
def test_accounts_and_contacts_of_another_server(localhost: World, folder: str) -> None:
    imported = import_file(localhost, EXPORTS / folder)
    assert (imported["created"], imported["failed"]) == (6, [])
    for local in ("romeo", "juliet", "jörg", "d\\27artagnan", "benvolio", "tybalt"):
        found = localhost.run(localhost.server.hosts["localhost"].accounts.credentials(local))
        assert found.keys.keys() == REAL[folder]
        for name, keys in found.keys.items():
            assert verify_password(keys, PASSWORD.encode(), name)
            assert not verify_password(keys, b"wrong", name)
    roster = get(localhost, localhost.server.store.roster.load(account_id(localhost, "romeo", "localhost")))
    items = {item.jid: item for item in roster.items}
    groups = {"Love & <War>", "\"double\" and 'single'", "Лучшие друзья"}
    assert set(items.pop("juliet@localhost").groups) == groups
    assert items == {
        "benvolio@localhost": RosterItem("benvolio@localhost", ask="subscribe"),
        "d\\27artagnan@localhost": RosterItem("d\\27artagnan@localhost", "D'Artagnan", "to", groups=("Musketeers",)),
        "jörg@localhost": RosterItem("jörg@localhost", "Jörg 🐎", "from"),
        "paris@example.net": RosterItem("paris@example.net", groups=("Love & <War>",)),
    }
    assert [(request.jid, request.stanza) for request in roster.requests] == [
        ("tybalt@localhost", b"<presence from='tybalt@localhost' to='romeo@localhost' type='subscribe'/>")
    ]


@pytest.mark.parametrize("folder", REAL)
def test_what_clients_keep_at_another_server(localhost: World, folder: str) -> None:
    imported = import_file(localhost, EXPORTS / folder)
    romeo = account_id(localhost, "romeo", "localhost")
    data = localhost.server.store.data
    card = get(localhost, data.get(romeo, "vcard", "")).decode()
    assert card.startswith("<vCard xmlns='vcard-temp'>")
    assert "<FN>Ромео Монтекки</FN>" in card
    private = get(localhost, data.all(romeo, "private"))
    assert private == {
        "exodus exodus:prefs": (
            "<exodus xmlns='exodus:prefs'><defaultnick>Ромео &amp; &lt;Co&gt;</defaultnick></exodus>".encode()
        ),
        "roster roster:delimiter": b"<roster xmlns='roster:delimiter'>::</roster>",
    }
    is_ejabberd = folder.startswith("ejabberd")
    blocked = {"enemy@example.net": b"enemy@example.net"} if is_ejabberd else {}
    assert get(localhost, data.all(romeo, "blocklist")) == blocked
    assert is_ejabberd or any("pubsub" in left_out["what"] for left_out in imported["left_out"])


BODIES = ["line one\nline two\n\nline four", "a rose 🌹 by any other name", "<b>not</b> &amp; markup ]]>", "  spaces  "]


def test_messages_that_waited_at_ejabberd_have_their_time_and_no_id_of_an_archive_that_is_not_there(
    localhost: World,
) -> None:
    import_file(localhost, EXPORTS / "ejabberd/scram-sha-1")
    waiting = get(localhost, localhost.server.store.offline.peek(account_id(localhost, "juliet", "localhost")))
    assert len(waiting) == 4
    assert [stamp(message.received)[:17] for message in waiting] == ["2026-11-21T17:48:"] * 4
    assert sorted(message.received for message in waiting) == [message.received for message in waiting]
    for message, body in zip(waiting, BODIES, strict=True):
        text = message.stanza.decode()
        assert text.startswith("<message from='romeo@localhost/orchard' to='juliet@localhost' ")
        assert body.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in text
        assert "stanza-id" not in text
        assert "archived" not in text


@pytest.mark.parametrize("local", ["romeo", "juliet"])
def test_the_archive_of_prosody_keeps_its_order_and_times(localhost: World, local: str) -> None:
    import_file(localhost, EXPORTS / "prosody/scram-sha-1")
    rows = archived(localhost, account_id(localhost, local, "localhost"))
    assert len(rows) == 7
    assert "Art thou not Romeo" in rows[0].stanza.decode()
    assert "a rose 🌹" in rows[4].stanza.decode()
    assert "  spaces  " in rows[6].stanza.decode()
    assert all(stamp(time_of(row.id)).endswith(":14.000Z") or ":17.000Z" in stamp(time_of(row.id)) for row in rows)
    other = "juliet@localhost" if local == "romeo" else "romeo@localhost"
    with_other = get(localhost, localhost.server.store.archive.page(
        account_id(localhost, local, "localhost"), Range(other), 100, False, ()
    ))  # fmt: skip
    assert with_other == (rows, True)


def test_a_folder_is_read_file_by_file_and_what_is_included_once(localhost: World, tmp_path: Path) -> None:
    assert import_file(localhost, EXPORTS / "ejabberd/plain")["failed"] == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="there is no file of users"):
        import_file(localhost, tmp_path / "empty")


# ---- there and back


@pytest.mark.parametrize("folder", REAL)
def test_what_was_exported_and_imported_is_exported_as_it_was(
    localhost: World, config_path: Path, tmp_path: Path, folder: str
) -> None:
    import_file(localhost, EXPORTS / folder)
    first = export_file(localhost, tmp_path / "first.xml")
    other = World(config_path)
    other.clock.advance(4e9 - NOW)
    imported = import_file(other, tmp_path / "first.xml")
    assert (imported["created"], imported["failed"], imported["left_out"]) == (6, [], [])
    assert export_file(other, tmp_path / "second.xml") == first


def test_more_than_one_piece_of_messages_of_both_kinds(
    world: World, config_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PIECE", 1)
    monkeypatch.setattr(exporting, "MESSAGES", 3)
    messages = "".join(
        f"<message xmlns='jabber:client' from='romeo@example.net/o' type='chat'><body>{n}</body></message>"
        for n in range(10)
    )
    path = tmp_path / "users.xml"
    path.write_text(
        f"<server-data xmlns='{PIE}'><host jid='example.org'><user name='juliet'><offline-messages>{messages}"
        f"</offline-messages>{archive(*(result(str(n)) for n in range(11)))}</user><user name='nurse'/></host>"
        "</server-data>"
    )
    assert import_file(world, path)["created"] == 2
    exported = export_file(world, path)
    assert [exported.count(tag) for tag in (b"<offline-messages>", b"<archive ", b"<result ")] == [1, 1, 11]
    bodies = [f"<body>{n}</body>".encode() for n in (*range(10), *range(11))]
    places = []
    for body in bodies:
        places.append(exported.index(body, places[-1] if places else 0))
    other = World(config_path)
    assert import_file(other, path)["created"] == 2
    assert export_file(other, path) == exported


def test_an_account_that_goes_while_it_is_exported_leaves_a_file_that_can_be_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, import_user: Callable[..., Any]
) -> None:
    monkeypatch.setattr(exporting, "PIECE", 1)
    monkeypatch.setattr(exporting, "MESSAGES", 3)
    import_user(archive(*(result(str(n)) for n in range(10))))
    connection = Direct(world)
    ask = connection.call

    def call(name: str, arguments: Any) -> Any:
        answer = ask(name, arguments)
        if name == "export" and arguments["position"] and arguments["position"][0] == "archive":
            get(world, world.server.store.accounts.delete(account_id(world)))
            connection.call = ask  # type: ignore[method-assign]
        return answer

    connection.call = call  # type: ignore[method-assign]
    path = tmp_path / "users.xml"
    files.export(connection, world.config.hosts, str(path), no_progress)
    assert import_file(world, path)["created"] == 1
    assert 0 < len(archived(world, account_id(world))) < 10


# ---- the account


def test_an_account_that_exists_is_left_alone(world: World, import_user: Callable[..., Any]) -> None:
    Direct(world).call("user create", {"jid": "juliet@example.org", "password": "first"})
    imported = import_user("<vCard xmlns='vcard-temp'/>", "name='juliet' password='second'")
    assert imported["failed"] == [
        {"jid": "juliet@example.org", "error": "the account juliet@example.org exists already"}
    ]
    assert imported["created"] == 0
    assert get(world, world.server.store.data.get(account_id(world), "vcard", "")) is None
    found = world.run(world.server.hosts["example.org"].accounts.credentials("juliet"))
    assert verify_password(found.keys["SHA-256"], b"first", "SHA-256")


@pytest.mark.parametrize(
    ("attributes", "host", "says"),
    [
        ("name='juliet'", "example.net", "example.net is not a host of this server"),
        ("name='a b'", "example.org", "is not an address"),
        ("name=''", "example.org", "is not an address"),
        ("name='juliet/x'", "example.org", "is no account"),
        ("name='juliet' password=''", "example.org", "this password cannot be used"),
    ],
)
def test_an_account_that_cannot_be_is_told(
    import_user: Callable[..., Any], attributes: str, host: str, says: str
) -> None:
    imported = import_user("<vCard xmlns='vcard-temp'/>", attributes, host)
    assert imported["created"] == 0
    assert says in imported["failed"][0]["error"]


def test_nobody_sees_an_account_before_it_is_whole_and_a_second_import_begins_it_anew(
    world: World, tmp_path: Path, import_user: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BATCH", 1)
    store = world.server.store
    offline = store.offline.append
    monkeypatch.setattr(store.offline, "append", lambda *arguments: fail(StorageError("no room")))
    inner = "<vCard xmlns='vcard-temp'/><offline-messages><message xmlns='jabber:client'/></offline-messages>"
    imported = import_user(inner, "name='juliet' password='pw'")
    assert imported["failed"] == [{"jid": "juliet@example.org", "error": "the store failed: no room"}]
    accounts = world.server.hosts["example.org"].accounts
    assert world.run(accounts.load("juliet")) is None
    assert world.run(accounts.credentials("juliet")) is None
    with pytest.raises(CommandError, match="exists already"):
        Direct(world).call("user create", {"jid": "juliet@example.org", "password": "pw"})
    assert b"juliet" not in export_file(world, tmp_path / "out.xml")

    monkeypatch.setattr(store.offline, "append", offline)
    inner = inner.replace("<vCard xmlns='vcard-temp'/>", "")
    assert import_user(inner, "name='juliet' password='pw'")["created"] == 1
    assert world.run(accounts.load("juliet")) is not None
    assert get(world, store.data.get(account_id(world), "vcard", "")) is None  # nothing of the first time
    assert len(get(world, store.offline.peek(account_id(world)))) == 1


def test_a_piece_for_an_account_that_is_not_being_imported_is_refused(world: World) -> None:
    Direct(world).call("user create", {"jid": "juliet@example.org", "password": "pw"})
    for jid in ("juliet@example.org", "romeo@example.org"):
        with pytest.raises(CommandError, match="is not being imported"):
            Direct(world).call("import", {"jid": jid, "elements": [], "end": True})


@pytest.mark.parametrize("elements", [None, "a", [1], [["a", "b"]], [["a", "b", 3]]])
def test_elements_are_lists_of_three_texts(world: World, elements: Any) -> None:
    with pytest.raises(CommandError, match="'elements' is a list"):
        Direct(world).call("import", {"jid": "juliet@example.org", "elements": elements, "begin": True})


def test_mechanisms_that_an_account_has_no_keys_for_are_told(import_user: Callable[..., Any]) -> None:
    without = import_user(scram("SCRAM-SHA-1", key="A" * 27 + "="))["without"]
    assert without == {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 1}
    without = import_user(scram("SCRAM-SHA-256", key="A" * 43 + "="), "name='romeo'")["without"]
    assert without == {"SCRAM-SHA-1": 1, "SCRAM-SHA-512": 1}
    assert import_user("", "name='tybalt' password='pw'")["without"] == {}
    assert "needs a new password" in import_user("", "name='nurse'")["left_out"][0]["what"]


# ---- what is wrong with one element does not keep the rest out


def scram(
    mechanism: str = "SCRAM-SHA-1", iterations: str = "4096", salt: str = "c2FsdA==", key: str = "A" * 27 + "="
) -> str:
    return (
        f"<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='{mechanism}'><iter-count>{iterations}</iter-count>"
        f"<salt>{salt}</salt><server-key>{key}</server-key><stored-key>{key}</stored-key></scram-credentials>"
    )


CLIENT = "xmlns='jabber:client'"
BAD = [
    (scram(iterations="0"), "iteration count"),
    (scram(iterations="04096"), "iteration count"),
    (scram(iterations="99999999"), "iteration count"),
    (scram(iterations="4096.5"), "iteration count"),
    (scram(salt=""), "the salt is empty"),
    (scram(salt="?"), "base64"),
    (scram(key="AAAA"), "not of a known length"),
    ("<scram-credentials xmlns='urn:xmpp:pie:0#scram'/>", "iteration count"),
    ("<query xmlns='jabber:iq:roster'><item jid='a b@c'/></query>", "the contact 'a b@c'"),
    ("<query xmlns='jabber:iq:roster'><item/></query>", "the contact ''"),
    (f"<presence {CLIENT} from='romeo@example.net'/>", "only subscription requests"),
    (f"<presence {CLIENT} type='subscribe'/>", "it is from nobody"),
    (f"<presence {CLIENT} type='subscribe' from='@'/>", "localpart is empty"),
    (f"<offline-messages><message {CLIENT} from='@'/></offline-messages>", "localpart is empty"),
    (f"<offline-messages><message {CLIENT}><delay xmlns='urn:xmpp:delay' stamp='now'/></message></offline-messages>",
     "a time is written like"),
    (archive("<result xmlns='urn:xmpp:mam:2'/>"), "there is no message in it"),
    (archive(result("x", when="yesterday")), "a time is written like"),
    (archive(result("x", attributes="from='@'")), "localpart is empty"),
    ("<query xmlns='jabber:iq:private'><a xmlns=''/></query>", "without a namespace"),
    (f"<query xmlns='jabber:iq:private'><a xmlns='{'u' * 2000}'/></query>", "at most 1024 bytes"),
    ("<prefs xmlns='urn:xmpp:mam:2' default='sometimes'/>", "always, never or roster"),
    ("<query xmlns='jabber:iq:privacy'><list name='a'/></query>", "not the default"),
    ("<query xmlns='jabber:iq:privacy'><default name='a'/><list name='a'><item action='deny' type='group' value='x'/>"
     "</list></query>", "more than to block"),
    ("<query xmlns='jabber:iq:privacy'><default name='a'/><list name='a'><item action='deny' type='jid' value='x'>"
     "<message/></item></list></query>", "more than to block"),
    ("<pubsub xmlns='http://jabber.org/protocol/pubsub'/>", "does not keep"),
]  # fmt: skip


@pytest.mark.parametrize(("inner", "says"), BAD)
def test_an_element_that_cannot_be_used_is_left_out_and_told(
    world: World, import_user: Callable[..., Any], inner: str, says: str
) -> None:
    imported = import_user(f"{inner}<vCard xmlns='vcard-temp'/>", "name='juliet' password='pw'")
    assert (imported["created"], imported["failed"]) == (1, [])
    assert [left_out["first"] for left_out in imported["left_out"]] == ["juliet@example.org"]
    assert says in imported["left_out"][0]["what"]
    assert get(world, world.server.store.data.get(account_id(world), "vcard", "")) == b"<vCard xmlns='vcard-temp'/>"


def test_a_roster_takes_what_a_roster_can_have(world: World, import_user: Callable[..., Any]) -> None:
    import_user(
        "<query xmlns='jabber:iq:roster'><item jid='Romeo@Example.net/orchard' subscription='remove' ask='subscribe'>"
        "<group>a</group><group>a</group><group/></item><item jid='juliet@example.org' subscription='both'/>"
        "<item jid='nurse@example.org' subscription='to' ask='subscribe' approved='true'/></query>"
    )
    roster = get(world, world.server.store.roster.load(account_id(world)))
    assert roster.items == [
        RosterItem("nurse@example.org", subscription="to", approved=True),
        RosterItem("romeo@example.net", groups=("a",)),
    ]
    assert roster.version == int(NOW)


# ---- archives


def test_ids_of_this_server_are_kept_and_others_made_from_the_time(
    world: World, import_user: Callable[..., Any]
) -> None:
    when = parse_stamp("2023-11-14T22:00:00Z") // 1000
    own = to_text(when.to_bytes(6, "big") + bytes([0x70, 5]) + b"\x80" + bytes(7))
    import_user(archive(result("0"), result("1", id=own), result("2", id=own), result("3", id="42")))
    rows = archived(world, account_id(world))
    assert [body(row) for row in rows] == ["0", "1", "2", "3"]
    assert to_text(rows[1].id) == own
    assert len({row.id for row in rows}) == 4
    assert [time_of(row.id) for row in rows] == [when] * 4


def test_order_is_that_of_the_file_and_no_message_is_of_the_future_or_before_the_beginning(
    world: World, import_user: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BATCH", 2)
    days = ["1969-01-01", "2023-01-02", "2023-01-01", "2023-01-01", "2099-01-01"]
    times = [f"{day}T00:00:00Z" for day in days]
    import_user(archive(*(result(str(n), when) for n, when in enumerate(times))))
    rows = archived(world, account_id(world))
    assert [body(row) for row in rows] == ["0", "1", "2", "3", "4"]
    second = parse_stamp(times[1]) // 1000
    assert [time_of(row.id) for row in rows] == [0, second, second, second, int(NOW * 1000)]


@pytest.mark.parametrize(
    ("attributes", "contact"),
    [
        ("from='romeo@example.net/o' to='juliet@example.org/b'", ("romeo@example.net", "o")),
        ("from='juliet@example.org/b' to='Romeo@example.net'", ("romeo@example.net", "")),
        ("to='romeo@example.net/o'", ("romeo@example.net", "o")),
        ("from='juliet@example.org/b' to='juliet@example.org'", ("juliet@example.org", "")),
        ("from='juliet@example.org/b'", ("juliet@example.org", "")),
        ("from='room@muc.example.net/nick' type='groupchat'", ("room@muc.example.net", "nick")),
    ],
)
def test_whom_a_message_was_with(
    world: World, import_user: Callable[..., Any], attributes: str, contact: tuple[str, str]
) -> None:
    import_user(archive(result("x", attributes=attributes)))
    page = world.server.store.archive.page(account_id(world), Range(*contact), 10, False, ())
    assert len(get(world, page)[0]) == 1


# ---- the file


def test_the_file_is_for_its_owner_and_in_its_place_when_it_is_whole(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Direct(world).call("user create", {"jid": "juliet@example.org", "password": "pw"})
    path = tmp_path / "sub" / "users.xml"
    path.parent.mkdir()
    path.write_bytes(b"before")
    monkeypatch.setattr(world.server.store.roster, "load", lambda account: fail(StorageError("gone")))
    with pytest.raises(CommandError, match="gone"):
        export_file(world, path)
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [("users.xml", b"before")]
    monkeypatch.undo()
    assert b"juliet" in export_file(world, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["users.xml"]
    with pytest.raises(CommandError, match="No such file"):
        export_file(world, tmp_path / "missing" / "users.xml")


def test_what_came_before_a_broken_place_is_imported(world: World, tmp_path: Path) -> None:
    path = tmp_path / "users.xml"
    path.write_text(f"<server-data xmlns='{PIE}'><host jid='example.org'><user name='a'/><user name='juliet'><b>")
    assert "no element found; 1 accounts were imported before" in import_file(world, path)["error"]
    assert world.run(world.server.hosts["example.org"].accounts.load("a")) is not None
    assert world.run(world.server.hosts["example.org"].accounts.load("juliet")) is None
