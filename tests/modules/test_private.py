"""Private XML storage (XEP-0049): the examples of the XEP, and what somebody might try with it."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World

PREFS = "<exodus xmlns='exodus:prefs'><defaultnick>Hamlet</defaultnick></exodus>"


def keeps(player: Player, xml: str) -> None:
    player.sends(f"<iq type='set' id='1001'><query xmlns='jabber:iq:private'>{xml}</query></iq>")
    player.receives(f"<iq type='result' id='1001' to='{player.full}'/>")


def finds(player: Player, asked: str, expected: str) -> None:
    player.sends(f"<iq type='get' id='1002'><query xmlns='jabber:iq:private'>{asked}</query></iq>")
    player.receives(
        f"<iq type='result' id='1002' to='{player.full}'><query xmlns='jabber:iq:private'>{expected}</query></iq>"
    )


def is_refused(player: Player, kind: str, query: str, condition: str) -> None:
    player.sends(f"<iq type='{kind}' id='1004'>{query}</iq>")
    player.receives(
        f"<iq type='error' id='1004' to='{player.full}'><error type='modify'>"
        f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>*</text></error></iq>"
    )


def test_what_was_stored_comes_back_at_every_resource_and_after_a_restart() -> None:
    world = World()
    hamlet = world.login("hamlet@example.org/denmark")
    keeps(hamlet, PREFS)
    finds(hamlet, "<exodus xmlns='exodus:prefs'/>", PREFS)
    later = World(before=world).login("hamlet@example.org/england")
    finds(later, "<exodus xmlns='exodus:prefs'/>", PREFS)


def test_what_was_never_stored_comes_back_empty() -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    finds(hamlet, "<exodus xmlns='exodus:prefs'/>", "<exodus xmlns='exodus:prefs'/>")
    finds(hamlet, "<exodus xmlns='a&amp;&apos;b'/>", "<exodus xmlns='a&amp;&apos;b'/>")


def test_each_name_and_each_namespace_is_kept_by_itself() -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    keeps(hamlet, "<storage xmlns='storage:bookmarks'><conference jid='a@b'/></storage>")
    keeps(hamlet, "<storage xmlns='storage:rosternotes'><note/></storage>")
    keeps(hamlet, "<roster xmlns='roster:delimiter'>::</roster>")
    finds(
        hamlet,
        "<storage xmlns='storage:bookmarks'/>",
        "<storage xmlns='storage:bookmarks'><conference jid='a@b'/></storage>",
    )
    finds(
        hamlet,
        "<storage xmlns='storage:rosternotes'/>",
        "<storage xmlns='storage:rosternotes'><note/></storage>",
    )
    finds(hamlet, "<roster xmlns='roster:delimiter'/>", "<roster xmlns='roster:delimiter'>::</roster>")
    finds(hamlet, "<other xmlns='roster:delimiter'/>", "<other xmlns='roster:delimiter'/>")


def test_what_is_stored_takes_the_place_of_what_was_there() -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    keeps(hamlet, PREFS)
    keeps(hamlet, "<exodus xmlns='exodus:prefs' v='2'/>")
    finds(hamlet, "<exodus xmlns='exodus:prefs'/>", "<exodus xmlns='exodus:prefs' v='2'/>")


def test_storing_an_empty_element_deletes() -> None:
    world = World()
    hamlet = world.login("hamlet@example.org/denmark")
    keeps(hamlet, PREFS)
    keeps(hamlet, "<exodus xmlns='exodus:prefs'/>")
    finds(hamlet, "<exodus xmlns='exodus:prefs'/>", "<exodus xmlns='exodus:prefs'/>")
    account = world.host.accounts.loaded("hamlet")
    assert account is not None
    assert world.result(world.store.data.all(account.id, "private")) == {}


def test_the_meaning_is_kept_to_the_letter() -> None:
    """White space, prefixes that the iq declares, and elements of other namespaces."""
    hamlet = World().login("hamlet@example.org/denmark")
    inner = " a\r&#13;\n<x xmlns=''/><message xmlns='jabber:client'/><p:y/>]]&gt;&amp;lt;"
    element = f"<p:e xmlns:p='urn:p' a='x&#10;&#9;y' p:b='1'>{inner}</p:e>"
    hamlet.sends(
        f"<iq xmlns:q='jabber:iq:private' xmlns:p='urn:wrong' type='set' id='1001'><q:query>{element}</q:query></iq>"
    )
    hamlet.receives("<iq type='result' id='1001' to='hamlet@example.org/denmark'/>")
    finds(hamlet, "<e xmlns='urn:p'/>", element)
    keeps(hamlet, "<message xmlns='jabber:client'><body>A draft</body></message>")
    finds(hamlet, "<message xmlns='jabber:client'/>", "<message xmlns='jabber:client'><body>A draft</body></message>")


def test_several_elements_of_one_namespace() -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    keeps(hamlet, "<a xmlns='urn:x'>1</a><b xmlns='urn:x'>2</b><a xmlns='urn:x'>3</a>")
    finds(hamlet, "<a xmlns='urn:x'/>", "<a xmlns='urn:x'>1</a><a xmlns='urn:x'>3</a>")
    finds(hamlet, "<b xmlns='urn:x'/>", "<b xmlns='urn:x'>2</b>")


@pytest.mark.parametrize("kind", ["get", "set"])
def test_no_element(kind: str) -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    is_refused(hamlet, kind, "<query xmlns='jabber:iq:private'/>", "not-acceptable")


@pytest.mark.parametrize("kind", ["get", "set"])
@pytest.mark.parametrize("child", ["<exodus/>", "<exodus xmlns=''/>"])
def test_an_element_without_a_namespace_of_its_own(kind: str, child: str) -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    is_refused(hamlet, kind, f"<query xmlns='jabber:iq:private'>{child}</query>", "not-acceptable")


def test_more_than_one_namespace() -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    two = "<query xmlns='jabber:iq:private'><a xmlns='urn:a'>1</a><b xmlns='urn:b'/></query>"
    is_refused(hamlet, "get", two, "not-acceptable")
    is_refused(hamlet, "set", two, "not-acceptable")
    finds(hamlet, "<a xmlns='urn:a'/>", "<a xmlns='urn:a'/>")  # nothing of it was kept
    two = "<query xmlns='jabber:iq:private'><a xmlns='urn:a'/><b xmlns='urn:a'/></query>"
    is_refused(hamlet, "get", two, "not-acceptable")


@pytest.mark.parametrize("kind", ["get", "set"])
@pytest.mark.parametrize("other", ["hamlet", "nobody"])
def test_the_data_of_another_user_is_forbidden_whether_there_is_such_a_user_or_not(kind: str, other: str) -> None:
    world = World()
    hamlet = world.login("hamlet@example.org/denmark")
    keeps(hamlet, PREFS)
    macbeth = world.login("macbeth@example.org/scotland")
    macbeth.sends(
        f"<iq type='{kind}' to='{other}@example.org' id='1003'><query xmlns='jabber:iq:private'>"
        "<exodus xmlns='exodus:prefs'><defaultnick>Macbeth</defaultnick></exodus></query></iq>"
    )
    macbeth.receives(
        f"<iq type='error' id='1003' from='{other}@example.org' to='macbeth@example.org/scotland'>"
        "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
    hamlet.receives_nothing()
    finds(hamlet, "<exodus xmlns='exodus:prefs'/>", PREFS)


def test_the_own_data_at_the_own_address() -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    keeps(hamlet, PREFS)
    hamlet.sends(
        "<iq type='get' id='1002' to='hamlet@example.org'><query xmlns='jabber:iq:private'>"
        "<exodus xmlns='exodus:prefs'/></query></iq>"
    )
    hamlet.receives(
        "<iq type='result' id='1002' from='hamlet@example.org' to='hamlet@example.org/denmark'>"
        f"<query xmlns='jabber:iq:private'>{PREFS}</query></iq>"
    )


def test_sql_in_a_namespace_is_a_namespace() -> None:
    world = World()
    hamlet, macbeth = world.login("hamlet@example.org/denmark"), world.login("macbeth@example.org/scotland")
    keeps(macbeth, PREFS)
    evil = "x&apos;;DELETE/**/FROM/**/account_data;--%s:id?\\"
    keeps(hamlet, f"<e xmlns='{evil}'>1</e>")
    finds(hamlet, f"<e xmlns='{evil}'/>", f"<e xmlns='{evil}'>1</e>")
    finds(hamlet, "<e xmlns='x'/>", "<e xmlns='x'/>")
    finds(macbeth, "<exodus xmlns='exodus:prefs'/>", PREFS)


def test_a_name_that_is_too_long_for_a_key() -> None:
    hamlet = World().login("hamlet@example.org/denmark")
    longest = "é" * ((1024 - len(" urn:xy")) // 2)
    keeps(hamlet, f"<{longest} xmlns='urn:xy' a='1'/>")
    finds(hamlet, f"<{longest} xmlns='urn:xy'/>", f"<{longest} xmlns='urn:xy' a='1'/>")
    too_long = f"<query xmlns='jabber:iq:private'><{longest} xmlns='urn:xyzz' a='1'/></query>"
    for kind in ("get", "set"):
        is_refused(hamlet, kind, too_long, "not-acceptable")


def test_an_account_keeps_only_so_much_in_all() -> None:
    world = World("private_data_limit = 2000")
    hamlet = world.login("hamlet@example.org/denmark")
    keeps(hamlet, f"<a xmlns='urn:x'>{'x' * 900}</a>")
    keeps(hamlet, f"<b xmlns='urn:x'>{'x' * 900}</b>")
    much = f"<query xmlns='jabber:iq:private'><c xmlns='urn:x'>{'x' * 900}</c></query>"
    is_refused(hamlet, "set", much, "policy-violation")
    finds(hamlet, "<c xmlns='urn:x'/>", "<c xmlns='urn:x'/>")
    keeps(hamlet, f"<a xmlns='urn:x'>{'y' * 900}</a>")  # in place of another
    keeps(hamlet, "<b xmlns='urn:x'/>")  # makes room
    keeps(hamlet, f"<c xmlns='urn:x'>{'x' * 900}</c>")
    macbeth = world.login("macbeth@example.org/scotland")
    keeps(macbeth, f"<a xmlns='urn:x'>{'x' * 900}</a>")  # who has kept nothing yet
    again = World("private_data_limit = 2000", before=world).login("hamlet@example.org/england")
    is_refused(again, "set", much.replace("<c ", "<d ").replace("</c>", "</d>"), "policy-violation")


def test_who_has_more_than_a_lowered_limit_may_keep_less() -> None:
    world = World()
    hamlet = world.login("hamlet@example.org/denmark")
    keeps(hamlet, f"<a xmlns='urn:x'>{'x' * 900}</a>")
    later = World("private_data_limit = 100", before=world).login("hamlet@example.org/denmark")
    is_refused(
        later,
        "set",
        f"<query xmlns='jabber:iq:private'><a xmlns='urn:x'>{'x' * 901}</a></query>",
        "policy-violation",
    )
    keeps(later, f"<a xmlns='urn:x'>{'x' * 800}</a>")


def test_changes_at_once_do_not_get_round_the_limit() -> None:
    world = World("private_data_limit = 1500")
    one, other = world.login("hamlet@example.org/denmark"), world.login("hamlet@example.org/england")
    for player, name in ((one, "a"), (other, "b")):
        player.sends_only(
            f"<iq type='set' id='1'><query xmlns='jabber:iq:private'>"
            f"<{name} xmlns='urn:x'>{'x' * 900}</{name}></query></iq>"
        )
    world.settle()
    assert sorted((one.takes().get("type"), other.takes().get("type"))) == ["error", "result"]


def test_discovery() -> None:
    juliet = World().login("juliet@example.org/balcony")
    juliet.sends("<iq type='get' to='example.org' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    features = {child.get("var") for child in juliet.takes().iter()}
    assert "jabber:iq:private" in features
