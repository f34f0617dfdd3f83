"""What the tests of the stream share: headers, parsers, and the infoset of an element."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from xmppd.wire.errors import StreamError
from xmppd.wire.parser import Event, Limits, StreamEnd, StreamHeader, StreamParser
from xmppd.wire.stanza import Stanza

OPENING = (
    "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'{more}>"
)
HEADER = OPENING.format(more="").encode()
# A header with prefixes that stanzas may lean on.
RICH = OPENING.format(more=" xmlns:h='urn:header' xmlns:c='jabber:client' xmlns:a0='urn:a0'").encode()
# Name, attributes, text, and the children with the text behind each.
Infoset = tuple[str, list[tuple[str, str]], str, list[Any]]
LIMITS = Limits(bytes=262_144, depth=129, elements=10_000, attributes=256)


def feed(parser: StreamParser, pieces: Iterable[bytes]) -> list[Event]:
    """All that comes of the pieces, one after the other."""
    return [event for piece in pieces for event in parser.feed(piece)]


def events(*pieces: bytes, limits: Limits = LIMITS, header: bytes = HEADER) -> list[Event]:
    """What comes out of a stream behind its header."""
    parser = StreamParser(limits)
    first, *rest = feed(parser, [header, *pieces])
    assert isinstance(first, StreamHeader)
    parser.close()
    return rest


def condition(*pieces: bytes, limits: Limits = LIMITS, header: bytes = HEADER) -> str:
    """The condition of the stream error at the end of what comes out."""
    last = events(*pieces, limits=limits, header=header)[-1]
    assert isinstance(last, StreamError), last
    return last.condition


def stanza(xml: str | bytes, header: bytes = HEADER) -> Stanza:
    """The one stanza in `xml`."""
    [only] = events(xml if isinstance(xml, bytes) else xml.encode(), header=header)
    assert isinstance(only, Stanza), only
    return only


def infoset(xml: bytes, header: bytes = HEADER) -> Infoset:
    """An element, which stands in a stream with this header, with names in full: the same for the same content."""
    start = header[header.index(b"<stream:stream") :]
    root = ElementTree.fromstring(start + xml + b"</stream:stream>")
    assert len(root) == 1
    return _expanded(root[0])


def _expanded(element: ElementTree.Element) -> Infoset:
    children = [(_expanded(child), child.tail or "") for child in element]
    return element.tag, sorted(element.attrib.items()), element.text or "", children


def plain(event: Event) -> object:
    """An event as a value to compare."""
    if isinstance(event, Stanza):
        return event.xmlns, event.name, event.attributes, event.prefixes, event.inner, event.children
    if isinstance(event, StreamHeader):
        return event.attributes, event.namespaces
    if isinstance(event, StreamEnd):
        return "end"
    return event.condition
