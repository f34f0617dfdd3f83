"""Ids that an archive gives to messages (XEP-0359 0.7.0)."""

from __future__ import annotations

from xmppd.wire import ns
from xmppd.wire.jid import JID
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import escape_attribute

_STANZA_ID = (ns.STANZA_ID, "stanza-id")


def with_stanza_id(stanza: Stanza, by: JID, id: str) -> Stanza:
    """The stanza with an id that `by` gave it."""
    mark = f"{_mark(by)}{id}'/>".encode()
    return stanza.extended(ns.STANZA_ID, "stanza-id", mark)


def _mark(by: JID) -> str:
    """What the ids of `by` begin with; an id is of letters, digits and hyphens."""
    return f"<stanza-id xmlns='{ns.STANZA_ID}' by='{escape_attribute(by.full)}' id='"


def stanza_id(stanza: Stanza, by: JID) -> str | None:
    """The id that `by` has given it, or None."""
    own = _mark(by).encode()
    for child in stanza.children:
        if child[:2] == _STANZA_ID and stanza.child_bytes(child).startswith(own):
            return stanza.child_bytes(child)[len(own) :].partition(b"'")[0].decode()
    return None


def has_stanza_id(stanza: Stanza, by: JID) -> bool:
    """Whether `by` has given it one, in the words above; what others forge is taken out before."""
    return stanza_id(stanza, by) is not None
