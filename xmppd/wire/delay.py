"""Delayed delivery (XEP-0203 2.0): when a stanza that comes late was first here."""

from __future__ import annotations

import datetime
import re
from functools import lru_cache

from xmppd.wire import ns
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import escape_attribute, tag

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def stamp(milliseconds: int) -> str:
    """A time since 1970 as XEP-0082 writes it, in UTC."""
    second, rest = divmod(milliseconds, 1000)
    return f"{_second(second)}.{rest:03}Z"


@lru_cache(64)  # what is together was often said together
def _second(since_1970: int) -> str:
    return datetime.datetime.fromtimestamp(since_1970, datetime.timezone.utc).isoformat()[:19]


_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


def parse_stamp(text: str) -> int:
    """A DateTime of XEP-0082 section 3.2 in microseconds since 1970; `ValueError` for anything else. What is finer
    than that is cut off."""
    match = _DATE_TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("a time is written like 2026-11-21T14:30:00Z")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    time = datetime.datetime(year, month, day, hour, minute, tzinfo=datetime.timezone.utc)
    if second > 60:  # 60 is a leap second
        raise ValueError("there is no such second")
    micros = int((match[7] or "").ljust(6, "0")[:6])
    offset = datetime.timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    seconds = (time - _EPOCH) // datetime.timedelta(seconds=1) + second
    shift = int(offset.total_seconds()) * (-1 if match[8] == "-" else 1)
    return (seconds - shift) * 1_000_000 + micros


def delayed(stanza: Stanza, received: int, domain: str) -> Stanza:
    """The stanza with the time at which `domain` got it, in milliseconds since 1970. One that says so already, in the
    words below, stays as it is; what others say of delays does not count."""
    own = f"<delay xmlns='{ns.DELAY}' from='{escape_attribute(domain)}' stamp=".encode()
    if any(stanza.child_bytes(child).startswith(own) for child in stanza.children if child[:2] == (ns.DELAY, "delay")):
        return stanza
    delay = tag("delay", {"xmlns": ns.DELAY, "from": domain, "stamp": stamp(received)})
    return stanza.extended(ns.DELAY, "delay", delay)
