"""Message carbons (XEP-0280 1.0.1, with the rules of its section 6.1): what one of a user's devices sends or gets,
the others see too.

A copy is made for every enabled resource, hibernating ones included, of what was sent to and from others; the copy
holds the message as it was delivered, so that an id that the server gave it is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from xmppd.core.bus import Stage
from xmppd.core.encryption import ENCRYPTED
from xmppd.core.events import Arriving, Sent
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.core.routing import is_invitation, is_refused, message_type, reachable
from xmppd.core.session import Session
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.stanza import Stanza
from xmppd.wire.stored import in_own_namespace
from xmppd.wire.xml import tag


@dataclass(slots=True)
class Enabled:
    """Record of a session that wants copies."""

    wanted: bool = True


# What makes a message of no other merit worth a copy (section 6.1): receipts, chat markers, chat states, encrypted
# content and calls; and invitations to rooms, direct and mediated.
_NAMESPACES = {xmlns for xmlns, _ in ENCRYPTED} | {
    ns.RECEIPTS, ns.CHAT_STATES, ns.CHAT_MARKERS, ns.ENCRYPTION, ns.JINGLE_MESSAGE, ns.CONFERENCE,
}  # fmt: skip


def setup(host: Host) -> None:
    """Hook carbons into a host."""
    host.disco.server.features |= {ns.CARBONS, ns.CARBONS_RULES}
    host.disco.account.features |= {ns.CARBONS, ns.CARBONS_RULES}
    for target in (Target.OWN, Target.SERVER):
        host.iq.on(target, "set", ns.CARBONS, "enable", lambda request: switch(request, True))
        host.iq.on(target, "set", ns.CARBONS, "disable", lambda request: switch(request, False))
    host.on_bind(ns.CARBONS, ns.CARBONS, "enable", lambda session, element: session.put(Enabled()))
    host.session_state["carbons"] = (_wants, lambda session, wanted: session.put(Enabled(wanted)))
    host.bus.on(Sent, sent, Stage.COPY)
    host.bus.on(Arriving, arriving, Stage.COPY)


async def switch(request: Request, wanted: bool) -> None:
    """Sections 4 and 5. Who is told that it has copies has them after a crash as well."""
    session = request.session
    if session is None:
        raise StanzaError("not-allowed", "only a connected client can have copies")
    record = session.find(Enabled) or Enabled(False)
    session.put(record)
    record.wanted = wanted
    if session.keeper is not None:
        await session.keeper.saved()


def eligible(stanza: Stanza, outgoing: bool = False) -> bool:
    """Whether a message is of a kind that is copied (section 6.1).

    Chat messages are, and normal ones with a body or one of the payloads of the rules; errors that answer such a
    message, as far as can be told; not group chat, private messages that come from rooms, headlines, nor what its
    sender marks as private or not to be copied.
    """
    if stanza.name != "message" or stanza.has(ns.CARBONS, "private") or stanza.has(ns.HINTS, "no-copy"):
        return False
    type = message_type(stanza)
    if type in ("groupchat", "headline") or is_copy(stanza):
        return False
    if stanza.has(ns.MUC_USER, "x"):
        # Else it is a private message in a room: one that comes goes to each of the user's clients there.
        return outgoing or is_invitation(stanza)
    if type in ("chat", "error"):
        return True
    return stanza.has(stanza.xmlns, "body") or any(child[0] in _NAMESPACES for child in stanza.children)


def is_copy(stanza: Stanza) -> bool:
    """Whether a message is a carbon itself, true or forged."""
    return stanza.has(ns.CARBONS, "sent") or stanza.has(ns.CARBONS, "received")


def sent(event: Sent) -> None:
    """A client has sent a message: its user's other resources get a copy (section 8)."""
    stanza = event.stanza
    if not eligible(stanza, outgoing=True) or stanza.to is None or stanza.to.bare == event.session.jid.bare:
        return
    others = [each for each in event.session.account.sessions if each is not event.session and _wants(each)]
    if others:
        copy = _forwarded("sent", event.copy or stanza)
        for session in others:
            _deliver(session, copy)


def arriving(event: Arriving) -> None:
    """A message arrives: those resources get a copy that do not get the message itself (section 7)."""
    stanza = event.stanza
    account = event.account
    if not eligible(stanza) or stanza.to is None or stanza.sender is None or is_refused(account, stanza):
        return
    wanting = [session for session in account.sessions if _wants(session)]
    if not wanting:
        return
    if stanza.to.resource and account.host.server.sessions.get(stanza.to) is not None:
        getting = {stanza.to.resource}
    elif stanza.type == "error":
        getting = set()  # it is delivered to nobody
    else:
        getting = {session.jid.resource for session in reachable(account)}
        if not getting:
            return  # it will be kept, or refused
    others = [each for each in wanting if each.jid.resource not in getting and each.jid != stanza.sender]
    if others:
        copy = _forwarded("received", stanza)
        for session in others:
            _deliver(session, copy)


def _wants(session: Session) -> bool:
    record = session.find(Enabled)
    return record is not None and record.wanted


def _forwarded(kind: str, stanza: Stanza) -> bytes:
    """The wrapping of sections 7 and 8, around the message as it is (XEP-0297)."""
    message = in_own_namespace(stanza.to_bytes())
    return tag(kind, {"xmlns": ns.CARBONS}, tag("forwarded", {"xmlns": ns.FORWARD}, message))


def _deliver(session: Session, copy: bytes) -> None:
    kind = "sent" if copy.startswith(b"<sent") else "received"
    bare = session.account.jid
    session.deliver(
        Stanza("message", {"type": "chat"}, copy, [(ns.CARBONS, kind, 0, len(copy))], sender=bare, to=session.jid)
    )
