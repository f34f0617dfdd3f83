"""Reads beside the writer: a few at a time, on threads of their own, unable to write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from .engine import Database
from .errors import StorageError, StorageTimeout, is_store_failure, one_line
from .health import Health
from .workers import Call, Inline, Reactor, Threads, Workers

__all__ = ["Reader"]

T = TypeVar("T")

# The job's result or a Failure, and the reason if the store failed.
_Answer = tuple[Any, str | None]


class Reader:
    """Runs jobs that only read. `timeout` is in seconds; `max_queue` bounds the reads under way."""

    def __init__(self, reactor: Reactor, database: Database, *, timeout: float, max_queue: int) -> None:
        self._reactor = reactor
        self._database = database
        self._timeout = timeout
        self._max_queue = max_queue
        self._under_way = 0
        self._health = Health("reading")
        self._workers: Workers = (
            Inline() if database.in_memory else Threads(reactor, database.readers, "storage-reader")
        )

    def read(self, job: Callable[[Connection], T]) -> Deferred[T]:
        """Call `job(connection)`; see `Store.read`."""
        if self._under_way >= self._max_queue:
            return fail(StorageError("queue full"))
        self._under_way += 1
        deferred: Deferred[T] = Deferred()
        timer = self._reactor.callLater(self._timeout, self._expire, deferred)
        self._workers.run(partial(self._run, job, deferred), partial(self._done, deferred, timer))
        return deferred

    def stop(self, timeout: float) -> None:
        """Finish what is under way, waiting `timeout` seconds at most for each thread. Blocks."""
        self._workers.stop()
        self._workers.join(timeout)

    def _run(self, job: Callable[[Connection], Any], deferred: Deferred[Any]) -> _Answer | None:
        """Run a job on a reader's thread. Never raises."""
        if deferred.called:
            # Whoever asked has given up; after a stall there may be many of those.
            return None
        try:
            with self._database.reading.connect() as connection, connection.begin():
                try:
                    return self._read_only(job, connection), None
                except Exception as error:
                    if is_store_failure(error):
                        self._database.abandon(connection)
                    raise
        except Exception as error:
            if is_store_failure(error):
                return Failure(StorageError(one_line(error))), one_line(error)
            return Failure(), None

    def _read_only(self, job: Callable[[Connection], T], connection: Connection) -> T:
        if not self._database.in_memory:
            return job(connection)
        # The connection is also the writer's.
        connection.exec_driver_sql("PRAGMA query_only = ON")
        try:
            return job(connection)
        finally:
            connection.exec_driver_sql("PRAGMA query_only = OFF")

    def _done(self, deferred: Deferred[Any], timer: Call, answer: _Answer | None) -> None:
        self._under_way -= 1
        if timer.active():
            timer.cancel()
        if answer is None:
            return
        result, broken = answer
        self._health.report(broken)
        if not deferred.called:
            deferred.callback(result)

    def _expire(self, deferred: Deferred[Any]) -> None:
        if not deferred.called:
            deferred.errback(Failure(StorageTimeout("storage did not answer in time")))
