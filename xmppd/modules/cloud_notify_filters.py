"""Filters of push notifications, which a client gives when it enables them: nothing of strangers, of whom it has muted,
or of rooms unless it is mentioned (Tigase's ``tigase:push:filter:ignore-unknown:0``, ``:muted:0``, ``:groupchat:0``).

They are asked before a push is made, so what they stop is neither encrypted nor sent.
"""

from __future__ import annotations

from typing import Any

from xmppd.core.accounts import Account
from xmppd.core.bus import Stage
from xmppd.core.events import PushRegistering, PushWanted
from xmppd.core.host import Host
from xmppd.core.mentions import mentions
from xmppd.core.roster import Roster
from xmppd.wire import ns
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Stanza


def setup(host: Host) -> None:
    """Hook the filters into a host."""
    host.disco.account.features |= {ns.PUSH_IGNORE_UNKNOWN, ns.PUSH_MUTED, ns.PUSH_GROUPCHAT}
    host.bus.on(PushRegistering, registering)
    host.bus.on(PushWanted, wanted, Stage.BLOCK)


def registering(event: PushRegistering) -> None:
    """Keep what the client does not want; addresses that are none are left out."""
    request, kept = event.request, event.kept
    if any(True for _ in request.elements(ns.PUSH_IGNORE_UNKNOWN, "ignore-unknown")):
        kept[ns.PUSH_IGNORE_UNKNOWN] = True
    for muted in request.elements(ns.PUSH_MUTED, "muted"):
        jids = [_bare(item.getAttribute("jid")) for item in muted.elements(ns.PUSH_MUTED, "item")]
        kept[ns.PUSH_MUTED] = sorted({jid for jid in jids if jid})
    for rooms in request.elements(ns.PUSH_GROUPCHAT, "groupchat"):
        kept[ns.PUSH_GROUPCHAT] = {
            jid: [str(room.getAttribute("allow") or ""), str(room.getAttribute("nick") or "")]
            for room in rooms.elements(ns.PUSH_GROUPCHAT, "room")
            if (jid := _bare(room.getAttribute("jid")))
        }


def _bare(text: Any) -> str:
    try:
        return parse(str(text or "")).bare
    except InvalidJID:
        return ""


def wanted(event: PushWanted) -> bool | None:
    """True: the client does not want to be woken for this."""
    kept, stanza, sender = event.kept, event.stanza, event.stanza.sender
    if sender is None:
        return None
    is_room = stanza.type == "groupchat"
    if kept.get(ns.PUSH_IGNORE_UNKNOWN) and not is_room and _is_unknown(event.account, sender):
        return True
    if sender.bare in kept.get(ns.PUSH_MUTED, ()):
        return True
    rooms = kept.get(ns.PUSH_GROUPCHAT)
    if is_room and rooms is not None and not _is_allowed(rooms, event.account, stanza, sender):
        return True
    return None


def _is_unknown(account: Account, sender: JID) -> bool:
    """Whether somebody is no contact, and not the own server."""
    return sender.bare not in account.get(Roster).items and sender != account.host.jid


def _is_allowed(rooms: dict[str, list[str]], account: Account, stanza: Stanza, room: JID) -> bool:
    """What the rules say of a message in a room; a client names those rooms that it wants to hear of."""
    allow, nick = rooms.get(room.bare, ["never", ""])
    if allow != "mentioned":
        return allow == "always"
    who = [account.jid]
    if nick:
        who.append(room.with_resource(nick))
    return mentions(stanza, who, nick)
