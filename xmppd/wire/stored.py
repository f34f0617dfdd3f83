"""Stanzas that were written to a store, read back, or put into other XML."""

from __future__ import annotations

import re

from xmppd.wire import ns
from xmppd.wire.jid import parse
from xmppd.wire.parser import Limits, StreamParser
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

_NAME = re.compile(rb"<[a-z]+")
_CLIENT = f" xmlns='{ns.CLIENT}'".encode()
_HEADER = tag("stream:stream", {"xmlns": ns.CLIENT, "xmlns:stream": ns.STREAM})[:-2] + b">"


def read_stored(data: bytes) -> Stanza:
    """The stanza that `Stanza.to_bytes` once wrote, with its addresses; `ValueError` for anything else."""
    size = len(_HEADER) + len(data)  # it has passed a parser with real limits before
    parser = StreamParser(Limits(bytes=size, depth=size, elements=size, attributes=size))
    parser.feed(_HEADER)
    events = parser.feed(data)
    parser.close()
    if len(events) != 1 or not isinstance(events[0], Stanza):
        raise ValueError("not one stanza")
    stanza = events[0]
    sender, to = stanza.attributes.pop("from", None), stanza.attributes.pop("to", None)
    return stanza.addressed(sender=parse(sender) if sender else None, to=parse(to) if to else None)


def in_own_namespace(data: bytes) -> bytes:
    """What `Stanza.to_bytes` wrote of a stanza of ours, so that it may stand where another default namespace holds."""
    end = _NAME.match(data).end()  # type: ignore[union-attr]
    return b"%b%b%b" % (data[:end], _CLIENT, data[end:])
