"""Federation with Prosody and ejabberd: slixmpp on both sides, found by DNS, by dialback and by certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conversations.appserver import AppServer
from tests.conversations.federated import APP, OURS, FederatedEjabberd, FederatedProsody, Land, OurServer
from tests.conversations.people import Person
from tests.conversations.process import PATIENCE

ROMEO = f"romeo@{OURS}"
Peer = FederatedProsody | FederatedEjabberd


@pytest.fixture
def land(tmp_path: Path) -> Iterator[Land]:
    """Names and certificates for the servers of one test, which are gone when it is over."""
    land = Land(tmp_path)
    yield land
    land.close()


def peer_of(land: Land, name: str, trusted: bool) -> Peer:
    """A peer by its name."""
    if name == "ejabberd":
        return land.keep(FederatedEjabberd(land, trusted))
    return land.keep(FederatedProsody(land, trusted, bidi=name == "prosody-bidi"))


async def pair(ours: OurServer, peer: Peer | OurServer) -> tuple[Person, Person]:
    """Romeo here, Juliet there."""
    romeo = await Person(ours, "romeo", "orchard", domain=OURS, managed=True).arrives()
    juliet = await Person(peer, "juliet", "balcony", domain=peer.domain).arrives()
    return romeo, juliet


async def befriend(romeo: Person, juliet: Person) -> None:
    """Both subscribe to each other, and see it in their rosters."""
    his, hers = romeo.boundjid.bare, juliet.boundjid.bare
    romeo.send_presence_subscription(hers)
    await juliet.sees("subscribe", his)
    juliet.send_presence_subscription(his, ptype="subscribed")
    juliet.send_presence_subscription(his)
    await romeo.sees_all(hers, "available", "subscribe")
    romeo.send_presence_subscription(hers, ptype="subscribed")
    await juliet.sees("available", his)
    for person, other in ((romeo, hers), (juliet, his)):
        while person.client_roster[other]["subscription"] != "both":
            await asyncio.wait_for(person.rosters.get(), PATIENCE)


async def talk(romeo: Person, juliet: Person) -> None:
    """Messages both ways, in order, and unharmed."""
    for sender, recipient in ((romeo, juliet), (juliet, romeo)):
        bodies = [f'line {number} <b>&amp;</b>\n"ſo schön" \N{ROSE}' for number in range(20)]
        for body in bodies:
            sender.send_message(recipient.boundjid.bare, body, mtype="chat")
        assert [(await recipient.hears())["body"] for _ in bodies] == bodies


async def look_around(romeo: Person, juliet: Person) -> None:
    """What each finds out about the other's server, and of the other."""
    for person, other, name in ((romeo, juliet, "Juliet"), (juliet, romeo, "Romeo")):
        info = await person.plugin["xep_0030"].get_info(other.boundjid.domain, timeout=PATIENCE)
        assert any(identity[0] == "server" for identity in info["disco_info"]["identities"])
        vcard = ElementTree.fromstring(f"<vCard xmlns='vcard-temp'><FN>{name} &amp; co</FN></vCard>")
        await other.make_iq_set(sub=vcard).send(timeout=PATIENCE)
        asked = person.make_iq_get(ito=other.boundjid.bare)
        asked.append(ElementTree.fromstring("<vCard xmlns='vcard-temp'/>"))
        got = await asked.send(timeout=PATIENCE)
        assert got.xml.findtext("{vcard-temp}vCard/{vcard-temp}FN") == f"{name} & co"
        assert await person.plugin["xep_0199"].ping(other.boundjid.full, timeout=PATIENCE)


async def push(ours: OurServer, peer: Peer, juliet: Person) -> None:
    """A push of ours reaches an app server that is a component of the peer."""
    app = await AppServer(f"{APP}.{peer.domain}", "secret", peer.component_port).arrives()
    phone = await Person(ours, "paris", "phone", domain=OURS, managed=True).arrives()
    enable = f"<enable xmlns='urn:xmpp:push:0' jid='{APP}.{peer.domain}' node='node'/>"
    await phone.make_iq_set(sub=ElementTree.fromstring(enable)).send(timeout=PATIENCE)
    gone = phone.wait_until("disconnected", PATIENCE)
    phone.abort()
    await gone
    juliet.send_message(f"paris@{OURS}", "wake up", mtype="chat")
    assert (await app.push()).fields["message-count"] == "1"
    await app.leaves()


@pytest.mark.parametrize("trusted", [False, True], ids=["dialback", "certificates"])
@pytest.mark.parametrize("name", ["prosody", "prosody-bidi", "ejabberd"])
def test_people_of_two_servers(land: Land, name: str, trusted: bool) -> None:
    ours = land.keep(OurServer(land, trusted, "s2s_secure_auth = yes" if trusted else ""))
    peer = peer_of(land, name, trusted)
    ours.user("romeo", "paris", domain=OURS)
    ours.start()
    peer.start()
    peer.user("juliet")

    async def play() -> None:
        romeo, juliet = await pair(ours, peer)
        await befriend(romeo, juliet)
        await talk(romeo, juliet)
        await look_around(romeo, juliet)
        await push(ours, peer, juliet)
        proof = "certificate" if trusted else "dialback"
        listed = ours.status()
        assert f"{OURS} > {peer.domain} ({proof})" in listed and f"{peer.domain} > {OURS} ({proof})" in listed
        assert ("both directions" in listed) == (name == "prosody-bidi")
        assert ("acknowledged" in listed) == (trusted and name != "ejabberd"), listed

        # The peer goes away and comes back; what is said meanwhile waits. What was sent at the last moment would come
        # once more, since nobody knows whether it was looked at.
        while "under way" in ours.status():
            continue
        peer.stop()
        land.names.add(peer.domain, 1)  # ejabberd takes messages before it knows what to do with them
        for number in range(5):
            romeo.send_message(juliet.boundjid.bare, f"meanwhile {number}", mtype="chat")
        await romeo.acknowledged()
        peer.start()
        juliet = await Person(peer, "juliet", "balcony", domain=peer.domain).arrives()
        assert await juliet.plugin["xep_0199"].ping(peer.domain, timeout=PATIENCE)
        land.names.add(peer.domain, peer.s2s_port)
        assert [(await juliet.hears())["body"] for _ in range(5)] == [f"meanwhile {number}" for number in range(5)]
        assert romeo.heard.empty()

        # So do we, at once, with what was acknowledged.
        for number in range(5):
            romeo.send_message(juliet.boundjid.bare, f"before the end {number}", mtype="chat")
        await romeo.acknowledged()
        assert ours.stop() == 0
        ours.start()
        heard = [(await juliet.hears())["body"] for _ in range(5)]
        assert heard == [f"before the end {number}" for number in range(5)]
        romeo = await Person(ours, "romeo", "orchard", domain=OURS).arrives()
        await talk(romeo, juliet)
        for person in (romeo, juliet):
            assert person.heard.empty()
            await person.leaves()

    try:
        asyncio.run(play())
    finally:
        print(ours.log())
    assert "Traceback" not in ours.log()


OTHER = "other.example"


def test_two_of_ours_over_direct_tls_and_a_kill(land: Land) -> None:
    """TLS comes first, both ways; what was acknowledged survives kill -9 of either side, and is heard once."""
    ours = land.keep(OurServer(land, True, "s2s_secure_auth = yes", direct_tls=True))
    theirs = land.keep(OurServer(land, True, "s2s_secure_auth = yes", direct_tls=True, domain=OTHER))
    ours.user("romeo", domain=OURS)
    theirs.user("juliet", domain=OTHER)
    ours.start()
    theirs.start()
    tested = ours.xmppctl("s2s", "test", OTHER)
    assert f"(direct TLS) of localhost: certificate: valid for {OTHER}" in tested

    async def play() -> None:
        romeo, juliet = await pair(ours, theirs)
        await talk(romeo, juliet)
        app = await AppServer(f"{APP}.{OTHER}", "secret", theirs.component_port).arrives()
        gone = asyncio.ensure_future(app.wait_until("message", PATIENCE))
        romeo.send_message(f"anybody@{APP}.{OTHER}", "for a component")
        await gone
        await app.leaves()

        # What is not acknowledged when a server dies comes once more.
        await romeo.acknowledged()
        while "under way" in theirs.status():
            continue
        theirs.kill()
        for number in range(5):
            romeo.send_message(f"juliet@{OTHER}", f"while she is away {number}", mtype="chat")
        await romeo.acknowledged()
        ours.kill()
        ours.start()
        theirs.start()
        juliet = await Person(theirs, "juliet", "balcony", domain=OTHER).arrives()
        heard = [(await juliet.hears())["body"] for _ in range(5)]
        assert heard == [f"while she is away {number}" for number in range(5)]
        romeo = await Person(ours, "romeo", "orchard", domain=OURS).arrives()
        await talk(romeo, juliet)
        assert romeo.heard.empty() and juliet.heard.empty()

    asyncio.run(play())
    assert "Traceback" not in ours.log() + theirs.log()


def test_what_cannot_be_reached_says_why(land: Land) -> None:
    ours = land.keep(OurServer(land, False, "s2s_secure_auth = yes")).start()
    land.names.add("closed.example", 1)
    theirs = land.keep(OurServer(land, False, domain=OTHER)).start()
    for domain, why in (
        ("nowhere.example", "nowhere.example has no address"),
        ("closed.example", "Connection refused"),
        (OTHER, f"{OTHER} needs a valid certificate: its certificate is not valid: self-signed certificate"),
    ):
        with pytest.raises(AssertionError):  # the exit status is 1
            ours.xmppctl("s2s", "test", domain)
        assert why in ours.said, ours.said
    assert theirs.is_running()
