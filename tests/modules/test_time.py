"""Entity time (XEP-0202)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.world import STARTED, Player, World

TIME = "<time xmlns='urn:xmpp:time'/>"
ZONES = [
    ("UTC0", "+00:00"),
    ("EST5", "-05:00"),
    ("NPT-5:45", "+05:45"),
    ("NST3:30", "-03:30"),
    ("CET-1CEST,M3.5.0,M10.5.0", "+01:00"),  # it is November in the world of tests
    ("AEST-10AEDT,M10.1.0,M4.1.0/3", "+11:00"),
]


@pytest.fixture(autouse=True)
def _zone_of_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    time.tzset()


def refused(player: Player, of: str) -> None:
    """The request was refused."""
    player.receives(
        f"<iq type='error' id='t' from='{of}' to='{player.full}'>"
        "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


@pytest.mark.parametrize(("zone", "offset"), ZONES)
def test_the_server_tells_the_time(monkeypatch: pytest.MonkeyPatch, zone: str, offset: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    assert STARTED == 1_700_000_000
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='get' id='t' to='example.org'>{TIME}</iq>")
    romeo.receives(
        "<iq type='result' id='t' from='example.org' to='romeo@example.org/orchard'>"
        f"<time xmlns='urn:xmpp:time'><tzo>{offset}</tzo><utc>2023-11-14T22:13:20Z</utc></time></iq>"
    )


def test_it_is_the_time_of_the_answer() -> None:
    world = World()
    romeo = world.login("romeo@example.org/orchard")
    world.advance(61.75)
    romeo.sends(f"<iq type='get' id='t' to='example.org'>{TIME}</iq>")
    assert [child.text for child in romeo.takes()[0]][1] == "2023-11-14T22:14:21Z"


def test_accounts_have_no_time() -> None:
    world = World()
    romeo = world.login("romeo@example.org/orchard")
    world.account("juliet@example.org")
    for address in ("romeo@example.org", "juliet@example.org", "nobody@example.org"):
        romeo.sends(f"<iq type='get' id='t' to='{address}'>{TIME}</iq>")
        refused(romeo, address)


def test_the_time_cannot_be_set() -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='set' id='t' to='example.org'>{TIME}</iq>")
    refused(romeo, "example.org")


def test_it_is_a_feature_of_the_server_alone() -> None:
    romeo = World().login("romeo@example.org/orchard")
    for address, there in (("example.org", True), ("romeo@example.org", False)):
        romeo.sends(
            f"<iq type='get' id='d' to='{address}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        assert ("urn:xmpp:time" in [child.get("var") for child in romeo.takes()[0]]) is there
