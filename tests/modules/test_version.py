"""Software version (XEP-0092)."""

from __future__ import annotations

import platform

import pytest

from tests.support.world import Player, World
from xmppd import __version__

VERSION = "<query xmlns='jabber:iq:version'/>"


def refused(player: Player, of: str, condition: str = "service-unavailable", kind: str = "cancel") -> None:
    """The request was refused."""
    player.receives(
        f"<iq type='error' id='v' from='{of}' to='{player.full}'>"
        f"<error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


@pytest.mark.parametrize("config", ["", "hide_os_type = yes"])
def test_the_server_says_its_name_and_version_but_not_its_operating_system(config: str) -> None:
    romeo = World(config).login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='get' id='v' to='example.org'>{VERSION}</iq>")
    romeo.receives(
        "<iq type='result' id='v' from='example.org' to='romeo@example.org/orchard'>"
        f"<query xmlns='jabber:iq:version'><name>xmppd</name><version>{__version__}</version></query></iq>"
    )


def test_the_operating_system_where_that_is_wanted() -> None:
    world = World(sections="[host:example.org]\nhide_os_type = no\n[host:example.net]")
    romeo = world.login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='get' id='v' to='example.org'>{VERSION}</iq>")
    assert [child.text for child in romeo.takes()[0]] == ["xmppd", __version__, platform.system()]
    romeo.sends(f"<iq type='get' id='v' to='example.net'>{VERSION}</iq>")
    assert [child.text for child in romeo.takes()[0]] == ["xmppd", __version__]


def test_accounts_have_no_version() -> None:
    world = World()
    romeo = world.login("romeo@example.org/orchard")
    world.account("juliet@example.org")
    for address in ("romeo@example.org", "juliet@example.org", "nobody@example.org"):
        romeo.sends(f"<iq type='get' id='v' to='{address}'>{VERSION}</iq>")
        refused(romeo, address)


def test_the_version_cannot_be_set() -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='set' id='v' to='example.org'>{VERSION}</iq>")
    refused(romeo, "example.org")


def test_it_is_a_feature_of_the_server_alone() -> None:
    romeo = World().login("romeo@example.org/orchard")
    for address, there in (("example.org", True), ("romeo@example.org", False)):
        romeo.sends(
            f"<iq type='get' id='d' to='{address}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        assert ("jabber:iq:version" in [child.get("var") for child in romeo.takes()[0]]) is there
