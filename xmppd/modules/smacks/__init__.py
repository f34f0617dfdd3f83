"""Stream management (XEP-0198 1.6.3): acknowledgements, and sessions that outlive their connections and the process.

What the server acknowledges is handled, and what it caused is on disk: ``<a/>`` waits for the store (section 4).
What the client has not acknowledged is kept, sent again at a resumption (section 5), and goes where it would go now
when the session ends without one.

Here are the elements of the client. `managed` is the keeper of one session, `journal` what of it is on disk, and
`hibernation` how it goes on without a stream. A session's SM-ID names its resource, so that the registry alone has
to be asked for it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.words.xish import domish

from xmppd.core.bus import Stage
from xmppd.core.events import AccountLoading, Ended, HibernationEnded, Resumed, Starting, Stopping
from xmppd.core.host import Host, StreamFeature
from xmppd.core.session import Carrier, Session
from xmppd.modules.smacks import hibernation
from xmppd.modules.smacks.hibernation import HIBERNATION_TIME, KIND, MAX_HIBERNATED, SWEEP_SECONDS
from xmppd.modules.smacks.managed import OPTIONS as MANAGED_OPTIONS
from xmppd.modules.smacks.managed import Book, Managed
from xmppd.storage import StorageError
from xmppd.wire import ns, sm
from xmppd.wire.delay import delayed
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import JID
from xmppd.wire.sm import MODULUS, HandledCountTooHigh, parse_h
from xmppd.wire.stanza import Stanza

OPTIONS = (*hibernation.OPTIONS, *MANAGED_OPTIONS)

Tell = Callable[[bytes, str], None]  # takes what is said, and the address of the session that it is about

PAGE_BYTES = 256 * 1024  # sent at a resumption before the client has to have read it


def setup(host: Host) -> None:
    """Hook stream management into a host."""
    books = (book for each in host.server.hosts.values() if (book := each.find(Book)) is not None)
    host.provide(Book, Book(hibernation.hibernate, hibernation.wait, next((book.unwritten for book in books), set())))
    host.session_state["smacks"] = (hibernation.save_time, hibernation.restore_time)
    host.features.append(StreamFeature("sm", True, lambda: sm.FEATURE))
    host.inline_resume = resume_inline
    host.on_bind(ns.SM, ns.SM, "enable", enable_inline)
    host.nonzas[ns.SM, "enable"] = enable
    host.nonzas[ns.SM, "resume"] = resume
    host.nonzas[ns.SM, "r"] = answer
    host.nonzas[ns.SM, "a"] = acknowledged
    host.bus.on(Ended, hibernation.ended)
    host.bus.on(Starting, hibernation.start)
    host.bus.on(AccountLoading, hibernation.restore, Stage.AFTER)
    host.bus.on(Stopping, hibernation.stop)
    sweeping = LoopingCall(sweep, host)
    sweeping.clock = host.server.clock  # type: ignore[assignment]
    sweeping.start(SWEEP_SECONDS, now=False)


def sweep(host: Host) -> None:
    """Do what is due every second."""
    hibernation.sweep(host)
    for managed in [managed for managed in host.service(Book).due if managed.ack_owed]:
        managed.ack_owed = False
        managed.session.in_turn(partial(_answer, managed.session))


# ---- acknowledgements (sections 3 and 4)


def enable(stream: Carrier, element: Stanza) -> None:
    """Section 3. Counting begins with the stanza that follows."""
    session = stream.session
    if session is None:
        stream.send(sm.failed("unexpected-request", "bind a resource first"))
        return
    wanted = element.attributes.get("resume") in ("true", "1")
    session.in_turn(lambda: _enable(session, wanted))


async def _enable(session: Session, resumable: bool) -> None:
    if session.keeper is not None:
        session.carrier.send(sm.failed("unexpected-request", "stream management is enabled already"))
    elif not session.ended:
        _begin(session, resumable, session.carrier.send)


def enable_inline(session: Session, element: domish.Element) -> bytes:
    """Section 9.1: together with binding."""
    if session.keeper is not None:
        return sm.failed("unexpected-request", "stream management is enabled already")
    told: list[bytes] = []
    _begin(session, element.getAttribute("resume") in ("true", "1"), told.append)
    return b"".join(told)


def _begin(session: Session, resumable: bool, tell: Callable[[bytes], None]) -> None:
    """Manage a session from the moment on at which that was told."""
    settings = session.host.settings
    resumable = resumable and settings[MAX_HIBERNATED] > 0 and settings[HIBERNATION_TIME] > 0
    managed = Managed(session, _new_id(session) if resumable else "")
    tell(sm.enabled(managed.id, int(settings[HIBERNATION_TIME])))
    managed.journal.begin()
    session.put(managed)
    session.keeper = managed


def answer(stream: Carrier, element: Stanza) -> None:
    """``<r/>``: say how many stanzas are handled, once those before it are and the store has what they caused."""
    session = _session(stream)
    session.in_turn(lambda: _answer(session))


async def _answer(session: Session) -> None:
    managed = _managed(session)
    managed.count()
    server = session.host.server
    handled = managed.machine.handled
    if not server.store.pending:
        _send_answer(managed, handled)
    else:
        server.tasks.start(_answer_when_stored(managed, handled), "an acknowledgement")  # later stanzas need not wait


async def _answer_when_stored(managed: Managed, handled: int) -> None:
    store = managed.session.host.server.store
    try:
        await store.barrier()
        while managed.owes_error():
            await store.barrier()
    except StorageError as error:
        # Whoever could not be stored has been answered with an error; the count comes when it is on disk.
        session = managed.session
        session.log.error("{session}: nothing is acknowledged: {error}", session=session.id, error=str(error))
        managed.ack_owed = not session.ended
        if not session.ended:
            managed.book.due.add(managed)
        return
    _send_answer(managed, handled)


def _send_answer(managed: Managed, handled: int) -> None:
    """Tell a count; one that had to wait for longer than a later one has nothing new to tell."""
    managed.told = max(managed.told, handled)
    if managed.connected:
        managed.session.carrier.send(sm.answer(managed.told % MODULUS))


def acknowledged(stream: Carrier, element: Stanza) -> None:
    """``<a/>``: the client has handled so many."""
    session = _session(stream)
    try:
        h = parse_h(element.attributes.get("h"))
    except ValueError as error:
        raise StreamError("invalid-xml", str(error)) from None
    if session.find(Managed) is not None:
        _acknowledge(session, h)
    else:  # <enable/> may still wait for its turn
        session.in_turn(lambda: _acknowledge_later(session, h))


async def _acknowledge_later(session: Session, h: int) -> None:
    _acknowledge(session, h)


def _acknowledge(session: Session, h: int) -> None:
    managed = _managed(session)
    try:
        managed.acknowledge(h)
    except HandledCountTooHigh as error:
        raise error.stream_error() from None
    managed.release()


# ---- resumption (section 5)


def resume(stream: Carrier, element: Stanza) -> None:
    """A client that has authenticated again takes up the session it had."""
    if stream.session is not None:
        stream.send(sm.failed("unexpected-request", "a resource is bound already"))
        return
    attributes = element.attributes
    stream.wait_for(_answer_resume(stream, attributes.get("previd", ""), attributes.get("h")))


async def _answer_resume(stream: Carrier, previd: str, h: str | None) -> None:
    failed = await _resume_or_say(stream, previd, h, lambda resumed, who: stream.send(resumed))
    if failed is not None:
        stream.send(failed)


async def resume_inline(stream: Carrier, element: domish.Element, tell: Tell) -> bytes | None:
    """Section 9.2: together with the login."""
    return await _resume_or_say(stream, str(element.getAttribute("previd") or ""), element.getAttribute("h"), tell)


async def _resume_or_say(stream: Carrier, previd: str, h: str | None, tell: Tell) -> bytes | None:
    """Resume a session, and `tell` so before anything else is sent; or return ``<failed/>``."""
    try:
        handled = parse_h(h)
    except ValueError as error:
        return sm.failed("bad-request", str(error))
    await _wake(stream)
    managed = _find(stream, previd)
    if managed is not None and await _resume(stream, managed, handled, tell):
        return None
    return await _not_found(stream, previd)


async def _wake(stream: Carrier) -> None:
    """Have sessions in memory that the last process had."""
    assert stream.host is not None and stream.account_name is not None
    server, jid = stream.host.server, JID(stream.account_name, stream.host.domain)
    if jid.bare in server.sessions.dormant:
        try:
            await server.meet(jid)
        except StorageError:  # not <failed/>: the client would give up a session that is only to be tried again later
            raise StreamError("resource-constraint", "the server cannot find the session now") from None


async def _resume(stream: Carrier, managed: Managed, h: int, tell: Tell) -> bool:
    """False where the session has ended meanwhile."""
    session = managed.session
    try:
        _take_over(managed)
        if managed.journal.unsent_from is not None:
            managed.place(h)
        else:
            managed.acknowledge(h)
    except HandledCountTooHigh as error:
        _went_away(managed)
        raise error.stream_error() from None
    # What the old connection brought is handled first, and on disk: the count has to cover it, or the client
    # sends it a second time. What is for the client is on disk as well, or refused.
    await _in_turn(session)
    managed.count()
    stored = True
    try:
        await session.host.server.store.barrier()
    except StorageError:
        stored = False
    if session.ended:
        return False
    if not stored or managed.journal.torn or stream.closed:
        _went_away(managed)
        # Not <failed/>: the client would give up a session that is only to be tried again later.
        raise StreamError("resource-constraint", "the server cannot store this now")
    _take_over(managed)
    managed.resuming = stream
    managed.machine.restart()
    managed.told = managed.machine.handled
    stream.adopt(session)
    tell(sm.resumed(managed.id, managed.machine.h), session.jid.full)
    session.host.server.tasks.start(session.host.bus.fire(Resumed(session)), "a resumption's event")
    if not await _send_again(stream, managed):
        return True  # it hibernates again, or another stream has it, or it is over
    managed.resuming = None
    managed.connected = True
    managed.journal.hibernated = None
    managed.journal.changed = True
    managed.book.due.add(managed)
    managed.release()
    if managed.machine.sent:
        managed.ask()
    away, restarted = managed.away, managed.restarted
    managed.away = managed.restarted = False
    managed.until = None
    if away:
        await session.host.bus.fire(HibernationEnded(session, resumed=True, restarted=restarted))
    return True


async def _send_again(stream: Carrier, managed: Managed) -> bool:
    """Send what is not acknowledged, also what comes meanwhile, no faster than it is read; False when the stream or
    the session ended before everything was sent."""
    session, machine = managed.session, managed.machine
    now = session.host.server.clock.seconds()
    page = 0
    while (item := machine.next()) is not None and not item.held:
        stanza = item.stanza
        if stanza.name == "message":
            stanza = delayed(stanza, item.time, session.host.domain)
        stream.send(stanza.to_bytes())
        machine.was_sent(now)
        page += item.size
        if page > PAGE_BYTES:
            page = 0
            drained: Deferred[bool] = Deferred()
            stream.when_sent(drained.callback)
            await drained
            if stream.closed or session.ended or managed.resuming is not stream:
                return False
    return True


def _went_away(managed: Managed) -> None:
    """A stream that was to resume the session is gone; it hibernates, unless another stream has it by now."""
    free = not managed.connected and managed.resuming is None and managed.timer is None
    if free and not managed.session.ended:
        hibernation.hibernate(managed)


def _take_over(managed: Managed) -> None:
    """A connection that seems alive has to go: the client knows better. It is active on the new one."""
    hibernation.awake(managed)
    managed.session.open_gate()
    if managed.connected or managed.resuming is not None:
        carrier = managed.session.carrier
        managed.leave()
        carrier.leave(StreamError("conflict", "the session was resumed on another connection"))


async def _in_turn(session: Session) -> None:
    """Return when the session has handled what it has received."""
    turn: Deferred[None] = Deferred()

    async def reached() -> None:
        turn.callback(None)

    session.in_turn(reached)
    await turn


async def _not_found(stream: Carrier, previd: str) -> bytes:
    """There is no such session any more; how many stanzas it had handled is still known for a while."""
    host = stream.host
    assert host is not None and stream.account_name is not None
    h = None
    with contextlib.suppress(StorageError):  # the answer is the same without a count
        account = await host.accounts.load(stream.account_name)
        if account is not None:
            kept = await host.server.store.data.get(account.id, KIND, previd)
            h = int(kept.partition(b" ")[0]) if kept is not None else None
    return sm.failed("item-not-found", "there is no such session", h)


# ---- small things


def _session(stream: Carrier) -> Session:
    if stream.session is None:
        raise StreamError("not-authorized", "bind a resource first")
    return stream.session


def _managed(session: Session) -> Managed:
    managed = session.find(Managed)
    if managed is None:
        raise StreamError("unsupported-stanza-type", "stream management is not enabled")
    return managed


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
