"""Accounts and what their passwords are checked with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred

from .errors import AlreadyExists
from .rows import Account, AccountRow, Credentials, NewAccount, ScramKeys
from .schema import account, account_data, credential
from .sql import Query, Upsert

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Accounts"]

# Parameters in one statement; SQLite's limit was 999 for long.
_CHUNK = 500

# When the password of an account was changed whose import has not ended; no other account has this time.
_UNFINISHED = 0

_NAMED = and_(account.c.host == bindparam("host"), account.c.localpart == bindparam("localpart"))
_KEYS = (
    credential.c.hash,
    credential.c.salt,
    credential.c.iterations,
    credential.c.stored_key,
    credential.c.server_key,
)
_FIND = Query(select(account).where(_NAMED))
_FIND_WITH_KEYS = Query(select(account, *_KEYS).join_from(account, credential, isouter=True).where(_NAMED))
_CREDENTIALS = select(*_KEYS).where(credential.c.account_id == bindparam("id"))
_HASHES = (
    select(credential.c.hash, func.count())
    .join_from(credential, account)
    .where(account.c.host == bindparam("of_host"), account.c.enabled)
    .group_by(credential.c.hash)
)
_WITH_KEYS = (
    select(func.count(credential.c.account_id.distinct()))
    .join_from(credential, account)
    .where(account.c.host == bindparam("of_host"), account.c.enabled)
)
_UNCHANGED = select(account.c.id).where(
    account.c.id == bindparam("id_"), account.c.password_changed == bindparam("changed")
)
_INSERT = insert(account)
_INSERT_KEYS = insert(credential)
_DELETE = delete(account).where(account.c.id == bindparam("id_"))
_DELETE_KEYS = delete(credential).where(credential.c.account_id == bindparam("id"))
_CHANGED = (
    update(account).where(account.c.id == bindparam("id_")).values(password_changed=bindparam("changed"))
)
_ENABLE = update(account).where(account.c.id == bindparam("id_")).values(enabled=bindparam("on"))
_OPEN_IMPORTED = (
    update(account)
    .where(account.c.id == bindparam("id_"))
    .values(enabled=True, password_changed=bindparam("changed"))
)
_PUT_KEYS = Upsert(credential)
_LIST = (
    select(account)
    .where(account.c.host == bindparam("host"), account.c.localpart > bindparam("after"))
    .order_by(account.c.localpart)
    .limit(bindparam("limit"))
)
_COUNT = select(func.count()).select_from(account).where(account.c.host == bindparam("host"))
_IDS = select(account.c.localpart, account.c.id).where(
    account.c.host == bindparam("host"),
    account.c.localpart.in_(bindparam("names", expanding=True)),
)


class Accounts:
    """The accounts of all hosts. Names are given as they are after preparation (RFC 7622).

    `create`, `find` and what looks at one account see everything that was queued before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self, host: str, localpart: str, credentials: Credentials, when: int | None = None
    ) -> Deferred[int]:
        """Make an account; fires with its id. Fails with AlreadyExists."""
        row = _new_row(host, localpart, self._store.now_ms() if when is None else when)

        def job(connection: Connection) -> int | None:
            try:
                with connection.begin_nested():
                    (account_id,) = connection.execute(_INSERT, row).inserted_primary_key or (0,)
            except IntegrityError:
                # An answer, not an error: an error would have the whole group run again.
                return None
            _insert_keys(connection, [(account_id, credentials)])
            return int(account_id)

        def made(account_id: int | None) -> int:
            if account_id is None:
                raise AlreadyExists(f"{localpart}@{host}")
            return account_id

        return self._store.write(job).addCallback(made)

    def create_many(self, host: str, rows: Iterable[NewAccount]) -> Deferred[list[str]]:
        """Make accounts, all in one transaction; fires with the localparts that existed and were left alone.

        The writer is busy meanwhile: a large import comes in pieces of some thousand.
        """
        new = list(rows)
        now = self._store.now_ms()

        def job(connection: Connection) -> list[str]:
            known = set(_ids(connection, host, [row.localpart for row in new]))
            existed: list[str] = []
            fresh: dict[str, NewAccount] = {}
            for row in new:
                if row.localpart in known or row.localpart in fresh:
                    existed.append(row.localpart)
                else:
                    fresh[row.localpart] = row
            if fresh:
                made = [
                    _new_row(host, row.localpart, now if row.created is None else row.created)
                    for row in fresh.values()
                ]
                connection.execute(_INSERT, made)
                ids = _ids(connection, host, list(fresh))
                _insert_keys(connection, [(ids[name], row.credentials) for name, row in fresh.items()])
            return existed

        return self._store.write(job)

    def begin_import(self, host: str, localpart: str) -> Deferred[int]:
        """Make an account that nobody can use before `end_import`, in place of one whose import did not end; fires with
        its id. Fails with AlreadyExists where there is another."""
        row = {**_new_row(host, localpart, self._store.now_ms()), "enabled": False, "password_changed": _UNFINISHED}

        def job(connection: Connection) -> int | None:
            found = _find(connection, host, localpart)
            if found is not None:
                if not _is_unfinished(found):
                    return None
                connection.execute(_DELETE, {"id_": found.id})
            (account_id,) = connection.execute(_INSERT, row).inserted_primary_key or (0,)
            return int(account_id)

        def made(account_id: int | None) -> int:
            if account_id is None:
                raise AlreadyExists(f"{localpart}@{host}")
            return account_id

        return self._store.write(job).addCallback(made)

    def importing(self, host: str, localpart: str) -> Deferred[int | None]:
        """The id of an account whose import has begun and not ended; None where there is no such account."""

        def job(connection: Connection) -> int | None:
            found = _find(connection, host, localpart)
            return found.id if found is not None and _is_unfinished(found) else None

        return self._store.write(job)

    def put_credentials(self, account_id: int, credentials: Credentials) -> Deferred[None]:
        """Keep what a password is checked with, beside what there is for other hashes."""
        rows = _key_rows([(account_id, credentials)])
        return self._store.write(lambda connection: _PUT_KEYS(connection, rows))

    def add_credentials(
        self, account_id: int, password_changed: int, name: str, keys: tuple[bytes, int, bytes, bytes]
    ) -> Deferred[bool]:
        """Keep keys for a hash that an account has none for; fires with whether that was done: not where the password
        was changed since `password_changed`, of which the keys are not."""
        row = {"id_": account_id, "changed": password_changed}

        def job(connection: Connection) -> bool:
            if connection.execute(_UNCHANGED, row).first() is None:
                return False
            known = {found[0] for found in connection.execute(_CREDENTIALS, {"id": account_id})}
            if name not in known:
                _insert_keys(connection, [(account_id, {name: keys})])
            return name not in known

        return self._store.write(job)

    def end_import(self, account_id: int) -> Deferred[bool]:
        """Open an account that was imported; fires with whether there is one."""
        row = {"id_": account_id, "changed": self._store.now_ms()}
        return self._store.write(lambda connection: _changes(connection, _OPEN_IMPORTED, row))

    def delete(self, account_id: int) -> Deferred[bool]:
        """Delete an account and all that belongs to it; fires with whether there was one."""
        return self._store.write(lambda connection: _changes(connection, _DELETE, {"id_": account_id}))

    def find(self, host: str, localpart: str) -> Deferred[AccountRow | None]:
        """The account of that name, if there is one."""
        return self._store.write(lambda connection: _find(connection, host, localpart))

    def find_with_data(
        self, host: str, localpart: str, kinds: Sequence[str]
    ) -> Deferred[tuple[AccountRow, dict[str, dict[str, bytes]]] | None]:
        """The account of that name, with what modules keep for it under these kinds, by kind and key."""

        def job(connection: Connection) -> tuple[AccountRow, dict[str, dict[str, bytes]]] | None:
            found = _find(connection, host, localpart)
            if found is None:
                return None
            data: dict[str, dict[str, bytes]] = {kind: {} for kind in kinds}
            for kind, key, value in _data(connection, found.id, kinds):
                data[kind][key] = value
            return found, data

        return self._store.write(job)

    def credentials(self, account_id: int) -> Deferred[dict[str, ScramKeys]]:
        """What an account's password is checked with, by the name of the hash."""

        def job(connection: Connection) -> dict[str, ScramKeys]:
            rows = connection.execute(_CREDENTIALS, {"id": account_id})
            return {name: ScramKeys(*keys) for name, *keys in rows}

        return self._store.write(job)

    def find_with_credentials(self, host: str, localpart: str, kind: str = "") -> Deferred[Account | None]:
        """`find` and `credentials` in one, with what is kept for the account under a kind: what a login needs."""

        def job(connection: Connection) -> Account | None:
            rows = _FIND_WITH_KEYS(connection, {"host": host, "localpart": localpart})
            if not rows:
                return None
            columns = len(account.columns)
            # An account without credentials has one row, of which that half is empty.
            keys = {row[columns]: ScramKeys(*row[columns + 1 :]) for row in rows if row[columns] is not None}
            found = _account(rows[0][:columns])
            data = _data(connection, found.id, [kind]) if kind else ()
            return Account(found, keys, {key: value for _, key, value in data})

        return self._store.write(job)

    def hashes(self, host: str) -> Deferred[tuple[dict[str, int], int]]:
        """For how many open accounts of a host there are keys of each hash, and how many have keys at all. May miss
        what is queued."""

        def job(connection: Connection) -> tuple[dict[str, int], int]:
            counted: dict[str, int] = {row[0]: row[1] for row in connection.execute(_HASHES, {"of_host": host})}
            return counted, connection.execute(_WITH_KEYS, {"of_host": host}).scalar_one()

        return self._store.read(job)

    def set_credentials(self, account_id: int, credentials: Credentials, when: int) -> Deferred[bool]:
        """Replace all credentials; `when` the password was changed, in milliseconds.

        Fires with whether there is such an account.
        """

        def job(connection: Connection) -> bool:
            if not _changes(connection, _CHANGED, {"id_": account_id, "changed": when}):
                return False
            connection.execute(_DELETE_KEYS, {"id": account_id})
            _insert_keys(connection, [(account_id, credentials)])
            return True

        return self._store.write(job)

    def set_enabled(self, account_id: int, enabled: bool) -> Deferred[bool]:
        """Close an account, or open it again; fires with whether there is one."""
        row = {"id_": account_id, "on": enabled}
        return self._store.write(lambda connection: _changes(connection, _ENABLE, row))

    def list(self, host: str, after: str = "", limit: int = 1000) -> Deferred[Sequence[AccountRow]]:
        """A page of a host's accounts, sorted by localpart: those after `after`. May miss what is queued."""
        page = {"host": host, "after": after, "limit": limit}
        return self._store.read(
            lambda connection: [AccountRow(*row) for row in connection.execute(_LIST, page)]
        )

    def count(self, host: str) -> Deferred[int]:
        """How many accounts a host has. May miss what is queued."""
        return self._store.read(lambda connection: connection.execute(_COUNT, {"host": host}).scalar_one())


def _find(connection: Connection, host: str, localpart: str) -> AccountRow | None:
    rows = _FIND(connection, {"host": host, "localpart": localpart})
    return _account(rows[0]) if rows else None


def _account(row: Sequence[Any]) -> AccountRow:
    id, host, localpart, created, enabled, password_changed = row
    return AccountRow(id, host, localpart, created, bool(enabled), password_changed)


@cache
def _data_of(kinds: int) -> Query:
    """What is kept for an account under so many kinds; a statement with room for any number is written anew each
    time."""
    these = account_data.c.kind.in_([bindparam(f"kind{number}") for number in range(kinds)])
    columns = account_data.c.kind, account_data.c.key, account_data.c.value
    return Query(select(*columns).where(account_data.c.account_id == bindparam("account"), these))


def _data(connection: Connection, account_id: int, kinds: Sequence[str]) -> Sequence[Sequence[Any]]:
    if not kinds:
        return ()
    names = {f"kind{number}": kind for number, kind in enumerate(kinds)}
    return _data_of(len(kinds))(connection, {"account": account_id, **names})


def _new_row(host: str, localpart: str, when: int) -> dict[str, Any]:
    return {
        "host": host,
        "localpart": localpart,
        "created": when,
        "enabled": True,
        "password_changed": when,
    }


def _is_unfinished(row: AccountRow) -> bool:
    return not row.enabled and row.password_changed == _UNFINISHED


def _insert_keys(connection: Connection, accounts: Iterable[tuple[int, Credentials]]) -> None:
    rows = _key_rows(accounts)
    if rows:
        connection.execute(_INSERT_KEYS, rows)


def _key_rows(accounts: Iterable[tuple[int, Credentials]]) -> list[dict[str, Any]]:
    return [
        {
            "account_id": account_id,
            "hash": name,
            "salt": salt,
            "iterations": iterations,
            "stored_key": stored_key,
            "server_key": server_key,
        }
        for account_id, credentials in accounts
        for name, (salt, iterations, stored_key, server_key) in credentials.items()
    ]


def _ids(connection: Connection, host: str, names: Sequence[str]) -> dict[str, int]:
    """The ids of those of the names that exist."""
    found: dict[str, int] = {}
    for start in range(0, len(names), _CHUNK):
        page = {"host": host, "names": names[start : start + _CHUNK]}
        found.update((name, account_id) for name, account_id in connection.execute(_IDS, page))
    return found


def _changes(connection: Connection, statement: Any, row: dict[str, Any]) -> bool:
    return bool(connection.execute(statement, row).rowcount)
