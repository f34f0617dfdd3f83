"""The bodies of BOSH: what their attributes say, and the elements in them (XEP-0124 section 6, XEP-0206 section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from xmppd.net.framing import Framing
from xmppd.wire import ns
from xmppd.wire.content import to_client
from xmppd.wire.errors import StreamError
from xmppd.wire.parser import BEFORE_LOGIN, Event, Limits, StreamEnd, StreamHeader, StreamParser, first_tag
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

VERSION = (1, 11)
MAX_RID = 2**53 - 1
SLICE = 16 * 1024  # bytes of a body that are parsed at once, which takes longer than in proportion

_BODY = (ns.BOSH, "body")


def attributes_of(data: bytes) -> dict[str, str]:
    """The attributes of a ``<body/>``; none where it is no such thing. The rest of it is not looked at."""
    parser = StreamParser(BEFORE_LOGIN, _BODY)
    events = parser.feed(first_tag(data))
    parser.close()
    return events[0].attributes if events and isinstance(events[0], StreamHeader) else {}


def number(text: str | None, most: int) -> int | None:
    """What an attribute says; None where it is no number from 0 to `most`."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 16:
        return None
    return int(text) if int(text) <= most else None


def terminate(condition: str | None = None, *elements: bytes) -> bytes:
    """A body that ends the session, because of a terminal binding condition where there is one (section 17.2)."""
    attributes = {"xmlns": ns.BOSH, "xmlns:stream": stream_prefix(elements), "type": "terminate"}
    return tag("body", {**attributes, "condition": condition}, *elements)


def stream_prefix(elements: Sequence[bytes]) -> str | None:
    """What a body declares where there are features or an error in it (XEP-0206 section 2)."""
    return ns.STREAM if any(element.startswith(b"<stream:") for element in elements) else None


def version(wanted: str | None) -> str | None:
    """The version that is spoken: the lower of both (section 7.2)."""
    if wanted is None:
        return None
    major, _, minor = wanted.partition(".")
    theirs = number(major, 1000), number(minor, 1000)
    if theirs[0] is None or theirs[1] is None:
        return None
    return "{}.{}".format(*min(VERSION, (theirs[0], theirs[1])))


# ---- how a stream is framed


class BodyParser:
    """Reads what is in bodies, each of which comes whole."""

    unfinished = False

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def feed(self, data: bytes) -> list[Event]:
        """The elements in one body, those in its own namespace as if in that of clients: many clients leave it out
        (XEP-0206 section 2)."""
        parser = StreamParser(self.limits, _BODY)
        events: list[Event] = []
        for start in range(0, len(data), SLICE):
            events += parser.feed(data[start : start + SLICE])
        parser.close()
        if not events or not isinstance(events[-1], StreamEnd | StreamError):
            events.append(StreamError("not-well-formed", "a body comes whole"))
        return [_of_client(event) for event in events if isinstance(event, Stanza | StreamError)]

    def rest(self) -> None:
        """See `Parser`: nothing is kept from one document to the next."""

    def close(self) -> None:
        """See `Parser`."""


def _of_client(event: Stanza | StreamError) -> Event:
    return to_client(event) if isinstance(event, Stanza) and event.xmlns == ns.BOSH else event


def _nothing(domain: str, to: str | None, id: str) -> bytes:
    """A stream begins with the session, and each of its answers says so."""
    return b""


FRAMING = Framing("bosh", BodyParser, _nothing, b"")
