"""Rosters that a backend owns (as Prosody's mod_http_roster_admin): it gives them by HTTP, and says when they change.

A user's roster is fetched when a client binds while the user has no session, so before any presence is broadcast, and
again when the backend names the user in ``POST /roster_admin/refresh``. The last good answer is the user's roster in
the store: it counts for whoever looks at it while the user is not there, and when the backend does not answer.

Clients cannot change a roster that is the backend's; with ``block_subscriptions`` nor can subscriptions.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, gatherResults

from xmppd.config import Duration, Integer, Option, Size, Text
from xmppd.config.kinds import Kind
from xmppd.core.accounts import Account
from xmppd.core.events import AccountLoading, Bound, Ended, Resumed
from xmppd.core.host import Host
from xmppd.core.http import FetchError, HttpRequest, HttpResponse, json_response, refuse_strangers
from xmppd.core.roster import MAX_ROSTER_ITEMS, Entry, Roster, RosterStore
from xmppd.core.session import Session
from xmppd.storage import Roster as StoredRoster
from xmppd.storage import RosterItem, StorageError
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, InvalidJID, parse, prepare_local
from xmppd.wire.stanza import Stanza


class _Url(Kind[str]):
    """Where rosters are."""

    accepts = "an address of http or https with %s in place of the user name"

    def parse(self, text: str) -> str:
        """Return `text`."""
        scheme, _, rest = text.partition("://")
        if scheme not in ("http", "https") or not rest or text.count("%s") != 1 or not text.isascii():
            raise ValueError("it does not say where the roster of a user is")
        if any(character <= " " for character in text):
            raise ValueError("it has white space in it")
        return text


URL = Option(
    "http_roster_url", _Url(), "http://localhost/%s",
    "Where the backend has a user's roster; ``%s`` stands for the user name, percent-encoded.",
)  # fmt: skip
SECRET = Option(
    "http_roster_secret", Text(), "",
    "What the backend shows in ``Authorization: Bearer`` when it asks for a refresh; without it only programs on this "
    "machine may ask.", secret=True,
)  # fmt: skip
TIMEOUT = Option("http_roster_timeout", Duration(minimum=0.1), "10s", "How long the backend may take for one roster.")
MAX_SIZE = Option("http_roster_max_size", Size(minimum=1024), "1M", "The largest roster that is read, in bytes.")
MAX_REQUESTS = Option(
    "http_roster_max_requests", Integer(minimum=1), "20", "How many rosters are fetched at once.", live=False
)
OPTIONS = (URL, SECRET, TIMEOUT, MAX_SIZE, MAX_REQUESTS)

KIND = "http_roster_admin"  # in the store, under `FETCHED`: when the backend has answered last
FETCHED = "fetched"
PATH = "/roster_admin/refresh"
MAX_NAMES = 10_000  # of a refresh
MAX_BODY = 1024 * 1024  # bytes of it
MAX_TEXT = 1023  # bytes of a name or a group
SUBSCRIPTIONS = frozenset({"none", "to", "from", "both"})

Changes = list[tuple[JID, Entry, Entry]]


@dataclass(slots=True)
class Backend:
    """Record of an account: whether its roster was ever fetched, and since the user has a session; one fetch at a
    time."""

    ever: bool
    current: bool = False
    lock: DeferredLock = field(default_factory=DeferredLock)


class Slots(DeferredSemaphore):
    """As many fetches at once as a host may have."""


def setup(host: Host) -> None:
    """Hook rosters of a backend into a host."""
    inner = host.service(RosterStore)  # type: ignore[type-abstract]
    host.provide(RosterStore, BackendRosters(inner))  # type: ignore[type-abstract]
    host.provide(Slots, Slots(host.settings[MAX_REQUESTS]))
    host.accounts.kinds.append(KIND)
    host.bus.on(AccountLoading, lambda event: event.account.put(Backend(FETCHED in event.data[KIND])))
    host.bus.on(Bound, bound)
    host.bus.on(Resumed, resumed)
    host.bus.on(Ended, ended)
    host.http.on("POST", PATH, partial(refresh, host), partial(admit, host), MAX_BODY)


class BackendRosters:
    """The `RosterStore` of such a host: changes are the backend's alone."""

    def __init__(self, inner: RosterStore) -> None:
        self._inner = inner

    async def load(self, account: Account) -> StoredRoster:
        """See `RosterStore`."""
        return await self._inner.load(account)

    async def change(self, account: Account, contact: JID, before: Entry, after: Entry, version: int) -> None:
        """See `RosterStore`."""
        if after.item != before.item or after.request is not None:
            raise StanzaError("service-unavailable", "contacts are managed elsewhere")
        await self._inner.change(account, contact, before, after, version)

    async def replace(
        self, account: Account, put: Collection[RosterItem], remove: Collection[str], version: int
    ) -> None:
        """See `RosterStore`."""
        await self._inner.replace(account, put, remove, version)


# ---- when a user comes


async def bound(event: Bound) -> None:
    """The roster is there before the client is told that it is bound. Raises `StanzaError` where there is none, not
    even one of before."""
    await _catch_up(event.session)
    if not event.session.account.get(Backend).ever:
        raise StanzaError("resource-constraint", "the contacts cannot be loaded now")


def resumed(event: Resumed) -> None:
    """A session of the last process goes on: the backend may have changed meanwhile."""
    session = event.session
    if not session.account.get(Backend).current:
        session.host.server.tasks.start(_catch_up_and_tell(session), "fetching a roster")


async def _catch_up_and_tell(session: Session) -> None:
    await tell([(session.account, await _catch_up(session))])


async def _catch_up(session: Session) -> Changes:
    """Fetch the roster, unless that was done since the user has a session; where that fails the log says so."""
    account = session.account
    backend = account.get(Backend)
    async with backend.lock:
        if backend.current:
            return []
        try:
            changes = await _update(account)
        except (FetchError, StorageError) as error:
            session.log.error("{session}: the roster of {user} could not be fetched: {error}",
                              session=session.id, user=account.jid.bare, error=str(error))  # fmt: skip
            return []
        backend.current = True
        return changes


def ended(event: Ended) -> None:
    """Who has no session any more is asked for anew when there is one."""
    if not event.session.account.sessions:
        event.session.account.get(Backend).current = False


# ---- the backend


async def _update(account: Account) -> Changes:
    """Fetch a roster, and have it instead of the one before. Raises `FetchError` or `StorageError`, with nothing
    changed."""
    host = account.host
    settings = host.settings
    url = settings[URL].replace("%s", quote(account.jid.local, safe=""))
    slots = host.service(Slots)
    async with slots:
        data = await host.server.fetch(url, "application/json", settings[TIMEOUT], settings[MAX_SIZE])
    items = read_roster(data, account.jid, settings[MAX_ROSTER_ITEMS])
    changes = await account.get(Roster).replace(items)
    backend = account.get(Backend)
    if not backend.ever:
        await host.server.store.data.put(account.id, KIND, FETCHED, str(host.server.now_ms()).encode())
        backend.ever = True
    return changes


def read_roster(data: bytes, owner: JID, most: int) -> dict[str, RosterItem]:
    """The items of an answer, by their bare JIDs; `FetchError` for one that is no roster, in whatever part."""
    try:
        found = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise FetchError("the answer is not JSON") from None
    if not isinstance(found, dict) or len(found) > most:
        raise FetchError(f"the answer is no object with at most {most} contacts")
    items: dict[str, RosterItem] = {}
    for text, details in found.items():
        try:
            jid = parse(text)
        except InvalidJID:
            raise FetchError("a contact is no JID") from None
        if not jid.is_bare or jid == owner or jid.bare in items:
            raise FetchError("a contact is no bare JID, is the user, or is there twice")
        items[jid.bare] = _item(jid, details)
    return items


def _item(jid: JID, details: Any) -> RosterItem:
    if not isinstance(details, dict):
        raise FetchError("a contact is no object")
    name = details.get("name")
    subscription = details.get("subscription", "both")
    groups = details.get("groups", [])
    if isinstance(groups, dict) and all(value is True for value in groups.values()):
        groups = list(groups)
    if not isinstance(groups, list) or not all(_is_text(group) and group for group in groups):
        raise FetchError("the groups of a contact are no names")
    if not (name is None or _is_text(name)) or not _is_text(subscription) or subscription not in SUBSCRIPTIONS:
        raise FetchError("the name or the subscription of a contact cannot be one")
    return RosterItem(jid.bare, name or "", subscription, groups=tuple(dict.fromkeys(groups)))


def _is_text(value: Any) -> bool:
    """Whether something is a text that XML can hold."""
    if not isinstance(value, str):
        return False
    try:
        fits = len(value.encode()) <= MAX_TEXT
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return fits and all(character >= " " or character in "\t\n\r" for character in value) and not (
        {"\ufffe", "\uffff"} & set(value)
    )


# ---- POST /roster_admin/refresh


def admit(host: Host, request: HttpRequest) -> HttpResponse | None:
    """Who may ask for a refresh."""
    return refuse_strangers(request, host.server.hosts, host.settings[SECRET])


async def refresh(host: Host, request: HttpRequest) -> HttpResponse:
    """Rosters have changed, of the users whose names the body has."""
    try:
        names = json.loads(request.body.decode())
    except (ValueError, RecursionError):
        return _refused("the body is not JSON")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return _refused("the body is no array of user names")
    if len(names) > MAX_NAMES:
        return _refused(f"at most {MAX_NAMES} users are refreshed at once")
    wanted = list(dict.fromkeys(names))
    outcomes = await gatherResults([Deferred.fromCoroutine(_refresh_one(host, name)) for name in wanted])
    errors = outcomes.count(None)
    await tell([outcome for outcome in outcomes if outcome])
    return json_response(200, {
        "status": "error" if errors and errors == len(wanted) else "ok", "message": "roster update complete",
        "updated": len(wanted) - errors, "errors": errors,
    })  # fmt: skip


def _refused(why: str) -> HttpResponse:
    return json_response(400, {"status": "error", "message": why, "updated": 0, "errors": 0})


async def _refresh_one(host: Host, name: str) -> tuple[Account, Changes] | tuple[()] | None:
    """A user's changes; nothing where the user is not there, whose roster is fetched at the next login; None where it
    could not be fetched."""
    try:
        local = prepare_local(name)
    except InvalidJID:
        host.log.error("{name} cannot be the name of a user of {host}", name=name[:100], host=host.domain)
        return None
    if not host.server.sessions.any_of(f"{local}@{host.domain}"):
        return ()
    account = await host.accounts.load(local)
    if account is None:
        return ()
    backend = account.get(Backend)
    async with backend.lock:
        try:
            changes = await _update(account)
        except (FetchError, StorageError) as error:
            host.log.error("the roster of {user} could not be fetched: {error}",
                           user=account.jid.bare, error=str(error))  # fmt: skip
            return None
        backend.current = bool(account.sessions)
        return account, changes


# ---- who sees whom


async def tell(refreshed: list[tuple[Account, Changes]]) -> None:
    """Have presence follow rosters that have changed: it goes to those who may see it now, and is asked for where the
    user may see it now; who may not any more sees the other go."""
    told: set[tuple[str, str]] = set()  # by whom and to whom, as bare JIDs: nothing is said twice
    for account, changes in refreshed:
        for contact, before, after in changes:
            if before.state.from_ != after.state.from_:
                told.add((account.jid.bare, contact.bare))
                await _send_presence(account, contact, after.state.from_)
    for account, changes in refreshed:
        for contact, before, after in changes:
            if before.state.to != after.state.to and (contact.bare, account.jid.bare) not in told:
                await (_probe(account, contact) if after.state.to else _lose_sight(account, contact))


async def _send_presence(account: Account, contact: JID, available: bool) -> None:
    for session in account.sessions:
        if session.presence is not None:
            gone = Stanza("presence", {"type": "unavailable"}, sender=session.jid, to=contact)
            here = session.presence.addressed(sender=session.jid, to=contact)
            await account.host.server.route(here if available else gone)


async def _probe(account: Account, contact: JID) -> None:
    for session in account.sessions:
        if session.presence is not None:
            await account.host.server.route(Stanza("presence", {"type": "probe"}, sender=session.jid, to=contact))


async def _lose_sight(account: Account, contact: JID) -> None:
    """The contact's presence is not the user's to see any more, and nobody says so who would know."""
    resources = [session.jid for session in account.host.server.sessions.of(contact.bare) if session.presence]
    for session in account.sessions:
        for resource in resources or [contact]:
            if session.presence is not None:
                session.deliver(Stanza("presence", {"type": "unavailable"}, sender=resource, to=session.jid))
