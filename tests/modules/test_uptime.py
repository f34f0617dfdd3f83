"""Uptime (XEP-0012 section 5)."""

from __future__ import annotations

from tests.support.world import Player, World

LAST = "<query xmlns='jabber:iq:last'/>"


def uptime(player: Player) -> str | None:
    """Ask the server, and check all of its answer but the seconds."""
    player.sends(f"<iq type='get' id='u' to='example.org'>{LAST}</iq>")
    answer = player.receives(
        f"<iq type='result' id='u' from='example.org' to='{player.full}'>"
        "<query xmlns='jabber:iq:last' seconds='*'/></iq>"
    )
    return answer[0].get("seconds")


def test_the_seconds_since_the_start() -> None:
    world = World()
    romeo = world.login("romeo@example.org/orchard")
    assert uptime(romeo) == "0"
    world.advance(123_456.9)
    assert uptime(romeo) == "123456"


def test_it_is_never_negative() -> None:
    world = World()
    romeo = world.login("romeo@example.org/orchard")
    world.server.now = lambda: world.server.started - 3600  # somebody has put the clock back
    assert uptime(romeo) == "0"


def test_it_cannot_be_set() -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='set' id='u' to='example.org'>{LAST}</iq>")
    romeo.receives(
        f"<iq type='error' id='u' from='example.org' to='{romeo.full}'>"
        "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


def test_it_is_a_feature_of_the_server() -> None:
    romeo = World("modules_disabled = lastactivity").login("romeo@example.org/orchard")
    for address, there in (("example.org", True), ("romeo@example.org", False)):
        romeo.sends(
            f"<iq type='get' id='d' to='{address}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        assert ("jabber:iq:last" in [child.get("var") for child in romeo.takes()[0]]) is there
