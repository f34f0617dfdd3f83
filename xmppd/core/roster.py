"""Rosters in memory, and their one way to change (RFC 6121 section 2).

The `Roster` of an account is a record of it, read by many; it is changed through `Roster.update` alone, which
writes to the store first, then to memory, then pushes. So what anybody sees is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from twisted.internet.defer import DeferredLock

from xmppd.config import Integer, Option, Size
from xmppd.core.events import RosterChanged
from xmppd.core.subscriptions import State
from xmppd.storage import Roster as StoredRoster
from xmppd.storage import RosterItem
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, parse
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.core.accounts import Account

T = TypeVar("T")

MAX_ROSTER_ITEMS = Option(
    "max_roster_items", Integer(minimum=1), "2000", "How many contacts an account may have in its roster."
)
MAX_ROSTER_SIZE = Option(
    "max_roster_size", Size(minimum=65536), "1M",
    "How many bytes all contacts of a roster may have together, as they are sent.",
)  # fmt: skip
OPTIONS = (MAX_ROSTER_ITEMS, MAX_ROSTER_SIZE)


class RosterStore(Protocol):
    """Where the rosters of a host live; the store has one, a backend may be another."""

    async def load(self, account: Account) -> StoredRoster:
        """Everything of an account's roster."""

    async def change(self, account: Account, contact: JID, before: Entry, after: Entry, version: int) -> None:
        """Keep what `after` has other than `before`, all or nothing: `version` belongs to another item. Raises
        `StanzaError` where it is not allowed."""

    async def replace(
        self, account: Account, put: Collection[RosterItem], remove: Collection[str], version: int
    ) -> None:
        """Keep some items and forget others, all or nothing."""


@dataclass(frozen=True)
class Entry:
    """What a roster holds of one contact: its item, and the request that waits for an answer, if any."""

    item: RosterItem | None = None
    request: bytes | None = None

    @property
    def state(self) -> State:
        """The entry as a state of appendix A."""
        item = self.item
        subscription = item.subscription if item else "none"
        return State(
            to=subscription in ("to", "both"),
            from_=subscription in ("from", "both"),
            pending_out=bool(item and item.ask),
            pending_in=self.request is not None,
            approved=bool(item and item.approved),
        )

    def with_state(self, jid: str, state: State, request: bytes | None = None) -> Entry:
        """The entry after a move to `state`; `request` is the stanza that made it pending in."""
        kept = (self.request or request) if state.pending_in else None
        item = self.item
        worth_an_item = state.to or state.from_ or state.pending_out or state.approved
        if item is not None or worth_an_item:
            item = replace(
                item or RosterItem(jid),
                subscription=state.subscription,
                ask="subscribe" if state.pending_out else "",
                approved=state.approved,
            )
        return Entry(item, kept)


class Roster:
    """The contacts of one account by bare JID, the waiting requests, and the version (section 2.6)."""

    __slots__ = ("_account", "_lock", "_size", "_store", "items", "requests", "version")

    def __init__(self, account: Account, store: RosterStore, stored: StoredRoster) -> None:
        self._account = account
        self._store = store
        self._lock = DeferredLock()
        self.items: dict[str, RosterItem] = {item.jid: item for item in stored.items}
        self.requests: dict[str, bytes] = {request.jid: request.stanza for request in stored.requests}
        self.version = stored.version
        self._size: int | None = None  # of all items in bytes, once somebody has asked

    def entry(self, jid: JID) -> Entry:
        """What the roster holds of a contact."""
        return Entry(self.items.get(jid.bare), self.requests.get(jid.bare))

    def is_subscribed(self, jid: JID) -> bool:
        """Whether the contact may see the user's presence."""
        item = self.items.get(jid.bare)
        return item is not None and item.subscription in ("from", "both")

    def has_subscription_to(self, jid: JID) -> bool:
        """Whether the user may see the contact's presence."""
        item = self.items.get(jid.bare)
        return item is not None and item.subscription in ("to", "both")

    def subscribers(self) -> Iterable[JID]:
        """The contacts that see the user's presence."""
        return [parse(item.jid) for item in self.items.values() if item.subscription in ("from", "both")]

    def subscriptions(self) -> Iterable[JID]:
        """The contacts whose presence the user sees."""
        return [parse(item.jid) for item in self.items.values() if item.subscription in ("to", "both")]

    async def update(
        self, contact: JID, change: Callable[[Entry], Entry], announce: Callable[[], None] | None = None
    ) -> tuple[Entry, Entry]:
        """Let `change` make a new entry of the present one: on disk, then here, then pushed where it shows.
        `announce` is called between, for what the clients are to have before the push.

        Changes of one roster follow each other. Returns the entry before and after. Raises what `change` does,
        and `StorageError`, with nothing changed.
        """
        async with self._lock:
            before = self.entry(contact)
            after = change(before)
            size = self._size_with(before, after)
            if after != before:
                version = self.version + (after.item != before.item)
                await self._store.change(self._account, contact, before, after, version)
                self.version = version
                self._size = size
                _put(self.items, contact, after.item)
                _put(self.requests, contact, after.request)
            if announce is not None:
                announce()
            if after.item != before.item:
                self._push(after.item or RosterItem(contact.bare, subscription="remove"))
                await self._account.host.bus.fire(RosterChanged(self._account, contact))
            return before, after

    async def replace(self, items: Mapping[str, RosterItem]) -> list[tuple[JID, Entry, Entry]]:
        """Have these items, by their bare JIDs, and no others: on disk, then here, then pushed one by one. Returns the
        contacts that are other than before, with both entries of each. Raises `StorageError`, with nothing changed."""
        async with self._lock:
            changed = [jid for jid in {**self.items, **items} if self.items.get(jid) != items.get(jid)]
            if not changed:
                return []
            version = self.version + len(changed)
            put = [items[jid] for jid in changed if jid in items]
            await self._store.replace(self._account, put, [jid for jid in changed if jid not in items], version)
            self._size = None
            changes: list[tuple[JID, Entry, Entry]] = []
            for jid in changed:
                contact = parse(jid)
                before = self.entry(contact)
                self.version += 1
                _put(self.items, contact, items.get(jid))
                changes.append((contact, before, self.entry(contact)))
                self._push(items.get(jid) or RosterItem(jid, subscription="remove"))
                await self._account.host.bus.fire(RosterChanged(self._account, contact))
            return changes

    def _size_with(self, before: Entry, after: Entry) -> int:
        """How many bytes the items have with `after` in place of `before`. Raises `StanzaError` where the roster
        would grow beyond its limits."""
        if self._size is None:
            self._size = sum(_size(item) for item in self.items.values())
        growth = _size(after.item) - _size(before.item)
        settings = self._account.host.settings
        most, most_bytes = settings[MAX_ROSTER_ITEMS], settings[MAX_ROSTER_SIZE]
        if after.item is not None and before.item is None and len(self.items) >= most:
            raise StanzaError("not-acceptable", f"a roster has at most {most} contacts")
        if growth > 0 and self._size + growth > most_bytes:
            raise StanzaError("not-acceptable", f"a roster has at most {most_bytes} bytes")
        return self._size + growth

    def _push(self, item: RosterItem) -> None:
        """Section 2.1.6: to every resource that has asked for the roster."""
        query = tag("query", {"xmlns": ns.ROSTER, "ver": str(self.version)}, item_bytes(item))
        for session in self._account.sessions:
            if session.interested:
                attributes = {"type": "set", "id": f"push-{session.host.server.token()}"}
                session.deliver(Stanza("iq", attributes, query, to=session.jid))


def _put(where: dict[str, T], contact: JID, value: T | None) -> None:
    if value is None:
        where.pop(contact.bare, None)
    else:
        where[contact.bare] = value


def _size(item: RosterItem | None) -> int:
    return len(item_bytes(item)) if item is not None else 0


def item_bytes(item: RosterItem) -> bytes:
    """The ``<item/>`` of RFC 6121 section 2.1.2."""
    attributes = {
        "jid": item.jid,
        "name": item.name or None,
        "subscription": item.subscription,
        "ask": item.ask or None,
        "approved": "true" if item.approved else None,
    }
    return tag("item", attributes, *(tag("group", None, group) for group in item.groups))
