"""Presence subscriptions (RFC 6121 section 3) as conversations of Romeo, who asks, and Juliet, who answers."""

from __future__ import annotations

import re

import pytest

from tests.support.world import Player, World
from xmppd.storage import RosterItem

ROMEO, JULIET = "romeo@example.org", "juliet@example.org"
ORCHARD, BALCONY = f"{ROMEO}/orchard", f"{JULIET}/balcony"
ASKS = f"<presence type='subscribe' from='{ROMEO}' to='{JULIET}'/>"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


@pytest.fixture
def juliet(world: World) -> Player:
    return world.online(BALCONY)


def push(player: Player, attributes: str) -> None:
    """The next that the player receives is a push of an item with these attributes."""
    query = f"<query xmlns='jabber:iq:roster' ver='*'><item {attributes}/></query>"
    player.receives(f"<iq type='set' id='*' to='{player.full}'>{query}</iq>")


def tells(player: Player, type: str, to: str) -> None:
    player.sends(f"<presence type='{type}' to='{to}'/>")


def nobody_says_more(*players: Player) -> None:
    for player in players:
        player.receives_nothing()


def subscribe(romeo: Player, juliet: Player) -> None:
    """Romeo may see Juliet's presence; passed over."""
    tells(romeo, "subscribe", JULIET)
    tells(juliet, "subscribed", ROMEO)
    romeo.forget()
    juliet.forget()


# ---- a request and its answers


def test_a_request_is_approved(romeo: Player, juliet: Player) -> None:
    """Section 3.1: the push follows the approval, and Juliet's presence the push."""
    romeo.sends(f"<presence type='subscribe' to='{JULIET}' id='xk3h1v69'/>")
    push(romeo, f"jid='{JULIET}' subscription='none' ask='subscribe'")
    juliet.receives(f"<presence type='subscribe' from='{ROMEO}' to='{JULIET}' id='xk3h1v69'/>")
    nobody_says_more(romeo, juliet)
    juliet.sends(f"<presence type='subscribed' to='{ROMEO}' id='h4v1c4kj'/>")
    push(juliet, f"jid='{ROMEO}' subscription='from'")
    romeo.receives(f"<presence type='subscribed' from='{JULIET}' to='{ROMEO}' id='h4v1c4kj'/>")
    push(romeo, f"jid='{JULIET}' subscription='to'")
    romeo.receives(f"<presence from='{BALCONY}' to='{ROMEO}'/>")
    nobody_says_more(romeo, juliet)


def test_and_the_other_way_round(romeo: Player, juliet: Player) -> None:
    subscribe(romeo, juliet)
    tells(juliet, "subscribe", ROMEO)
    push(juliet, f"jid='{ROMEO}' subscription='from' ask='subscribe'")
    romeo.receives(f"<presence type='subscribe' from='{JULIET}' to='{ROMEO}'/>")
    tells(romeo, "subscribed", JULIET)
    push(romeo, f"jid='{JULIET}' subscription='both'")
    juliet.receives(f"<presence type='subscribed' from='{ROMEO}' to='{JULIET}'/>")
    push(juliet, f"jid='{ROMEO}' subscription='both'")
    juliet.receives(f"<presence from='{ORCHARD}' to='{JULIET}'/>")
    nobody_says_more(romeo, juliet)


def test_a_request_is_denied(world: World, romeo: Player, juliet: Player) -> None:
    """Section 3.2.1: nothing of it stays with Juliet."""
    tells(romeo, "subscribe", JULIET)
    romeo.forget()
    juliet.forget()
    tells(juliet, "unsubscribed", ROMEO)
    romeo.receives(f"<presence type='unsubscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='none'")
    nobody_says_more(romeo, juliet)
    tomb = world.login(f"{JULIET}/tomb")
    tomb.sends("<presence/>")
    tomb.receives(f"<presence from='{tomb.full}' to='{tomb.full}'/>")
    tomb.receives(f"<presence from='{BALCONY}' to='{tomb.full}'/>")
    tomb.receives_nothing()


def test_a_request_is_taken_back(world: World, romeo: Player, juliet: Player) -> None:
    """Section 3.3: an unsubscribe while the request waits."""
    tells(romeo, "subscribe", JULIET)
    romeo.forget()
    juliet.forget()
    tells(romeo, "unsubscribe", JULIET)
    push(romeo, f"jid='{JULIET}' subscription='none'")
    juliet.receives(f"<presence type='unsubscribe' from='{ROMEO}' to='{JULIET}'/>")
    nobody_says_more(romeo, juliet)
    juliet.sends("<presence type='unavailable'/>")
    juliet.sends("<presence/>")
    juliet.receives(f"<presence from='{BALCONY}' to='{BALCONY}'/>")
    juliet.receives_nothing()


def test_a_second_request_is_not_delivered(romeo: Player, juliet: Player) -> None:
    """Appendix A.3.1: it waits already."""
    tells(romeo, "subscribe", JULIET)
    juliet.receives(ASKS)
    romeo.forget()
    tells(romeo, "subscribe", JULIET)
    nobody_says_more(romeo, juliet)


def test_a_request_reaches_every_available_resource(world: World, romeo: Player) -> None:
    """Section 3.1.3; one that is not available gets it when it is."""
    balcony, tomb = world.online(BALCONY, "<presence><priority>-1</priority></presence>"), world.login(f"{JULIET}/tomb")
    tells(romeo, "subscribe", JULIET)
    balcony.receives(ASKS)
    tomb.receives_nothing()
    tomb.sends("<presence/>")
    tomb.receives(f"<presence from='{tomb.full}' to='{tomb.full}'/>")
    tomb.takes()
    tomb.receives(ASKS)
    tomb.sends("<presence><show>away</show></presence>")
    tomb.takes()
    tomb.receives_nothing()


def test_a_request_is_for_available_resources(world: World, romeo: Player) -> None:
    """Section 3.1.3: whether they have asked for the roster does not matter."""
    tomb, well = world.login(f"{JULIET}/tomb"), world.online(f"{JULIET}/well")
    tomb.sends("<presence/>")
    well.sends("<presence type='unavailable'/>")
    tomb.forget()
    well.forget()
    tells(romeo, "subscribe", JULIET)
    tomb.receives(ASKS)
    nobody_says_more(tomb, well)


def test_all_of_romeos_clients_see_what_happens(world: World, romeo: Player, juliet: Player) -> None:
    """Section 3.1.6: the answer goes to interested resources, available or not."""
    garden, tomb = world.login(f"{ROMEO}/garden"), world.login(f"{ROMEO}/tomb")
    garden.sends("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    garden.forget()
    tells(romeo, "subscribe", JULIET)
    push(garden, f"jid='{JULIET}' subscription='none' ask='subscribe'")
    tells(juliet, "subscribed", ROMEO)
    garden.receives(f"<presence type='subscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(garden, f"jid='{JULIET}' subscription='to'")
    nobody_says_more(garden, tomb)


def test_a_request_to_a_resource_is_for_the_account(romeo: Player, juliet: Player) -> None:
    """Section 3.1.1: the address is made bare."""
    tells(romeo, "subscribe", BALCONY)
    push(romeo, f"jid='{JULIET}' subscription='none' ask='subscribe'")
    juliet.receives(ASKS)


# ---- Juliet is offline


def test_a_request_waits_for_its_answer(world: World, romeo: Player) -> None:
    """Section 3.1.3: the whole stanza, at each login until it is answered; then not again."""
    world.account(JULIET)
    status = "<status>It is I</status><nick xmlns='http://jabber.org/protocol/nick'>Romeo</nick>"
    romeo.sends(f"<presence type='subscribe' to='{JULIET}' id='1'>{status}</presence>")
    push(romeo, f"jid='{JULIET}' subscription='none' ask='subscribe'")
    request = f"<presence type='subscribe' from='{ROMEO}' to='{JULIET}' id='1'>{status}</presence>"
    for place in ("balcony", "tomb"):
        juliet = world.login(f"{JULIET}/{place}")
        juliet.receives_nothing()
        juliet.sends("<presence/>")
        juliet.receives(f"<presence from='{juliet.full}' to='{juliet.full}'/>")
        juliet.receives(request)
        juliet.receives_nothing()
        juliet.disconnects()
    juliet = world.login(BALCONY)
    tells(juliet, "subscribed", ROMEO)
    juliet.sends("<presence/>")
    juliet.receives(f"<presence from='{BALCONY}' to='{BALCONY}'/>")
    juliet.receives_nothing()
    romeo.receives(f"<presence type='subscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='to'")
    romeo.receives(f"<presence from='{BALCONY}' to='{ROMEO}'/>")
    romeo.receives_nothing()


def test_a_request_survives_a_restart(world: World, romeo: Player) -> None:
    world.account(JULIET)
    tells(romeo, "subscribe", JULIET)
    world = World(before=world)
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    juliet.takes()
    juliet.receives(ASKS)
    tells(juliet, "subscribed", ROMEO)
    world = World(before=world)
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    juliet.takes()
    juliet.receives_nothing()
    romeo = world.login(ORCHARD)
    romeo.sends("<presence/>")
    romeo.receives(f"<presence from='{ORCHARD}' to='{ORCHARD}'/>")
    romeo.receives(f"<presence from='{BALCONY}' to='{ORCHARD}'/>")
    romeo.receives_nothing()


def test_a_long_request_is_kept_without_what_is_in_it(world: World, romeo: Player) -> None:
    world.account(JULIET)
    romeo.sends(f"<presence type='subscribe' to='{JULIET}'><status>{'x' * 5000}</status></presence>")
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    juliet.takes()
    juliet.receives(ASKS)


def test_an_answer_waits_in_the_roster(world: World, romeo: Player, juliet: Player) -> None:
    """Romeo is offline when Juliet approves: he finds it in his roster, and her presence when he comes."""
    tells(romeo, "subscribe", JULIET)
    romeo.disconnects()
    tells(juliet, "subscribed", ROMEO)
    romeo = world.login(ORCHARD)
    romeo.sends("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    item = f"<item jid='{JULIET}' subscription='to'/>"
    query = f"<query xmlns='jabber:iq:roster' ver='2'>{item}</query>"
    romeo.receives(f"<iq type='result' id='1' to='{ORCHARD}'>{query}</iq>")
    romeo.sends("<presence/>")
    romeo.takes()
    romeo.receives(f"<presence from='{BALCONY}' to='{ORCHARD}'/>")


# ---- the end of a subscription


def test_juliet_cancels(romeo: Player, juliet: Player) -> None:
    """Section 3.2: Romeo sees her go, and why, before his roster says so."""
    subscribe(romeo, juliet)
    tells(juliet, "unsubscribed", ROMEO)
    push(juliet, f"jid='{ROMEO}' subscription='none'")
    romeo.receives(f"<presence type='unavailable' from='{BALCONY}' to='{ROMEO}'/>")
    romeo.receives(f"<presence type='unsubscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='none'")
    juliet.sends("<presence><show>away</show></presence>")
    juliet.forget()
    nobody_says_more(romeo)


def test_romeo_unsubscribes(romeo: Player, juliet: Player) -> None:
    """Section 3.3."""
    subscribe(romeo, juliet)
    tells(romeo, "unsubscribe", JULIET)
    push(romeo, f"jid='{JULIET}' subscription='none'")
    juliet.receives(f"<presence type='unsubscribe' from='{ROMEO}' to='{JULIET}'/>")
    push(juliet, f"jid='{ROMEO}' subscription='none'")
    romeo.receives(f"<presence type='unavailable' from='{BALCONY}' to='{ROMEO}'/>")
    nobody_says_more(romeo, juliet)


def test_a_mutual_subscription_ends_on_one_side(world: World, romeo: Player, juliet: Player) -> None:
    world.befriend(romeo, juliet)
    tells(romeo, "unsubscribe", JULIET)
    push(romeo, f"jid='{JULIET}' subscription='from'")
    juliet.receives(f"<presence type='unsubscribe' from='{ROMEO}' to='{JULIET}'/>")
    push(juliet, f"jid='{ROMEO}' subscription='to'")
    romeo.receives(f"<presence type='unavailable' from='{BALCONY}' to='{ROMEO}'/>")
    romeo.sends("<presence><show>away</show></presence>")
    juliet.receives(f"<presence from='{ORCHARD}' to='{JULIET}'><show>away</show></presence>")


def test_a_contact_is_removed(world: World, romeo: Player, juliet: Player) -> None:
    """RFC 6121 section 2.5.2: both subscriptions end, each by its stanza."""
    world.befriend(romeo, juliet)
    item = f"<item jid='{JULIET}' subscription='remove'/>"
    romeo.sends(f"<iq type='set' id='1'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
    push(romeo, f"jid='{JULIET}' subscription='remove'")
    romeo.receives(f"<presence type='unavailable' from='{BALCONY}' to='{ROMEO}'/>")
    romeo.receives(f"<iq type='result' id='1' to='{ORCHARD}'/>")
    juliet.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{JULIET}'/>")
    juliet.receives(f"<presence type='unsubscribe' from='{ROMEO}' to='{JULIET}'/>")
    push(juliet, f"jid='{ROMEO}' subscription='to'")
    juliet.receives(f"<presence type='unsubscribed' from='{ROMEO}' to='{JULIET}'/>")
    push(juliet, f"jid='{ROMEO}' subscription='none'")
    nobody_says_more(romeo, juliet)


def test_the_contact_that_one_waits_for_is_removed(romeo: Player, juliet: Player) -> None:
    tells(romeo, "subscribe", JULIET)
    juliet.forget()
    romeo.forget()
    item = f"<item jid='{JULIET}' subscription='remove'/>"
    romeo.sends(f"<iq type='set' id='1'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
    juliet.receives(f"<presence type='unsubscribe' from='{ROMEO}' to='{JULIET}'/>")
    nobody_says_more(juliet)


def test_a_contact_that_asks_is_removed(world: World, romeo: Player, juliet: Player) -> None:
    """The request goes with the contact, and is denied."""
    juliet.sends(f"<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='{ROMEO}'/></query></iq>")
    tells(romeo, "subscribe", JULIET)
    romeo.forget()
    juliet.forget()
    item = f"<item jid='{ROMEO}' subscription='remove'/>"
    juliet.sends(f"<iq type='set' id='2'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
    romeo.receives(f"<presence type='unsubscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='none'")
    world = World(before=world)
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    juliet.takes()
    juliet.receives_nothing()


def test_an_account_is_deleted(world: World, romeo: Player, juliet: Player) -> None:
    """Contacts see it go, and those who wait for its answer get one."""
    tybalt = world.online("tybalt@example.org/street")
    world.befriend(romeo, juliet)
    tells(tybalt, "subscribe", JULIET)
    tybalt.forget()
    juliet.forget()
    account = world.run(world.host.accounts.load("juliet"))
    world.run(world.host.accounts.delete(account))
    romeo.receives(f"<presence type='unavailable' from='{BALCONY}' to='{ROMEO}'/>")
    romeo.receives(f"<presence type='unsubscribe' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='to'")
    romeo.receives(f"<presence type='unsubscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='none'")
    tybalt.receives(f"<presence type='unsubscribed' from='{JULIET}' to='tybalt@example.org'/>")
    push(tybalt, f"jid='{JULIET}' subscription='none'")
    assert juliet.wire.closed


# ---- the server answers by itself


def test_a_request_of_a_subscriber_is_approved_at_once(romeo: Player, juliet: Player) -> None:
    """Section 3.1.3: Juliet is not bothered; Romeo, who knows, is only told her presence again."""
    subscribe(romeo, juliet)
    tells(romeo, "subscribe", JULIET)
    romeo.receives(f"<presence from='{BALCONY}' to='{ROMEO}'/>")
    nobody_says_more(romeo, juliet)


def test_a_roster_that_lost_a_subscription_gets_it_back(world: World, romeo: Player, juliet: Player) -> None:
    subscribe(romeo, juliet)
    id = world.run(world.host.accounts.load("romeo")).id
    world.result(world.store.roster.put(id, RosterItem(JULIET), 9))
    world = World(before=world)
    romeo, juliet = world.online(ORCHARD), world.online(BALCONY)
    romeo.forget()
    tells(romeo, "subscribe", JULIET)
    push(romeo, f"jid='{JULIET}' subscription='none' ask='subscribe'")
    romeo.receives(f"<presence type='subscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='to'")
    romeo.receives(f"<presence from='{BALCONY}' to='{ROMEO}'/>")
    nobody_says_more(romeo, juliet)


def test_juliet_approves_in_advance(romeo: Player, juliet: Player) -> None:
    """Section 3.4: Romeo learns of it by asking, and Juliet is not asked."""
    tells(juliet, "subscribed", ROMEO)
    push(juliet, f"jid='{ROMEO}' subscription='none' approved='true'")
    nobody_says_more(romeo, juliet)
    tells(romeo, "subscribe", JULIET)
    push(romeo, f"jid='{JULIET}' subscription='none' ask='subscribe'")
    push(juliet, f"jid='{ROMEO}' subscription='from'")
    romeo.receives(f"<presence type='subscribed' from='{JULIET}' to='{ROMEO}'/>")
    push(romeo, f"jid='{JULIET}' subscription='to'")
    romeo.receives(f"<presence from='{BALCONY}' to='{ROMEO}'/>")
    nobody_says_more(romeo, juliet)


def test_an_approval_in_advance_survives_a_restart(world: World, romeo: Player, juliet: Player) -> None:
    tells(juliet, "subscribed", ROMEO)
    world = World(before=world)
    romeo, juliet = world.online(ORCHARD), world.online(BALCONY)
    tells(romeo, "subscribe", JULIET)
    push(juliet, f"jid='{ROMEO}' subscription='from'")


def test_an_approval_in_advance_is_taken_back(romeo: Player, juliet: Player) -> None:
    """Section 3.4.3: from then on Romeo's request is one like others."""
    tells(juliet, "subscribed", ROMEO)
    juliet.forget()
    tells(juliet, "unsubscribed", ROMEO)
    push(juliet, f"jid='{ROMEO}' subscription='none'")
    nobody_says_more(romeo, juliet)
    tells(romeo, "subscribe", JULIET)
    juliet.receives(ASKS)


# ---- nobody there, nobody else


@pytest.mark.parametrize("type", ["subscribed", "unsubscribe", "unsubscribed"])
def test_what_was_not_asked_for_changes_nothing(romeo: Player, juliet: Player, type: str) -> None:
    """Appendix A.3: Juliet never hears of it."""
    tells(romeo, type, JULIET)
    nobody_says_more(juliet)
    juliet.sends("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    juliet.receives(f"<iq type='result' id='1' to='{BALCONY}'><query xmlns='jabber:iq:roster' ver='0'/></iq>")


@pytest.mark.parametrize("type", ["subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe"])
def test_an_account_that_does_not_exist_looks_like_one_that_does_not_answer(
    world: World, romeo: Player, type: str
) -> None:
    """Section 8.5.1."""
    world.account("offline@example.org")
    heard = []
    for contact in ("nobody@example.org", "offline@example.org"):
        before = len(romeo.received_bytes())
        tells(romeo, type, contact)
        new = romeo.received_bytes()[before:].replace(contact.encode(), b"CONTACT")
        heard.append(re.sub(rb"id='push-[^']*'|ver='[0-9]+'", b"", new))
    assert heard[0] == heard[1]


def test_a_probe_after_a_request_does_not_tell_who_exists(world: World, romeo: Player) -> None:
    world.account("offline@example.org")
    for contact in ("nobody@example.org", "offline@example.org"):
        tells(romeo, "subscribe", contact)
        romeo.forget()
        tells(romeo, "probe", contact)
        romeo.receives(f"<presence type='unsubscribed' from='{contact}' to='{ROMEO}'/>")
        push(romeo, f"jid='{contact}' subscription='none'")
        romeo.receives_nothing()


def test_a_request_to_a_server_out_of_reach_is_answered(romeo: Player) -> None:
    """Section 3.1.2: an appropriate error, to the bare address that the request had."""
    romeo.sends("<presence type='subscribe' to='juliet@elsewhere.example' id='1'/>")
    push(romeo, "jid='juliet@elsewhere.example' subscription='none' ask='subscribe'")
    romeo.receives_error(
        "remote-server-not-found", "cancel", name="presence", id="1", sender="juliet@elsewhere.example", to=ROMEO
    )
    romeo.receives_nothing()


@pytest.mark.parametrize("type", ["subscribe", "subscribed", "unsubscribe", "unsubscribed"])
@pytest.mark.parametrize("to", [ROMEO, f"{ROMEO}/garden"])
def test_nobody_subscribes_to_himself(romeo: Player, type: str, to: str) -> None:
    tells(romeo, type, to)
    romeo.receives_nothing()
    romeo.sends("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    romeo.receives(f"<iq type='result' id='1' to='{ORCHARD}'><query xmlns='jabber:iq:roster' ver='0'/></iq>")


@pytest.mark.parametrize("type", ["subscribe", "subscribed", "unsubscribe", "unsubscribed"])
def test_a_request_without_an_address(romeo: Player, type: str) -> None:
    romeo.sends(f"<presence type='{type}' id='1'/>")
    romeo.receives_error("bad-request", "modify", name="presence", id="1")


def test_too_many_requests() -> None:
    """The one who comes too late is told, and may try again."""
    world = World("max_subscription_requests = 1")
    juliet, romeo, tybalt = (world.online(f"{name}@example.org/verona") for name in ("juliet", "romeo", "tybalt"))
    tells(romeo, "subscribe", JULIET)
    tybalt.sends(f"<presence type='subscribe' to='{JULIET}' id='1'/>")
    push(tybalt, f"jid='{JULIET}' subscription='none' ask='subscribe'")
    tybalt.receives_error(
        "resource-constraint", "wait", name="presence", id="1", sender=JULIET, to="tybalt@example.org"
    )
    juliet.receives(ASKS)
    juliet.receives_nothing()
    tells(romeo, "subscribe", JULIET)
    tells(juliet, "unsubscribed", ROMEO)
    juliet.forget()
    tells(tybalt, "subscribe", JULIET)
    juliet.receives(f"<presence type='subscribe' from='tybalt@example.org' to='{JULIET}'/>")
