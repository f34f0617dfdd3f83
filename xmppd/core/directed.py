"""Directed presence (RFC 6121 section 4.6): whom a session has told of itself beside its subscribers.

`presence` keeps the record; who ends such a relation from elsewhere takes the address out of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xmppd.wire.jid import JID


@dataclass(slots=True)
class Directed:
    """Record of a session: who got its presence without being subscribed (section 4.6.3)."""

    to: set[JID] = field(default_factory=set)
