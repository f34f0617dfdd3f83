"""Carbons by XEP-0280: who gets a copy of what, and who does not."""

from __future__ import annotations

import pytest

from tests.support.disk import Slow, broken
from tests.support.world import Player, World

ENABLE = "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>"


def with_carbons(world: World, full: str) -> Player:
    player = world.online(full)
    player.sends(ENABLE)
    player.receives(f"<iq type='result' id='c' to='{full}'/>")
    return player


def copy(kind: str, to: str, message: str) -> str:
    return (
        f"<message type='chat' from='romeo@example.org' to='{to}'><{kind} xmlns='urn:xmpp:carbons:2'>"
        f"<forwarded xmlns='urn:xmpp:forward:0'>{message}</forwarded></{kind}></message>"
    )


def test_what_arrives_for_one_resource_is_copied_to_the_others() -> None:
    world = World()
    orchard = world.online("romeo@example.org/orchard")
    garden = with_carbons(world, "romeo@example.org/garden")
    home = world.online("romeo@example.org/home")
    juliet = world.online("juliet@example.org/balcony")
    for player in (orchard, garden, home):
        player.forget()
    juliet.sends("<message to='romeo@example.org/orchard' type='chat' id='1'><body>hi</body></message>")
    orchard.receives("<message from='juliet@example.org/balcony' to='romeo@example.org/orchard' type='chat' id='1'>"
                     "<body>hi</body></message>")  # fmt: skip
    garden.receives(copy(
        "received", "romeo@example.org/garden",
        "<message xmlns='jabber:client' from='juliet@example.org/balcony' to='romeo@example.org/orchard' type='chat' "
        "id='1'><body>hi</body></message>",
    ))  # fmt: skip
    home.receives_nothing()


def test_what_is_for_all_is_not_copied_to_those_who_get_it() -> None:
    world = World()
    garden = with_carbons(world, "romeo@example.org/garden")
    cellar = world.online("romeo@example.org/cellar", "<presence><priority>-1</priority></presence>")
    cellar.sends(ENABLE)
    juliet = world.online("juliet@example.org/balcony")
    garden.forget(), cellar.forget()
    juliet.sends("<message to='romeo@example.org' type='chat'><body>hi</body></message>")
    assert garden.takes().get("from") == "juliet@example.org/balcony"
    garden.receives_nothing()
    assert cellar.takes().get("from") == "romeo@example.org"  # a negative priority gets the copy instead
    cellar.receives_nothing()


def test_what_one_sends_is_copied_even_if_it_has_not_enabled_carbons() -> None:
    world = World()
    orchard = world.online("romeo@example.org/orchard")
    garden = with_carbons(world, "romeo@example.org/garden")
    juliet = world.online("juliet@example.org/balcony")
    garden.forget(), orchard.forget()
    orchard.sends("<message to='juliet@example.org' type='chat'><body>hi</body></message>")
    garden.receives(copy(
        "sent", "romeo@example.org/garden",
        "<message xmlns='jabber:client' from='romeo@example.org/orchard' to='juliet@example.org' type='chat'>"
        "<body>hi</body></message>",
    ))  # fmt: skip
    orchard.receives_nothing()
    juliet.takes()
    juliet.receives_nothing()


def test_disable_ends_it() -> None:
    world = World()
    garden = with_carbons(world, "romeo@example.org/garden")
    orchard = world.online("romeo@example.org/orchard")
    world.account("juliet@example.org")
    garden.sends("<iq type='set' id='d'><disable xmlns='urn:xmpp:carbons:2'/></iq>")
    garden.forget()
    orchard.sends("<message to='juliet@example.org' type='chat'><body>hi</body></message>")
    garden.receives_nothing()


@pytest.mark.parametrize(
    ("message", "copied"),
    [
        ("<message to='{}' type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>", True),
        ("<message to='{}'><body>normal</body></message>", True),
        ("<message to='{}'><received xmlns='urn:xmpp:receipts' id='1'/></message>", True),
        ("<message to='{}'><encrypted xmlns='urn:xmpp:omemo:1'/></message>", True),
        ("<message to='{}'><x xmlns='jabber:x:conference' jid='room@example.net'/></message>", True),
        ("<message to='{}'><x xmlns='http://jabber.org/protocol/muc#user'><invite/></x></message>", True),
        ("<message to='{}'><m:x xmlns:m='http://jabber.org/protocol/muc#user'><m:invite/></m:x></message>", True),
        ("<message to='{}'><body>&lt;invite/></body><y xmlns='y'><invite/></y><x "
         "xmlns='http://jabber.org/protocol/muc#user'/></message>", False),
        ("<message to='{}' type='chat'><body/><x xmlns='http://jabber.org/protocol/muc#user'/></message>", False),
        ("<message to='{}'><event xmlns='urn:example'/></message>", False),
        ("<message to='{}' type='headline'><body>news</body></message>", False),
        ("<message to='{}' type='groupchat'><body>all</body></message>", False),
        ("<message to='{}' type='chat'><body>x</body><private xmlns='urn:xmpp:carbons:2'/></message>", False),
        ("<message to='{}' type='chat'><body>x</body><no-copy xmlns='urn:xmpp:hints'/></message>", False),
        ("<message to='{}' type='chat'><received xmlns='urn:xmpp:carbons:2'/></message>", False),
    ],
)
def test_what_is_copied(message: str, copied: bool) -> None:
    world = World()
    garden = with_carbons(world, "romeo@example.org/garden")
    world.online("romeo@example.org/orchard")
    juliet = world.online("juliet@example.org/balcony")
    garden.forget()
    juliet.sends(message.format("romeo@example.org/orchard"))
    if copied:
        assert garden.takes()[0].tag == "{urn:xmpp:carbons:2}received"
    garden.receives_nothing()


def test_a_private_message_to_somebody_in_a_room_is_copied() -> None:
    """Section 6.1: outgoing ones are; what comes goes to each of the user's clients in the room anyway."""
    world = World()
    garden = with_carbons(world, "romeo@example.org/garden")
    orchard = world.online("romeo@example.org/orchard")
    garden.forget()
    mark = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
    orchard.sends(f"<message to='room@example.org/nurse' type='chat'><body>psst</body>{mark}</message>")
    assert garden.takes()[0].tag == "{urn:xmpp:carbons:2}sent"


@pytest.mark.parametrize("type", ["normal", "headline"])
def test_what_is_refused_is_not_copied(type: str) -> None:
    world = World()
    garden = with_carbons(world, "romeo@example.org/garden")
    garden.sends("<presence><priority>-1</priority></presence>")
    garden.forget()
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends(f"<message to='romeo@example.org/gone' type='{type}'><body>hi</body></message>")
    garden.receives_nothing()


def test_an_error_for_who_has_gone_is_seen_by_the_others() -> None:
    world = World()
    gardens = [with_carbons(world, f"romeo@example.org/{name}") for name in ("garden", "tomb")]
    gardens[0].sends("<presence><priority>-1</priority></presence>")
    juliet = world.online("juliet@example.org/balcony")
    for garden in gardens:
        garden.forget()
    juliet.sends("<message to='romeo@example.org/gone' type='error'><error type='cancel'/></message>")
    for garden in gardens:
        assert garden.takes()[0].tag == "{urn:xmpp:carbons:2}received"


def test_copies_wait_for_a_resource_that_hibernates() -> None:
    world = World()
    garden = with_carbons(world, "romeo@example.org/garden")
    garden.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    id = garden.takes().get("id")
    garden.disconnects()
    world.online("romeo@example.org/orchard")
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends("<message to='romeo@example.org/orchard' type='chat'><body>hi</body></message>")
    again = world.connect()
    again.authenticate("romeo", "example.org", "secret")
    again.sends(f"<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")
    kinds = [again.takes() for _ in range(3)]
    assert kinds[2][0].tag == "{urn:xmpp:carbons:2}received"


def test_carbons_are_announced() -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    for to in ("example.org", "romeo@example.org"):
        romeo.sends(f"<iq type='get' id='1' to='{to}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        features = {feature.get("var") for feature in romeo.takes()[0]}
        assert {"urn:xmpp:carbons:2", "urn:xmpp:carbons:rules:0"} <= features


def test_a_client_is_told_that_it_has_copies_once_that_is_on_disk() -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    romeo.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    romeo.forget()
    slow = Slow(world)
    slow.quick = False
    romeo.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    romeo.receives_nothing()
    slow.writes_all()
    assert romeo.takes().get("id") == "c"
    with broken(world):
        romeo.sends("<iq type='set' id='d'><disable xmlns='urn:xmpp:carbons:2'/></iq>")
        romeo.receives_error("resource-constraint", "wait", id="d")
