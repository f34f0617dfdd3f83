"""Client state indication (XEP-0352): what waits for a client that nobody looks at, and for how long."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.support.world import Player, World

BALCONY, ORCHARD = "juliet@example.org/balcony", "romeo@example.org/orchard"
ACTIVE, INACTIVE = "<active xmlns='urn:xmpp:csi:0'/>", "<inactive xmlns='urn:xmpp:csi:0'/>"
SM = "xmlns='urn:xmpp:sm:3'"
STATE = "<{} xmlns='http://jabber.org/protocol/chatstates'/>"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


@pytest.fixture
def juliet(world: World, romeo: Player) -> Player:
    """Inactive; she and Romeo see each other."""
    juliet = world.online(BALCONY)
    world.befriend(romeo, juliet)
    juliet.sends(INACTIVE)
    return juliet


def status(player: Player, text: str) -> None:
    player.sends(f"<presence><status>{text}</status></presence>")
    player.forget()


def typing(player: Player, state: str) -> None:
    player.sends(f"<message to='{BALCONY}' type='chat'>{STATE.format(state)}</message>")


def says(player: Player, body: str) -> None:
    player.sends(f"<message to='{BALCONY}' type='chat'><body>{body}</body></message>")


def told(player: Player) -> list[str]:
    """What has come: a status, a body, a chat state, or the name of anything else."""
    lines = []
    for element in player.all_that_came():
        said = element.findtext("{jabber:client}body") or element.findtext("{jabber:client}status")
        states = [child.tag.partition("}")[2] for child in element if "chatstates" in child.tag]
        lines.append(said or "".join(states) or element.get("type") or element.tag.partition("}")[2])
    return lines


def test_the_feature_is_announced_once_authenticated(world: World) -> None:
    world.account("juliet@example.org")
    player = world.connect()
    player.opens()
    assert b"<csi " not in player.received_bytes()  # only that a session may begin with it (XEP-0386)
    player.sends("</stream:stream>")
    player = world.connect()
    player.authenticate("juliet", "example.org", "secret")
    assert b"<csi xmlns='urn:xmpp:csi:0'/>" in player.received_bytes()


def test_presence_and_chat_states_wait_and_the_newest_of_each_sender_counts(
    world: World, romeo: Player, juliet: Player
) -> None:
    nurse = world.online("nurse@example.org/kitchen")
    nurse.sends(f"<presence to='{BALCONY}'><status>nurse</status></presence>")
    status(romeo, "one")
    typing(romeo, "composing")
    status(romeo, "two")
    typing(romeo, "paused")
    juliet.receives_nothing()
    juliet.sends(ACTIVE)
    assert told(juliet) == ["nurse", "two", "paused"]


def test_what_is_important_comes_at_once_and_what_waited_before_it(romeo: Player, juliet: Player) -> None:
    status(romeo, "away")
    says(romeo, "Hi")
    assert told(juliet) == ["away", "Hi"]
    status(romeo, "back")
    juliet.receives_nothing()


@pytest.mark.parametrize(
    "stanza",
    [
        "<message to='{}' type='chat'><body>Hi</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
        "<message to='{}'><received xmlns='urn:xmpp:receipts' id='1'/></message>",
        "<message to='{}' type='chat'/>",
        "<message to='{}' type='error'><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
        "<iq to='{}' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
    ],
)
def test_what_does_not_wait(romeo: Player, juliet: Player, stanza: str) -> None:
    romeo.sends(stanza.format(BALCONY))
    assert len(told(juliet)) == 1


def test_a_request_for_a_subscription_does_not_wait(world: World, juliet: Player) -> None:
    world.online("paris@example.org/church").sends("<presence type='subscribe' to='juliet@example.org'/>")
    assert told(juliet) == ["subscribe"]


def test_a_copy_of_a_chat_state_waits_and_one_of_a_message_does_not(world: World, juliet: Player) -> None:
    juliet.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    desk = world.login("juliet@example.org/desk")
    juliet.forget()
    for inner in (STATE.format("composing"), "<body>Hi</body>"):
        desk.sends(f"<message to='{ORCHARD}' type='chat'>{inner}</message>")
        assert len(juliet.all_that_came()) == (0 if "composing" in inner else 2)


def test_active_comes_before_what_follows_is_answered(romeo: Player, juliet: Player) -> None:
    """Section 5.1."""
    status(romeo, "away")
    juliet.sends(f"{ACTIVE}<iq type='get' id='1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert told(juliet) == ["away", "result"]
    status(romeo, "back")
    assert told(juliet) == ["back"]


def test_too_many_do_not_wait(world: World) -> None:
    world = World("csi_queue_size = 2\n")
    juliet = world.online(BALCONY)
    juliet.sends(INACTIVE)
    for name in ("a", "b", "c"):
        world.online(f"{name}@example.org/r").sends(f"<presence to='{BALCONY}'><status>{name}</status></presence>")
        assert told(juliet) == (["a", "b", "c"] if name == "c" else [])


def test_nothing_is_lost_at_a_cut_and_a_resumed_client_is_active(world: World, romeo: Player) -> None:
    """Section 5.2."""
    juliet = world.online(BALCONY)
    world.befriend(romeo, juliet)
    juliet.sends(f"<enable {SM} resume='true'/>")
    id = juliet.takes().get("id")
    juliet.sends(INACTIVE)
    status(romeo, "away")
    juliet.sends(f"<r {SM}/>")
    assert told(juliet) == ["a"]
    juliet.disconnects()
    says(romeo, "Hi")
    again = world.connect()
    again.authenticate("juliet", "example.org", "secret")
    again.forget()
    again.sends(f"<resume {SM} previd='{id}' h='0'/>")
    assert told(again)[:3] == ["resumed", "away", "Hi"]
    status(romeo, "back")
    assert told(again) == ["back"]


def test_a_client_that_has_gone_before_its_word_was_heard_is_not_inactive(world: World, romeo: Player) -> None:
    juliet = world.online(BALCONY)
    world.befriend(romeo, juliet)
    says(romeo, "x" * 90_000)
    says(romeo, "y" * 90_000)
    juliet.sends(f"<enable {SM} resume='true'/>")
    juliet.wire.stuck = True
    juliet.sends("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>" + INACTIVE)
    juliet.disconnects()
    assert world.server.sessions.of("juliet@example.org")[0].gate is None


def test_a_client_that_resumes_over_a_connection_that_seems_alive_is_active(world: World, romeo: Player) -> None:
    juliet = world.online(BALCONY)
    world.befriend(romeo, juliet)
    juliet.sends(f"<enable {SM} resume='true'/>")
    id = juliet.takes().get("id")
    juliet.sends(INACTIVE)
    status(romeo, "away")
    again = world.connect()
    again.authenticate("juliet", "example.org", "secret")
    again.forget()
    again.sends(f"<resume {SM} previd='{id}' h='0'/>")
    assert told(again)[:2] == ["resumed", "away"]
    status(romeo, "back")
    assert told(again) == ["back"]


def test_a_forged_copy_and_what_is_large_do_not_wait(romeo: Player, juliet: Player) -> None:
    inner = f"<message xmlns='jabber:client'>{STATE.format('active')}</message>"
    forged = (f"<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{inner}"
              "</forwarded></received>")  # fmt: skip
    romeo.sends(f"<message to='{BALCONY}' type='chat'><body>one</body>{forged}</message>")
    assert told(juliet) == ["one"]
    romeo.sends(f"<message to='{BALCONY}' type='chat'>{STATE.format('active')}<thread>{'t' * 5000}</thread></message>")
    assert told(juliet) == ["active"]


def test_copies_of_different_talks_do_not_replace_each_other(world: World, romeo: Player, juliet: Player) -> None:
    juliet.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    desk = world.login("juliet@example.org/desk")
    juliet.forget()
    world.online("nurse@example.org/kitchen")
    for to in (ORCHARD, "nurse@example.org"):
        desk.sends(f"<message to='{to}' type='chat'>{STATE.format('paused')}</message>")
    juliet.receives_nothing()
    juliet.sends(ACTIVE)
    assert len(juliet.all_that_came()) == 2


def test_it_needs_a_session(world: World) -> None:
    world.account("juliet@example.org")
    for state in (ACTIVE, INACTIVE):
        player = world.connect()
        player.authenticate("juliet", "example.org", "secret")
        player.forget()
        player.sends(state)
        assert ElementTree.tostring(player.takes()).count(b"not-authorized") == 1


def test_who_is_inactive_is_nobody_elses_business(romeo: Player, juliet: Player) -> None:
    """Section 6."""
    romeo.receives_nothing()
    juliet.sends(INACTIVE + ACTIVE + INACTIVE)
    romeo.receives_nothing()
    juliet.receives_nothing()
