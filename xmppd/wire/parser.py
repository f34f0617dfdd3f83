"""The XML stream parser (RFC 6120 sections 4 and 11), over expat: bytes in, events out.

A stanza comes out as its own bytes with an envelope (see `stanza.py`), cut out of what was received by the
byte offsets that expat reports. Prefixes that the stream header declared become its own where it uses them. Only a
stanza whose own name has a prefix is written anew from its tree.

The parser refuses what RFC 6120 section 11.1 forbids (document types, comments, processing instructions,
entities), whatever is not well-formed, other encodings, and whatever is larger, deeper or richer than its
`Limits`, while it is being read and not after. A parser serves one stream: after a restart, on a new
connection and at a resumption there is a new one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.stanza import Child, Stanza
from xmppd.wire.xml import parse_tree, serialise_inner

_SEPARATOR = " "  # cannot stand in a name; of a namespace and a name joined by it the last one counts
_START_TAG = re.compile(rb"""<[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*>""")

# expat reads an unfinished token again with each piece that arrives. Beyond this many bytes read again within
# one stanza a peer is not slow but hostile; a stanza of 256 KiB in ordinary TCP segments needs a third of it.
MAX_REREAD_BYTES = 64 * 1024 * 1024

# A namespace may be written again into every element or attribute that is in it, and one that the stream header
# declares into every stanza that uses it, so long ones would make much out of little. Names in use have 20 to 80
# characters; a header declares one or two.
MAX_NAMESPACE = 256
MAX_HEADER_NAMESPACES = 1024  # characters of all that a header declares with a prefix

# Error codes of expat.h; Python names only some of them.
_UNDEFINED_ENTITY = 11
_PREFIX_ERRORS = frozenset({27, 28, 38, 39, 40})  # unbound, undeclared, and the reserved ones misused


def first_tag(data: bytes) -> bytes:
    """A document up to the end of its first start tag; all of it where that does not end."""
    root = re.search(rb"<[^?]", data)
    tag = _START_TAG.match(data, root.start()) if root is not None else None
    return data[: tag.end()] if tag is not None else data


@dataclass(frozen=True)
class Limits:
    """What one first-level element may take: its size in bytes, the depth of the stream, how many elements it
    holds, and how many attributes one element has. They bound the stream header as well."""

    bytes: int
    depth: int
    elements: int
    attributes: int


# Before authentication nothing is large: XEP-0478 and RFC 6120 section 13.12 want at least 10,000 bytes.
BEFORE_LOGIN = Limits(bytes=10_000, depth=16, elements=48, attributes=32)


@dataclass(frozen=True)
class StreamHeader:
    """The start of a stream: the attributes of its header, and the namespaces that it declares by prefix."""

    attributes: dict[str, str]
    namespaces: dict[str, str]


class StreamEnd:
    """The stream was closed by its end tag."""


Event = StreamHeader | Stanza | StreamEnd | StreamError


class StreamParser:
    """Turns the bytes of one stream into events; `feed` it, and `close` it when the stream is over.

    A `StreamError` is the last event: what follows is not looked at. `root` is the element that all others are in, its
    namespace and its name.
    """

    __slots__ = (
        "_base", "_buffer", "_child_start", "_children", "_closed", "_depth", "_elements", "_events",
        "_expat", "_fresh", "_header", "_header_namespaces", "_header_prefixes", "_namespaces", "_reread", "_root",
        "_stanza", "_start", "limits",
    )  # fmt: skip

    def __init__(self, limits: Limits, root: tuple[str, str] = (ns.STREAM, "stream")) -> None:
        self.limits = limits
        self._root = root
        self._events: list[Event] = []
        self._closed = False
        self._buffer = b""  # what has been received since the last first-level element ended ...
        self._base = 0  # ... and the offset of its first byte in the stream
        self._depth = 0
        self._elements = 0  # within the present first-level element
        self._reread = 0
        self._fresh = False  # whether the last event of expat was a start tag
        self._start = 0
        self._child_start = 0
        self._children: list[Child] = []
        self._stanza: tuple[str, str, dict[str, str], tuple[tuple[str, str], ...]] | None = None
        self._namespaces: list[tuple[str | None, str]] = []  # declared by the tag that is being read
        self._header = b""  # the tag that the stream begins with
        self._header_namespaces: dict[str, str] = {}
        self._header_prefixes: tuple[tuple[str, bytes], ...] = ()  # each with the bytes that show its use
        self._expat = self._new_expat()

    def _new_expat(self) -> Any:
        parser = expat.ParserCreate("UTF-8", _SEPARATOR)
        if hasattr(parser, "SetReparseDeferralEnabled"):
            # expat 2.6 may else keep an end tag that came in two pieces until more arrives. MAX_REREAD_BYTES
            # bounds what that was made against (CVE-2023-52425).
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.StartNamespaceDeclHandler = self._on_namespace
        parser.XmlDeclHandler = self._on_declaration
        parser.StartDoctypeDeclHandler = self._on_restricted
        parser.CommentHandler = self._on_restricted
        parser.ProcessingInstructionHandler = self._on_restricted
        parser.CharacterDataHandler = self._on_text
        return parser

    def rest(self) -> None:
        """Between two elements, let go of what expat needs to read: three quarters of what a parser takes, which most
        of the sessions of a server do not need most of the time. The next `feed` begins with the header once more."""
        if self._depth == 1 and not self._closed and not self._buffer:
            self._expat = None

    def _wake(self) -> None:
        self._expat = self._new_expat()
        self._depth = self._base = 0
        self._buffer = self._header
        self._expat.Parse(self._header)
        self._events.clear()

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order."""
        if self._closed:
            return []
        if self._expat is None:
            self._wake()
        self._buffer = self._buffer + data if self._buffer else data
        self._reread += len(self._buffer)
        try:
            if not self._base:
                self._check_start()
            self._expat.Parse(data)
            self._check_unfinished()
        except StreamError as error:
            self._fail(error)
        except expat.ExpatError as error:
            self._fail(self._translate(error))
        events = self._events
        self._events = []
        return events

    @property
    def unfinished(self) -> bool:
        """Whether bytes have come that are not yet part of an event."""
        return bool(self._buffer)

    def close(self) -> None:
        """Stop, and let go of the memory. Nothing comes out any more."""
        self._closed = True
        self._buffer = b""
        parser = self._expat
        if parser is None:
            return
        parser.StartElementHandler = parser.EndElementHandler = None
        parser.StartNamespaceDeclHandler = parser.XmlDeclHandler = None
        parser.StartDoctypeDeclHandler = parser.CommentHandler = None
        parser.ProcessingInstructionHandler = parser.CharacterDataHandler = None

    # ---- limits and errors

    def _check_start(self) -> None:
        """expat takes UTF-16 for what it is, whatever encoding it was told, and passes over a byte order mark; RFC
        6120 section 11.6 has neither."""
        start = self._buffer[:4]
        if b"\0" in start:
            raise StreamError("unsupported-encoding", "streams are UTF-8")
        if start.startswith(b"\xef"):
            raise StreamError("not-well-formed")

    def _check_unfinished(self) -> None:
        if self._depth == 1:
            # White space between stanzas keeps a connection alive; nothing of it is kept.
            pending = self._buffer.lstrip(b" \t\r\n")
            self._base += len(self._buffer) - len(pending)
            self._buffer = pending
            if not pending:
                self._reread = 0
        if len(self._buffer) > self.limits.bytes:
            raise StreamError("policy-violation", f"more than {self.limits.bytes} bytes in one element")
        if self._reread > MAX_REREAD_BYTES:
            raise StreamError("policy-violation", "an element arrives in too many pieces")

    def _fail(self, error: StreamError) -> None:
        if not self._closed:  # what stands behind the end of the stream is nobody's business
            self._events.append(error.with_traceback(None))  # its frames would keep this parser alive
        self.close()

    def _translate(self, error: expat.ExpatError) -> StreamError:
        if error.code == _UNDEFINED_ENTITY:
            return StreamError("restricted-xml", "entities are not allowed here")
        if error.code in _PREFIX_ERRORS:
            return StreamError("bad-namespace-prefix")
        if self._buffer.startswith(b"<!D", self._expat.ErrorByteIndex - self._base - 2):  # the error is at the D
            return StreamError("restricted-xml", "no document types here")
        try:
            self._buffer.decode()
        except UnicodeDecodeError as decoding:
            if decoding.reason != "unexpected end of data":
                return StreamError("unsupported-encoding", "this is not UTF-8")
        return StreamError("not-well-formed")

    # ---- what expat calls

    def _on_restricted(self, *_: object) -> None:
        raise StreamError("restricted-xml", "no document types, comments or processing instructions here")

    def _on_declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.upper() not in ("UTF-8", "UTF8"):
            raise StreamError("unsupported-encoding", "streams are UTF-8")

    def _on_text(self, text: str) -> None:
        if text.strip(" \t\r\n"):
            raise StreamError("bad-format", "text between stanzas")

    def _on_namespace(self, prefix: str | None, uri: str | None) -> None:
        if uri is not None and len(uri) > MAX_NAMESPACE:
            raise StreamError("policy-violation", f"a namespace longer than {MAX_NAMESPACE}")
        if self._depth < 2:
            self._namespaces.append((prefix, uri or ""))

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        depth = self._depth = self._depth + 1
        self._elements += 1
        self._fresh = True
        limits = self.limits
        if depth > limits.depth:
            raise StreamError("policy-violation", f"elements are nested deeper than {limits.depth}")
        if self._elements > limits.elements:
            raise StreamError("policy-violation", f"more than {limits.elements} elements in one")
        if len(attributes) > limits.attributes:
            raise StreamError("policy-violation", f"more than {limits.attributes} attributes")
        if depth == 3:
            self._child_start = self._expat.CurrentByteIndex - self._base
            uri, _, local = name.rpartition(_SEPARATOR)
            self._children.append((uri, local, self._child_start, 0))
        elif depth == 2:
            self._start_stanza(name, attributes)
        elif depth == 1:
            self._start_stream(name, attributes)

    def _start_stream(self, name: str, attributes: dict[str, str]) -> None:
        uri, _, local = name.rpartition(_SEPARATOR)
        if (uri, local) != self._root:
            raise StreamError("invalid-namespace" if local == self._root[1] else "bad-format", "not a stream header")
        namespaces = self._header_namespaces = {prefix or "": uri for prefix, uri in self._namespaces}
        self._namespaces = []
        if sum(len(prefix) + len(uri) for prefix, uri in namespaces.items() if prefix) > MAX_HEADER_NAMESPACES:
            raise StreamError("policy-violation", "the header declares too many namespaces")
        self._header_prefixes = tuple((prefix, prefix.encode() + b":") for prefix in namespaces if prefix)
        header = _START_TAG.search(self._buffer, self._expat.CurrentByteIndex - self._base)
        if header is None or header.end() > self.limits.bytes:
            raise StreamError("policy-violation", f"more than {self.limits.bytes} bytes in the stream header")
        self._header = header[0]
        self._events.append(StreamHeader(attributes, namespaces))
        self._cut(header.end())

    def _start_stanza(self, name: str, attributes: dict[str, str]) -> None:
        self._start = self._expat.CurrentByteIndex - self._base
        uri, _, local = name.rpartition(_SEPARATOR)
        prefixes = tuple((prefix, declared) for prefix, declared in self._namespaces if prefix)
        self._namespaces = []
        self._stanza = (uri, local, attributes, prefixes)
        self._children = []
        self._expat.CharacterDataHandler = None

    def _on_end(self, name: str) -> None:
        depth = self._depth
        self._depth = depth - 1
        if depth == 3:
            uri, local, start, _ = self._children[-1]
            self._children[-1] = (uri, local, start, self._end_of_element(self._child_start))
        elif depth == 2:
            self._end_stanza(self._end_of_element(self._start))
        elif depth == 1:
            self._events.append(StreamEnd())
            self._closed = True
        self._fresh = False

    def _end_of_element(self, start: int) -> int:
        """Where in the buffer the element ends whose end expat reports.

        For an end tag expat gives the place where the tag starts; for an empty element, which is one tag, the
        place behind it. (Text that ends in "/>" may stand before an end tag as well.)
        """
        index: int = self._expat.CurrentByteIndex - self._base
        if self._fresh and self._buffer[index - 2 : index] == b"/>":
            tag = _START_TAG.match(self._buffer, start)
            if tag is not None and tag.end() == index:
                return index
        return self._buffer.index(b">", index) + 1

    def _end_stanza(self, end: int) -> None:
        assert self._stanza is not None
        self._expat.CharacterDataHandler = self._on_text
        raw = self._buffer[self._start : end]
        if len(raw) > self.limits.bytes:
            raise StreamError("policy-violation", f"more than {self.limits.bytes} bytes in one element")
        self._events.append(self._cut_out(raw))
        self._cut(end)
        self._stanza = None
        self._children = []

    def _cut(self, end: int) -> None:
        self._buffer = self._buffer[end:]
        self._base += end
        self._elements = 0
        self._reread = len(self._buffer)

    def _cut_out(self, raw: bytes) -> Stanza:
        """The stanza whose bytes are `raw`."""
        assert self._stanza is not None
        uri, name, attributes, prefixes = self._stanza
        if not raw.startswith(b"<" + name.encode()) or raw[len(name.encode()) + 1] not in b" \t\r\n/>":
            inner, children = self._rewritten(raw)
            return Stanza(name, attributes, inner, children, xmlns=uri)
        prefixes += self._borrowed(raw, prefixes)
        tag_end = _START_TAG.match(raw).end()  # type: ignore[union-attr]
        if raw[tag_end - 2] == 0x2F:  # "/": an empty element
            return Stanza(name, attributes, xmlns=uri, prefixes=prefixes)
        offset = self._start + tag_end
        children = [(xmlns, local, start - offset, end - offset) for xmlns, local, start, end in self._children]
        return Stanza(name, attributes, raw[tag_end : raw.rindex(b"</")], children, xmlns=uri, prefixes=prefixes)

    def _borrowed(self, raw: bytes, own: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """The prefixes of the stream header that a stanza uses and does not declare itself. (Text that only looks
        like one costs a few bytes and nothing else.)"""
        used = [prefix for prefix, mark in self._header_prefixes if mark in raw]
        if not used:
            return ()
        declared = {prefix for prefix, _ in own}
        return tuple((prefix, self._header_namespaces[prefix]) for prefix in used if prefix not in declared)

    def _rewritten(self, raw: bytes) -> tuple[bytes, list[Child]]:
        """The inner bytes and the children of a stanza whose own name has a prefix, written anew from its tree so
        that the default namespace is the stanza's."""
        tree = parse_tree(raw, self._header_namespaces)
        inner, children = serialise_inner(tree, str(tree.uri))
        if len(inner) > self.limits.bytes:
            raise StreamError("policy-violation", f"more than {self.limits.bytes} bytes in one element")
        return inner, children
