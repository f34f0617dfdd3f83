"""Last activity of accounts (XEP-0012 sections 3 and 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import fail
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from tests.support.world import Player, World
from xmppd.core.bus import Stage
from xmppd.core.events import AccountRemoving
from xmppd.modules.lastactivity import MAX_STATUS
from xmppd.storage import StorageError

LAST = "<query xmlns='jabber:iq:last'/>"


@pytest.fixture
def world() -> World:
    return World()


def friends(world: World) -> tuple[Player, Player]:
    """Romeo and Juliet, both online, who see each other."""
    romeo = world.online("romeo@example.org/orchard")
    juliet = world.online("juliet@example.org/balcony")
    world.befriend(romeo, juliet)
    return romeo, juliet


def asks(player: Player, to: str | None = "juliet@example.org", kind: str = "get") -> None:
    """Send the request."""
    player.forget()
    address = f" to='{to}'" if to else ""
    player.sends(f"<iq type='{kind}' id='last'{address}>{LAST}</iq>")


def hears(player: Player, seconds: int, status: str = "", of: str = "juliet@example.org") -> None:
    """The answer to the request."""
    player.receives(
        f"<iq type='result' id='last' from='{of}' to='{player.full}'>"
        f"<query xmlns='jabber:iq:last' seconds='{seconds}'>{status}</query></iq>"
    )


def refused(player: Player, of: str, condition: str, kind: str) -> None:
    """The request was refused, in words that tell nothing."""
    player.receives(
        f"<iq type='error' id='last' from='{of}' to='{player.full}'>"
        f"<error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


def test_who_has_left_with_a_word(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unavailable'><status>Heading Home</status></presence>")
    world.advance(903)
    asks(romeo)
    hears(romeo, 903, "Heading Home")


def test_who_has_left_without_a_word(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unavailable'/>")
    world.advance(59.9)
    asks(romeo)
    hears(romeo, 59)


def test_whose_connection_broke(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.disconnects()
    world.advance(7)
    asks(romeo)
    hears(romeo, 7)


def test_who_is_available_has_left_0_seconds_ago(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unavailable'><status>Heading Home</status></presence>")
    world.advance(100)
    juliet.sends("<presence><status>Back</status></presence>")
    world.advance(100)
    asks(romeo)
    hears(romeo, 0)


def test_the_last_resource_to_leave_counts(world: World) -> None:
    romeo, juliet = friends(world)
    phone = world.online("juliet@example.org/phone")
    phone.sends("<presence type='unavailable'><status>On foot</status></presence>")
    world.advance(10)
    asks(romeo)
    hears(romeo, 0)
    juliet.sends("<presence type='unavailable'><status>Asleep</status></presence>")
    world.advance(20)
    asks(romeo)
    hears(romeo, 20, "Asleep")


def test_a_resource_that_is_connected_but_not_available_does_not_count(world: World) -> None:
    romeo, juliet = friends(world)
    world.login("juliet@example.org/bot")
    juliet.sends("<presence type='unavailable'/>")
    world.advance(20)
    asks(romeo)
    hears(romeo, 20)


def test_each_time_takes_the_place_of_the_one_before(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unavailable'><status>Lunch</status></presence>")
    world.advance(100)
    juliet.sends("<presence/>")
    juliet.sends("<presence type='unavailable'/>")
    world.advance(5)
    asks(romeo)
    hears(romeo, 5)


def test_directed_presence_says_nothing_of_the_account(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unavailable' to='romeo@example.org'><status>For you</status></presence>")
    world.advance(5)
    asks(romeo)
    hears(romeo, 0)


def test_to_be_unavailable_twice_is_not_to_leave_twice(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unavailable'><status>Heading Home</status></presence>")
    world.advance(5)
    juliet.sends("<presence type='unavailable'/>")
    juliet.disconnects()
    world.advance(5)
    asks(romeo)
    hears(romeo, 10, "Heading Home")


def test_the_owner_asks(world: World) -> None:
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends("<presence type='unavailable'><status>Hidden</status></presence>")
    world.advance(30)
    asks(juliet)
    hears(juliet, 30, "Hidden")
    asks(juliet, to=None)
    juliet.receives(
        f"<iq type='result' id='last' to='{juliet.full}'>"
        "<query xmlns='jabber:iq:last' seconds='30'>Hidden</query></iq>"
    )


def test_it_survives_a_restart(world: World) -> None:
    _, juliet = friends(world)
    juliet.sends("<presence type='unavailable'><status>Ça va &amp; &lt;so&gt; 😴</status></presence>")
    later = World(before=world)
    later.advance(3600)
    romeo = later.online("romeo@example.org/orchard")
    asks(romeo)
    hears(romeo, 3600, "Ça va &amp; &lt;so&gt; 😴")


def test_a_crash_while_another_resource_is_there(world: World) -> None:
    friends(world)
    phone = world.online("juliet@example.org/phone")
    phone.sends("<presence type='unavailable'><status>On foot</status></presence>")
    later = World(before=world)  # which knows nothing of the balcony, where she was to the end
    later.advance(10)
    romeo = later.online("romeo@example.org/orchard")
    asks(romeo)
    hears(romeo, 10, "On foot")


def test_it_is_never_negative(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unavailable'/>")
    before = world.clock.seconds()
    world.server.now = lambda: before - 3600  # somebody has put the clock back
    asks(romeo)
    hears(romeo, 0)


def test_who_was_never_there(world: World) -> None:
    juliet = world.login("juliet@example.org/balcony")
    asks(juliet)
    answer = juliet.takes()
    assert answer.get("type") == "error"
    assert answer[0][0].tag == "{urn:ietf:params:xml:ns:xmpp-stanzas}item-not-found"


def test_the_first_of_several_texts_is_kept(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends(
        "<presence type='unavailable'><status xmlns='urn:x'>no</status><show>away</show>"
        "<status>Bye</status><status xml:lang='fr'>Adieu</status></presence>"
    )
    asks(romeo)
    hears(romeo, 0, "Bye")


def test_a_long_text_is_cut(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends(f"<presence type='unavailable'><status>{'é' * (MAX_STATUS + 1)}</status></presence>")
    asks(romeo)
    hears(romeo, 0, "é" * MAX_STATUS)


# ---- strangers


def test_a_stranger_is_told_the_same_of_any_address(world: World) -> None:
    world.online("juliet@example.org/balcony")
    nurse = world.online("nurse@example.org/kitchen")
    nurse.sends("<presence type='unavailable'/>")
    tybalt = world.online("tybalt@example.org/street")
    for address in ("juliet@example.org", "nurse@example.org", "nobody@example.org"):
        asks(tybalt, address)
        refused(tybalt, address, "forbidden", "auth")
        asks(tybalt, address, kind="set")
        refused(tybalt, address, "service-unavailable", "cancel")


def test_to_be_seen_by_somebody_is_not_to_see(world: World) -> None:
    romeo, juliet = world.online("romeo@example.org/orchard"), world.online("juliet@example.org/balcony")
    romeo.sends("<presence type='subscribe' to='juliet@example.org'/>")
    asks(romeo)
    refused(romeo, "juliet@example.org", "forbidden", "auth")
    juliet.sends("<presence type='subscribed' to='romeo@example.org'/>")
    asks(romeo)
    hears(romeo, 0)
    asks(juliet, "romeo@example.org")
    refused(juliet, "romeo@example.org", "forbidden", "auth")


def test_who_may_not_see_any_more(world: World) -> None:
    romeo, juliet = friends(world)
    juliet.sends("<presence type='unsubscribed' to='romeo@example.org'/>")
    juliet.disconnects()
    asks(romeo)
    refused(romeo, "juliet@example.org", "forbidden", "auth")


def test_the_owner_cannot_set_it(world: World) -> None:
    juliet = world.online("juliet@example.org/balcony")
    asks(juliet, kind="set")
    refused(juliet, "juliet@example.org", "service-unavailable", "cancel")


def test_a_request_without_payload(world: World) -> None:
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends("<iq type='get' id='last' to='juliet@example.org'/>")
    answer = juliet.takes()
    assert answer[0][0].tag == "{urn:ietf:params:xml:ns:xmpp-stanzas}bad-request"


# ---- the life of an account


@pytest.fixture
def problems() -> Iterator[list[dict[str, Any]]]:
    """What is logged of errors."""
    logged: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"] in (LogLevel.error, LogLevel.critical):
            logged.append(event)

    globalLogPublisher.addObserver(observe)
    yield logged
    globalLogPublisher.removeObserver(observe)


def test_a_store_that_fails_changes_nothing_else(
    world: World, problems: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    romeo, juliet = friends(world)
    monkeypatch.setattr(world.store.data, "put", lambda *args: fail(StorageError("disk full")))
    juliet.sends("<presence type='unavailable'><status>Private</status></presence>")
    juliet.receives_nothing()
    romeo.receives(
        f"<presence type='unavailable' from='{juliet.full}' to='{romeo.bare}'>"
        "<status>Private</status></presence>"
    )
    (problem,) = problems
    assert formatEvent(problem) == "a last activity was not kept: disk full"


def test_nothing_is_kept_for_an_account_that_is_deleted(
    world: World, problems: list[dict[str, Any]]
) -> None:
    _, juliet = friends(world)
    account = world.run(world.host.accounts.load("juliet"))
    # Her client comes back in the very last moment, so that its end comes after that of the account.
    world.host.bus.on(AccountRemoving, lambda event: juliet.sends_only("<presence/>"), Stage.AFTER)
    world.run(world.host.accounts.delete(account))
    assert not world.server.sessions.of("juliet@example.org")
    assert not [problem for problem in problems if "last activity" in formatEvent(problem)]
    world.account("juliet@example.org")
    juliet = world.login("juliet@example.org/balcony")
    asks(juliet)
    assert juliet.takes()[0][0].tag == "{urn:ietf:params:xml:ns:xmpp-stanzas}item-not-found"


def test_it_is_a_feature_of_accounts(world: World) -> None:
    juliet = world.login("juliet@example.org/balcony")
    juliet.sends("<iq type='get' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    assert "jabber:iq:last" in [child.get("var") for child in juliet.takes()[0]]
