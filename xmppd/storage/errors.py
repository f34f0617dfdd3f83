"""What storage raises, and which errors mean that the store itself is broken."""

from __future__ import annotations

import sqlite3

from sqlalchemy import exc

__all__ = ["AlreadyExists", "StorageError", "StorageTimeout", "is_store_failure", "one_line"]


class StorageError(Exception):
    """The store could not keep or find something: disk full, connection lost, queue full, closed.

    Its text is one line for an administrator; it is not meant for a peer.
    """


class StorageTimeout(StorageError):
    """No answer within the time limit. A job that had begun may still finish."""


class AlreadyExists(Exception):
    """There is such an account already."""


# SQLSTATE classes of PostgreSQL that tell of the server, not of the statement: connection, resources
# (disk full), operator (shutdown), system error, internal error; and a server that only reads.
_BROKEN_STATES = ("08", "53", "57", "58", "XX", "25006")

# Classes of errors that a statement causes by itself, whatever state the store is in.
_OWN_FAULT = (
    exc.IntegrityError,
    exc.DataError,
    exc.ProgrammingError,
    exc.NotSupportedError,
    exc.InterfaceError,
)

_DRIVERS_OWN_FAULT = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.NotSupportedError,
)

AccountGone = exc.IntegrityError  # with which a write fails that is for an account which was deleted meanwhile

# SQLite's number for a wrong statement.
_SQLITE_ERROR = 1


def is_store_failure(error: BaseException) -> bool:
    """Whether `error` tells of a broken store rather than of the one job that met it.

    The class alone does not tell: psycopg files a value that is too long for an index under
    OperationalError, and one client could then fail the stanzas of all others with it.
    """
    if isinstance(error, sqlite3.DatabaseError):
        # From BEGIN, or from what went around SQLAlchemy, whose statements are constants.
        return not isinstance(error, _DRIVERS_OWN_FAULT)
    if not isinstance(error, exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_BROKEN_STATES)
    if isinstance(error, _OWN_FAULT):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:
        # COMPAT: Python 3.10 has no number.
        return not str(error.orig).startswith(("no such ", "near "))
    return bool(code != _SQLITE_ERROR)


def one_line(error: BaseException) -> str:
    """The reason in one line, without the statement and its parameters."""
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    lines = str(cause).splitlines()
    text = lines[0].strip() if lines else ""
    if isinstance(cause, sqlite3.Error | OSError | StorageError) and text:
        return text
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
