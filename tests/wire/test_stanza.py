"""Stanzas: what changes in a copy, and what stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.strategies import element, stanzas
from tests.wire.support import HEADER, infoset, stanza
from tests.wire.test_parser import BIG, spans
from xmppd.wire import ns
from xmppd.wire.errors import STANZA_CONDITIONS, STREAM_CONDITIONS, StanzaError, StreamError
from xmppd.wire.jid import parse
from xmppd.wire.stanza import LANG, Child, Stanza, error_reply, result
from xmppd.wire.stored import read_stored

ROMEO = parse("romeo@example.org/orchard")
JULIET = parse("juliet@example.org/bal'cony")
FEW = settings(parent=BIG, max_examples=40)


@FEW
@given(stanzas(), st.data())
def test_without_takes_out_those_children_and_nothing_else(text: str, data: st.DataObject) -> None:
    one = stanza(text)
    unwanted = data.draw(st.sets(st.sampled_from(one.children))) if one.children else set()
    before = one.to_bytes()
    left = one.without(unwanted.__contains__)
    spans(left)
    assert [child[:2] for child in left.children] == [child[:2] for child in one.children if child not in unwanted]
    assert [left.child_bytes(child) for child in left.children] == [
        one.child_bytes(child) for child in one.children if child not in unwanted
    ]
    assert len(left.inner) == len(one.inner) - sum(end - start for _, _, start, end in unwanted)
    assert left is one or unwanted
    assert one.to_bytes() == before
    assert len(stanza(left.to_bytes()).children) == len(left.children)


def test_without_moves_the_children_behind() -> None:
    one = stanza("<message>t<a>1</a>u<b/>v<a/><c>x/></c>w</message>")
    left = one.without(lambda child: child[1] == "a")
    assert left.inner == b"tu<b/>v<c>x/></c>w"
    assert [left.child_bytes(child) for child in left.children] == [b"<b/>", b"<c>x/></c>"]
    assert one.without(lambda child: False) is one
    assert one.without(lambda child: True).inner == b"tuvw"


@FEW
@given(stanzas(), element("added", maximum=1))
def test_extended_adds_one_child_at_the_end(text: str, added: str) -> None:
    one = stanza(text)
    before = one.to_bytes()
    xml = added.replace("<added", "<added xmlns='urn:added'", 1).encode()
    more = one.extended("urn:added", "added", xml)
    spans(more)
    assert more.children[:-1] == one.children and more.children[-1][:2] == ("urn:added", "added")
    assert more.child_bytes(more.children[-1]) == xml and more.has("urn:added", "added")
    assert more.inner.startswith(one.inner) and one.to_bytes() == before
    again = more.without(lambda child: child == more.children[-1])
    assert infoset(again.to_bytes()) == infoset(before)
    spans(stanza(more.to_bytes()))
    # It takes over bytes that were written already; one that was not written before is the same.
    assert more.to_bytes() == stanza(text).extended("urn:added", "added", xml).to_bytes()


@FEW
@given(stanzas())
def test_addressed_changes_the_addresses_alone(text: str) -> None:
    one = stanza(text)
    one.attributes.pop("to", None)
    one.attributes.pop("from", None)
    copy = one.addressed(sender=JULIET, to=ROMEO)
    assert copy.inner is one.inner and copy.children == one.children and copy.prefixes == one.prefixes
    assert one.to is None and one.sender is None
    spans(copy)
    attributes = infoset(copy.to_bytes())[1]
    assert ("from", JULIET.full) in attributes and ("to", ROMEO.full) in attributes
    assert infoset(copy.addressed(sender=None, to=None).to_bytes()) == infoset(one.to_bytes())


@FEW
@given(stanzas())
def test_what_was_stored_is_read_back(text: str) -> None:
    one = stanza(text)
    one.attributes.pop("to", None)
    one.attributes.pop("from", None)
    sent = one.addressed(sender=JULIET, to=ROMEO)
    back = read_stored(sent.to_bytes())
    assert back.to_bytes() == sent.to_bytes()
    assert (back.sender, back.to, back.children) == (JULIET, ROMEO, sent.children)


def test_small_and_large_stanzas_are_read_back() -> None:
    for text in (
        b"<iq/>",
        b"<message>" + b"<a/>" * 20_000 + b"</message>",
        b"<message>" + b"<a>" * 500 + b"</a>" * 500 + b"</message>",
    ):
        assert read_stored(text).to_bytes() == text
    for text in (b"", b"<a/><b/>", b"<a>", b"text", b"</stream:stream>"):
        with pytest.raises(ValueError, match="not one stanza"):
            read_stored(text)


def test_the_envelope() -> None:
    one = stanza("<message type='chat' id='i' xml:lang='en' to='x'><body>a&amp;b</body></message>")
    assert (one.name, one.xmlns, one.type, one.id) == ("message", ns.CLIENT, "chat", "i")
    assert one.attributes[LANG] == "en"
    assert one.has(ns.CLIENT, "body") and not one.has("urn:x", "body") and not one.has(ns.CLIENT, "subject")
    assert one.tree is one.tree and str(next(one.tree.elements())) == "a&b"
    assert "a&b" not in repr(one) and "body" not in repr(one)


def test_text_is_of_the_element_itself() -> None:
    assert stanza("<message>a<b>c</b>d</message>").text() == "ad"
    assert stanza("<message>plain \u00e9</message>").text() == "plain \u00e9"
    assert stanza("<message/>").text() == ""
    assert stanza("<message><![CDATA[<x>]]>&lt;</message>").text() == "<x><"


def test_a_nonza_names_its_namespace() -> None:
    one = stanza("<r xmlns='urn:xmpp:sm:3'><x/></r>")
    assert one.xmlns == "urn:xmpp:sm:3" and one.children == [("urn:xmpp:sm:3", "x", 0, 4)]
    assert one.to_bytes() == b"<r xmlns='urn:xmpp:sm:3'><x/></r>"


def test_without_namespace() -> None:
    one = stanza("<r xmlns=''><x/></r>")
    assert one.xmlns == "" and one.children == [("", "x", 0, 4)]
    assert infoset(one.to_bytes()) == infoset(b"<r xmlns=''><x/></r>")


def test_line_ends_and_tabs_arrive_as_they_were_sent() -> None:
    one = stanza("<message a='x&#13;&#10;&#9;y'><body>a&#13;b&#13;\nc</body></message>")
    assert infoset(one.to_bytes()) == ("{jabber:client}message", [("a", "x\r\n\ty")], "", [
        (("{jabber:client}body", [], "a\rb\r\nc", []), "")
    ])  # fmt: skip


def test_answers() -> None:
    request = stanza("<iq type='get' id='1'><q xmlns='urn:q'/></iq>").addressed(sender=ROMEO, to=JULIET)
    expected = b"<iq from='juliet@example.org/bal&apos;cony' to='romeo@example.org/orchard' type='%b' id='1'%b"
    assert result(request).to_bytes() == expected % (b"result", b"/>")
    assert result(request, b"<q xmlns='urn:q'/>").to_bytes() == expected % (b"result", b"><q xmlns='urn:q'/></iq>")
    refused = error_reply(request, StanzaError("item-not-found", "no <such>"))
    assert infoset(refused.to_bytes())[1][-1] == ("type", "error")
    assert b"<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>" in refused.inner
    assert b"no &lt;such&gt;" in refused.inner and b"type='cancel'" in refused.inner
    assert "id" not in error_reply(Stanza("message", {}), StanzaError("gone")).attributes


def test_every_condition_can_be_written() -> None:
    for condition in STANZA_CONDITIONS:
        infoset(StanzaError(condition, "&", application=b"<x xmlns='urn:x'/>").to_bytes())
    for condition in STREAM_CONDITIONS:
        infoset(StreamError(condition, "&", b"<x xmlns='urn:x'/>").to_bytes(), HEADER)
    with pytest.raises(ValueError, match="no such"):
        StreamError("nonsense")
    with pytest.raises(KeyError):
        StanzaError("nonsense")
    assert StanzaError("gone", type="modify").type == "modify"
    assert str(StreamError("reset", "x")) == "reset: x" and str(StanzaError("gone")) == "gone"


def test_children_are_plain_tuples() -> None:
    child: Child = stanza("<message><body/></message>").children[0]
    assert child == (ns.CLIENT, "body", 0, 7)
