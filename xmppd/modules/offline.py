"""Offline messages (XEP-0160 1.0.1, with the delay of XEP-0203): kept while no resource can have them.

A message is kept by its type and content (section 3 of XEP-0160): normal and chat, but not one that only says
that somebody is typing. It is deleted when it has left for a client, not before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.internet.defer import DeferredLock

from xmppd.config import Integer, Option, Size
from xmppd.core.accounts import Account
from xmppd.core.events import AccountLoading, BecomingAvailable, Undelivered
from xmppd.core.host import Host
from xmppd.core.routing import message_type
from xmppd.core.session import Session
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.delay import delayed
from xmppd.wire.errors import StanzaError
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
LARGE = 16 * 1024  # bytes of a message after which the client has to have read what it was sent

# What says nothing that somebody would want to read later, and needs no answer that nobody gives.
_FLEETING = frozenset({ns.CHAT_STATES, ns.HINTS})


@dataclass(slots=True)
class Waiting:
    """Record of an account: one delivery at a time; whether something was stored since it was looked at; the ids and
    sizes of the messages that a client was handed and has not confirmed, so that no other gets them as well; and how
    many messages with how many bytes are stored, None where that has to be looked up."""

    lock: DeferredLock = field(default_factory=DeferredLock)
    stored: int = 0
    handed: dict[int, int] = field(default_factory=dict)
    size: tuple[int, int] | None = None


def setup(host: Host) -> None:
    """Hook offline messages into a host."""
    host.disco.server.features.add(ns.OFFLINE)
    host.bus.on(AccountLoading, lambda event: event.account.put(Waiting()))
    host.bus.on(Undelivered, keep)
    host.bus.on(BecomingAvailable, deliver)


async def keep(event: Undelivered) -> bool:
    """Keep a message; refuse it when there are too many already (XEP-0160 section 3)."""
    account, stanza = event.account, event.stanza
    if not worth_keeping(stanza):
        return True
    waiting = account.get(Waiting)
    waiting.stored += 1
    if not await _append(account, waiting, stanza.to_bytes()):
        raise StanzaError("service-unavailable", "too many messages wait for this user")
    return True


async def _append(account: Account, waiting: Waiting, data: bytes) -> bool:
    """Keep a message, False where there is no room. It is queued for the store before anything else can happen:
    a delivery that is under way sees it, or sees that it has to look again."""
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
    await waiting.lock.acquire()
    try:
        handed: dict[int, int] = {}
        last = 0
        while True:
            seen = waiting.stored
            messages = await session.host.server.store.offline.peek(session.account.id, last, PAGE)
            for message in messages:
                last = message.id
                if last in waiting.handed:
                    continue
                handed[last] = len(message.stanza)
                session.deliver(delayed(read_stored(message.stanza), message.received, session.host.domain), kept=True)
                if len(message.stanza) > LARGE:
                    await session.when_drained()
            if session.ended or (len(messages) < PAGE and waiting.stored == seen):
                break
            if len(messages) == PAGE:
                await session.when_drained()
        if handed:
            waiting.handed.update(handed)
            session.host.server.tasks.start(_forget(session, waiting, handed), "deleting offline messages")
    finally:
        waiting.lock.release()


async def _forget(session: Session, waiting: Waiting, handed: dict[int, int]) -> None:
    """Delete what was handed over, once the client has it; if it never will, it waits again."""
    try:
        if await session.when_sent():
            await session.host.server.store.offline.delete(session.account.id, list(handed))
            if waiting.size is not None:
                waiting.size = waiting.size[0] - len(handed), waiting.size[1] - sum(handed.values())
    except StorageError as error:
        session.log.error("{session}: offline messages will come twice: {error}", session=session.id, error=str(error))
    for id in handed:
        waiting.handed.pop(id, None)
