"""Who sees whom come and go (RFC 6121 section 4): Romeo and Juliet see each other, Tybalt sees neither."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World
from xmppd.storage import RosterItem

ROMEO, JULIET, TYBALT = "romeo@example.org", "juliet@example.org", "tybalt@example.org"
ORCHARD, BALCONY, STREET = f"{ROMEO}/orchard", f"{JULIET}/balcony", f"{TYBALT}/street"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


@pytest.fixture
def juliet(world: World, romeo: Player) -> Player:
    """Online, and a friend of Romeo's."""
    juliet = world.online(BALCONY)
    world.befriend(romeo, juliet)
    return juliet


@pytest.fixture
def tybalt(world: World) -> Player:
    return world.online(STREET)


def nobody_hears_more(*players: Player) -> None:
    for player in players:
        player.receives_nothing()


# ---- coming


def test_initial_presence(world: World, romeo: Player, juliet: Player, tybalt: Player) -> None:
    """Sections 4.2 and 4.3: to contacts and all own resources, itself too; and the others' presence comes back."""
    garden = world.login(f"{ROMEO}/garden")
    nobody_hears_more(romeo, juliet, garden)
    garden.sends("<presence id='1'><show>away</show></presence>")
    show = "<show>away</show>"
    juliet.receives(f"<presence id='1' from='{garden.full}' to='{JULIET}'>{show}</presence>")
    romeo.receives(f"<presence id='1' from='{garden.full}' to='{ORCHARD}'>{show}</presence>")
    garden.receives(f"<presence id='1' from='{garden.full}' to='{garden.full}'>{show}</presence>")
    garden.receives(f"<presence from='{ORCHARD}' to='{garden.full}'/>")
    garden.receives(f"<presence from='{BALCONY}' to='{garden.full}'/>")
    nobody_hears_more(romeo, juliet, garden, tybalt)


def test_whoever_has_not_sent_presence_is_not_seen_and_sees_nobody(world: World, romeo: Player, juliet: Player) -> None:
    garden = world.login(f"{ROMEO}/garden")
    juliet.sends("<presence><show>away</show></presence>")
    romeo.receives(f"<presence from='{BALCONY}' to='{ROMEO}'><show>away</show></presence>")
    juliet.forget()
    garden.disconnects()
    nobody_hears_more(romeo, juliet, garden)


def test_a_contact_who_is_offline_is_unavailable(world: World, romeo: Player, juliet: Player) -> None:
    """Section 4.3.2: the answer to a probe of somebody who is not there."""
    juliet.disconnects()
    garden = world.login(f"{ROMEO}/garden")
    garden.sends("<presence/>")
    garden.takes()
    garden.receives(f"<presence from='{ORCHARD}' to='{garden.full}'/>")
    garden.receives(f"<presence type='unavailable' from='{JULIET}' to='{garden.full}'/>")
    garden.receives_nothing()


def test_a_contact_who_is_connected_only_is_unavailable(world: World, romeo: Player, juliet: Player) -> None:
    juliet.sends("<presence type='unavailable'/>")
    garden = world.login(f"{ROMEO}/garden")
    garden.sends("<presence/>")
    garden.takes()
    garden.takes()
    garden.receives(f"<presence type='unavailable' from='{JULIET}' to='{garden.full}'/>")
    garden.receives_nothing()


def test_all_resources_of_a_contact_are_seen_with_their_last_presence(
    world: World, romeo: Player, juliet: Player
) -> None:
    world.online(f"{JULIET}/tomb", "<presence><priority>-5</priority></presence>")
    juliet.sends("<presence><show>dnd</show></presence>")
    garden = world.login(f"{ROMEO}/garden")
    garden.sends("<presence/>")
    garden.takes()
    garden.takes()
    garden.receives(f"<presence from='{BALCONY}' to='{garden.full}'><show>dnd</show></presence>")
    priority = "<priority>-5</priority>"
    garden.receives(f"<presence from='{JULIET}/tomb' to='{garden.full}'>{priority}</presence>")


def test_one_direction(world: World, romeo: Player) -> None:
    """Juliet sees Romeo, he does not see her: no probe goes to her, his presence does."""
    juliet = world.online(BALCONY)
    juliet.sends(f"<presence type='subscribe' to='{ROMEO}'/>")
    romeo.sends(f"<presence type='subscribed' to='{JULIET}'/>")
    juliet.forget()
    garden = world.login(f"{ROMEO}/garden")
    garden.sends("<presence/>")
    juliet.receives(f"<presence from='{garden.full}' to='{JULIET}'/>")
    garden.takes()
    garden.takes()
    garden.receives_nothing()
    romeo.forget()
    juliet.sends("<presence><show>away</show></presence>")
    nobody_hears_more(romeo, garden)


# ---- updates and the end


def test_an_update(world: World, romeo: Player, juliet: Player, tybalt: Player) -> None:
    """Section 4.4: the same people; nobody is probed again."""
    romeo.sends("<presence><status>Soft!</status></presence>")
    juliet.receives(f"<presence from='{ORCHARD}' to='{JULIET}'><status>Soft!</status></presence>")
    romeo.receives(f"<presence from='{ORCHARD}' to='{ORCHARD}'><status>Soft!</status></presence>")
    nobody_hears_more(romeo, juliet, tybalt)


def test_the_end_of_presence(world: World, romeo: Player, juliet: Player, tybalt: Player) -> None:
    """Section 4.5: with what the client says of it; once; and the stream goes on."""
    garden = world.online(f"{ROMEO}/garden")
    for player in (romeo, juliet):
        player.forget()
    romeo.sends("<presence type='unavailable'><status>Good night</status></presence>")
    status = "<status>Good night</status>"
    juliet.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{JULIET}'>{status}</presence>")
    garden.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{garden.full}'>{status}</presence>")
    romeo.sends("<presence type='unavailable'/>")
    juliet.sends("<presence/>")
    juliet.forget()
    garden.receives(f"<presence from='{BALCONY}' to='{ROMEO}'/>")
    romeo.disconnects()
    nobody_hears_more(romeo, juliet, garden, tybalt)


@pytest.mark.parametrize("end", ["disconnects", "</stream:stream>", "<foo xmlns='jabber:client'/>", "conflict"])
def test_whoever_leaves_without_a_word_is_unavailable(
    world: World, romeo: Player, juliet: Player, end: str
) -> None:
    """Section 4.5.2."""
    if end == "disconnects":
        romeo.disconnects()
    elif end == "conflict":
        world.login(ORCHARD)
    else:
        romeo.sends(end)
    juliet.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{JULIET}'/>")
    romeo.disconnects()
    juliet.receives_nothing()


def test_a_resource_that_was_taken_over_stays_available(world: World, romeo: Player, juliet: Player) -> None:
    """The stream that lost it still has work to do, and must not say good-bye for the one that has it now."""
    successor = world.connect()
    successor.authenticate("romeo", "example.org", "secret")
    for name in ("1", "2", "3"):
        item = f"<item jid='nurse@example.org' name='{name}'/>"
        romeo.sends_only(f"<iq type='set' id='{name}'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
    bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>orchard</resource></bind>"
    successor.sends_only(f"<iq type='set' id='bind'>{bind}</iq>")
    successor.sends_only("<presence><show>chat</show></presence>")
    world.settle()
    assert romeo.wire.closed
    juliet.receives(f"<presence from='{ORCHARD}' to='{JULIET}'><show>chat</show></presence>")
    juliet.receives_nothing()


# ---- priority


def test_a_negative_priority_is_broadcast_like_others(romeo: Player, juliet: Player) -> None:
    romeo.sends("<presence><priority>-1</priority></presence>")
    juliet.receives(f"<presence from='{ORCHARD}' to='{JULIET}'><priority>-1</priority></presence>")


@pytest.mark.parametrize("priority", ["-128", "127", "+5", " 7\n", "007"])
def test_a_priority(romeo: Player, juliet: Player, priority: str) -> None:
    """Section 4.7.2.3: an integer from -128 to 127."""
    romeo.sends(f"<presence><priority>{priority}</priority></presence>")
    juliet.receives(f"<presence from='{ORCHARD}' to='{JULIET}'><priority>{priority}</priority></presence>")


@pytest.mark.parametrize(
    "priority", ["-129", "128", "1000000", "9" * 5000, "", "high", "1.5", "1_0", "٣", "0x1", "1 2", "--1"]
)
def test_no_priority(romeo: Player, juliet: Player, priority: str) -> None:
    romeo.sends(f"<presence id='1'><priority>{priority}</priority></presence>")
    romeo.receives_error("bad-request", "modify", name="presence", id="1")
    nobody_hears_more(romeo, juliet)


def test_a_priority_of_another_namespace_is_none(romeo: Player, juliet: Player) -> None:
    romeo.sends("<presence><priority xmlns='urn:example'>high</priority></presence>")
    juliet.takes()


# ---- directed presence (section 4.6)


def test_directed_presence_and_its_end(romeo: Player, juliet: Player, tybalt: Player) -> None:
    """Tybalt hears what was meant for him, no updates, and the end."""
    romeo.sends(f"<presence to='{TYBALT}' id='1'><status>Here</status></presence>")
    tybalt.receives(f"<presence id='1' from='{ORCHARD}' to='{TYBALT}'><status>Here</status></presence>")
    nobody_hears_more(romeo, juliet)
    romeo.sends("<presence><show>away</show></presence>")
    tybalt.receives_nothing()
    juliet.forget()
    romeo.sends("<presence type='unavailable'><status>Bye</status></presence>")
    tybalt.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{TYBALT}'><status>Bye</status></presence>")
    juliet.takes()
    romeo.sends("<presence/>")
    romeo.disconnects()
    tybalt.receives_nothing()


@pytest.mark.parametrize("to", [TYBALT, STREET])
def test_directed_presence_ends_with_the_connection(romeo: Player, tybalt: Player, to: str) -> None:
    """Section 4.6.3."""
    romeo.sends(f"<presence to='{to}'/>")
    tybalt.receives(f"<presence from='{ORCHARD}' to='{to}'/>")
    romeo.disconnects()
    tybalt.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{to}'/>")
    tybalt.receives_nothing()


def test_directed_presence_of_somebody_who_is_not_available(world: World, tybalt: Player) -> None:
    mercutio = world.login("mercutio@example.org/square")
    mercutio.sends(f"<presence to='{TYBALT}'/>")
    tybalt.receives(f"<presence from='{mercutio.full}' to='{TYBALT}'/>")
    mercutio.sends("</stream:stream>")
    tybalt.receives(f"<presence type='unavailable' from='{mercutio.full}' to='{TYBALT}'/>")


def test_directed_unavailable_is_not_said_again(romeo: Player, tybalt: Player) -> None:
    romeo.sends(f"<presence to='{TYBALT}'/>")
    romeo.sends(f"<presence type='unavailable' to='{TYBALT}'/>")
    tybalt.takes()
    tybalt.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{TYBALT}'/>")
    romeo.disconnects()
    tybalt.receives_nothing()


def test_directed_presence_to_a_subscriber_ends_once(romeo: Player, juliet: Player) -> None:
    """Section 4.6.3: the broadcast tells her already."""
    romeo.sends(f"<presence to='{JULIET}'><show>chat</show></presence>")
    juliet.receives(f"<presence from='{ORCHARD}' to='{JULIET}'><show>chat</show></presence>")
    romeo.disconnects()
    juliet.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{JULIET}'/>")
    juliet.receives_nothing()


def test_too_much_directed_presence() -> None:
    world = World("max_directed_presence = 2")
    romeo = world.online(ORCHARD)
    for room in ("a", "b", "a"):
        romeo.sends(f"<presence to='{room}@example.org'/>")
    romeo.receives_nothing()
    romeo.sends("<presence to='c@example.org' id='3'/>")
    romeo.receives_error("policy-violation", "modify", name="presence", id="3", sender="c@example.org")
    romeo.sends("<presence type='unavailable' to='a@example.org'/>")
    romeo.sends("<presence to='c@example.org'/>")
    romeo.receives_nothing()


# ---- types


@pytest.mark.parametrize("to", ["", f" to='{JULIET}'", f" to='{BALCONY}'", " to='example.org'"])
def test_a_type_that_is_none(romeo: Player, juliet: Player, to: str) -> None:
    """Section 4.7.1: bad-request."""
    romeo.sends(f"<presence type='available'{to} id='1'/>")
    sender = to[5:-1] or None
    romeo.receives_error("bad-request", "modify", name="presence", id="1", sender=sender)
    nobody_hears_more(romeo, juliet)


@pytest.mark.parametrize("type", ["error", "probe"])
def test_what_needs_an_address_and_has_none(romeo: Player, juliet: Player, type: str) -> None:
    romeo.sends(f"<presence type='{type}'/>")
    nobody_hears_more(romeo, juliet)


@pytest.mark.parametrize("to", [JULIET, BALCONY])
def test_an_error_is_delivered_and_never_answered(romeo: Player, juliet: Player, to: str) -> None:
    error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    romeo.sends(f"<presence type='error' to='{to}' id='1'>{error}</presence>")
    juliet.receives(f"<presence type='error' from='{ORCHARD}' to='{to}' id='1'>{error}</presence>")
    nobody_hears_more(romeo, juliet)
    for nobody in ("nobody@example.org", "nobody@elsewhere.example", "example.org"):
        romeo.sends(f"<presence type='error' to='{nobody}' id='1'>{error}</presence>")
    romeo.receives_nothing()


# ---- probes


def test_a_subscriber_probes(romeo: Player, juliet: Player) -> None:
    """Section 4.3.2: every available resource answers, to the one that asked."""
    juliet.sends(f"<presence type='probe' to='{ROMEO}'/>")
    juliet.receives(f"<presence from='{ORCHARD}' to='{BALCONY}'/>")
    romeo.sends("<presence type='unavailable'/>")
    juliet.forget()
    juliet.sends(f"<presence type='probe' to='{ROMEO}'/>")
    juliet.receives(f"<presence type='unavailable' from='{ROMEO}' to='{BALCONY}'/>")
    nobody_hears_more(romeo, juliet)


def test_an_own_resource_probes(world: World, romeo: Player) -> None:
    garden = world.login(f"{ROMEO}/garden")
    garden.sends(f"<presence type='probe' to='{ROMEO}'/>")
    garden.receives(f"<presence from='{ORCHARD}' to='{garden.full}'/>")
    nobody_hears_more(romeo, garden)


@pytest.mark.parametrize("to", [ROMEO, ORCHARD])
def test_a_stranger_probes_and_learns_nothing(romeo: Player, tybalt: Player, to: str) -> None:
    tybalt.sends(f"<presence type='probe' to='{to}'/>")
    nobody_hears_more(romeo, tybalt)


def test_a_roster_that_believes_in_a_subscription_is_corrected(world: World, romeo: Player, tybalt: Player) -> None:
    """Section 4.3.2: the answer to a stranger's probe is `unsubscribed`, and not the presence."""
    id = world.run(world.host.accounts.load("tybalt")).id
    world.result(world.store.roster.put(id, RosterItem(ROMEO, subscription="to"), 5))
    world = World(before=world)
    romeo = world.online(ORCHARD)
    tybalt = world.login(STREET)
    tybalt.sends("<iq type='get' id='1'><query xmlns='jabber:iq:roster' ver='5'/></iq>")
    tybalt.takes()
    tybalt.sends("<presence/>")
    tybalt.receives(f"<presence from='{STREET}' to='{STREET}'/>")
    tybalt.receives(f"<presence type='unsubscribed' from='{ROMEO}' to='{TYBALT}'/>")
    item = f"<item jid='{ROMEO}' subscription='none'/>"
    query = f"<query xmlns='jabber:iq:roster' ver='6'>{item}</query>"
    tybalt.receives(f"<iq type='set' id='*' to='{STREET}'>{query}</iq>")
    nobody_hears_more(romeo, tybalt)
