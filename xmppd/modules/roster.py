"""Rosters (RFC 6121 section 2): get, set, remove, pushes, versioning.

Subscriptions are of `presence`; a roster set never changes one, except by removing the contact.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.words.xish import domish

from xmppd.core.accounts import Account
from xmppd.core.events import AccountLoading
from xmppd.core.host import Host, StreamFeature
from xmppd.core.iq import Request, Target
from xmppd.core.roster import Entry, Roster, RosterStore, item_bytes
from xmppd.storage import Roster as StoredRoster
from xmppd.storage import RosterItem, Store, SubscriptionRequest
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

MAX_NAME = 1023  # bytes of a name or a group; the RFC leaves the number to the server (section 2.3.3)
MAX_GROUPS = 64


def setup(host: Host) -> None:
    """Hook rosters into a host."""
    host.provide(RosterStore, StoreOfRosters(host.server.store))  # type: ignore[type-abstract]
    host.bus.on(AccountLoading, load)
    host.iq.on(Target.OWN, "get", ns.ROSTER, "query", get)
    host.iq.on(Target.OWN, "set", ns.ROSTER, "query", change)
    host.features.append(StreamFeature("rosterver", True, lambda: tag("ver", {"xmlns": ns.ROSTER_VERSIONING})))


class StoreOfRosters:
    """Rosters in the server's own store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, account: Account) -> StoredRoster:
        """See `RosterStore`."""
        return await self._store.roster.load(account.id)

    async def change(self, account: Account, contact: JID, before: Entry, after: Entry, version: int) -> None:
        """See `RosterStore`. What is queued in one turn goes into one transaction."""
        rosters, jid = self._store.roster, contact.bare
        writes: list[Deferred[Any]] = []
        if after.item is None and before.item is not None:
            writes.append(rosters.remove(account.id, jid, version))
        elif after.item is not None and after.item != before.item:
            writes.append(rosters.put(account.id, after.item, version))
        if after.request is None and before.request is not None:
            writes.append(rosters.remove_request(account.id, jid))
        elif after.request is not None and after.request != before.request:
            request = SubscriptionRequest(jid, after.request, self._store.now_ms())
            writes.append(rosters.put_request(account.id, request))
        for kept, outcome in await DeferredList(writes, consumeErrors=True):
            if not kept:
                outcome.raiseException()

    async def replace(
        self, account: Account, put: Collection[RosterItem], remove: Collection[str], version: int
    ) -> None:
        """See `RosterStore`."""
        await self._store.roster.change(account.id, put, remove, version)


async def load(event: AccountLoading) -> None:
    """The roster comes into memory with its account."""
    account = event.account
    store = account.host.service(RosterStore)  # type: ignore[type-abstract]
    account.put(Roster(account, store, await store.load(account)))


def get(request: Request) -> bytes | None:
    """Sections 2.2 and 2.6: the roster, or nothing when the client has this version already."""
    assert request.account is not None
    roster = request.account.get(Roster)
    if request.session is not None:
        request.session.interested = True
    if request.payload.getAttribute("ver") == str(roster.version):
        return None
    items = [item_bytes(item) for item in roster.items.values()]
    return tag("query", {"xmlns": ns.ROSTER, "ver": str(roster.version)}, *items)


async def change(request: Request) -> None:
    """Sections 2.3 to 2.5: add, change or remove one contact."""
    account = request.account
    assert account is not None
    items = list(request.payload.elements(ns.ROSTER, "item"))
    if len(items) != 1 or len(list(request.payload.elements())) != 1:
        raise StanzaError("bad-request", "a roster set has exactly one item")
    item = items[0]
    contact = _contact(item)
    if contact.bare == account.jid.bare:
        raise StanzaError("not-allowed", "the own account cannot be a contact")
    if item.getAttribute("subscription") == "remove":
        await remove(account, contact)
        return
    name = str(item.getAttribute("name") or "")
    groups = _groups(item)
    if len(name.encode()) > MAX_NAME:
        raise StanzaError("not-acceptable", f"a name has at most {MAX_NAME} bytes")

    def edited(entry: Entry) -> Entry:
        return replace(entry, item=replace(entry.item or RosterItem(contact.bare), name=name, groups=groups))

    await account.get(Roster).update(contact, edited)


def _contact(item: domish.Element) -> JID:
    try:
        return parse(str(item.getAttribute("jid") or "")).to_bare()
    except InvalidJID as error:
        raise StanzaError("bad-request", f"jid: {error}") from None


def _groups(item: domish.Element) -> tuple[str, ...]:
    groups = tuple(str(group) for group in item.elements(ns.ROSTER, "group"))
    if len(set(groups)) != len(groups):
        raise StanzaError("bad-request", "a group is named twice")
    if any(not group or len(group.encode()) > MAX_NAME for group in groups) or len(groups) > MAX_GROUPS:
        raise StanzaError("not-acceptable", f"at most {MAX_GROUPS} groups, with names of at most {MAX_NAME} bytes")
    return groups


async def remove(account: Account, contact: JID) -> None:
    """Section 2.5: the contact goes, and with it the subscriptions in both directions.

    Each of them ends by the stanza that would end it by itself, which takes the same way as a client's.
    """

    def removed(entry: Entry) -> Entry:
        if entry.item is None:
            raise StanzaError("item-not-found", "there is no such contact")
        return Entry()

    before, _ = await account.get(Roster).update(contact, removed)
    state = before.state
    route = account.host.server.route
    if state.from_:
        for session in account.sessions:
            if session.presence is not None:
                await route(Stanza("presence", {"type": "unavailable"}, sender=session.jid, to=contact))
    if state.to or state.pending_out:
        await route(Stanza("presence", {"type": "unsubscribe"}, sender=account.jid, to=contact))
    if state.from_ or state.pending_in:
        await route(Stanza("presence", {"type": "unsubscribed"}, sender=account.jid, to=contact))
