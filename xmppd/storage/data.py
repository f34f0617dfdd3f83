"""Small things that modules keep: for an account (vCard, block list …), or for the server (secrets).

Each is some bytes under a kind, which is the module's name for it, and a key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, and_, bindparam, delete, select
from twisted.internet.defer import Deferred

from .rows import AccountRow
from .schema import account, account_data, server_data
from .sql import Query, Upsert

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Data"]

R = TypeVar("R")

_own = account_data.c
_server = server_data.c
_OWNED = (_own.account_id == bindparam("id"), _own.kind == bindparam("of_kind"))
_SERVER = (_server.kind == bindparam("of_kind"), _server.key == bindparam("named"))
_GET = select(_own.value).where(*_OWNED, _own.key == bindparam("named"))
_ALL = Query(select(_own.key, _own.value).where(*_OWNED).order_by(_own.key))
_FIND = (
    select(account, _own.value)
    .join_from(
        account,
        account_data,
        and_(_own.account_id == account.c.id, _own.kind == bindparam("of_kind"), _own.key == bindparam("named")),
        isouter=True,
    )
    .where(account.c.host == bindparam("host"), account.c.localpart == bindparam("localpart"))
)
_KEEPING = (
    select(account.c.id, account.c.localpart)
    .where(
        account.c.host == bindparam("of_host"),
        account.c.id > bindparam("after"),
        select(_own.key).where(_own.account_id == account.c.id, _own.kind == bindparam("of_kind")).exists(),
    )
    .order_by(account.c.id)
    .limit(bindparam("most"))
    .subquery()
)
_PAGE = (
    select(_KEEPING.c.id, _KEEPING.c.localpart, _own.key, _own.value)
    .join_from(_KEEPING, account_data, and_(_own.account_id == _KEEPING.c.id, _own.kind == bindparam("of_kind")))
    .order_by(_KEEPING.c.id, _own.key)
)
_DELETE = delete(account_data).where(*_OWNED, _own.key == bindparam("named"))
_PUT = Upsert(account_data)
_SERVER_GET = select(_server.value).where(*_SERVER)
_SERVER_ALL = (
    select(_server.key, _server.value).where(_server.kind == bindparam("of_kind")).order_by(_server.key)
)
_SERVER_DELETE = delete(server_data).where(*_SERVER)
_SERVER_PUT = Upsert(server_data)


class Data:
    """Bytes under names. Everything sees what was queued before."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, account_id: int, kind: str, key: str) -> Deferred[bytes | None]:
        """What an account keeps under a name, or None."""
        name = {"id": account_id, "of_kind": kind, "named": key}
        return self._store.write(lambda connection: connection.execute(_GET, name).scalar_one_or_none())

    def all(self, account_id: int, kind: str) -> Deferred[dict[str, bytes]]:
        """All that an account keeps of a kind, by key, sorted."""
        name = {"id": account_id, "of_kind": kind}
        return self._store.write(
            lambda connection: {row[0]: row[1] for row in _ALL(connection, name)}
        )

    def put(self, account_id: int, kind: str, key: str, value: bytes) -> Deferred[None]:
        """Keep a value in place of the one before. Fails with IntegrityError without the account."""
        row = {"account_id": account_id, "kind": kind, "key": key, "value": value}
        return self._store.append(_PUT, row)

    def change(
        self, account_id: int, kind: str, key: str, change: Callable[[bytes | None], tuple[bytes | None, R]]
    ) -> Deferred[R]:
        """Let `change` make a new value of what is kept under a name, or None of it, with nothing in between; fires
        with what else it returns. It is called on the writer's thread, and may be called more than once."""
        name = {"id": account_id, "of_kind": kind, "named": key}

        def job(connection: Connection) -> R:
            before = connection.execute(_GET, name).scalar_one_or_none()
            after, result = change(before)
            if after is None and before is not None:
                connection.execute(_DELETE, name)
            elif after is not None and after != before:
                _PUT(connection, {"account_id": account_id, "kind": kind, "key": key, "value": after})
            return result

        return self._store.write(job)

    def find(self, host: str, localpart: str, kind: str, key: str) -> Deferred[tuple[AccountRow, bytes | None] | None]:
        """An account by its name, with what it keeps under a name."""
        name = {"host": host, "localpart": localpart, "of_kind": kind, "named": key}

        def job(connection: Connection) -> tuple[AccountRow, bytes | None] | None:
            row = connection.execute(_FIND, name).first()
            return None if row is None else (AccountRow(*row[:-1]), row[-1])

        return self._store.write(job)

    def page(self, host: str, kind: str, after: int, limit: int) -> Deferred[list[tuple[int, str, str, bytes]]]:
        """What accounts of a host keep of a kind, those of `limit` accounts whose ids are greater than `after`: the id
        and the localpart of each, the key and the value. Sees what is committed."""
        row = {"of_host": host, "of_kind": kind, "after": after, "most": limit}
        return self._store.read(lambda connection: [tuple(each) for each in connection.execute(_PAGE, row)])

    def delete(self, account_id: int, kind: str, key: str) -> Deferred[bool]:
        """Forget a value; fires with whether there was one."""
        name = {"id": account_id, "of_kind": kind, "named": key}
        return self._store.write(lambda connection: bool(connection.execute(_DELETE, name).rowcount))

    def server_get(self, kind: str, key: str) -> Deferred[bytes | None]:
        """What the server keeps under a name, or None."""
        name = {"of_kind": kind, "named": key}
        return self._store.write(
            lambda connection: connection.execute(_SERVER_GET, name).scalar_one_or_none()
        )

    def server_all(self, kind: str) -> Deferred[dict[str, bytes]]:
        """All that the server keeps of a kind, by key, sorted."""
        name = {"of_kind": kind}
        return self._store.write(
            lambda connection: {row[0]: row[1] for row in connection.execute(_SERVER_ALL, name)}
        )

    def server_put(self, kind: str, key: str, value: bytes) -> Deferred[None]:
        """Keep a value in place of the one before."""
        row = {"kind": kind, "key": key, "value": value}
        return self._store.write(lambda connection: _SERVER_PUT(connection, row))

    def server_delete(self, kind: str, key: str) -> Deferred[bool]:
        """Forget a value; fires with whether there was one."""
        name = {"of_kind": kind, "named": key}
        return self._store.write(lambda connection: bool(connection.execute(_SERVER_DELETE, name).rowcount))

    def server_get_or_create(self, kind: str, key: str, make: Callable[[], bytes]) -> Deferred[bytes]:
        """What the server keeps under a name; or what `make` returns, which is then kept.

        All who ask at once get the same. `make` is called on the writer's thread, and may be called in vain.
        """
        name = {"of_kind": kind, "named": key}

        def job(connection: Connection) -> bytes:
            value: bytes | None = connection.execute(_SERVER_GET, name).scalar_one_or_none()
            if value is None:
                value = make()
                _SERVER_PUT(connection, {"kind": kind, "key": key, "value": value})
            return value

        return self._store.write(job)
