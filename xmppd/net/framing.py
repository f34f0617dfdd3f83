"""How the elements of a stream stand in what carries them: between the two tags of a stream in TCP (RFC 6120), each in
a message of its own in a WebSocket (RFC 7395), some together in an HTTP body (XEP-0124)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from xmppd.net.header import header_bytes
from xmppd.wire import ns
from xmppd.wire.parser import Event, Limits, StreamParser

_STANZA = re.compile(rb"<(?:message|presence|iq)(?=[\s/>])")
_OF_STREAM = re.compile(rb"<stream:[a-z]+")


class Parser(Protocol):
    """Reads one stream; `limits` bound each of its elements."""

    limits: Limits

    @property
    def unfinished(self) -> bool:
        """Whether something has come that is not yet part of an event."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order."""

    def rest(self) -> None:
        """Take little memory as long as nothing comes."""

    def close(self) -> None:
        """Nothing is read any more."""


@dataclass(frozen=True)
class Framing:
    """How a stream begins and ends, and how it is read. `name` is for the log and for statistics; `header` makes what
    the server begins with, of its domain, who it speaks to and the stream's id; `has_starttls`: TLS may begin within
    the stream."""

    name: str
    parser: Callable[[Limits], Parser]
    header: Callable[[str, str | None, str], bytes]
    end: bytes
    has_starttls: bool = False


TLS_FIRST = Framing("c2s", StreamParser, header_bytes, b"</stream:stream>")
TCP = Framing("c2s", StreamParser, header_bytes, b"</stream:stream>", has_starttls=True)


def on_its_own(element: bytes) -> bytes:
    """An element of a stream as it is understood without the stream's header around it."""
    if found := _STANZA.match(element):
        declared = f" xmlns='{ns.CLIENT}'"
    elif found := _OF_STREAM.match(element):
        declared = f" xmlns:stream='{ns.STREAM}'"
    else:
        return element
    return element[: found.end()] + declared.encode() + element[found.end() :]
