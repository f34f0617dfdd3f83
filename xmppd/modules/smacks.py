"""Stream management (XEP-0198 1.6.3): acknowledgements, and sessions that outlive their connections.

What the server acknowledges is handled, and what it caused is on disk: ``<a/>`` waits for the store (section 4).
What the client has not acknowledged is kept, sent again at a resumption (section 5), and goes where it would go now
when the session ends without one.

A session whose connection breaks hibernates: it stays in the registry, available or not as it was, and what comes
for it waits. Its SM-ID names its resource, so that the registry alone has to be asked for it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from xmppd.config import Duration, Integer, Option, Size
from xmppd.core.events import AckDelayed, Ended, Hibernated, HibernationEnded, QueuedWhileHibernated
from xmppd.core.host import Host, StreamFeature
from xmppd.core.session import Carrier, Session
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.delay import delayed
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import JID
from xmppd.wire.sm import MODULUS, HandledCountTooHigh, Unacknowledged, parse_h
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

HIBERNATION_TIME = Option(
    "smacks_hibernation_time", Duration(), "10m", "How long a session whose connection broke waits for its client."
)
MAX_HIBERNATED = Option(
    "smacks_max_hibernated_sessions", Integer(minimum=0), "10",
    "How many sessions of an account may wait for their clients; the one that has waited longest makes room.",
)  # fmt: skip
MAX_QUEUE = Option(
    "smacks_max_queue_size", Integer(minimum=10), "5000",
    "How many stanzas a client may leave unacknowledged; beyond it the session ends.",
)  # fmt: skip
MAX_QUEUE_BYTES = Option(
    "smacks_max_queue_bytes", Size(minimum=65536), "16M",
    "How many bytes a client may leave unacknowledged; beyond it the session ends.",
)  # fmt: skip
MAX_UNACKED = Option(
    "smacks_max_unacked_stanzas", Integer(minimum=0), "20",
    "After how many stanzas an acknowledgement is asked for; messages ask for one at once.",
)  # fmt: skip
MAX_ACK_DELAY = Option(
    "smacks_max_ack_delay", Duration(), "30s", "How long a client may take to acknowledge before it counts as delayed."
)
OPTIONS = (HIBERNATION_TIME, MAX_HIBERNATED, MAX_QUEUE, MAX_QUEUE_BYTES, MAX_UNACKED, MAX_ACK_DELAY)

SWEEP_SECONDS = 5.0  # how often sessions are looked at that owe an acknowledgement
PAGE_BYTES = 256 * 1024  # sent at a resumption before the client has to have read it
_ASK = tag("r", {"xmlns": ns.SM})


def setup(host: Host) -> None:
    """Hook stream management into a host."""
    host.features.append(StreamFeature("sm", True, lambda: tag("sm", {"xmlns": ns.SM})))
    host.nonzas[ns.SM, "enable"] = enable
    host.nonzas[ns.SM, "resume"] = resume
    host.nonzas[ns.SM, "r"] = answer
    host.nonzas[ns.SM, "a"] = acknowledged
    host.bus.on(Ended, ended)
    sweeping = LoopingCall(sweep, host)
    sweeping.clock = host.server.clock  # type: ignore[assignment]
    sweeping.start(SWEEP_SECONDS, now=False)


@dataclass(slots=True)
class Queued:
    """A stanza that the client has not acknowledged, and when it was first sent, in milliseconds since 1970; `kept`
    where whoever sent it has it as well."""

    stanza: Stanza
    time: int
    kept: bool

    @property
    def size(self) -> int:
        """Bytes that it takes here and nowhere else; the start tag is not worth counting."""
        return 0 if self.kept else len(self.stanza.inner)


@dataclass(slots=True)
class Managed:
    """Record of a session under stream management, and the `Keeper` of what it is sent.

    `before`: how many of its stanzas were handled before it was enabled. `id` is empty where the session cannot be
    resumed. `connected` is False while it hibernates; `timer` then ends that. `asked`: when an acknowledgement was
    asked for that has not come, in seconds, None when none is owed.
    """

    session: Session
    id: str
    before: int
    connected: bool = True
    unacknowledged: Unacknowledged[Queued] = field(default_factory=Unacknowledged)
    asked: float | None = None
    delay_told: bool = False
    timer: Any = None
    hibernated_at: float = 0.0
    resuming: Carrier | None = None  # the stream that what is not acknowledged is being sent on
    size: int = 0  # in bytes, of what waits here and nowhere else
    waiting: list[tuple[int, Callable[[bool], None]]] = field(default_factory=list)

    @property
    def h(self) -> int:
        """How many stanzas of the client are handled."""
        return (self.session.handled - self.before) % MODULUS

    # ---- the keeper

    def push(self, stanza: Stanza, kept: bool) -> None:
        """Keep a stanza until it is acknowledged, and send it if there is a connection."""
        session = self.session
        server = session.host.server
        item = Queued(stanza, server.now_ms(), kept)
        self.unacknowledged.push(item)
        self.size += item.size
        if self.connected:
            session.carrier.send(stanza.to_bytes())
            if stanza.name == "message" or len(self.unacknowledged) >= session.host.settings[MAX_UNACKED]:
                self.ask()
        else:
            server.tasks.start(session.host.bus.fire(QueuedWhileHibernated(session, stanza)), "a hibernation's event")
        settings = session.host.settings
        if len(self.unacknowledged) > settings[MAX_QUEUE] or self.size > settings[MAX_QUEUE_BYTES]:
            self._overflow()

    def _overflow(self) -> None:
        """The client does not acknowledge: what is kept for it has to have an end."""
        session = self.session
        session.log.info("{session}: too much is unacknowledged, the session ends", session=session.id)
        self.id = ""
        if self.connected:
            session.close("policy-violation", "too many stanzas are not acknowledged")
        else:
            session.end()

    def ask(self) -> None:
        """Ask for an acknowledgement, unless one is owed already."""
        if self.asked is None and self.connected:
            self.asked = self.session.host.server.clock.seconds()
            self.session.carrier.send(_ASK)

    def acknowledge(self, h: int) -> None:
        """The client has handled `h` stanzas; raises `StreamError` when that cannot be."""
        try:
            self.size -= sum(item.size for item in self.unacknowledged.acknowledge(h))
        except HandledCountTooHigh as error:
            details = {"xmlns": ns.SM, "h": str(error.h), "send-count": str(error.sent)}
            raise StreamError(
                "undefined-condition", "more was acknowledged than was sent", tag("handled-count-too-high", details)
            ) from None
        while self.waiting and (h - self.waiting[0][0]) % MODULUS < MODULUS // 2:
            self.waiting.pop(0)[1](True)

    def when_sent(self, callback: Callable[[bool], None]) -> None:
        """Call back once the client has acknowledged what it was sent so far."""
        if not len(self.unacknowledged):
            callback(True)
        else:
            self.waiting.append((self.unacknowledged.sent, callback))

    def lost(self) -> bool:
        """The connection broke: hibernate, where the client may come back."""
        if not self.id or self.session.ended:
            return False
        hibernate(self)
        return True


# ---- elements of the client


def enable(stream: Carrier, element: Stanza) -> None:
    """Section 3. Counting begins with the stanza that follows."""
    session = stream.session
    if session is None:
        stream.send(_failed("unexpected-request", "bind a resource first"))
        return
    if session.keeper is not None:
        raise StreamError("policy-violation", "stream management is enabled already")
    wanted = element.attributes.get("resume") in ("true", "1")
    session.in_turn(lambda: _enable(session, wanted))


async def _enable(session: Session, resumable: bool) -> None:
    if session.keeper is not None or session.ended:
        return
    settings = session.host.settings
    resumable = resumable and settings[MAX_HIBERNATED] > 0 and settings[HIBERNATION_TIME] > 0
    id = _new_id(session) if resumable else ""
    managed = Managed(session, id, session.handled)
    attributes = {"xmlns": ns.SM}
    if resumable:
        attributes |= {"id": id, "resume": "true", "max": str(int(settings[HIBERNATION_TIME]))}
    session.carrier.send(tag("enabled", attributes))
    session.put(managed)
    session.keeper = managed


def answer(stream: Carrier, element: Stanza) -> None:
    """``<r/>``: say how many stanzas are handled, once those before it are and the store has what they caused."""
    session = _session(stream)
    session.in_turn(lambda: _answer(session))


async def _answer(session: Session) -> None:
    managed = _managed(session)
    server = session.host.server
    h = managed.h
    if not server.store.pending:
        _send_ack(managed, h)
    else:
        # Later stanzas need not wait; the answers keep their order, since barriers do.
        server.tasks.start(_ack_when_stored(managed, h), "an acknowledgement")


async def _ack_when_stored(managed: Managed, h: int) -> None:
    # Where the store failed, whoever wrote has answered with an error, which is on the wire before this.
    with contextlib.suppress(StorageError):
        await managed.session.host.server.store.barrier()
    _send_ack(managed, h)


def _send_ack(managed: Managed, h: int) -> None:
    if managed.connected:
        managed.session.carrier.send(tag("a", {"xmlns": ns.SM, "h": str(h)}))


def acknowledged(stream: Carrier, element: Stanza) -> None:
    """``<a/>``: the client has handled so many."""
    session = _session(stream)
    h = _h(element)
    if session.find(Managed) is not None:
        _acknowledge(session, h)
    else:  # <enable/> may still wait for its turn
        session.in_turn(lambda: _acknowledge_later(session, h))


async def _acknowledge_later(session: Session, h: int) -> None:
    _acknowledge(session, h)


def _acknowledge(session: Session, h: int) -> None:
    managed = _managed(session)
    gained = h != managed.unacknowledged.acknowledged
    managed.acknowledge(h)
    managed.asked = None
    managed.delay_told = False
    if gained and len(managed.unacknowledged):
        managed.ask()


def resume(stream: Carrier, element: Stanza) -> None:
    """Section 5: a client that has authenticated again takes up the session it had."""
    if stream.session is not None:
        stream.send(_failed("unexpected-request", "a resource is bound already"))
        return
    previd = element.attributes.get("previd", "")
    try:
        h = parse_h(element.attributes.get("h"))
    except ValueError as error:
        stream.send(_failed("bad-request", str(error)))
        return
    managed = _find(stream, previd)
    if managed is None:
        stream.wait_for(_not_found(stream, previd))
    else:
        managed.acknowledge(h)
        stream.wait_for(_resume(stream, managed))


async def _resume(stream: Carrier, managed: Managed) -> None:
    session = managed.session
    server = session.host.server
    _take_over(managed)
    _cancel(managed)
    # What the old connection brought is handled first, and on disk: the count has to cover it, or the client
    # sends it a second time.
    handled: list[None] = []
    await _in_turn(session, handled)
    with contextlib.suppress(StorageError):
        await server.store.barrier()
    if session.ended:
        await _not_found(stream, managed.id)
        return
    if stream.closed:
        _went_away(managed)
        return
    _take_over(managed)
    _cancel(managed)
    managed.resuming = stream
    stream.send(tag("resumed", {"xmlns": ns.SM, "previd": managed.id, "h": str(managed.h)}))
    if not await _send_again(stream, managed):
        if managed.resuming is stream:
            managed.resuming = None
            _went_away(managed)
        return
    managed.resuming = None
    managed.connected = True
    managed.asked = None
    stream.adopt(session)
    if len(managed.unacknowledged):
        managed.ask()
    await session.host.bus.fire(HibernationEnded(session, resumed=True))


async def _send_again(stream: Carrier, managed: Managed) -> bool:
    """Send what is not acknowledged, also what comes meanwhile, no faster than it is read; False when the stream or
    the session ended before everything was sent."""
    session = managed.session
    sent = page = 0
    while sent < len(managed.unacknowledged):
        for item in list(managed.unacknowledged.items)[sent:]:
            stanza = item.stanza
            if stanza.name == "message":
                stanza = delayed(stanza, item.time, session.host.domain)
            stream.send(stanza.to_bytes())
            sent += 1
            page += len(stanza.inner)
            if page > PAGE_BYTES:
                page = 0
                drained: Deferred[bool] = Deferred()
                stream.when_sent(drained.callback)
                await drained
                if stream.closed or session.ended:
                    return False
    return True


def _went_away(managed: Managed) -> None:
    """A stream that was to resume the session is gone; it hibernates, unless another stream has it by now."""
    free = not managed.connected and managed.resuming is None and managed.timer is None
    if free and not managed.session.ended:
        hibernate(managed)


def _take_over(managed: Managed) -> None:
    """A connection that seems alive has to go: the client knows better."""
    if managed.resuming is not None:
        resuming, managed.resuming = managed.resuming, None
        resuming.leave(StreamError("conflict", "the session was resumed on another connection"))
    if managed.connected:
        managed.connected = False
        managed.session.carrier.leave(StreamError("conflict", "the session was resumed on another connection"))


async def _in_turn(session: Session, handled: list[None]) -> None:
    """Return when the session has handled what it has received."""
    turn: Deferred[None] = Deferred()

    async def reached() -> None:
        turn.callback(None)

    session.in_turn(reached)
    await turn


async def _not_found(stream: Carrier, previd: str) -> None:
    """There is no such session any more; how many stanzas it had handled is still known for a while."""
    host = stream.host
    assert host is not None and stream.account_name is not None
    h = None
    with contextlib.suppress(StorageError):  # the answer is the same without a count
        account = await host.accounts.load(stream.account_name)
        if account is not None:
            h = await host.server.store.data.get(account.id, "smacks", previd)
    stream.send(_failed("item-not-found", "there is no such session", h.decode() if h is not None else None))


# ---- hibernation


def hibernate(managed: Managed) -> None:
    """The session goes on without a connection, for a while."""
    session = managed.session
    server = session.host.server
    managed.connected = False
    managed.asked = None
    managed.hibernated_at = server.clock.seconds()
    managed.timer = server.clock.callLater(session.host.settings[HIBERNATION_TIME], _expire, managed)
    session.log.info("{session}: {jid} hibernates", session=session.id, jid=session.jid.full)
    records = (other.find(Managed) for other in session.account.sessions)
    hibernated = [record for record in records if record is not None and not record.connected]
    if len(hibernated) > session.host.settings[MAX_HIBERNATED]:
        _expire(min(hibernated, key=lambda other: other.hibernated_at))
    server.tasks.start(session.host.bus.fire(Hibernated(session)), "a hibernation's event")


def _expire(managed: Managed) -> None:
    session = managed.session
    _cancel(managed)
    session.log.info("{session}: {jid} did not come back", session=session.id, jid=session.jid.full)
    session.end()


async def ended(event: Ended) -> None:
    """A session is over: what its client has not acknowledged goes where it would go now."""
    session = event.session
    managed = session.find(Managed)
    if managed is None:
        return
    hibernated = not managed.connected
    _cancel(managed)
    managed.connected = False
    for _, callback in managed.waiting:
        callback(False)
    managed.waiting.clear()
    if managed.id and not session.account.going:
        await _remember(session, managed)
    await _bring_again(session, list(managed.unacknowledged.items))
    if hibernated:
        await session.host.bus.fire(HibernationEnded(session, resumed=False))


async def _bring_again(session: Session, items: list[Queued]) -> None:
    """Route what was not acknowledged and nobody else keeps. All at once, so that it is one group for the store."""
    server = session.host.server
    waiting = []
    for item in items:
        stanza = item.stanza
        if item.kept or stanza.sender is None or _is_carbon(session, stanza):
            continue  # somebody brings it again, or it was of this session alone
        if stanza.name == "message" and stanza.type not in ("error", "groupchat", "headline"):
            late = delayed(stanza, item.time, session.host.domain)
            waiting.append(server.tasks.start(server.route_undelivered(late), "a message that was not acknowledged"))
        elif stanza.name == "iq":
            waiting.append(server.tasks.start(server.route_undelivered(stanza), "an iq that was not acknowledged"))
    for routed in waiting:
        if routed is not None:
            await routed


def _is_carbon(session: Session, stanza: Stanza) -> bool:
    """Whether a message is a copy for this session, of one that went where it was to go."""
    copied = stanza.has(ns.CARBONS, "sent") or stanza.has(ns.CARBONS, "received")
    return copied and stanza.sender == session.account.jid


OLD_IDS = 10  # of an account; a client asks for its last session, and an account has few clients


async def _remember(session: Session, managed: Managed) -> None:
    """Keep how many stanzas were handled, for a client that comes back too late (section 5)."""
    data = session.host.server.store.data
    try:
        known = await data.all(session.account.id, "smacks")
        for old in list(known)[: max(0, len(known) - OLD_IDS + 1)]:
            await data.delete(session.account.id, "smacks", old)
        await data.put(session.account.id, "smacks", managed.id, str(managed.h).encode())
    except StorageError as error:
        session.log.error("{session}: its last count was not stored: {error}", session=session.id, error=str(error))


def sweep(host: Host) -> None:
    """Ask who has not been asked for long, and notice who does not answer."""
    now = host.server.clock.seconds()
    limit = host.settings[MAX_ACK_DELAY]
    for session in host.server.sessions:
        managed = session.find(Managed) if session.host is host else None
        if managed is None or not managed.connected or not len(managed.unacknowledged):
            continue
        if managed.asked is None:
            managed.ask()
        elif now - managed.asked >= limit and not managed.delay_told:
            managed.delay_told = True
            host.server.tasks.start(host.bus.fire(AckDelayed(session)), "a delayed acknowledgement's event")


# ---- small things


def _cancel(managed: Managed) -> None:
    if managed.timer is not None:
        if managed.timer.active():
            managed.timer.cancel()
        managed.timer = None


def _session(stream: Carrier) -> Session:
    if stream.session is None:
        raise StreamError("not-authorized", "bind a resource first")
    return stream.session


def _managed(session: Session) -> Managed:
    managed = session.find(Managed)
    if managed is None:
        raise StreamError("unsupported-stanza-type", "stream management is not enabled")
    return managed


def _h(element: Stanza) -> int:
    try:
        return parse_h(element.attributes.get("h"))
    except ValueError as error:
        raise StreamError("invalid-xml", str(error)) from None


def _new_id(session: Session) -> str:
    """An SM-ID: what nobody can guess, and the resource, by which the registry finds the session again."""
    resource = base64.urlsafe_b64encode(session.jid.resource.encode()).decode()
    return f"{session.host.server.token()}.{resource}"


def _find(stream: Carrier, previd: str) -> Managed | None:
    """The session with this SM-ID, among those of the account that has authenticated."""
    assert stream.host is not None and stream.account_name is not None
    try:
        resource = base64.urlsafe_b64decode(previd.partition(".")[2].encode("ascii")).decode()
    except (binascii.Error, UnicodeError):
        return None
    session = stream.host.server.sessions.get(JID(stream.account_name, stream.host.domain, resource))
    managed = session.find(Managed) if session is not None else None
    if managed is None or not managed.id or not hmac.compare_digest(managed.id.encode(), previd.encode()):
        return None
    return managed


def _failed(condition: str, text: str, h: str | None = None) -> bytes:
    """Section 6."""
    return tag(
        "failed",
        {"xmlns": ns.SM, "h": h},
        tag(condition, {"xmlns": ns.STANZA_ERRORS}),
        tag("text", {"xmlns": ns.STANZA_ERRORS, "xml:lang": "en"}, text),
    )
