"""Whether a message speaks to somebody: a reference (XEP-0372), a reply (XEP-0461), or the nickname spelled out."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

from xmppd.wire import ns
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Stanza


def mentions(stanza: Stanza, who: Collection[JID], nick: str = "") -> bool:
    """Whether a message mentions one of these addresses, or `nick` where there is one."""
    for reference in stanza.tree.elements(ns.REFERENCE, "reference"):
        if reference.getAttribute("type") == "mention" and _of_uri(str(reference.getAttribute("uri") or "")) in who:
            return True
    for reply in stanza.tree.elements(ns.REPLY, "reply"):
        if _parsed(str(reply.getAttribute("to") or "")) in who:
            return True
    body = next((str(body) for body in stanza.tree.elements(stanza.xmlns, "body")), "")
    return bool(nick) and re.search(rf"(?<!\w){re.escape(nick)}(?!\w)", body, re.IGNORECASE) is not None


def _of_uri(uri: str) -> JID | None:
    """The address of an ``xmpp:`` URI (RFC 5122)."""
    scheme, _, path = uri.partition(":")
    return _parsed(unquote(path.partition("?")[0])) if scheme.lower() == "xmpp" else None


def _parsed(text: str) -> JID | None:
    try:
        return parse(text)
    except InvalidJID:
        return None
