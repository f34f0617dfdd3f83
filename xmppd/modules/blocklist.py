"""The blocking command (XEP-0191 1.3), and reports of abuse that come with it (XEP-0377 0.4.1).

To who is blocked the user appears to be offline (section 3.3): presence is dropped, messages and requests
come back as service-unavailable, and nothing of the user reaches them. Subscriptions stay as they are, so
that unblocking makes everything as it was; only a request that waits for an answer is forgotten.

Nobody is cut off from the own account or the own server: a blocked domain means the other users of that
domain, where it is the own one, and an item for the own account is refused. A report goes to the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.words.xish import domish

from xmppd.config import Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.bus import Stage
from xmppd.core.directed import Directed
from xmppd.core.events import AccountLoading, Arriving, Available, Leaving, Sent
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.core.roster import Entry, Roster
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

MAX_BLOCKED_JIDS = Option(
    "max_blocked_jids", Integer(minimum=1), "1000", "How many addresses an account may have blocked."
)
OPTIONS = (MAX_BLOCKED_JIDS,)

KIND = "blocklist"  # in the store: a value for each address, which is the address
MAX_KEY = 1024  # bytes of an address that is its own key; PostgreSQL cannot find keys by more than 2,700

_BLOCKED = tag("blocked", {"xmlns": ns.BLOCKING_ERRORS})
_REASONS = frozenset({"urn:xmpp:reporting:spam", "urn:xmpp:reporting:abuse"})


@dataclass(slots=True)
class Blocklist:
    """Record of an account: the blocked addresses as text, and one change of them at a time."""

    items: frozenset[str]
    lock: DeferredLock = field(default_factory=DeferredLock)


@dataclass(slots=True)
class Watching:
    """Record of a session: it has asked for the list, so that it is told of changes."""


def setup(host: Host) -> None:
    """Hook blocking into a host."""
    host.disco.server.features.update((ns.BLOCKING, ns.REPORTING))
    host.iq.on(Target.OWN, "get", ns.BLOCKING, "blocklist", get)
    host.iq.on(Target.OWN, "set", ns.BLOCKING, "block", block)
    host.iq.on(Target.OWN, "set", ns.BLOCKING, "unblock", unblock)
    host.accounts.kinds.append(KIND)
    host.bus.on(AccountLoading, load)
    host.bus.on(Sent, sent, Stage.BLOCK)
    host.bus.on(Leaving, leaving, Stage.BLOCK)
    host.bus.on(Arriving, arriving, Stage.BLOCK)
    host.bus.on(Available, appear_offline)
    host.session_state["blocklist"] = (
        lambda session: session.find(Watching) is not None or None,
        lambda session, watching: session.put(Watching()),
    )


def load(event: AccountLoading) -> None:
    """The list comes into memory with its account."""
    event.account.put(Blocklist(frozenset(value.decode() for value in event.data[KIND].values())))


# ---- what being blocked means


def matches(items: Collection[str], jid: JID) -> bool:
    """Whether one of the four forms of section 6 is there: the address itself (``user@domain/resource``,
    ``domain/resource``), ``user@domain`` for any resource, ``domain`` for all that is in it."""
    return jid.full in items or jid.bare in items or jid.domain in items


def blocks(account: Account, jid: JID) -> bool:
    """Whether the user has blocked an address. It is asked for every stanza."""
    items = account.get(Blocklist).items
    return bool(items) and matches(items, jid) and not _is_own(account, jid)


def _is_own(account: Account, jid: JID) -> bool:
    """Whether this is the own account, or the server itself, which must be able to answer."""
    return jid.bare == account.jid.bare or jid.bare == account.jid.domain


def arriving(event: Arriving) -> bool | None:
    """Section 3.3: presence vanishes, messages and requests come back. So would answers and errors, but nobody
    ever answers those."""
    stanza = event.stanza
    if stanza.sender is None or not blocks(event.account, stanza.sender):
        return None
    if stanza.name == "presence":
        return True
    raise StanzaError("service-unavailable")


def sent(event: Sent) -> None:
    """Section 3.3: the user cannot write to who is blocked; answers and errors vanish here as well."""
    to = event.stanza.to
    if to is not None and blocks(event.session.account, to):
        raise StanzaError("not-acceptable", type="cancel", application=_BLOCKED)


def leaving(event: Leaving) -> bool | None:
    """What the server says for the user, such as presence at a broadcast, stays here as well.

    But an iq is an answer that somebody waits for, and so is an error; and the end of a subscription has to
    be known on both sides (a contact was removed, the account was deleted), or presence would go on flowing.
    """
    stanza = event.stanza
    if stanza.name == "iq" or stanza.type in ("error", "unsubscribe", "unsubscribed"):
        return None
    return True if stanza.to is not None and blocks(event.account, stanza.to) else None


def appear_offline(event: Available) -> None:
    """Section 3.3: to the blocked the user appears offline. At a login contacts of this server who are not there are
    said to be unavailable, so those who block the session's user have to look the same, though a probe of them is
    not answered."""
    session = event.session
    for contact in session.account.get(Roster).subscriptions():
        there = session.host.server.sessions.of(contact.bare)
        if there and blocks(there[0].account, session.jid):
            session.deliver(Stanza("presence", {"type": "unavailable"}, sender=contact, to=session.jid))


# ---- the list and its changes


def get(request: Request) -> bytes:
    """Section 3.2; from now on this client is told of changes."""
    assert request.account is not None
    if request.session is not None:
        request.session.put(Watching())
    return _element("blocklist", sorted(request.account.get(Blocklist).items))


async def block(request: Request) -> None:
    """Section 3.3: some more addresses are blocked, which are told that the user has gone."""
    account = request.account
    assert account is not None
    items = _items(request.payload)
    if not items:
        raise StanzaError("bad-request", "there is nothing to block")
    if any(jid.bare == account.jid.bare for jid in items):
        raise StanzaError("not-allowed", "nobody can block themselves")
    wanted = frozenset(jid.full for jid in items)
    record = account.get(Blocklist)
    async with record.lock:
        new = wanted - record.items
        limit = account.host.settings[MAX_BLOCKED_JIDS]
        if new and len(record.items) + len(new) > limit:
            raise StanzaError("policy-violation", f"at most {limit} addresses can be blocked")
        data = account.host.server.store.data
        await _all(data.put(account.id, KIND, _key(jid), jid.encode()) for jid in new)
        await _say_goodbye(account, new)  # while it may still go out
        record.items |= new
        await _forget_requests(account, new)
    _log_reports(account, items)
    _push(account, "block", sorted(wanted))


async def unblock(request: Request) -> None:
    """Sections 3.4 and 3.5: some addresses, or all, are free again; contacts see that the user is there."""
    account = request.account
    assert account is not None
    items = _items(request.payload)
    if not items and any(request.payload.elements()):
        raise StanzaError("bad-request", "only an empty element unblocks everybody")
    wanted = frozenset(jid.full for jid in items)
    record = account.get(Blocklist)
    async with record.lock:
        gone = record.items & wanted if items else record.items
        data = account.host.server.store.data
        await _all(data.delete(account.id, KIND, _key(jid)) for jid in gone)
        record.items -= gone
        await _say_hello(account, gone)
    _push(account, "unblock", sorted(wanted))


def _items(payload: domish.Element) -> dict[JID, domish.Element]:
    """The addresses of a request, each with its ``<item/>``."""
    items: dict[JID, domish.Element] = {}
    for item in payload.elements(ns.BLOCKING, "item"):
        text = item.getAttribute("jid")
        if text is None:
            raise StanzaError("bad-request", "an item has no address")
        try:
            items[parse(str(text))] = item
        except InvalidJID as error:
            raise StanzaError("jid-malformed", str(error)) from None
    return items


def stored(jid: JID) -> tuple[str, bytes]:
    """An address as it is kept: its key, and its value."""
    return _key(jid.full), jid.full.encode()


def _key(jid: str) -> str:
    """Under which key an address is kept."""
    encoded = jid.encode()
    return jid if len(encoded) <= MAX_KEY else f"sha256 {hashlib.sha256(encoded).hexdigest()}"


async def _all(changes: Iterable[Deferred[Any]]) -> None:
    """Wait for changes that go to the store together; raises what went wrong with one of them."""
    for well, outcome in await DeferredList(list(changes), consumeErrors=True):
        if not well:
            outcome.raiseException()


def _push(account: Account, name: str, jids: Iterable[str]) -> None:
    """Tell the clients that have asked for the list."""
    payload = _element(name, jids)
    for session in account.sessions:
        if session.find(Watching) is not None:
            attributes = {"type": "set", "id": f"push-{account.host.server.token()}"}
            session.deliver(Stanza("iq", attributes, payload, to=session.jid))


def _element(name: str, jids: Iterable[str]) -> bytes:
    return tag(name, {"xmlns": ns.BLOCKING}, *(tag("item", {"jid": jid}) for jid in jids))


# ---- presence


async def _say_goodbye(account: Account, new: frozenset[str]) -> None:
    """Whoever is about to be blocked and sees the user's presence sees the user go."""
    contacts = _subscribers(account, new)
    route = account.host.server.route
    for session in account.sessions:
        told = contacts if session.presence is not None else []
        record = session.find(Directed)
        if record is not None:
            directed = [jid for jid in record.to if matches(new, jid)]
            record.to.difference_update(directed)
            told = list(dict.fromkeys((*told, *directed)))
        for jid in told:
            await route(Stanza("presence", {"type": "unavailable"}, sender=session.jid, to=jid))


async def _say_hello(account: Account, gone: frozenset[str]) -> None:
    """Contacts that were blocked see the user's presence again."""
    contacts = _subscribers(account, gone)
    for session in account.sessions:
        for contact in contacts:
            if session.presence is not None:
                await account.host.server.route(session.presence.addressed(sender=session.jid, to=contact))


def _subscribers(account: Account, changed: frozenset[str]) -> list[JID]:
    """Who may see the user's presence, and is meant by what changes in the list. Of these `leaving` stops what is
    for somebody whom the rest of the list means as well."""
    roster = account.get(Roster)
    contacts = [contact for contact in roster.subscribers() if matches(changed, contact)]
    for jid in map(parse, changed):
        if jid.resource and roster.is_subscribed(jid) and not matches(changed, jid.to_bare()):
            contacts.append(jid)
    return contacts


async def _forget_requests(account: Account, new: frozenset[str]) -> None:
    """Drop the subscription requests of who is blocked now: they would come up at every login. Whoever is
    unblocked may ask again."""
    roster = account.get(Roster)
    for contact in map(parse, list(roster.requests)):
        if matches(new, contact):
            await roster.update(contact, lambda entry: Entry(entry.item, None))


# ---- reports (XEP-0377)


def _log_reports(account: Account, items: dict[JID, domish.Element]) -> None:
    """Write to the log whom the user has reported; a report without a reason is none (section 4)."""
    for jid, item in items.items():
        for report in item.elements(ns.REPORTING, "report"):
            reason = str(report.getAttribute("reason") or "")
            if reason:
                account.host.log.warn(
                    "{reporter} reports {jid} for {reason}",
                    reporter=account.jid.bare,
                    jid=jid.full,
                    reason=reason.rpartition(":")[2] if reason in _REASONS else "another reason",
                )

