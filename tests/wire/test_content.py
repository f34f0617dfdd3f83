"""Stanzas of streams with another content namespace are the same as those of clients once they are inside."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.wire.strategies import HEADER_PREFIXES, stanzas
from tests.wire.support import HEADER, RICH, Infoset, infoset, stanza
from tests.wire.test_parser import BIG, spans
from xmppd.wire import ns
from xmppd.wire.content import from_client, to_client
from xmppd.wire.stanza import Stanza

OTHERS = [ns.COMPONENT, ns.SERVER]


def elsewhere(text: bytes, xmlns: str) -> bytes:
    """The same as it would be in a stream of that namespace."""
    return text.replace(ns.CLIENT.encode(), xmlns.encode())


def as_client(text: str, xmlns: str, header: bytes) -> Stanza:
    return to_client(stanza(elsewhere(text.encode(), xmlns), elsewhere(header, xmlns)))


def renamed(found: Infoset, xmlns: str) -> Infoset:
    """The same with its attributes of that namespace in that of clients: they mean nothing, and stay what they are."""
    name, attributes, text, children = found
    own = sorted((key.replace(f"{{{xmlns}}}", f"{{{ns.CLIENT}}}"), value) for key, value in attributes)
    return name, own, text, [(renamed(child, xmlns), tail) for child, tail in children]


@pytest.mark.parametrize("xmlns", OTHERS)
@BIG
@given(stanzas(tuple(HEADER_PREFIXES)))
def test_what_comes_in_is_what_a_client_would_have_sent(xmlns: str, text: str) -> None:
    inside = as_client(text, xmlns, RICH)
    assert inside.xmlns == ns.CLIENT
    assert renamed(infoset(inside.to_bytes()), xmlns) == infoset(text.encode(), RICH)
    assert [child[:2] for child in inside.children] == [child[:2] for child in stanza(text, RICH).children]
    spans(inside)


@pytest.mark.parametrize("xmlns", OTHERS)
def test_what_says_nothing_of_its_namespace_keeps_its_bytes(xmlns: str) -> None:
    text = "<message type='chat'><body>a&#13;b</body><x xmlns='urn:x'/></message>"
    inside = as_client(text, xmlns, HEADER)
    assert inside.inner == b"<body>a&#13;b</body><x xmlns='urn:x'/>"
    assert [child[:2] for child in inside.children] == [(ns.CLIENT, "body"), ("urn:x", "x")]


def test_what_is_a_clients_stays_as_it_is() -> None:
    one = stanza("<message><body/></message>")
    assert to_client(one) is one


@pytest.mark.parametrize("xmlns", OTHERS)
@BIG
@given(stanzas(tuple(HEADER_PREFIXES)))
def test_what_goes_out_comes_in_as_it_was(xmlns: str, text: str) -> None:
    one = stanza(text, RICH)
    inside = to_client(stanza(from_client(one, xmlns), elsewhere(HEADER, xmlns)))
    spans(inside)
    assert infoset(inside.to_bytes()) == infoset(one.to_bytes())


@pytest.mark.parametrize("text", [
    "<message><body xmlns='jabber:client'>hi<x xmlns='urn:x'/></body></message>",
    "<message xmlns:c='jabber:client'><c:body>hi<x xmlns='urn:x'/></c:body></message>",
])  # fmt: skip
def test_what_names_the_namespace_of_clients_goes_out_in_that_of_the_stream(text: str) -> None:
    assert from_client(stanza(text), ns.COMPONENT) == b"<message><body>hi<x xmlns='urn:x'/></body></message>"


def test_what_is_forwarded_stays_a_clients() -> None:
    text = (
        "<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>hi</body></message>"
        "</forwarded></message>"
    )
    assert from_client(stanza(text), ns.COMPONENT) == text.encode()
