"""The store: what is asked for in one turn of the reactor becomes one transaction.

The theory. `write` and `append` put jobs into the group that is being collected. A group starts in the
turn after its first job, or as soon as the group before it is done, and runs off the reactor's thread:
there is one writer, and one group in flight. Deferreds fire after the COMMIT, in the order in which they were
queued. So the busier the server, the larger the groups and the cheaper each row; nothing waits for a timer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, fail, succeed

from .accounts import Accounts
from .archive import Archive
from .data import Data
from .engine import Database
from .errors import StorageError, StorageTimeout
from .group import Group, Outcome, Statement, Waiters, Writer
from .health import Health
from .offline import Offline
from .outbox import Outbox
from .reader import Reader
from .roster import Rosters
from .sm import StreamManagement
from .workers import Inline, Reactor, Threads, Workers

__all__ = ["Store"]

T = TypeVar("T")


class Store:
    """Everything that is kept. Made with `Store.open`; all methods belong to the reactor's thread.

    `accounts`, `roster`, `offline`, `outbox`, `archive`, `data` and `sm` have methods named for the job. `pending` says
    whether anything is queued or in flight; `generation` counts the groups that were started. For metrics: `groups` and
    `rows` (jobs and rows) that were committed, `last_group_size`, and `last_commit_seconds`, which the COMMIT of the
    last group took.

    Every Deferred fails with StorageTimeout after `timeout` seconds. A job that was queued or running then
    may still be carried out.
    """

    @classmethod
    def open(
        cls,
        reactor: Reactor,
        url: str,
        *,
        timeout: float = 10.0,
        synchronous: str = "FULL",
        max_queue: int = 100_000,
    ) -> Store:
        """Connect, and bring the schema to the newest version. Blocks; call it before the reactor runs.

        `url` is `sqlite:///PATH`, `postgresql://USER:PASSWORD@HOST/DATABASE`, or `sqlite://` for memory,
        which runs without threads. `timeout` is in seconds. `synchronous` is SQLite's word for how safe a
        commit is (EXTRA, FULL, NORMAL, OFF); on PostgreSQL NORMAL and OFF turn synchronous_commit off.
        `max_queue` bounds the jobs that wait for the writer, and the reads under way.

        The process may fork afterwards: neither connections nor threads are kept until the first use.

        Raises StorageError with one line for an administrator where the store cannot be used.
        """
        database = Database(url, timeout=timeout, synchronous=synchronous)
        return cls(reactor, database, timeout=timeout, max_queue=max_queue)

    def __init__(self, reactor: Reactor, database: Database, *, timeout: float, max_queue: int) -> None:
        self.accounts = Accounts(self)
        self.roster = Rosters(self)
        self.offline = Offline(self)
        self.outbox = Outbox(self)
        self.data = Data(self)
        self.archive = Archive(self)
        self.sm = StreamManagement(self)
        self.pending = False
        self.groups = 0
        self.rows = 0
        self.last_group_size = 0
        self.last_commit_seconds = 0.0
        self._reactor = reactor
        self._database = database
        self._timeout = timeout
        self._max_queue = max_queue
        self._writer = Writer(database)
        self._writer_thread: Workers = (
            Inline() if database.in_memory else Threads(reactor, 1, "storage-writer")
        )
        self._reader = Reader(reactor, database, timeout=timeout, max_queue=max_queue)
        # The group that still takes jobs, and the one that the writer has.
        self.generation = 0
        self._collecting: Group | None = None
        self._in_flight: Group | None = None
        self._start_scheduled = False
        self._health = Health("writing")
        self._closed = False

    def now_ms(self) -> int:
        """The reactor's time in milliseconds since 1970, as times are kept in tables."""
        return int(self._reactor.seconds() * 1000)

    def write(self, job: Callable[[Connection], T]) -> Deferred[T]:
        """Call `job(connection)` in the next group's transaction, on the writer's thread.

        The Deferred fires with what it returned, once that is committed. It fails with what the job raised
        (nothing of it is kept), or with StorageError: then it is unknown, but unlikely, that it was kept.

        A job sees what was queued before it. It may run twice, the first time undone, when another of its
        group fails; so it changes nothing but the database. It does not commit, and catches a database error
        only around `connection.begin_nested()`.
        """
        try:
            group = self._group_with_room()
        except StorageError as error:
            return fail(error)
        return group.add_job(job, self._reactor.seconds())

    def append(self, statement: Statement, row: dict[str, Any]) -> Deferred[None]:
        """Execute `statement` with a row in the next group's transaction; fires and fails as `write` does.

        Rows for the same statement object are executed together: keep it in a module constant, with the same
        columns in each row. They may so come before rows of other statements that were asked for earlier, but
        never before a job of `write` that was. The row is not changed afterwards by the caller.
        """
        try:
            group = self._group_with_room()
        except StorageError as error:
            return fail(error)
        return group.add_row(statement, row, self._reactor.seconds())

    @property
    def queued(self) -> int:
        """How many writes wait for the writer."""
        return len(self._collecting.waiters) if self._collecting is not None else 0

    @property
    def is_failing(self) -> bool:
        """Whether the last group could not be committed."""
        return self._health.is_failing

    @property
    def collecting(self) -> bool:
        """Whether what is asked for now goes into one transaction with something that was before."""
        return self._collecting is not None

    def read(self, job: Callable[[Connection], T]) -> Deferred[T]:
        """Call `job(connection)` on a reader's thread, in a transaction that cannot write.

        It may not see what is queued: use `write` to read one's own writes. In memory it is called at once.
        The Deferred fails with what the job raised, or StorageError.
        """
        if self._closed:
            return fail(StorageError("closed"))
        return self._reader.read(job)

    def barrier(self) -> Deferred[None]:
        """Fire when all that is queued so far is committed; at once when there is nothing.

        Fails with StorageError if the store failed at a group that it covers. A job that fails by itself does
        not fail the barrier.
        """
        group = self._collecting or self._in_flight
        if group is None:
            return succeed(None)
        if len(group.barriers) >= self._max_queue:
            return fail(StorageError("queue full"))
        return group.barriers.add(self._reactor.seconds())

    def close(self) -> Deferred[None]:
        """Commit what is queued, then close. Jobs and reads that come later fail with StorageError.

        Fires after about three times the time limit at the latest, whatever the disk does. A second call does
        nothing.
        """
        if self._closed:
            return succeed(None)
        self._closed = True
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        while group := self._collecting or self._in_flight:
            try:
                await group.barriers.add(self._reactor.seconds())
            except StorageTimeout:
                break
            except StorageError:
                # Of the group in flight; the one behind it still has its chance.
                continue
        closed: Deferred[None] = Deferred()

        def finish(_: object = None) -> None:
            if not closed.called:
                closed.callback(None)

        # The writer may hang at the disk for ever.
        timer = self._reactor.callLater(2 * self._timeout, finish)
        self._writer_thread.run(self._close_connections, finish)
        self._writer_thread.stop()
        await closed
        if timer.active():
            timer.cancel()

    def _close_connections(self) -> None:
        self._writer.close()
        self._reader.stop(self._timeout)
        self._database.close()

    # Groups

    def _group_with_room(self) -> Group:
        """The group that takes the next job. Raises StorageError where there can be none."""
        if self._closed:
            raise StorageError("closed")
        group = self._collecting
        if group is None:
            group = self._collecting = Group()
            group.timer = self._reactor.callLater(self._timeout, self._expire, group)
            self.pending = True
            self._start_soon()
        elif len(group.waiters) >= self._max_queue:
            raise StorageError("queue full")
        return group

    def _start_soon(self) -> None:
        """Start the collected group in the next turn: what else this turn brings goes with it."""
        if self._in_flight is None and not self._start_scheduled:
            self._start_scheduled = True
            self._reactor.callLater(0, self._start)

    def _start(self) -> None:
        self._start_scheduled = False
        self.generation += 1
        group, self._collecting = self._collecting, None
        assert group is not None
        self._in_flight = group
        work = partial(self._writer.run, group.entries, len(group.waiters))
        self._writer_thread.run(work, partial(self._finish, group))

    def _finish(self, group: Group, outcome: Outcome) -> None:
        """A group came back: first put the store in order, for each Deferred may call it again."""
        self._in_flight = None
        self.pending = self._collecting is not None
        if self.pending:
            self._start_soon()
        if group.timer.active():
            group.timer.cancel()
        self._health.report(outcome.broken)
        if outcome.broken is None:
            self.groups += 1
            self.rows += len(outcome.results)
            self.last_group_size = len(outcome.results)
            self.last_commit_seconds = outcome.commit_seconds
        barriers = [group.barriers]
        if outcome.broken is not None and self._collecting is not None:
            # Those behind cover this group too.
            barriers.append(self._collecting.barriers)
            self._collecting.barriers = Waiters()
        group.waiters.fire(outcome.results)
        for waiters in barriers:
            waiters.fire_all(outcome.broken)

    def _expire(self, group: Group) -> None:
        """Fail what has waited too long, and look again when the next has."""
        now = self._reactor.seconds()
        deadlines = [
            waiters.expire(now, self._timeout) or now + self._timeout
            for waiters in (group.waiters, group.barriers)
        ]
        group.timer = self._reactor.callLater(min(deadlines) - now, self._expire, group)
