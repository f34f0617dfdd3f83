"""Connections: how SQLite, PostgreSQL and memory are opened, and what differs between them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from .errors import StorageError, one_line
from .migrate import upgrade

__all__ = ["SYNCHRONOUS", "Database"]

# What SQLite may wait for: EXTRA and FULL for the disk at each commit, NORMAL only at checkpoints (a power
# cut may then lose the last commits), OFF never.
SYNCHRONOUS = ("EXTRA", "FULL", "NORMAL", "OFF")

# Seconds that SQLite waits while another process (xmppctl) writes.
_BUSY = 5.0
_SQLITE_READERS = 2
_POSTGRESQL_READERS = 4
# psycopg's number for a transaction in which a statement has failed: its COMMIT is a silent ROLLBACK.
_IN_ERROR = 3


class Database:
    """A database ready for use: an engine that writes on one connection, and one that only reads.

    In memory both are the same single connection, and whoever uses it does so on one thread.
    """

    def __init__(self, url: str, *, timeout: float, synchronous: str) -> None:
        """Open and migrate. Raises StorageError with one line for an administrator.

        Afterwards no connection is open (but for memory), so that the process may still fork.
        """
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            # The error's own text repeats the URL, password and all.
            raise StorageError("storage: not a URL that is understood") from None
        try:
            self._open(parsed, timeout, synchronous.upper())
        except (StorageError, SQLAlchemyError, CommandError, ImportError, OSError) as error:
            reason = f"{error.name} is not installed" if isinstance(error, ImportError) else one_line(error)
            raise StorageError(f"storage {parsed.render_as_string(hide_password=True)}: {reason}") from error

    def _open(self, url: URL, timeout: float, synchronous: str) -> None:
        if synchronous not in SYNCHRONOUS:
            raise StorageError(f"synchronous is one of {', '.join(SYNCHRONOUS)}")
        url = _driver(url)
        self.sqlite = url.get_backend_name() == "sqlite"
        self.in_memory = self.sqlite and url.database in (None, "", ":memory:")
        if not self.sqlite:
            self.readers = _POSTGRESQL_READERS
            self.writing = _postgresql(url, timeout, synchronous, readers=0)
            self.reading = _postgresql(url, timeout, synchronous, readers=self.readers)
        elif self.in_memory:
            self.readers = 0
            self.writing = self.reading = _sqlite(url, synchronous, readers=None)
        else:
            _make_private(Path(str(url.database)))
            self.readers = _SQLITE_READERS
            self.writing = _sqlite(url, synchronous, readers=0)
            self.reading = _sqlite(url, synchronous, readers=self.readers)
        upgrade(self.writing)
        if not self.in_memory:
            self.writing.dispose()

    @property
    def keeps_writer(self) -> bool:
        """Whether the writer's connection stays open from one transaction to the next: nobody but the disk can break
        it, and to take it out of the pool and put it back costs as much as two rows."""
        return self.sqlite and not self.in_memory

    def commits_all(self, connection: Connection) -> bool:
        """Whether a COMMIT now would keep everything that was written since the transaction began.

        It would not where a job went on after an error that had ended the transaction; neither database
        says so at COMMIT.
        """
        raw: Any = connection.connection.dbapi_connection
        if self.sqlite:
            return bool(raw.in_transaction)
        return bool(raw.info.transaction_status != _IN_ERROR)

    def abandon(self, connection: Connection) -> None:
        """Throw a connection away after a failure: what it believes may no longer be true.

        The one connection of a database in memory is the database, and is only rolled back.
        """
        if self.in_memory:
            # SQLAlchemy takes a COMMIT that failed for the end of the transaction.
            raw: Any = connection.connection.dbapi_connection
            raw.rollback()
        else:
            connection.invalidate()

    def close(self) -> None:
        """Close all connections. A database in memory is gone."""
        self.reading.dispose()
        self.writing.dispose()


def _driver(url: URL) -> URL:
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StorageError("neither sqlite nor postgresql")
    return url.set(drivername="sqlite")


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, for its owner alone. SQLite gives its other files the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _sqlite(url: URL, synchronous: str, *, readers: int | None) -> Engine:
    """An engine for SQLite. `readers` is 0 for the writer, None for memory, where one does both."""
    pool: dict[str, Any] = {"poolclass": StaticPool}
    if readers is not None:
        pool = {"poolclass": QueuePool, "pool_size": max(1, readers), "max_overflow": 0}
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY, "check_same_thread": False},
        hide_parameters=True,
        **pool,
    )
    begin = "BEGIN" if readers else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, record: object) -> None:
        # sqlite3 would otherwise begin transactions by itself, even where a full disk has just ended ours.
        raw.isolation_level = None
        if readers:
            raw.execute("PRAGMA query_only = ON")
        else:
            raw.execute("PRAGMA journal_mode = WAL")
            raw.execute(f"PRAGMA synchronous = {synchronous}")
            raw.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        # Past SQLAlchemy's own execute, which costs more than ten times this for each group.
        raw: Any = connection.connection.dbapi_connection
        raw.execute(begin)

    return engine


def _postgresql(url: URL, timeout: float, synchronous: str, *, readers: int) -> Engine:
    """An engine for PostgreSQL. `readers` is 0 for the writer."""
    settings = ["-c default_transaction_read_only=on"] if readers else []
    if synchronous in ("NORMAL", "OFF"):
        settings.append("-c synchronous_commit=off")
    given = url.query.get("options")
    if isinstance(given, str):
        settings.insert(0, given)
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(timeout)),
        # Milliseconds until a server that went away without a word is given up.
        "tcp_user_timeout": round(timeout * 1000),
        "application_name": "xmppd",
    }
    arguments = {key: value for key, value in arguments.items() if key not in url.query}
    if settings:
        arguments["options"] = " ".join(settings)
    return create_engine(
        url,
        connect_args=arguments,
        hide_parameters=True,
        poolclass=QueuePool,
        pool_size=max(1, readers),
        max_overflow=0,
        # A server that was restarted in a quiet hour costs nobody a stanza.
        pool_pre_ping=True,
    )
