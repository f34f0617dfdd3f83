"""Who learns that a resource is available: broadcast, probes, directed presence (RFC 6121 section 4)."""

from __future__ import annotations

import re

from xmppd.config import Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.directed import Directed
from xmppd.core.events import Arriving, Available, BecomingAvailable, Ended, HibernationEnded, Unavailable
from xmppd.core.roster import Roster
from xmppd.core.session import Session
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import parse
from xmppd.wire.stanza import Stanza
from xmppd.wire.stored import read_stored

MAX_DIRECTED = Option(
    "max_directed_presence", Integer(minimum=1), "500",
    "To how many addresses outside of its roster, such as rooms, a session may send presence.",
)  # fmt: skip
OPTIONS = (MAX_DIRECTED,)

_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


async def available(session: Session, stanza: Stanza) -> None:
    """A client is available, or has something new to say of it (sections 4.2 and 4.4)."""
    priority = _priority(stanza)
    first = session.presence is None
    if priority >= 0 and (first or session.priority < 0):
        await session.host.bus.fire(BecomingAvailable(session, priority))
    session.presence = stanza
    session.priority = priority
    if priority < 0:
        session.reachable_since = None
    elif session.reachable_since is None:
        session.reachable_since = session.host.server.now_ms()
    await _to_subscribers(session, stanza)
    for resource in session.account.sessions:
        if resource.presence is not None:
            resource.deliver(stanza.addressed(sender=session.jid, to=resource.jid))
    if first:
        await _learn_of_others(session)
        await session.host.bus.fire(Available(session))


async def unavailable(session: Session, stanza: Stanza) -> None:
    """A client is not available any more (section 4.5)."""
    was_available = session.presence is not None
    session.presence = session.reachable_since = None
    session.priority = 0
    if was_available:
        await _to_subscribers(session, stanza)
        for resource in session.account.sessions:
            if resource.presence is not None:
                resource.deliver(stanza.addressed(sender=session.jid, to=resource.jid))
    record = session.find(Directed)
    if record is not None:
        to, record.to = record.to, set()
        for jid in to:
            await session.host.server.route(stanza.addressed(sender=session.jid, to=jid))
    if was_available:
        await session.host.bus.fire(Unavailable(session, stanza))


async def resumed(event: HibernationEnded) -> None:
    """A session has come back after a restart: what its contacts have said meanwhile may be gone, so they are asked
    once more."""
    session = event.session
    if event.resumed and event.restarted and session.presence is not None:
        await _learn_of_others(session)


def save_directed(session: Session) -> list[str] | None:
    """Whom a session has sent directed presence to, for a restart."""
    record = session.find(Directed)
    return sorted(jid.full for jid in record.to) if record is not None and record.to else None


def restore_directed(session: Session, to: list[str]) -> None:
    """What `save_directed` gave."""
    session.put(Directed({parse(jid) for jid in to}))


async def ended(event: Ended) -> None:
    """A session is over: whoever thinks it available is told otherwise (section 4.5.2)."""
    session = event.session
    successor = session.host.server.sessions.get(session.jid)
    if successor is not None and successor.presence is not None:
        session.presence = None  # whoever took its resource has told them already that it is available
    if session.presence is not None or session.find(Directed) is not None:
        await unavailable(session, Stanza("presence", {"type": "unavailable"}, sender=session.jid))


def directed(session: Session, stanza: Stanza) -> None:
    """Presence to an address: remembered where no broadcast would tell it when this ends (section 4.6)."""
    assert stanza.to is not None
    if stanza.to.bare == session.jid.bare:
        return
    record = session.find(Directed)
    if stanza.type == "unavailable":
        if record is not None:
            record.to.discard(stanza.to)
        return
    if stanza.to.is_bare and session.presence is not None and session.account.get(Roster).is_subscribed(stanza.to):
        return
    if record is None:
        record = Directed()
        session.put(record)
    if stanza.to not in record.to and len(record.to) >= session.host.settings[MAX_DIRECTED]:
        raise StanzaError("policy-violation", "presence was sent to too many addresses")
    record.to.add(stanza.to)


async def _to_subscribers(session: Session, stanza: Stanza) -> None:
    route = session.host.server.route
    for contact in session.account.get(Roster).subscribers():
        await route(stanza.addressed(sender=session.jid, to=contact))


async def _learn_of_others(session: Session) -> None:
    """A newly available resource learns of the account's others, and of its contacts (sections 4.2.2 and 4.3)."""
    account = session.account
    for resource in account.sessions:
        if resource is not session and resource.presence is not None:
            session.deliver(resource.presence.addressed(sender=resource.jid, to=session.jid))
    roster = account.get(Roster)
    server = session.host.server
    for contact in roster.subscriptions():
        if contact.domain in server.hosts and not server.sessions.any_of(contact.bare):
            # The answer to a probe would be this; the contact's account need not be loaded for it.
            session.deliver(Stanza("presence", {"type": "unavailable"}, sender=contact, to=session.jid))
        else:
            await server.route(Stanza("presence", {"type": "probe"}, sender=session.jid, to=contact))
    for request in list(roster.requests.values()):
        session.deliver(read_stored(request))  # section 3.1.3: at each login until it is answered


async def probed(account: Account, stanza: Stanza) -> None:
    """Somebody asks whether the account is available (section 4.3.2)."""
    sender = stanza.sender
    assert sender is not None
    route = account.host.server.route
    if sender.bare != account.jid.bare and not account.get(Roster).is_subscribed(sender):
        await route(Stanza("presence", {"type": "unsubscribed"}, sender=account.jid, to=sender.to_bare()))
        return
    found = False
    for session in account.sessions:
        if session.presence is not None:
            found = True
            await route(session.presence.addressed(sender=session.jid, to=sender))
    if not found:
        await route(Stanza("presence", {"type": "unavailable"}, sender=account.jid, to=sender))


def refuse_strangers(event: Arriving) -> None:
    """A request to one resource reaches it only when it has told the sender of itself, by subscription or
    directed presence (RFC 6121 section 8.5.3.1): otherwise an answer would give its presence away."""
    stanza = event.stanza
    if stanza.name != "iq" or stanza.to is None or not stanza.to.resource or stanza.type not in ("get", "set"):
        return
    sender = stanza.sender
    assert sender is not None
    account = event.account
    if sender.bare in (account.jid.bare, account.jid.domain) or account.get(Roster).is_subscribed(sender):
        return
    session = account.host.server.sessions.get(stanza.to)
    record = session.find(Directed) if session is not None else None
    if record is None or all(jid.bare != sender.bare for jid in record.to):
        raise StanzaError("service-unavailable")


def _priority(stanza: Stanza) -> int:
    """The priority of a presence (section 4.7.2.3): from -128 to 127, 0 where there is none."""
    if not stanza.has(ns.CLIENT, "priority"):
        return 0
    text = next(str(child) for child in stanza.tree.elements(ns.CLIENT, "priority")).strip()
    priority = int(text) if _NUMBER.fullmatch(text) else None
    if priority is None or not -128 <= priority <= 127:
        raise StanzaError("bad-request", "a priority is a number from -128 to 127")
    return priority
