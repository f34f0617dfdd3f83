"""Rosters (RFC 6121 section 2) between Romeo's clients and the server."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World

ROMEO = "romeo@example.org/orchard"
NS = "xmlns='jabber:iq:roster'"


def asks(player: Player, ver: str | None = None) -> None:
    """Ask for the roster."""
    version = "" if ver is None else f" ver='{ver}'"
    player.sends(f"<iq type='get' id='get'><query {NS}{version}/></iq>")


def sets(player: Player, *items: str, id: str = "set") -> None:
    """Send a roster set."""
    player.sends(f"<iq type='set' id='{id}'><query {NS}>{''.join(items)}</query></iq>")


def roster(player: Player, ver: int, *items: str) -> str:
    """The roster as the answer to `asks`."""
    return f"<iq type='result' id='get' to='{player.full}'><query {NS} ver='{ver}'>{''.join(items)}</query></iq>"


def push(player: Player, ver: int, item: str) -> str:
    """A roster push."""
    return f"<iq type='set' id='*' to='{player.full}'><query {NS} ver='{ver}'>{item}</query></iq>"


def done(player: Player, id: str = "set") -> str:
    """The answer to a roster set."""
    return f"<iq type='result' id='{id}' to='{player.full}'/>"


JULIET = "<item jid='juliet@example.org' name='Juliet'><group>Friends</group></item>"
JULIET_KEPT = "<item jid='juliet@example.org' name='Juliet' subscription='none'><group>Friends</group></item>"


def test_an_empty_roster() -> None:
    """Section 2.2."""
    romeo = World().login(ROMEO)
    asks(romeo)
    romeo.receives(roster(romeo, 0))


def test_a_contact_is_added_changed_and_removed() -> None:
    """Sections 2.3 to 2.5: each time a push, then the result."""
    romeo = World().online(ROMEO)
    sets(romeo, JULIET, id="1")
    romeo.receives(push(romeo, 1, JULIET_KEPT))
    romeo.receives(done(romeo, "1"))
    asks(romeo)
    romeo.receives(roster(romeo, 1, JULIET_KEPT))

    groups = "<group>A</group><group>B</group>"
    changed = f"<item jid='juliet@example.org' name='J &amp; C' subscription='none'>{groups}</item>"
    sets(romeo, f"<item jid='juliet@example.org' name='J &amp; C'>{groups}</item>", id="2")
    romeo.receives(push(romeo, 2, changed))
    romeo.receives(done(romeo, "2"))
    asks(romeo)
    romeo.receives(roster(romeo, 2, changed))

    sets(romeo, "<item jid='juliet@example.org' subscription='remove'/>", id="3")
    romeo.receives(push(romeo, 3, "<item jid='juliet@example.org' subscription='remove'/>"))
    romeo.receives(done(romeo, "3"))
    asks(romeo)
    romeo.receives(roster(romeo, 3))


def test_name_and_groups_are_replaced_as_a_whole() -> None:
    """Section 2.4: a set without a name or groups takes them away."""
    romeo = World().online(ROMEO)
    sets(romeo, JULIET)
    romeo.forget()
    sets(romeo, "<item jid='juliet@example.org'/>")
    romeo.receives(push(romeo, 2, "<item jid='juliet@example.org' subscription='none'/>"))
    romeo.receives(done(romeo))


def test_a_set_of_what_is_there_changes_nothing() -> None:
    """No version is used up and nobody is told; the client has its answer."""
    romeo = World().online(ROMEO)
    sets(romeo, JULIET)
    romeo.forget()
    sets(romeo, JULIET)
    romeo.receives(done(romeo))
    romeo.receives_nothing()


def test_pushes_go_to_interested_resources_only() -> None:
    """Section 2.1.6: to each that has asked for the roster, whether it is available or not."""
    world = World()
    orchard, garden, tomb = (world.login(f"romeo@example.org/{name}") for name in ("orchard", "garden", "tomb"))
    juliet = world.online("juliet@example.org/balcony")
    asks(garden)
    garden.forget()
    tomb.sends("<presence/>")
    tomb.forget()
    sets(orchard, JULIET)
    orchard.receives(done(orchard))
    garden.receives(push(garden, 1, JULIET_KEPT))
    for player in (orchard, garden, tomb, juliet):
        player.receives_nothing()


def test_nobody_hears_of_a_change_that_is_not_on_disk() -> None:
    """Section 2.3.2: neither result nor push before the store has the item."""
    world = World()
    romeo, garden = world.online(ROMEO), world.online("romeo@example.org/garden")
    romeo.forget()
    romeo.sends_only(f"<iq type='set' id='set'><query {NS}>{JULIET}</query></iq>")
    romeo.receives_nothing()
    garden.receives_nothing()
    asks_at_once = "<iq type='get' id='get'><query xmlns='jabber:iq:roster'/></iq>"
    garden.sends_only(asks_at_once)
    garden.receives(roster(garden, 0))
    world.settle()
    romeo.receives(push(romeo, 1, JULIET_KEPT))
    romeo.receives(done(romeo))
    garden.receives(push(garden, 1, JULIET_KEPT))


def test_the_answer_to_a_push_is_not_answered() -> None:
    world = World()
    romeo = world.online(ROMEO)
    sets(romeo, JULIET)
    id = romeo.takes().get("id")
    romeo.receives(done(romeo))
    romeo.sends(f"<iq type='result' id='{id}'/>")
    romeo.sends(f"<iq type='error' id='{id}'><error type='cancel'/></iq>")
    romeo.receives_nothing()


# ---- versions (section 2.6)


def test_the_feature_is_announced() -> None:
    world = World()
    world.account("romeo@example.org")
    romeo = world.connect()
    romeo.authenticate("romeo", "example.org", "secret")
    assert b"<ver xmlns='urn:xmpp:features:rosterver'/>" in romeo.received_bytes()
    assert b"<sub xmlns='urn:xmpp:features:pre-approval'/>" in romeo.received_bytes()


@pytest.mark.parametrize("ver", ["", "0", "2", "01", "elsewhere", None])
def test_another_version_gets_the_whole_roster(ver: str | None) -> None:
    """Section 2.6.3."""
    romeo = World().online(ROMEO)
    sets(romeo, JULIET)
    romeo.forget()
    asks(romeo, ver)
    romeo.receives(roster(romeo, 1, JULIET_KEPT))


def test_the_version_a_client_has_gets_an_empty_result_and_pushes() -> None:
    world = World()
    romeo = world.online(ROMEO)
    sets(romeo, JULIET)
    garden = world.login("romeo@example.org/garden")
    asks(garden, "1")
    garden.receives(f"<iq type='result' id='get' to='{garden.full}'/>")
    sets(romeo, "<item jid='nurse@example.org'/>")
    garden.receives(push(garden, 2, "<item jid='nurse@example.org' subscription='none'/>"))


def test_a_roster_survives_a_restart_with_its_version() -> None:
    world = World()
    romeo = world.online(ROMEO)
    sets(romeo, JULIET)
    sets(romeo, "<item jid='nurse@example.org'/>")
    sets(romeo, "<item jid='nurse@example.org' subscription='remove'/>")
    romeo = World(before=world).login(ROMEO)
    asks(romeo, "2")
    romeo.receives(roster(romeo, 3, JULIET_KEPT))
    asks(romeo, "3")
    romeo.receives(f"<iq type='result' id='get' to='{romeo.full}'/>")
    sets(romeo, "<item jid='nurse@example.org'/>")
    romeo.receives(push(romeo, 4, "<item jid='nurse@example.org' subscription='none'/>"))


# ---- what is refused

LONG = "x" * 1024


@pytest.mark.parametrize(
    ("items", "condition", "type"),
    [
        ("", "bad-request", "modify"),
        ("<item jid='a@example.org'/><item jid='b@example.org'/>", "bad-request", "modify"),
        ("<item jid='a@example.org'/><other xmlns='urn:example'/>", "bad-request", "modify"),
        ("<item xmlns='urn:example' jid='a@example.org'/>", "bad-request", "modify"),
        ("<item/>", "bad-request", "modify"),
        ("<item jid=''/>", "bad-request", "modify"),
        ("<item jid='@example.org'/>", "bad-request", "modify"),
        ("<item jid='a b@example.org'/>", "bad-request", "modify"),
        ("<item jid='romeo@example.org'/>", "not-allowed", "cancel"),
        ("<item jid='Romeo@EXAMPLE.org/orchard'/>", "not-allowed", "cancel"),
        ("<item jid='a@example.org'><group>A</group><group>A</group></item>", "bad-request", "modify"),
        ("<item jid='a@example.org'><group/></item>", "not-acceptable", "modify"),
        (f"<item jid='a@example.org'><group>{LONG}</group></item>", "not-acceptable", "modify"),
        (f"<item jid='a@example.org' name='{LONG}'/>", "not-acceptable", "modify"),
        (f"<item jid='a@example.org' name='{'ä' * 512}'/>", "not-acceptable", "modify"),
        (
            f"<item jid='a@example.org'>{''.join(f'<group>{n}</group>' for n in range(65))}</item>",
            "not-acceptable",
            "modify",
        ),
        ("<item jid='a@example.org' subscription='remove'/>", "item-not-found", "cancel"),
    ],
)
def test_a_set_is_refused(items: str, condition: str, type: str) -> None:
    """Sections 2.1.5, 2.3.3 and 2.5.3: an error, nobody is told, nothing is kept."""
    world = World()
    romeo, garden = world.online(ROMEO), world.online("romeo@example.org/garden")
    romeo.forget()
    sets(romeo, items)
    romeo.receives_error(condition, type, name="iq", id="set")
    garden.receives_nothing()
    asks(romeo)
    romeo.receives(roster(romeo, 0))


def test_what_is_as_long_as_it_may_be() -> None:
    romeo = World().online(ROMEO)
    name = "x" * 1023
    sets(romeo, f"<item jid='a@example.org' name='{name}'><group>{name}</group></item>")
    kept = f"<item jid='a@example.org' name='{name}' subscription='none'><group>{name}</group></item>"
    romeo.receives(push(romeo, 1, kept))


def test_a_contact_is_kept_by_its_bare_prepared_address() -> None:
    """Section 2.1.2.3: two spellings are one contact."""
    romeo = World().online(ROMEO)
    sets(romeo, "<item jid='JULIET@Example.ORG/balcony' name='1'/>")
    romeo.receives(push(romeo, 1, "<item jid='juliet@example.org' name='1' subscription='none'/>"))
    romeo.receives(done(romeo))
    sets(romeo, "<item jid='juliet@example.org' name='2'/>")
    romeo.receives(push(romeo, 2, "<item jid='juliet@example.org' name='2' subscription='none'/>"))
    romeo.receives(done(romeo))
    sets(romeo, "<item jid='juliet@example.org/tomb' subscription='remove'/>")
    romeo.receives(push(romeo, 3, "<item jid='juliet@example.org' subscription='remove'/>"))


@pytest.mark.parametrize(
    "attributes", ["subscription='both'", "subscription='to'", "subscription='x'", "ask='subscribe'", "approved='true'"]
)
def test_a_set_never_changes_a_subscription(attributes: str) -> None:
    """Sections 2.1.2.1, 2.1.2.2, 2.1.2.5: the server ignores any value but `remove`."""
    romeo = World().online(ROMEO)
    sets(romeo, f"<item jid='juliet@example.org' {attributes}/>")
    romeo.receives(push(romeo, 1, "<item jid='juliet@example.org' subscription='none'/>"))
    romeo.receives(done(romeo))


def test_a_set_leaves_a_subscription_as_it_is() -> None:
    world = World()
    romeo, juliet = world.online(ROMEO), world.online("juliet@example.org/balcony")
    world.befriend(romeo, juliet)
    sets(romeo, "<item jid='juliet@example.org' name='J' subscription='none'/>")
    romeo.receives(push(romeo, 4, "<item jid='juliet@example.org' name='J' subscription='both'/>"))
    romeo.receives(done(romeo))
    juliet.receives_nothing()


def test_nobody_touches_the_roster_of_somebody_else() -> None:
    """Sections 2.2 and 2.3.3; an account that does not exist looks the same."""
    world = World()
    juliet, romeo = world.online("juliet@example.org/balcony"), world.online(ROMEO)
    for target in ("juliet@example.org", "nobody@example.org"):
        romeo.sends(f"<iq type='get' id='1' to='{target}'><query {NS}/></iq>")
        romeo.receives_error("forbidden", "auth", name="iq", id="1", sender=target)
        romeo.sends(f"<iq type='set' id='2' to='{target}'><query {NS}>{JULIET}</query></iq>")
        romeo.receives_error("forbidden", "auth", name="iq", id="2", sender=target)
    juliet.receives_nothing()
    asks(juliet)
    juliet.receives(roster(juliet, 0))


def test_the_own_bare_address_is_the_own_roster() -> None:
    romeo = World().online(ROMEO)
    romeo.sends(f"<iq type='set' id='1' to='romeo@example.org'><query {NS}>{JULIET}</query></iq>")
    romeo.receives(push(romeo, 1, JULIET_KEPT))
    romeo.receives("<iq type='result' id='1' from='romeo@example.org' to='romeo@example.org/orchard'/>")


def test_a_roster_is_full() -> None:
    romeo = World("max_roster_items = 2").online(ROMEO)
    sets(romeo, "<item jid='a@example.org'/>")
    sets(romeo, "<item jid='b@example.org'/>")
    romeo.forget()
    sets(romeo, "<item jid='c@example.org'/>")
    romeo.receives_error("not-acceptable", "modify", name="iq", id="set")
    romeo.sends("<presence type='subscribe' to='d@example.org' id='s'/>")
    romeo.receives_error("not-acceptable", "modify", name="presence", id="s", sender="d@example.org")
    sets(romeo, "<item jid='b@example.org' name='still'/>")
    romeo.receives(push(romeo, 3, "<item jid='b@example.org' name='still' subscription='none'/>"))
    romeo.receives(done(romeo))
    sets(romeo, "<item jid='a@example.org' subscription='remove'/>")
    romeo.forget()
    sets(romeo, "<item jid='c@example.org'/>")
    romeo.receives(push(romeo, 5, "<item jid='c@example.org' subscription='none'/>"))


def test_a_roster_is_full_of_bytes() -> None:
    romeo = World("max_roster_size = 64k").online(ROMEO)
    name = "n" * 1000
    for number in range(60):
        sets(romeo, f"<item jid='{number}@example.org' name='{name}'/>")
    romeo.forget()
    groups = "".join(f"<group>{number}{name}</group>" for number in range(6))
    sets(romeo, f"<item jid='60@example.org' name='{name}'>{groups}</item>")
    romeo.receives_error("not-acceptable", "modify", name="iq", id="set")
    sets(romeo, "<item jid='59@example.org' subscription='remove'/>")
    romeo.forget()
    sets(romeo, f"<item jid='60@example.org' name='{name}'/>")
    romeo.receives(push(romeo, 62, f"<item jid='60@example.org' name='{name}' subscription='none'/>"))


# ---- two clients at once


def test_two_clients_change_the_same_contact_at_once() -> None:
    """Both are done, one after the other; both clients see the same two versions."""
    world = World()
    orchard, garden = world.online(ROMEO), world.online("romeo@example.org/garden")
    orchard.forget()
    for player, name in ((orchard, "one"), (garden, "two")):
        item = f"<item jid='juliet@example.org' name='{name}'/>"
        player.sends_only(f"<iq type='set' id='set'><query {NS}>{item}</query></iq>")
    world.settle()
    first, second = (f"<item jid='juliet@example.org' name='{name}' subscription='none'/>" for name in ("one", "two"))
    orchard.receives(push(orchard, 1, first))
    orchard.receives(done(orchard))
    orchard.receives(push(orchard, 2, second))
    garden.receives(push(garden, 1, first))
    garden.receives(push(garden, 2, second))
    garden.receives(done(garden))
    asks(orchard)
    orchard.receives(roster(orchard, 2, second))


def test_two_clients_remove_the_same_contact_at_once() -> None:
    world = World()
    orchard, garden = world.online(ROMEO), world.online("romeo@example.org/garden")
    sets(orchard, JULIET)
    orchard.forget()
    garden.forget()
    for player in (orchard, garden):
        item = "<item jid='juliet@example.org' subscription='remove'/>"
        player.sends_only(f"<iq type='set' id='set'><query {NS}>{item}</query></iq>")
    world.settle()
    gone = "<item jid='juliet@example.org' subscription='remove'/>"
    orchard.receives(push(orchard, 2, gone))
    orchard.receives(done(orchard))
    garden.receives(push(garden, 2, gone))
    garden.receives_error("item-not-found", "cancel", name="iq", id="set")
