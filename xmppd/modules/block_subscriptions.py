"""Subscription stanzas go nowhere (as Prosody's mod_block_subscriptions): for hosts whose contact lists a backend owns.

What a client sends to a bare JID, and what comes for one, is dropped without a word, errors included; presence and
probes pass.
"""

from __future__ import annotations

from xmppd.core.bus import Stage
from xmppd.core.events import Arriving, Sent
from xmppd.core.host import Host
from xmppd.core.routing import SUBSCRIPTION_TYPES
from xmppd.wire.stanza import Stanza

_DROPPED = SUBSCRIPTION_TYPES | {"error"}


def setup(host: Host) -> None:
    """Hook this into a host."""
    host.bus.on(Sent, drop, Stage.BLOCK)
    host.bus.on(Arriving, drop, Stage.BLOCK)


def drop(event: Sent | Arriving) -> bool | None:
    """True: it is gone."""
    return True if is_dropped(event.stanza) else None


def is_dropped(stanza: Stanza) -> bool:
    """Whether a stanza asks for, grants, or ends a subscription, or fails to."""
    return stanza.name == "presence" and stanza.type in _DROPPED and stanza.to is not None and stanza.to.is_bare
