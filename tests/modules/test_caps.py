"""Entity capabilities (XEP-0115): the vectors of its sections 5.2 and 5.3, and the server's own hash."""

from __future__ import annotations

import base64
import hashlib
import re
from xml.etree import ElementTree

from tests.support.world import Player, World
from xmppd.core.disco import Identity
from xmppd.modules.caps import NODE, verification_string

INFO = "{http://jabber.org/protocol/disco#info}"
FORM = "{jabber:x:data}"
FEATURES = (
    "http://jabber.org/protocol/muc",
    "http://jabber.org/protocol/disco#items",
    "http://jabber.org/protocol/caps",
    "http://jabber.org/protocol/disco#info",
)
SOFTWARE = """
<x xmlns='jabber:x:data' type='result'>
  <field var='software_version'><value>0.11</value></field>
  <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
  <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>
  <field var='os'><value>Mac</value></field>
  <field var='software'><value>Psi</value></field>
  <field var='os_version'><value>10.5.1</value></field>
</x>""".strip().encode()


def sha1(text: str) -> str:
    """What section 5.1 ends with."""
    return base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()


# ---- the string


def test_the_simple_example() -> None:
    identity = Identity("client", "pc", "Exodus 0.9.1")
    assert verification_string((identity,), frozenset(FEATURES), ()) == "QgayPKawpkPSDYmwT/WM94uAlu0="


def test_the_complex_example() -> None:
    identities = (Identity("client", "pc", "Psi 0.11", "en"), Identity("client", "pc", "Ψ 0.11", "el"))
    assert verification_string(identities, frozenset(FEATURES), (SOFTWARE,)) == "q07IKJEyjvHSyhy//CH0CxmKi8w="


def test_identities_are_sorted_by_category_then_type_then_language() -> None:
    identities = (
        Identity("server", "im", "b", "en"),
        Identity("server", "im", "a", "fr"),
        Identity("account", "registered", "z"),
        Identity("account", "admin", "y"),
    )
    expected = "account/admin//y<account/registered//z<server/im/en/b<server/im/fr/a<"
    assert verification_string(identities, frozenset(), ()) == sha1(expected)


def test_a_category_that_starts_like_another_comes_after_it() -> None:
    # As strings "a-b/c" sorts before "a/c": the parts are compared, not the whole.
    identities = (Identity("a-b", "c"), Identity("a", "c"))
    assert verification_string(identities, frozenset(), ()) == sha1("a/c//<a-b/c//<")


def test_features_are_sorted_by_bytes() -> None:
    features = frozenset({"b", "B", "a#x", "a", "ä", "\U0001f600", "\uffee"})
    assert verification_string((), features, ()) == sha1("B<a<a#x<b<ä<\uffee<\U0001f600<")


def form(form_type: str, *fields: tuple[str, tuple[str, ...]], kind: str = "hidden") -> bytes:
    """A form with these fields."""
    body = "".join(
        f"<field var='{name}'>" + "".join(f"<value>{value}</value>" for value in values) + "</field>"
        for name, values in fields
    )
    return (
        f"<x xmlns='jabber:x:data' type='result'>{body}<field var='FORM_TYPE' type='{kind}'>"
        f"<value>{form_type}</value></field></x>"
    ).encode()


def test_forms_fields_and_values_are_sorted() -> None:
    forms = (form("urn:b", ("y", ("2", "1")), ("x", ())), form("urn:a", ("z", ("&lt;&amp;", ""))))
    assert verification_string((), frozenset(), forms) == sha1("urn:a<z<<<&<urn:b<x<y<1<2<")


def test_a_form_without_a_hidden_form_type_does_not_count() -> None:
    nameless = b"<x xmlns='jabber:x:data' type='result'><field var='a'><value>1</value></field></x>"
    shown = form("urn:a", kind="text-single")
    assert verification_string((), frozenset({"f"}), (nameless, shown, b"")) == sha1("f<")


# ---- the server's


def login(world: World) -> tuple[Player, str]:
    """Log in; the player, and the ``ver`` that its stream announced."""
    romeo = world.login("romeo@example.org/orchard")
    (element,) = re.findall(rb"<c [^>]*>", romeo.received_bytes())
    caps = ElementTree.fromstring(element)
    assert caps.tag == "{http://jabber.org/protocol/caps}c"
    assert caps.attrib == {"hash": "sha-1", "node": NODE, "ver": caps.get("ver")}
    return romeo, caps.get("ver") or ""


def discover(player: Player, node: str | None = None) -> ElementTree.Element:
    """The server's disco#info."""
    at = f" node='{node}'" if node else ""
    player.sends(
        f"<iq type='get' id='d' to='example.org'><query xmlns='http://jabber.org/protocol/disco#info'{at}/></iq>"
    )
    return player.takes()


def hashed(query: ElementTree.Element) -> str:
    """The hash of an answer, as a client works it out."""
    identities = query.findall(f"{INFO}identity")
    parts = sorted(f"{i.get('category')}/{i.get('type')}//{i.get('name', '')}" for i in identities)
    parts += sorted(feature.get("var", "") for feature in query.findall(f"{INFO}feature"))
    for x in query.findall(f"{FORM}x"):
        fields = {f.get("var", ""): sorted(v.text or "" for v in f.findall(f"{FORM}value")) for f in x}
        parts += fields.pop("FORM_TYPE")
        for name in sorted(fields):
            parts += [name, *fields[name]]
    return sha1("".join(f"{part}<" for part in parts))


def test_the_hash_is_that_of_what_the_server_says() -> None:
    romeo, ver = login(World())
    query = discover(romeo)[0]
    assert hashed(query) == ver
    assert "http://jabber.org/protocol/caps" in [f.get("var") for f in query.findall(f"{INFO}feature")]


def test_the_forms_of_the_server_are_part_of_it() -> None:
    _, plain = login(World())
    world = World()
    world.host.disco.server.forms.append(lambda: SOFTWARE)
    romeo, ver = login(world)
    assert ver != plain
    assert hashed(discover(romeo)[0]) == ver


def test_the_node_of_the_hash_says_the_same_and_is_mirrored() -> None:
    romeo, ver = login(World())
    plain = discover(romeo)[0]
    answer = discover(romeo, f"{NODE}#{ver}")
    assert answer.get("type") == "result"
    assert answer[0].attrib == {"node": f"{NODE}#{ver}"}
    assert list(map(ElementTree.tostring, answer[0])) == list(map(ElementTree.tostring, plain))


def test_other_nodes_are_not_there() -> None:
    romeo, ver = login(World())
    for node in (NODE, f"{NODE}#", f"{NODE}#AAAA", f"urn:other#{ver}", ver):
        answer = discover(romeo, node)
        assert (answer.get("type"), answer[0][0].tag.rpartition("}")[2]) == ("error", "item-not-found"), node


def test_the_node_is_none_of_an_account() -> None:
    romeo, ver = login(World())
    romeo.sends(f"<iq type='get' id='d'><query xmlns='{INFO[1:-1]}' node='{NODE}#{ver}'/></iq>")
    assert romeo.takes()[0][0].tag == "{urn:ietf:params:xml:ns:xmpp-stanzas}item-not-found"


def test_a_change_of_features_or_forms_changes_the_hash() -> None:
    world = World()
    _, first = login(world)
    said = [b""]
    world.host.disco.server.forms.append(lambda: said[0])
    seen = {first}
    for change in (
        lambda: world.host.disco.server.features.add("urn:new"),
        lambda: said.__setitem__(0, SOFTWARE),
        lambda: world.host.disco.server.identities.append(Identity("store", "file")),
    ):
        change()
        client, ver = login(world)
        assert ver not in seen
        assert hashed(discover(client)[0]) == ver
        seen.add(ver)
    answer = discover(client, f"{NODE}#{first}")  # nobody is told what is no longer true
    assert answer.get("type") == "error"


def test_two_servers_that_can_do_the_same_say_the_same() -> None:
    one, other = World(), World()
    for world, names in ((one, "abcdef"), (other, "fedcba")):
        for name in names:
            world.host.disco.server.features.add(f"urn:{name}")
    assert login(one)[1] == login(other)[1]


def test_it_is_announced_after_authentication_only() -> None:
    stranger = World().connect()
    stranger.opens()
    assert b"features" in stranger.received_bytes()
    assert b"protocol/caps" not in stranger.received_bytes()
