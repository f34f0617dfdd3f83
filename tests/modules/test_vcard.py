"""vCards (XEP-0054): the examples of the XEP, and what somebody might try with them."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.support.world import Player, World

CARD = "<vCard xmlns='vcard-temp'><FN>Peter Saint-Andre</FN><N><FAMILY>Saint-Andre</FAMILY><MIDDLE/></N></vCard>"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"


def publishes(player: Player, card: str = CARD) -> None:
    player.sends(f"<iq id='v2' type='set'>{card}</iq>")
    player.receives(f"<iq id='v2' to='{player.full}' type='result'/>")


def refusal(player: Player, sender: str, condition: str, kind: str = "cancel") -> str:
    """The error that `player` gets from `sender`."""
    return (
        f"<iq id='v3' from='{sender}' to='{player.full}' type='error'>"
        f"<error type='{kind}'><{condition} xmlns='{STANZAS}'/></error></iq>"
    )


def test_the_own_vcard() -> None:
    stpeter = World().login("stpeter@example.org/roundabout")
    publishes(stpeter)
    stpeter.sends("<iq id='v1' type='get'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(f"<iq id='v1' to='stpeter@example.org/roundabout' type='result'>{CARD}</iq>")


def test_the_own_vcard_when_there_is_none() -> None:
    stpeter = World().login("stpeter@example.org/roundabout")
    stpeter.sends("<iq id='v1' type='get'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(
        "<iq id='v1' to='stpeter@example.org/roundabout' type='error'>"
        f"<error type='cancel'><item-not-found xmlns='{STANZAS}'/></error></iq>"
    )


def test_an_update_is_the_whole_vcard() -> None:
    stpeter = World().login("stpeter@example.org/roundabout")
    publishes(stpeter)
    publishes(stpeter, "<vCard xmlns='vcard-temp'><NICKNAME>stpeter</NICKNAME></vCard>")
    stpeter.sends("<iq id='v1' type='get' to='stpeter@example.org'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(
        "<iq id='v1' from='stpeter@example.org' to='stpeter@example.org/roundabout' type='result'>"
        "<vCard xmlns='vcard-temp'><NICKNAME>stpeter</NICKNAME></vCard></iq>"
    )


def test_the_vcard_of_another_user_who_is_connected_is_answered_for_him() -> None:
    world = World()
    jer, stpeter = world.online("jer@example.org/home"), world.login("stpeter@example.org/roundabout")
    publishes(jer)
    stpeter.sends("<iq id='v3' to='jer@example.org' type='get'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(
        f"<iq id='v3' from='jer@example.org' to='stpeter@example.org/roundabout' type='result'>{CARD}</iq>"
    )
    jer.receives_nothing()


def test_the_vcard_of_another_user_who_is_offline_also_after_a_restart() -> None:
    world = World()
    publishes(world.login("jer@example.org/home"))
    stpeter = World(before=world).login("stpeter@example.org/roundabout")
    stpeter.sends("<iq id='v3' to='jer@example.org' type='get'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(
        f"<iq id='v3' from='jer@example.org' to='stpeter@example.org/roundabout' type='result'>{CARD}</iq>"
    )


@pytest.mark.parametrize("stored", [False, True])
def test_no_vcard_and_no_such_user_are_the_same(stored: bool) -> None:
    """Section 3.3: directory harvesting."""
    world = World()
    world.account("jer@example.org")
    if stored:  # the account is in memory
        world.login("jer@example.org/home")
    stpeter = world.login("stpeter@example.org/roundabout")
    for other in ("jer@example.org", "nobody@example.org"):
        stpeter.sends(f"<iq id='v3' to='{other}' type='get'><vCard xmlns='vcard-temp'/></iq>")
        stpeter.receives(refusal(stpeter, other, "service-unavailable"))


def test_nobody_sets_the_vcard_of_another_user() -> None:
    world = World()
    jer, stpeter = world.login("jer@example.org/home"), world.login("stpeter@example.org/roundabout")
    publishes(jer)
    for other in ("jer@example.org", "nobody@example.org"):
        stpeter.sends(f"<iq id='v3' to='{other}' type='set'><vCard xmlns='vcard-temp'><FN>Evil</FN></vCard></iq>")
        stpeter.receives(refusal(stpeter, other, "forbidden", "auth"))
    jer.sends("<iq id='v1' type='get'><vCard xmlns='vcard-temp'/></iq>")
    jer.receives(f"<iq id='v1' to='jer@example.org/home' type='result'>{CARD}</iq>")


@pytest.mark.parametrize("kind", ["get", "set"])
def test_the_server_has_no_vcard(kind: str) -> None:
    stpeter = World().login("stpeter@example.org/roundabout")
    publishes(stpeter)
    stpeter.sends(f"<iq id='v3' to='example.org' type='{kind}'>{CARD}</iq>")
    stpeter.receives(refusal(stpeter, "example.org", "service-unavailable"))


def test_a_vcard_of_a_megabyte_ends_the_stream_that_sends_it() -> None:
    """It is larger than a stanza may be (RFC 6120 section 13.12)."""
    world = World()
    stpeter = world.login("stpeter@example.org/roundabout")
    stpeter.sends(f"<iq id='v2' type='set'><vCard xmlns='vcard-temp'><PHOTO>{'A' * 2**20}</PHOTO></vCard></iq>")
    stpeter.receives_stream_error("policy-violation")


def test_a_vcard_of_a_megabyte_is_refused_where_a_stanza_may_be_so_large() -> None:
    world = World("stanza_size_limit = 4M")
    stpeter = world.login("stpeter@example.org/roundabout")
    publishes(stpeter)
    stpeter.sends(f"<iq id='v3' type='set'><vCard xmlns='vcard-temp'><PHOTO>{'A' * 2**20}</PHOTO></vCard></iq>")
    error = stpeter.takes()
    assert error.find(f".//{{{STANZAS}}}policy-violation") is not None, ElementTree.tostring(error)
    stpeter.sends("<iq id='v1' type='get'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(f"<iq id='v1' to='stpeter@example.org/roundabout' type='result'>{CARD}</iq>")


def test_the_limit_counts_bytes_and_is_the_last_size_that_passes() -> None:
    card = "<vCard xmlns='vcard-temp'><FN>é</FN></vCard>"
    exact, short = len(card.encode()), len(card.encode()) - 1
    publishes(World(f"vcard_size_limit = {exact}").login("stpeter@example.org/roundabout"), card)
    stpeter = World(f"vcard_size_limit = {short}").login("stpeter@example.org/roundabout")
    stpeter.sends(f"<iq id='v2' type='set'>{card}</iq>")
    assert stpeter.takes().get("type") == "error"


def test_a_vcard_means_what_was_published() -> None:
    """Prefixes that the iq declares, an inner namespace, white space."""
    stpeter = World().login("stpeter@example.org/roundabout")
    stpeter.sends(
        "<iq xmlns:v='vcard-temp' id='v2' type='set'><v:vCard><v:DESC> a&#13;\nb </v:DESC><x "
        "xmlns='urn:x'/></v:vCard></iq>"
    )
    stpeter.receives("<iq id='v2' to='stpeter@example.org/roundabout' type='result'/>")
    stpeter.sends("<iq id='v1' type='get'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(
        "<iq id='v1' to='stpeter@example.org/roundabout' type='result'><vCard xmlns='vcard-temp'>"
        "<DESC> a&#13;\nb </DESC><x xmlns='urn:x'/></vCard></iq>"
    )


def test_who_is_blocked_does_not_see_the_vcard() -> None:
    world = World()
    jer, stpeter = world.online("jer@example.org/home"), world.login("stpeter@example.org/roundabout")
    publishes(jer)
    jer.sends("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='stpeter@example.org'/></block></iq>")
    jer.forget()
    stpeter.sends("<iq id='v3' to='jer@example.org' type='get'><vCard xmlns='vcard-temp'/></iq>")
    stpeter.receives(refusal(stpeter, "jer@example.org", "service-unavailable"))


@pytest.mark.parametrize("whom", ["example.org", "juliet@example.org"])
def test_discovery(whom: str) -> None:
    juliet = World().login("juliet@example.org/balcony")
    juliet.sends(f"<iq type='get' to='{whom}' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    features = {child.get("var") for child in juliet.takes().iter()}
    assert "vcard-temp" in features
