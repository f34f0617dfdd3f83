"""Which app servers a user's clients want to be woken by (XEP-0357 sections 5 and 6), and what was pushed to them.

A registration is one (jid, node), tied to the client that has asked for it, by the key that `Login` has; so a session
need not ask again to have it. All of it is in memory with the account, and on disk before anybody is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.python.failure import Failure
from twisted.words.xish import domish

from xmppd.config import Integer, Option, Size
from xmppd.core.accounts import Account
from xmppd.core.clients import Login, PushServices
from xmppd.core.events import (
    AccountLoading,
    Bound,
    ClientRevoked,
    PasswordChanged,
    PushDisabled,
    PushRegistering,
    Resumed,
)
from xmppd.core.iq import Request
from xmppd.core.routing import reachable
from xmppd.core.session import Session
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import serialise

MAX_DEVICES = Option(
    "push_max_devices", Integer(minimum=1), "5",
    "How many registrations for push notifications an account may have; one more, and the oldest goes.",
)  # fmt: skip
MAX_SIZE = Option(
    "push_max_registration_size", Size(minimum=1024), "16k",
    "How many bytes one registration for push notifications may take, with its publish-options and filters.",
)  # fmt: skip
OPTIONS = (MAX_DEVICES, MAX_SIZE)

KIND = "push"  # in the store: a registration, under its id
SENT = "push_sent"  # ... and the marks of what was pushed to it
MARK = 8  # bytes by which a stanza is known again
REMEMBERED = 500  # marks of a registration, beside those of what its client has not acknowledged


@dataclass(slots=True)
class Registration:
    """Where to push, for which client. `options` is the data form with publish-options, as it will be sent; `enabled`
    is when it was asked for last, in milliseconds since 1970; `kept` is what extensions keep; `errors` counts permanent
    errors in a row. `suspended`: the password has changed, and the client was not seen since."""

    id: str
    jid: str
    node: str
    client: str
    resource: str
    enabled: int
    options: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    errors: int = 0
    suspended: bool = False


@dataclass(slots=True)
class Registrations:
    """Record of an account: its registrations by their ids, what was pushed to each or is about to be, what is being
    decided, and one change at a time."""

    known: dict[str, Registration]
    sent: dict[str, dict[bytes, None]]  # marks, oldest first
    deciding: set[tuple[str, bytes]] = field(default_factory=set)
    lock: DeferredLock = field(default_factory=DeferredLock)

    def of_client(self, client: str) -> list[Registration]:
        """Those of one client that may be pushed to."""
        return [entry for entry in self.known.values() if entry.client == client and not entry.suspended]

    def usable(self) -> list[Registration]:
        """All that may be pushed to."""
        return [entry for entry in self.known.values() if not entry.suspended]

    def begin(self, entry: Registration, mark: bytes) -> bool:
        """Decide whether a stanza is pushed; False where that was decided, or is being."""
        if mark in self.sent.get(entry.id, {}) or (entry.id, mark) in self.deciding:
            return False
        self.deciding.add((entry.id, mark))
        return True

    def remember(self, entry: Registration, mark: bytes, queued: int) -> None:
        """It is, or never will be. As many marks are kept as the client has stanzas `queued`, and some more."""
        marks = self.sent.setdefault(entry.id, {})
        marks[mark] = None
        while len(marks) > REMEMBERED + queued:
            del marks[next(iter(marks))]

    def forget(self, id: str, marks: Iterable[bytes]) -> None:
        """Stanzas were not pushed after all."""
        for mark in marks:
            self.sent.get(id, {}).pop(mark, None)


class Services(PushServices):
    """See `PushServices`."""

    def of_client(self, account: Account, key: str) -> list[str]:
        """See `PushServices`."""
        known = account.get(Registrations).known.values()
        return sorted({entry.jid for entry in known if key_of(entry.client) == key})


def load(event: AccountLoading) -> None:
    """They come into memory with their account."""
    known = {key: Registration(**json.loads(value)) for key, value in event.data[KIND].items()}
    sent = {
        key: dict.fromkeys(value[start : start + MARK] for start in range(0, len(value), MARK))
        for key, value in event.data[SENT].items()
    }
    event.account.put(Registrations(known, sent))


def client_of(session: Session) -> str:
    """Which client a session is of: its key, and for one that neither says which it is nor wants a resource, of which
    there may be several, also the resource that it was given."""
    login = session.find(Login)
    if login is None:
        return ""
    return f"{login.key}/{session.jid.resource}" if login.is_legacy and not login.resource else login.key


def key_of(client: str) -> str:
    """The key of a client, as others know it."""
    return client.partition("/")[0]


def is_there(account: Account, client: str) -> bool:
    """Whether a client answers, and is sent what comes for its user."""
    return any(
        client_of(session) == client and (session.keeper is None or not session.keeper.overdue)
        for session in reachable(account)
        if session.keeper is None or not session.keeper.hibernates
    )


def id_of(jid: str, node: str) -> str:
    """What a registration is called among those of an account."""
    return hashlib.sha256(f"{jid}\0{node}".encode()).hexdigest()[:12]


def keep(account: Account, entry: Registration) -> Deferred[None]:
    """Write a registration that is there."""
    if account.get(Registrations).known.get(entry.id) is not entry or account.going:
        return succeed(None)
    return _put(account, entry)


def _put(account: Account, entry: Registration) -> Deferred[None]:
    return account.host.server.store.data.put(account.id, KIND, entry.id, json.dumps(asdict(entry)).encode())


def keep_sent(account: Account, entry: Registration) -> Deferred[None]:
    """Write what was pushed to a registration that is there."""
    if account.get(Registrations).known.get(entry.id) is not entry or account.going:
        return succeed(None)
    marks = b"".join(account.get(Registrations).sent.get(entry.id, {}))
    return account.host.server.store.data.put(account.id, SENT, entry.id, marks)


# ---- what clients ask for


async def enable(request: Request) -> None:
    """Section 5. What was asked for before for the same jid and node is replaced."""
    account, session = request.account, request.session
    if account is None or session is None:
        raise StanzaError("not-allowed", "only a connected client can be woken")
    jid, node = _address(request), str(request.payload.getAttribute("node") or "")
    event = PushRegistering(account, request.payload)
    await account.host.bus.fire(event)
    entry = Registration(
        id_of(jid.full, node), jid.full, node, client_of(session), session.jid.resource,
        account.host.server.now_ms(), _options(request.payload), event.kept,
    )  # fmt: skip
    size = len(json.dumps(asdict(entry)))
    limit = account.host.settings[MAX_SIZE]
    if size > limit:
        raise StanzaError("not-acceptable", f"a registration has {limit} bytes at most")
    record = account.get(Registrations)
    async with record.lock:
        if session.ended:  # perhaps since its access was revoked
            raise StanzaError("not-allowed", "the session is over")
        await _put(account, entry)
        before = record.known.pop(entry.id, None)
        record.known[entry.id] = entry
        if before is not None and before.client != entry.client:
            await account.host.bus.fire(PushDisabled(account, before.client, entry.id))
        surplus = len(record.known) - account.host.settings[MAX_DEVICES]
        oldest = sorted(record.known.values(), key=lambda other: (other is entry, other.enabled))[: max(surplus, 0)]
        await _remove(account, oldest, "another client has taken its place")


def _address(request: Request) -> JID:
    """The address of the app server that a request names."""
    account = request.account
    assert account is not None
    text = request.payload.getAttribute("jid")
    if not text:
        raise StanzaError("bad-request", "Missing jid")
    try:
        jid = parse(str(text))
    except InvalidJID as error:
        raise StanzaError("jid-malformed", str(error)) from None
    if jid.bare == account.jid.bare:
        raise StanzaError("bad-request", "this is the own address, not that of an app server")
    return jid


def _options(payload: domish.Element) -> str:
    """The form with publish-options, to be sent as it came."""
    form = next(payload.elements(ns.DATA_FORMS, "x"), None)
    return serialise(form, ns.PUBSUB).decode() if form is not None else ""


async def disable(request: Request) -> None:
    """Section 6: one node, or without one all of the app server."""
    account = request.account
    assert account is not None
    jid, node = _address(request), request.payload.getAttribute("node")
    record = account.get(Registrations)
    async with record.lock:
        wanted = [entry for entry in record.known.values() if entry.jid == jid.full and node in (None, entry.node)]
        await _remove(account, wanted, "its client does not want it any more")


async def remove(account: Account, entries: Iterable[Registration], why: str) -> None:
    """Forget registrations, as far as they are still there. Raises `StorageError`: then they are."""
    record = account.get(Registrations)
    async with record.lock:
        await _remove(account, [entry for entry in entries if record.known.get(entry.id) is entry], why)


async def _remove(account: Account, entries: list[Registration], why: str) -> None:
    record = account.get(Registrations)
    for entry in entries:
        del record.known[entry.id]  # now, so that nothing of it is written behind its end
    try:
        for deleted in [_delete(account, entry) for entry in entries]:
            await deleted
    except StorageError:
        record.known.update({entry.id: entry for entry in entries})
        raise
    for entry in entries:
        record.sent.pop(entry.id, None)
        account.host.log.info(
            "push: {user} is not notified at {jid} any more ({id}): {why}",
            user=account.jid.bare, jid=entry.jid, id=entry.id, why=why,
        )  # fmt: skip
        await account.host.bus.fire(PushDisabled(account, entry.client, entry.id))


def _delete(account: Account, entry: Registration) -> Deferred[bool]:
    data = account.host.server.store.data
    data.delete(account.id, SENT, entry.id).addErrback(lambda failure: None)  # it goes with the other, or stays with it
    return data.delete(account.id, KIND, entry.id)


# ---- what else ends them


def revoked(event: ClientRevoked) -> None:
    """Clients are to have no access any more, so they are not told either that something came."""
    event.writes.append(Deferred.fromCoroutine(_revoke(event.account, event.keys)))


async def _revoke(account: Account, keys: frozenset[str]) -> None:
    record = account.get(Registrations)
    async with record.lock:  # behind those that are being written
        gone = [entry for entry in record.known.values() if key_of(entry.client) in keys]
        await _remove(account, gone, "the access of its client was revoked")


async def password_changed(event: PasswordChanged) -> None:
    """Whoever had access by the old password is not told of what comes, until that client has logged in again."""
    record = event.account.get(Registrations)
    async with record.lock:
        for entry in record.known.values():
            _suspend(event.account, entry, event.by is None or entry.client != client_of(event.by))


@dataclass(slots=True)
class Tied:
    """Record of a session: which client it is of; a session may be resumed by one that says better who it is."""

    client: str


def seen(event: Bound | Resumed) -> None:
    """A client is here, so it has access; its registrations go with it where it has another key than before."""
    session, account = event.session, event.session.account
    client, tied = client_of(session), session.find(Tied)
    session.put(Tied(client))
    for entry in account.get(Registrations).known.values():
        if tied is not None and entry.client == tied.client != client:
            entry.client = client
            keep(account, entry).addErrback(_not_kept, account)
        if entry.client == client:
            _suspend(account, entry, False)


def _suspend(account: Account, entry: Registration, suspended: bool) -> None:
    if entry.suspended == suspended:
        return
    entry.suspended = suspended
    keep(account, entry).addErrback(_not_kept, account)


def _not_kept(failure: Failure, account: Account) -> None:
    failure.trap(StorageError)
    account.host.log.error(
        "push: what became of a registration of {user} is not kept: {error}",
        user=account.jid.bare, error=failure.getErrorMessage(),
    )  # fmt: skip


async def withdrawn(account: Account, stanza: Stanza) -> bool | None:
    """Section 8: an app server says that the user may not publish to a node any more; True if it has one here."""
    sender = stanza.sender
    assert sender is not None
    nodes = set()
    for pubsub in stanza.tree.elements(ns.PUBSUB, "pubsub"):
        for affiliation in pubsub.elements(ns.PUBSUB, "affiliation"):
            if affiliation.getAttribute("affiliation") == "none":
                nodes.add(pubsub.getAttribute("node") or "")
    gone = [
        entry for entry in account.get(Registrations).known.values() if entry.jid == sender.full and entry.node in nodes
    ]
    await remove(account, gone, "the app server says so")
    return True if gone else None
