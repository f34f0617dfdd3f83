"""Sessions without a stream (XEP-0198 section 5): how they wait, come back, end, and outlive the process."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred, gatherResults

from xmppd.config import Duration, Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.events import (
    AccountLoading,
    AckDelayed,
    Ended,
    Hibernated,
    HibernationEnded,
    Restored,
    Starting,
    Stopping,
)
from xmppd.core.host import Host
from xmppd.core.routing import reachable
from xmppd.core.session import NOBODY, Session
from xmppd.modules.smacks.journal import Journal, Queued
from xmppd.modules.smacks.managed import ASK_SECONDS, MAX_UNACKED, Book, Managed, is_copy
from xmppd.modules.smacks.state import restore_state
from xmppd.storage import SmSession, SmStanza, StorageError
from xmppd.wire.delay import delayed
from xmppd.wire.sm import SLACK

HIBERNATION_TIME = Option(
    "smacks_hibernation_time", Duration(), "10m", "How long a session whose connection broke waits for its client."
)
MAX_HIBERNATED = Option(
    "smacks_max_hibernated_sessions", Integer(minimum=0), "10",
    "How many sessions of an account may wait for their clients; the one that has waited longest makes room.",
)  # fmt: skip
MAX_ACK_DELAY = Option(
    "smacks_max_ack_delay", Duration(), "30s", "How long a client may take to acknowledge before it counts as delayed."
)
OPTIONS = (HIBERNATION_TIME, MAX_HIBERNATED, MAX_ACK_DELAY)

SWEEP_SECONDS = 1.0  # how often sessions are looked at for which something is due
RETRY_SECONDS = 5.0  # after which a session whose end could not be written tries that again
WAKE_TOGETHER = 5  # accounts that are loaded at once then, and not more: others want to be served meanwhile
WAKE_SECONDS = 1.0  # after the start, until sessions of the last process are restored that nobody has asked for
WRITE_MS = 5000  # after which what is not acknowledged is written, whatever it is

KIND = "smacks"  # in the store: of an ended session how much it had handled, and when it ended, under its SM-ID
OLD_IDS = 10  # of an account; a client asks for its last session, and an account has few clients


def hibernate(managed: Managed) -> None:
    """The session goes on without a stream, for a while."""
    session = managed.session
    managed.leave()
    managed.away = True
    managed.until = None
    managed.machine.asked = managed.machine.since = None
    managed.journal.hibernated = session.host.server.now_ms()
    managed.journal.changed = True
    managed.book.due.add(managed)
    session.log.info("{session}: {jid} hibernates", session=session.id, jid=session.jid.full)
    _wait(managed, session.host.settings[HIBERNATION_TIME])
    records = (other.find(Managed) for other in session.account.sessions)
    hibernated = [record for record in records if record is not None and record.timer is not None]
    if len(hibernated) > session.host.settings[MAX_HIBERNATED]:
        expire(min(hibernated, key=lambda other: other.hibernated_at))
    session.host.server.tasks.start(session.host.bus.fire(Hibernated(session)), "a hibernation's event")


def _wait(managed: Managed, seconds: float) -> None:
    clock = managed.session.host.server.clock
    managed.hibernated_at = clock.seconds()
    managed.timer = clock.callLater(seconds, expire, managed)


def wait(managed: Managed, seconds: float | None) -> None:
    """Have a hibernated session wait for so many seconds from now on, or as long as usual where that is longer."""
    if managed.timer is None:
        return
    session = managed.session
    since = managed.hibernated_at
    if managed.timer.active():
        managed.timer.cancel()
    seconds = max(session.host.settings[HIBERNATION_TIME], seconds or 0.0)
    _wait(managed, seconds)
    managed.hibernated_at = since  # the one that waits for longest makes room, however long it may
    managed.until = session.host.server.now_ms() + int(seconds * 1000)
    managed.journal.changed = True
    managed.book.due.add(managed)


@dataclass(slots=True)
class Until:
    """Record of a session that is being restored: when its hibernation ends."""

    time: int


def save_time(session: Session) -> int | None:
    """When the hibernation ends for which somebody has chosen another time."""
    managed = session.find(Managed)
    return managed.until if managed is not None else None


def restore_time(session: Session, kept: int) -> None:
    """The session is not managed yet."""
    session.put(Until(kept))


def awake(managed: Managed) -> None:
    """The time of the hibernation does not run any more."""
    managed.expiring = False
    if managed.timer is not None:
        if managed.timer.active():
            managed.timer.cancel()
        managed.timer = None


def expire(managed: Managed) -> None:
    """The client did not come back in time."""
    awake(managed)
    managed.expiring = True
    managed.session.host.server.tasks.start(_expire(managed), "the end of a hibernation")


async def _expire(managed: Managed) -> None:
    """End the session, unless the store fails: then nobody could take what waits, so it waits on."""
    session = managed.session
    try:
        await managed.journal.touch()
    except StorageError:
        if managed.expiring:
            managed.timer = session.host.server.clock.callLater(RETRY_SECONDS, expire, managed)
        return
    if managed.expiring:
        session.log.info("{session}: {jid} did not come back", session=session.id, jid=session.jid.full)
        session.end()


# ---- the end


async def ended(event: Ended) -> None:
    """A session is over: what its client has not acknowledged goes where it would go now.

    All of that is asked for in one turn, and so is one transaction with the end of the session on disk: a crash
    leaves either what was or what is.
    """
    session = event.session
    managed = session.find(Managed)
    if managed is None:
        return
    server = session.host.server
    awake(managed)
    managed.leave()
    items = managed.machine.items
    unclear = managed.journal.is_taking_over or (items and server.store.is_failing)
    if unclear and not await _store_works(managed):
        return  # the next process finds the session as it was
    managed.journal.closed = True
    managed.book.due.discard(managed)
    managed.book.unwritten.discard(managed)
    _bring_again(session, list(items))
    items.clear()
    if managed.id and not session.account.going:
        server.tasks.start(_remember(session, managed), "keeping a last count")
    _remove(managed.book, managed.journal)
    if managed.away:
        await session.host.bus.fire(HibernationEnded(session, resumed=False))


async def _store_works(managed: Managed) -> bool:
    """Wait until the store does, and until it is known what the session has: before that nobody could take what waits.
    False when the server stops first."""
    server = managed.session.host.server
    while True:
        managed.journal.find_out()
        try:
            await managed.journal.touch()
        except StorageError:
            pass
        else:
            if not managed.journal.is_taking_over:
                return True
        if server.stopping:
            return False
        later: Deferred[None] = Deferred()
        server.clock.callLater(RETRY_SECONDS, later.callback, None)
        await later


def _bring_again(session: Session, items: list[Queued]) -> None:
    """Route what was not acknowledged and nobody else keeps, and what no other resource got when it came: such a one
    has it, or brings it itself."""
    server = session.host.server
    others = [other.reachable_since for other in reachable(session.account)]
    first = min((since for since in others if since is not None), default=None)
    for item in items:
        stanza = item.stanza
        if item.kept or stanza.sender is None or is_copy(session, stanza):
            continue  # somebody brings it again, or it was of this session alone
        if first is not None and first <= item.time and stanza.name == "message" and stanza.to == session.account.jid:
            continue
        if stanza.name == "message" and stanza.type not in ("error", "groupchat", "headline"):
            late = delayed(stanza, item.time, session.host.domain)
            server.tasks.start(server.route_undelivered(late), "a message that was not acknowledged")
        elif stanza.name == "iq":
            server.tasks.start(server.route_undelivered(stanza), "an iq that was not acknowledged")


async def _remember(session: Session, managed: Managed) -> None:
    """Keep how many stanzas were handled, for a client that comes back too late (section 5)."""
    server = session.host.server
    value = f"{managed.machine.h} {server.now_ms()}".encode()
    try:
        await server.store.data.put(session.account.id, KIND, managed.id, value)
        known = await server.store.data.all(session.account.id, KIND)
        for old in sorted(known, key=lambda key: int(known[key].partition(b" ")[2] or 0))[:-OLD_IDS]:
            await server.store.data.delete(session.account.id, KIND, old)
    except StorageError as error:
        session.log.error("{session}: its last count was not stored: {error}", session=session.id, error=str(error))


# ---- what is done every second


def sweep(host: Host) -> None:
    """Do what is due: ask who has not been asked, notice who does not answer, write what is not on disk."""
    book = host.service(Book)
    book.refused.clear()
    failing = host.server.store.is_failing
    tried = False
    for managed in list(book.due):
        # While the store fails one is enough to see whether it still does.
        write = not (failing and tried)
        tried = tried or managed.journal.torn
        if not _sweep_one(host, managed, write):
            book.due.discard(managed)
    over, book.over = book.over, set()
    for journal in over:
        _remove(book, journal)


def _remove(book: Book, journal: Journal) -> None:
    """Take a session that is over from the disk, now or when that works again."""
    journal.remove().addErrback(lambda failure: book.over.add(journal))


def _sweep_one(host: Host, managed: Managed, write: bool) -> bool:
    """Whether the session has to be looked at again; `write`: what is not on disk may be tried."""
    session, machine, journal = managed.session, managed.machine, managed.journal
    now = host.server.clock.seconds()
    if managed.connected:
        if machine.should_ask(now, host.settings[MAX_UNACKED], ASK_SECONDS):
            managed.ask()
        elif machine.asked is not None and now - machine.asked >= host.settings[MAX_ACK_DELAY]:
            if not managed.delay_told:
                host.server.tasks.start(host.bus.fire(AckDelayed(session)), "a delayed acknowledgement's event")
            managed.delay_told = True
    journal.find_out()
    if journal.torn:
        if write:
            journal.rewrite()
    elif machine.items and host.server.now_ms() - machine.items[0].time >= WRITE_MS:
        managed.flush(everything=True)
    journal.tidy()
    journal.save()
    if journal.torn or managed.ack_owed:
        return True
    return bool(machine.items) and (managed.connected or any(not item.ticket for item in machine.items))


# ---- over a restart


async def start(event: Starting) -> None:
    """There may be sessions that the last process had. They are there again when their account is loaded, for whatever
    reason; in the course of time all are, but the server need not wait for that."""
    host = event.host
    server = host.server
    await server.store.sm.recover(SLACK)
    locals = await server.store.sm.accounts(host.domain)
    server.sessions.dormant |= {f"{local}@{host.domain}" for local in locals}
    for local in locals:
        account = host.accounts.loaded(local)
        if account is not None:
            await _restore_all(account)
    if locals:
        _wake_later(host, locals, WAKE_SECONDS)


def _wake_later(host: Host, locals: list[str], seconds: float) -> None:
    tasks = host.server.tasks
    host.server.clock.callLater(seconds, lambda: tasks.start(_wake(host, locals), "restoring sessions"))


async def _wake(host: Host, locals: list[str]) -> None:
    """Load the accounts that nobody has asked for yet: their sessions are seen by others, and end in their time. Where
    the store fails that is tried again."""
    left: list[str] = []
    for start in range(0, len(locals), WAKE_TOGETHER):
        if host.server.stopping:
            return
        some = locals[start : start + WAKE_TOGETHER]
        woken = await gatherResults([Deferred.fromCoroutine(_wake_one(host, local)) for local in some])
        left += [local for local, done in zip(some, woken, strict=True) if not done]
    if left:
        host.log.error("sessions of {count} users cannot be restored now: the store fails", count=len(left))
        _wake_later(host, left, RETRY_SECONDS)
        return
    found = (session.find(Managed) for session in host.server.sessions if session.host is host)
    count = sum(managed is not None and managed.restarted for managed in found)
    host.log.info("{count} sessions of the last run wait for their clients", count=count)


async def _wake_one(host: Host, local: str) -> bool:
    """Restore the sessions of one account; False where the store failed."""
    dormant = host.server.sessions.dormant
    bare = f"{local}@{host.domain}"
    if bare not in dormant:
        return True
    try:
        account = await host.accounts.load(local)
        if account is None:  # it is disabled; what waits for it waits on
            dormant.discard(bare)
        elif bare in dormant:  # it was being loaded when the server started
            await _restore_all(account)
    except StorageError:
        return False
    except Exception:  # one account that cannot be read is no reason to do without the others
        host.log.failure("sessions of {user} are left out", user=local)
    return True


async def restore(event: AccountLoading) -> None:
    """The sessions of an account come with it."""
    if event.account.jid.bare in event.account.host.server.sessions.dormant:
        await _restore_all(event.account)


async def _restore_all(account: Account) -> None:
    rows = await account.host.server.store.sm.sessions(account.id)
    account.host.server.sessions.dormant.discard(account.jid.bare)
    restored = [_restore(account, stored, stanzas) for stored, stanzas in rows]
    for managed in restored:  # now that those are there who may have what waited for others
        if managed is not None and managed.timer is None:
            managed.session.end()


def _restore(account: Account, stored: SmSession, stanzas: list[SmStanza]) -> Managed | None:
    """Make a session of what is stored of it; where its client may come back the time of that runs."""
    host, server = account.host, account.host.server
    try:
        jid = account.jid.with_resource(stored.resource)
        session = Session(host, account, jid, server.token()[:8], NOBODY, None)
        restore_state(session, stored.state)
        managed = Managed(session, stored.sm_id, stored)
        for row in stanzas:
            managed.restore(row)
    except Exception:  # one row that cannot be read is no reason to do without the account
        host.log.failure("a session of {user} cannot be read and is left out", user=account.jid.local)
        return None
    session.put(managed)
    session.keeper = managed
    old = server.sessions.get(jid)
    if old is not None:  # it was over, and could not be taken from the disk any more
        server.sessions.remove(old)
        awake(old.find(Managed) or managed)
    server.sessions.add(session)
    now = server.now_ms()
    if stored.hibernated is None:
        managed.journal.hibernated = now
        managed.journal.changed = True
        managed.book.due.add(managed)
    until = session.find(Until)
    managed.until = until.time if until is not None and stored.hibernated is not None else None
    usual = (stored.hibernated or now) + int(host.settings[HIBERNATION_TIME] * 1000)
    left = ((usual if managed.until is None else managed.until) - now) / 1000
    if managed.id and left > 0:
        _wait(managed, left)
        server.tasks.start(host.bus.fire(Restored(session)), "a restored session's event")
    return managed


async def stop(event: Stopping) -> None:
    """The process ends in order: everything is written."""
    for session in event.host.server.sessions:
        managed = session.find(Managed) if session.host is event.host else None
        if managed is not None:
            managed.flush(everything=True)
            managed.journal.changed = True
            managed.count()
            managed.journal.tidy()
