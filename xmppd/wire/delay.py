"""Delayed delivery (XEP-0203 2.0): when a stanza that comes late was first here."""

from __future__ import annotations

import datetime

from xmppd.wire import ns
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import escape_attribute, tag


def stamp(milliseconds: int) -> str:
    """A time since 1970 as XEP-0082 writes it, in UTC."""
    time = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def delayed(stanza: Stanza, received: int, domain: str) -> Stanza:
    """The stanza with the time at which `domain` got it, in milliseconds since 1970. One that says so already, in the
    words below, stays as it is; what others say of delays does not count."""
    own = f" from='{escape_attribute(domain)}' ".encode()
    if any(child[:2] == (ns.DELAY, "delay") and own in stanza.child_bytes(child) for child in stanza.children):
        return stanza
    delay = tag("delay", {"xmlns": ns.DELAY, "from": domain, "stamp": stamp(received)})
    return stanza.extended(ns.DELAY, "delay", delay)
