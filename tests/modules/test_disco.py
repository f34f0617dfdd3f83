"""Service discovery (XEP-0030) by the examples of its sections 3 and 4, and the privacy of its section 8."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World
from xmppd.core.disco import Entity, Identity
from xmppd.wire.jid import parse

INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"


def ask(
    player: Player, xmlns: str, to: str | None = None, node: str | None = None, kind: str = "get"
) -> None:
    """Send a request; `to` None has no address."""
    address = f" to='{to}'" if to else ""
    at = f" node='{node}'" if node is not None else ""
    player.sends(f"<iq type='{kind}' id='d'{address}><query xmlns='{xmlns}'{at}/></iq>")


def refused(player: Player, of: str | None, condition: str, kind: str = "cancel") -> None:
    """The last request was refused."""
    error = player.takes()
    assert error.get("from") == of
    assert (error.get("type"), error.get("id")) == ("error", "d")
    (inner,) = error
    assert inner.get("type") == kind
    assert inner[0].tag == f"{{urn:ietf:params:xml:ns:xmpp-stanzas}}{condition}"


def features(player: Player, to: str | None = None) -> list[str]:
    """The features that a disco#info answer has, in order."""
    ask(player, INFO, to)
    query = player.takes()[0]
    return [feature.get("var") or "" for feature in query.findall(f"{{{INFO}}}feature")]


def test_the_server_says_what_it_is() -> None:
    romeo = World().login("romeo@example.org/orchard")
    ask(romeo, INFO, "example.org")
    answer = romeo.takes()
    assert answer.attrib == {"type": "result", "id": "d", "from": "example.org", "to": romeo.full}
    query = answer[0]
    assert query.tag == f"{{{INFO}}}query" and query.attrib == {}
    identities = [dict(identity.attrib) for identity in query.findall(f"{{{INFO}}}identity")]
    assert identities == [{"category": "server", "type": "im", "name": "xmppd"}]


def test_the_features_of_the_server_are_sorted_and_each_is_there_once() -> None:
    romeo = World().login("romeo@example.org/orchard")
    found = features(romeo, "example.org")
    assert found == sorted(set(found))
    assert {INFO, ITEMS, "msgoffline"} <= set(found)


@pytest.mark.parametrize("address", [None, "romeo@example.org"])
def test_the_own_account_says_what_it_is(address: str | None) -> None:
    world = World()
    world.host.disco.account.features = {INFO, ITEMS}  # without those of other modules
    romeo = world.login("romeo@example.org/orchard")
    ask(romeo, INFO, address)
    sender = f"from='{address}'" if address else ""
    romeo.receives(
        f"<iq type='result' id='d' to='romeo@example.org/orchard' {sender}><query xmlns='{INFO}'>"
        f"<identity category='account' type='registered'/><feature var='{INFO}'/><feature var='{ITEMS}'/>"
        "</query></iq>"
    )


def test_identities_have_languages() -> None:
    world = World()
    world.host.disco.account.identities.append(Identity("account", "admin", "Chef", "de"))
    romeo = world.login("romeo@example.org/orchard")
    ask(romeo, INFO)
    identity = romeo.takes()[0][1]
    xml_lang = "{http://www.w3.org/XML/1998/namespace}lang"
    assert identity.attrib == {"category": "account", "type": "admin", "name": "Chef", xml_lang: "de"}


def test_forms_come_last() -> None:
    world = World()
    form = b"<x xmlns='jabber:x:data' type='result'/>"
    world.host.disco.account.forms += [lambda: b"", lambda: form]
    romeo = world.login("romeo@example.org/orchard")
    ask(romeo, INFO)
    query = romeo.takes()[0]
    assert [child.tag for child in query][-2:] == [f"{{{INFO}}}feature", "{jabber:x:data}x"]


@pytest.mark.parametrize("address", [None, "romeo@example.org", "example.org"])
def test_there_are_no_items_now(address: str | None) -> None:
    romeo = World().login("romeo@example.org/orchard")
    ask(romeo, ITEMS, address)
    sender = f"from='{address}'" if address else ""
    romeo.receives(
        f"<iq type='result' id='d' to='romeo@example.org/orchard' {sender}><query xmlns='{ITEMS}'/></iq>"
    )


def test_items_of_the_server() -> None:
    world = World()
    items = world.host.disco.server.items
    items.append((parse("rooms.example.org"), "Rooms & more"))
    items.append((parse("proxy.example.org"), ""))
    romeo = world.login("romeo@example.org/orchard")
    ask(romeo, ITEMS, "example.org")
    romeo.receives(
        f"<iq type='result' id='d' from='example.org' to='romeo@example.org/orchard'><query xmlns='{ITEMS}'>"
        "<item jid='rooms.example.org' name='Rooms &amp; more'/><item jid='proxy.example.org'/></query></iq>"
    )


@pytest.mark.parametrize("xmlns", [INFO, ITEMS])
@pytest.mark.parametrize("address", [None, "romeo@example.org", "example.org"])
def test_an_unknown_node(xmlns: str, address: str | None) -> None:
    world = World()
    romeo = world.login("romeo@example.org/orchard")
    ask(romeo, xmlns, address, "http://jabber.org/protocol/nothing")
    refused(romeo, address, "item-not-found")


def test_a_node_that_a_module_knows() -> None:
    world = World()
    node = Entity([Identity("automation", "command-list")], {INFO}, items=[(world.host.jid, "Stop")])
    world.host.disco.server.nodes.append(lambda name: node if name == "commands" else None)
    romeo = world.login("romeo@example.org/orchard")
    ask(romeo, INFO, "example.org", "commands")
    romeo.receives(
        "<iq type='result' id='d' from='example.org' to='romeo@example.org/orchard'>"
        f"<query xmlns='{INFO}' node='commands'><identity category='automation' type='command-list'/>"
        f"<feature var='{INFO}'/></query></iq>"
    )
    ask(romeo, ITEMS, "example.org", "commands")
    romeo.receives(
        "<iq type='result' id='d' from='example.org' to='romeo@example.org/orchard'>"
        f"<query xmlns='{ITEMS}' node='commands'><item jid='example.org' name='Stop'/></query></iq>"
    )
    ask(romeo, INFO, None, "commands")  # a node of the server is none of the account
    refused(romeo, None, "item-not-found")


def test_an_empty_node_is_none_and_is_mirrored() -> None:
    romeo = World().login("romeo@example.org/orchard")
    ask(romeo, ITEMS, "example.org", "")
    romeo.receives(
        "<iq type='result' id='d' from='example.org' to='romeo@example.org/orchard'>"
        f"<query xmlns='{ITEMS}' node=''/></iq>"
    )


@pytest.mark.parametrize("xmlns", [INFO, ITEMS])
@pytest.mark.parametrize("node", [None, "http://jabber.org/protocol/nothing"])
@pytest.mark.parametrize("kind", ["get", "set"])
def test_a_stranger_cannot_tell_whether_there_is_such_an_account(
    xmlns: str, node: str | None, kind: str
) -> None:
    world = World()
    world.online("juliet@example.org/balcony")
    world.account("nurse@example.org")
    tybalt = world.online("tybalt@example.org/street")
    for account in ("juliet@example.org", "nurse@example.org", "nobody@example.org"):
        ask(tybalt, xmlns, account, node, kind)
        refused(tybalt, account, "service-unavailable")


@pytest.mark.parametrize("xmlns", [INFO, ITEMS])
def test_a_contact_learns_of_the_account_once_it_may_see_its_presence(xmlns: str) -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    juliet = world.online("juliet@example.org/balcony")
    romeo.sends("<presence type='subscribe' to='juliet@example.org'/>")
    juliet.sends("<presence type='subscribed' to='romeo@example.org'/>")
    romeo.forget()
    juliet.forget()
    ask(romeo, xmlns, "juliet@example.org")
    assert romeo.takes().attrib == {
        "type": "result", "id": "d", "from": "juliet@example.org", "to": "romeo@example.org/orchard"
    }  # fmt: skip
    ask(juliet, xmlns, "romeo@example.org")  # who sees nothing of Romeo's presence
    refused(juliet, "romeo@example.org", "service-unavailable")
    juliet.sends("<presence type='unsubscribed' to='romeo@example.org'/>")
    romeo.forget()
    ask(romeo, xmlns, "juliet@example.org")
    refused(romeo, "juliet@example.org", "service-unavailable")


@pytest.mark.parametrize("xmlns", [INFO, ITEMS])
@pytest.mark.parametrize("address", [None, "romeo@example.org", "example.org"])
def test_nothing_can_be_set(xmlns: str, address: str | None) -> None:
    romeo = World().login("romeo@example.org/orchard")
    ask(romeo, xmlns, address, kind="set")
    refused(romeo, address, "service-unavailable")


def test_a_request_without_payload() -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends("<iq type='get' id='d' to='example.org'/>")
    refused(romeo, "example.org", "bad-request", "modify")
    romeo.sends(f"<iq type='get' id='d'><query xmlns='{INFO}'/><query xmlns='{ITEMS}'/></iq>")
    refused(romeo, None, "bad-request", "modify")


def test_another_element_of_the_namespace() -> None:
    romeo = World().login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='get' id='d' to='example.org'><feature xmlns='{INFO}'/></iq>")
    refused(romeo, "example.org", "service-unavailable")


def test_a_request_to_a_resource_reaches_the_client_and_not_the_server() -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    juliet = world.online("juliet@example.org/balcony")
    world.befriend(romeo, juliet)
    ask(romeo, INFO, "juliet@example.org/balcony")
    juliet.receives(
        "<iq type='get' id='d' from='romeo@example.org/orchard' to='juliet@example.org/balcony'>"
        f"<query xmlns='{INFO}'/></iq>"
    )
    romeo.receives_nothing()


def test_each_host_has_its_own() -> None:
    world = World(sections="[host:example.org]\n[host:example.net]\n")
    world.host.disco.server.features.add("urn:only:here")
    romeo = world.login("romeo@example.org/orchard")
    assert "urn:only:here" in features(romeo, "example.org")
    assert "urn:only:here" not in features(romeo, "example.net")
