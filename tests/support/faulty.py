"""A disk that is slow or full when a test says so, and that outlives the process whose store is on it."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from xmppd.storage import Store
from xmppd.storage.engine import Database

T = TypeVar("T")


class Died(BaseException):
    """The process is no more. Nobody in the server catches it."""


class _Lasting(Database):
    """A database in memory that a store does not take with it."""

    def close(self) -> None:
        """See `Database`."""


class Disk:
    """A database in memory, and the writer of the store that is on it at the time.

    `commits` counts the transactions since `begin`. `full`: none of them can be committed, nor can those with the
    numbers in `fails`; at the one with the number `fills` it gets full. The process dies before or after the
    transaction with the number `dies_before` or `dies_after`. `slow`: the groups of the store wait for `work`.
    """

    def __init__(self) -> None:
        self.database = _Lasting("sqlite://", timeout=10.0, synchronous="OFF")
        self.full = self.slow = False
        self.fails: set[int] = set()
        self.fills = self.dies_before = self.dies_after = 0
        self.commits = self.failed = 0
        self._dead = False
        self._waiting: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._saved: sqlite3.Connection | None = None
        dialect: Any = self.database.writing.dialect
        self._commit = dialect.do_commit
        self._error = dialect.dbapi.OperationalError
        dialect.do_commit = self._do_commit

    def store(self, clock: Any) -> Store:
        """The store of a new process. What waits of the last one is never done. A `Clock` does, as there are no
        threads."""
        self._waiting.clear()
        self._dead = False
        store = Store(clock, self.database, timeout=10.0, max_queue=100_000)
        store._writer_thread = self  # Store has no way to be given one: outside of tests there is no other
        return store

    # ---- as it was

    def save(self) -> None:
        """Keep what is on the disk, for `begin`."""
        self._saved = sqlite3.connect(":memory:")
        self._raw().backup(self._saved)

    def begin(self) -> None:
        """Have what was saved on the disk and nothing else, and nothing is wrong with it."""
        assert self._saved is not None
        self._saved.backup(self._raw())
        self.heal()
        self.commits = self.failed = 0
        self._waiting.clear()

    def heal(self) -> None:
        """It is a good disk again; what waits for it waits on."""
        self.full = self.slow = False
        self.fails = set()
        self.fills = self.dies_before = self.dies_after = 0

    def _raw(self) -> sqlite3.Connection:
        with self.database.writing.connect() as connection:
            raw = connection.connection.dbapi_connection
            connection.rollback()
        assert isinstance(raw, sqlite3.Connection)
        return raw

    def _do_commit(self, raw: Any) -> None:
        self.commits += 1
        number = self.commits
        if number == self.dies_before:
            self._dead = True
        if number == self.fills:
            self.full = True
        if self.full or number in self.fails:
            self.failed += 1
        if self.full or number in self.fails or self._dead:
            raise self._error("database or disk is full")
        self._commit(raw)
        if number == self.dies_after:
            self._dead = True

    # ---- the writer of the store (`Workers`)

    @property
    def busy(self) -> bool:
        """Whether a group waits for `work`."""
        return bool(self._waiting)

    def work(self, told: bool = True) -> None:
        """Do what has waited longest; or do it without that anybody is `told`, since the process dies."""
        if self._waiting:
            work, done = self._waiting.popleft()
            outcome = work()
            if self._dead:
                raise Died
            if told:
                done(outcome)

    def run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """See `Workers`."""
        if self.slow:
            self._waiting.append((work, done))
            return
        outcome = work()
        if self._dead:
            raise Died
        done(outcome)

    def stop(self) -> None:
        """See `Workers`."""

    def join(self, timeout: float) -> None:
        """See `Workers`."""
