"""A group of jobs that share one transaction: what the writer does with it, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Update, UpdateBase
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .engine import Database
from .errors import StorageError, StorageTimeout, is_store_failure, one_line
from .sql import Upsert
from .workers import Call

__all__ = ["Group", "Job", "Outcome", "Rows", "Statement", "Waiters", "Writer"]


class Broken(Exception):
    """The store failed, not a job. Its text is the reason."""


# What rows are for: a statement, or an insertion that overwrites.
Statement = UpdateBase | Upsert


@dataclass(slots=True)
class Job:
    """One function that writes. `places` has the one place of its result among those of its group."""

    function: Callable[[Connection], Any]
    places: list[int]

    def run(self, connection: Connection, results: list[Any]) -> None:
        """Run it and put its result in its place."""
        result = self.function(connection)
        if isinstance(result, Deferred):
            raise TypeError("a storage job returns a value, not a Deferred")
        results[self.places[0]] = result

    def alone(self) -> Iterator[Job]:
        """The job in parts that can fail by themselves."""
        yield self


@dataclass(slots=True)
class Rows:
    """Rows for one statement, which go to the database together; each has no result, in its place."""

    statement: Statement
    rows: list[dict[str, Any]]
    places: list[int]

    def run(self, connection: Connection, results: list[Any]) -> None:
        """Execute the statement with all of them."""
        if isinstance(self.statement, Upsert):
            self.statement(connection, self.rows)
        else:
            connection.execute(self.statement, self.rows)

    def compiled(self, connection: Connection) -> tuple[str, Sequence[str]]:
        """The statement as SQLite's driver takes it, and the names of its parameters in their order."""
        statement = self.statement.on(connection) if isinstance(self.statement, Upsert) else self.statement
        compiled: Any = statement.compile(dialect=connection.dialect, column_keys=list(self.rows[0]))
        return str(compiled), compiled.positiontup

    def alone(self) -> Iterator[Rows]:
        """Each row by itself."""
        for row, place in zip(self.rows, self.places, strict=True):
            yield Rows(self.statement, [row], [place])


class Waiters:
    """Deferreds in the order in which they were made, and when (seconds)."""

    __slots__ = ("_checked", "_entries")

    def __init__(self) -> None:
        self._entries: list[tuple[Deferred[Any], float]] = []
        self._checked = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, now: float) -> Deferred[Any]:
        """A Deferred that waits from `now` on."""
        deferred: Deferred[Any] = Deferred()
        self._entries.append((deferred, now))
        return deferred

    def expire(self, now: float, timeout: float) -> float | None:
        """Fail those whose time is up; return the deadline of the first of the others."""
        while self._checked < len(self._entries):
            deferred, made = self._entries[self._checked]
            if made + timeout > now:
                return made + timeout
            self._checked += 1
            if not deferred.called:
                deferred.errback(Failure(StorageTimeout("storage did not answer in time")))
        return None

    def fire(self, results: list[Any]) -> None:
        """Give each its result, in order; a Failure fails it. Those that have expired are left alone."""
        for (deferred, _), result in zip(self._entries, results, strict=True):
            if not deferred.called:
                deferred.callback(result)

    def fire_all(self, reason: str | None) -> None:
        """Give all the same: None, or a StorageError for a reason."""
        for deferred, _ in self._entries:
            if not deferred.called:
                deferred.callback(None if reason is None else Failure(StorageError(reason)))


@dataclass(slots=True)
class Group:
    """Jobs queued for the same transaction. Only the reactor's thread touches it, but for `entries`."""

    timer: Call = field(init=False)
    entries: list[Job | Rows] = field(default_factory=list)
    waiters: Waiters = field(default_factory=Waiters)
    barriers: Waiters = field(default_factory=Waiters)
    _open: dict[int, Rows] = field(default_factory=dict)  # those that take more rows, by the id() of their statement

    def add_job(self, function: Callable[[Connection], Any], now: float) -> Deferred[Any]:
        """One more job. It sees what was added before, and nothing that is added later."""
        self.entries.append(Job(function, [len(self.waiters)]))
        self._open.clear()
        return self.waiters.add(now)

    def add_row(self, statement: Statement, row: dict[str, Any], now: float) -> Deferred[Any]:
        """One more row for a statement."""
        rows = self._open.get(id(statement))
        if rows is None or rows.rows[0].keys() != row.keys():
            rows = self._open[id(statement)] = Rows(statement, [], [])
            self.entries.append(rows)
        rows.rows.append(row)
        rows.places.append(len(self.waiters))
        return self.waiters.add(now)


@dataclass(slots=True)
class Outcome:
    """What became of a group: a result or Failure for each job, and the reason if the store failed."""

    results: list[Any]
    broken: str | None = None
    commit_seconds: float = 0.0


def _with_sqlalchemy(entry: Job | Rows, connection: Connection, results: list[Any]) -> None:
    entry.run(connection, results)


class Writer:
    """Runs groups, one at a time, on whatever thread calls it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: Connection | None = None  # open from one group to the next
        # By the id() of a statement, which is a constant, and the columns of its rows.
        self._compiled: dict[tuple[int, tuple[str, ...]], tuple[str, Sequence[str]]] = {}

    def run(self, entries: list[Job | Rows], size: int) -> Outcome:
        """Commit a group of `size` jobs and rows. Never raises.

        A job that raises undoes the group; then each runs in a transaction of its own, so that it alone
        fails. When the store fails nothing is tried again: what was asked for may be on disk or not.
        """
        results: list[Any] = [None] * size
        try:
            seconds = self._commit(entries, results, self._quickly if self._database.sqlite else _with_sqlalchemy)
        except Broken as broken:
            return Outcome([Failure(StorageError(str(broken))) for _ in range(size)], str(broken))
        except Exception:
            return self._one_by_one(entries, size)
        return Outcome(results, commit_seconds=seconds)

    def _one_by_one(self, entries: list[Job | Rows], size: int) -> Outcome:
        outcome = Outcome([None] * size)
        parts = [part for entry in entries for part in entry.alone()]
        # A count of what others of them do comes behind it: after a crash in between it is too low, not too high.
        parts.sort(key=lambda part: isinstance(part, Rows) and isinstance(part.statement, Update))
        for part in parts:
            if outcome.broken is None:
                try:
                    outcome.commit_seconds += self._commit([part], outcome.results, _with_sqlalchemy)
                except Broken as broken:
                    outcome.broken = str(broken)
                except Exception:
                    outcome.results[part.places[0]] = Failure()
            if outcome.broken is not None:
                outcome.results[part.places[0]] = Failure(StorageError(outcome.broken))
        return outcome

    def _quickly(self, entry: Job | Rows, connection: Connection, results: list[Any]) -> None:
        """Run an entry; rows past SQLAlchemy's own execute, which costs twice what SQLite does. Its errors are the
        driver's: whoever cares runs the entry once more, in the other way."""
        if isinstance(entry, Job):
            entry.run(connection, results)
            return
        key = id(entry.statement), tuple(entry.rows[0])
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = entry.compiled(connection)
        sql, names = compiled
        raw: Any = connection.connection.dbapi_connection
        raw.executemany(sql, [[row[name] for name in names] for row in entry.rows])

    def _commit(
        self, entries: list[Job | Rows], results: list[Any],
        run: Callable[[Job | Rows, Connection, list[Any]], None],
    ) -> float:  # fmt: skip
        """One transaction; return how long its COMMIT took. Raises Broken, or what a job raised."""
        connection = self._connection()
        try:
            self._settle(connection.begin)
            try:
                for entry in entries:
                    run(entry, connection, results)
                if not self._database.commits_all(connection):
                    raise RuntimeError("a storage job went on after a database error")
            except Exception as error:
                if is_store_failure(error):
                    raise Broken(one_line(error)) from error
                self._settle(connection.rollback)
                raise
            start = perf_counter()
            self._settle(connection.commit)
            return perf_counter() - start
        except Broken:
            self._kept = None
            self._database.abandon(connection)
            raise
        finally:
            if connection is not self._kept:
                connection.close()

    def _connection(self) -> Connection:
        """A connection without a transaction. Raises Broken."""
        if self._kept is not None:
            return self._kept
        try:
            connection = self._database.writing.connect()
        except SQLAlchemyError as error:
            raise Broken(one_line(error)) from error
        if self._database.keeps_writer:
            self._kept = connection
        return connection

    def close(self) -> None:
        """Close the connection that is kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _settle(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            raise Broken(one_line(error)) from error
