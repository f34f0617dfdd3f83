"""Offline messages (XEP-0160 1.0.1, with the delay of XEP-0203): kept while no resource can have them.

A message is kept by its type and content (section 3 of XEP-0160): normal and chat, but not one that only says
that somebody is typing. It is deleted when a client has it, or when stream management has, and on disk.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.defer import Deferred, DeferredLock

from xmppd.config import Integer, Option, Size
from xmppd.core.accounts import Account
from xmppd.core.events import AccountLoading, BecomingAvailable, BoundInline, KeptOffline, Undelivered
from xmppd.core.host import Host
from xmppd.core.routing import message_type
from xmppd.core.session import Session
from xmppd.storage import OfflineMessage, StorageError
from xmppd.storage.offline import forget
from xmppd.wire import ns
from xmppd.wire.delay import delayed
from xmppd.wire.errors import StanzaError
from xmppd.wire.sid import has_stanza_id, stanza_id
from xmppd.wire.stanza import Stanza
from xmppd.wire.stored import read_stored

OFFLINE_MESSAGE_LIMIT = Option(
    "offline_message_limit", Integer(minimum=0), "1000",
    "How many messages are kept for a user who is offline; what comes then is refused.",
)  # fmt: skip
OFFLINE_SIZE_LIMIT = Option(
    "offline_size_limit", Size(minimum=65536), "16M",
    "How many bytes of messages are kept for a user who is offline; what comes then is refused.",
)  # fmt: skip
OPTIONS = (OFFLINE_MESSAGE_LIMIT, OFFLINE_SIZE_LIMIT)

PAGE = 50  # messages that are in memory at once
CHUNK_BYTES = 64 * 1024  # of messages after which the client has to have read what it was sent

# What says nothing that somebody would want to read later, and needs no answer that nobody gives.
_FLEETING = frozenset({ns.CHAT_STATES, ns.HINTS})


@dataclass(slots=True)
class Waiting:
    """Record of an account: one delivery at a time; whether something was stored since it was looked at; the ids of the
    messages that are being handed to a client, so that no other gets them as well; and how many messages with how many
    bytes are stored, None where that has to be looked up."""

    lock: DeferredLock = field(default_factory=DeferredLock)
    stored: int = 0
    handed: set[int] = field(default_factory=set)
    size: tuple[int, int] | None = None


def setup(host: Host) -> None:
    """Hook offline messages into a host."""
    host.disco.server.features.add(ns.OFFLINE)
    host.bus.on(AccountLoading, lambda event: event.account.put(Waiting()))
    host.bus.on(Undelivered, keep)
    host.bus.on(BecomingAvailable, deliver)
    host.bus.on(BoundInline, at_binding)


async def at_binding(event: BoundInline) -> None:
    """XEP-0386 section 3.2: a client that is told what the archive has reads there what the archive holds; only what it
    does not hold still waits."""
    if event.archived is None:
        return
    account = event.session.account
    store, waiting = account.host.server.store, account.get(Waiting)
    last = 0
    while messages := await store.offline.peek(account.id, last, PAGE):
        last = messages[-1].id
        ids = {message.id: _archive_id(account, message) for message in messages}
        told = [id for id in ids.values() if id is not None and id <= event.archived]
        held = await store.archive.holds(account.id, told)
        there = [message.id for message in messages if ids[message.id] in held and message.id not in waiting.handed]
        if there:
            await store.offline.delete(account.id, there)
            waiting.size = None


def _archive_id(account: Account, message: OfflineMessage) -> bytes | None:
    text = stanza_id(read_stored(message.stanza), account.jid)
    try:
        return uuid.UUID(text).bytes if text is not None else None
    except ValueError:
        return None


def keep(event: Undelivered) -> bool:
    """Keep a message; refuse it when there are too many already (XEP-0160 section 3) and no archive has it."""
    account, stanza = event.account, event.stanza
    if not worth_keeping(stanza):
        return True
    account.get(Waiting).stored += 1
    # Asked for in this turn, and the answer not waited for: what else the message does is in the same transaction.
    server = account.host.server
    server.tasks.start(server.or_bounce(stanza, _keep(account, stanza)), "keeping a message")
    return True


async def _keep(account: Account, stanza: Stanza) -> None:
    if await _append(account, account.get(Waiting), stanza.to_bytes()):
        server = account.host.server
        server.tasks.start(account.host.bus.fire(KeptOffline(account, stanza)), "an offline message's event")
        return
    if not has_stanza_id(stanza, account.jid):
        raise StanzaError("service-unavailable", "too many messages wait for this user")
    await account.host.server.store.barrier()  # the archive has it, unless that fails


async def _append(account: Account, waiting: Waiting, data: bytes) -> bool:
    """Keep a message, False where there is no room."""
    server, settings = account.host.server, account.host.settings
    offline, limits = server.store.offline, (settings[OFFLINE_MESSAGE_LIMIT], settings[OFFLINE_SIZE_LIMIT])
    if waiting.size is None:
        size = await offline.append_bounded(account.id, server.now_ms(), data, *limits)
        if size is not None:
            waiting.size = size if waiting.size is None else _plus(waiting.size, data)
        return size is not None
    grown = _plus(waiting.size, data)
    if grown[0] > limits[0] or grown[1] > limits[1]:
        return False
    waiting.size = grown
    try:
        await offline.append(account.id, server.now_ms(), data)
    except BaseException:
        waiting.size = None
        raise
    return True


def _plus(size: tuple[int, int], data: bytes) -> tuple[int, int]:
    return size[0] + 1, size[1] + len(data)


def worth_keeping(stanza: Stanza) -> bool:
    """Whether a message that nobody can have now is to be kept: not one that asks not to be (XEP-0334 section
    4.2), nor one that holds nothing but chat states (XEP-0160 section 3) and does not ask to be (section 4.4)."""
    if stanza.has(ns.HINTS, "no-store") or message_type(stanza) not in ("normal", "chat"):
        return False
    if stanza.has(ns.HINTS, "store"):
        return True
    return any(child[0] not in _FLEETING and child[1] != "thread" for child in stanza.children)


async def deliver(event: BecomingAvailable) -> None:
    """Hand over what waits, in order; also what was stored while this was being done."""
    session = event.session
    waiting = session.account.get(Waiting)
    async with waiting.lock:
        last = 0
        while True:
            seen = waiting.stored
            messages = await session.host.server.store.offline.peek(session.account.id, last, PAGE)
            for chunk in _chunks([message for message in messages if message.id not in waiting.handed]):
                if session.ended:
                    return
                taken = _hand_over(session, waiting, chunk)
                if session.keeper is not None and not await taken:
                    raise StorageError("what waits could not be handed over")
                if chunk[-1] is not messages[-1] or len(messages) == PAGE:
                    await taken
                    await session.when_drained()
            if session.ended or (len(messages) < PAGE and waiting.stored == seen):
                return
            last = messages[-1].id if messages else last


def _chunks(messages: list[OfflineMessage]) -> Iterator[list[OfflineMessage]]:
    """The messages in parts of about the same size."""
    chunk: list[OfflineMessage] = []
    size = 0
    for message in messages:
        chunk.append(message)
        size += len(message.stanza)
        if size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _hand_over(session: Session, waiting: Waiting, messages: list[OfflineMessage]) -> Deferred[bool]:
    """Let the session have messages, and forget them once it has; if it never will, they wait again. Fires with whether
    it has."""
    domain, ids = session.host.domain, [message.id for message in messages]
    waiting.handed.update(ids)
    stanzas = [
        (message.received, delayed(read_stored(message.stanza), message.received, domain)) for message in messages
    ]
    taken = session.take_over(stanzas, partial(forget, session.account.id, ids))

    def known(outcome: bool) -> bool:
        waiting.handed.difference_update(ids)
        if outcome and waiting.size is not None:
            size = sum(len(message.stanza) for message in messages)
            waiting.size = waiting.size[0] - len(messages), waiting.size[1] - size
        return outcome

    return taken.addCallback(known)
