"""XMPP ping (XEP-0199)."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World

PING = "<ping xmlns='urn:xmpp:ping'/>"


def refused(player: Player, of: str, condition: str = "service-unavailable", kind: str = "cancel") -> None:
    """The ping was refused."""
    player.receives(
        f"<iq type='error' id='p' from='{of}' to='{player.full}'>"
        f"<error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


def test_the_server_answers() -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='get' id='p' to='example.org'>{PING}</iq>")
    romeo.receives("<iq type='result' id='p' from='example.org' to='romeo@example.org/orchard'/>")


def test_the_own_account_answers() -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='get' id='p'>{PING}</iq>")
    romeo.receives("<iq type='result' id='p' to='romeo@example.org/orchard'/>")
    romeo.sends(f"<iq type='get' id='p' to='romeo@example.org'>{PING}</iq>")
    romeo.receives("<iq type='result' id='p' from='romeo@example.org' to='romeo@example.org/orchard'/>")


def test_the_account_of_a_contact_answers_whether_it_is_online_or_not() -> None:
    world = World()
    romeo, juliet = world.online("romeo@example.org/orchard"), world.online("juliet@example.org/balcony")
    world.befriend(romeo, juliet)
    for _ in range(2):
        romeo.sends(f"<iq type='get' id='p' to='juliet@example.org'>{PING}</iq>")
        romeo.receives("<iq type='result' id='p' from='juliet@example.org' to='romeo@example.org/orchard'/>")
        juliet.receives_nothing()
        juliet.disconnects()
        romeo.forget()


def test_a_stranger_cannot_tell_whether_there_is_such_an_account() -> None:
    world = World()
    world.online("juliet@example.org/balcony")
    tybalt = world.online("tybalt@example.org/street")
    for address in ("juliet@example.org", "nobody@example.org"):
        for resource in ("", "/balcony"):
            tybalt.sends(f"<iq type='get' id='p' to='{address}{resource}'>{PING}</iq>")
            refused(tybalt, address + resource)


def test_to_see_somebody_is_not_to_be_seen() -> None:
    world = World()
    romeo, juliet = world.online("romeo@example.org/orchard"), world.online("juliet@example.org/balcony")
    romeo.sends("<presence type='subscribe' to='juliet@example.org'/>")
    juliet.sends("<presence type='subscribed' to='romeo@example.org'/>")
    juliet.forget()
    juliet.sends(f"<iq type='get' id='p' to='romeo@example.org'>{PING}</iq>")
    refused(juliet, "romeo@example.org")


def test_a_resource_answers_for_itself() -> None:
    world = World()
    romeo, juliet = world.online("romeo@example.org/orchard"), world.online("juliet@example.org/balcony")
    world.befriend(romeo, juliet)
    romeo.sends(f"<iq type='get' id='p' to='juliet@example.org/balcony'>{PING}</iq>")
    romeo.receives_nothing()
    juliet.receives(
        f"<iq type='get' id='p' from='romeo@example.org/orchard' to='juliet@example.org/balcony'>{PING}</iq>"
    )
    juliet.sends("<iq type='result' id='p' to='romeo@example.org/orchard'/>")
    romeo.receives(f"<iq type='result' id='p' from='{juliet.full}' to='{romeo.full}'/>")


@pytest.mark.parametrize("address", ["example.org", "romeo@example.org"])
def test_a_ping_is_a_get(address: str) -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='set' id='p' to='{address}'>{PING}</iq>")
    refused(romeo, address)


def test_neither_a_result_nor_an_error_is_answered() -> None:
    romeo = World().login("romeo@example.org/orchard")
    for kind in ("result", "error"):
        romeo.sends(f"<iq type='{kind}' id='p' to='example.org'>{PING}</iq>")
    romeo.receives_nothing()


def test_an_element_of_another_name_or_namespace_is_no_ping() -> None:
    romeo = World().login("romeo@example.org/orchard")
    for payload in ("<pong xmlns='urn:xmpp:ping'/>", "<ping xmlns='urn:xmpp:pong'/>", "<ping/>"):
        romeo.sends(f"<iq type='get' id='p' to='example.org'>{payload}</iq>")
        refused(romeo, "example.org")


def test_it_is_a_feature_of_the_server_and_of_accounts() -> None:
    romeo = World().login("romeo@example.org/orchard")
    for address in ("example.org", "romeo@example.org"):
        romeo.sends(
            f"<iq type='get' id='d' to='{address}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        assert "urn:xmpp:ping" in [child.get("var") for child in romeo.takes()[0]]
