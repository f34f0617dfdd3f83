"""Small things that modules keep: for an account (vCard, block list …), or for the server (secrets).

Each is some bytes under a kind, which is the module's name for it, and a key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, select
from twisted.internet.defer import Deferred

from .schema import account_data, server_data
from .sql import Upsert

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Data"]

_own = account_data.c
_server = server_data.c
_OWNED = (_own.account_id == bindparam("id"), _own.kind == bindparam("of_kind"))
_SERVER = (_server.kind == bindparam("of_kind"), _server.key == bindparam("named"))
_GET = select(_own.value).where(*_OWNED, _own.key == bindparam("named"))
_ALL = select(_own.key, _own.value).where(*_OWNED).order_by(_own.key)
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
            lambda connection: {row[0]: row[1] for row in connection.execute(_ALL, name)}
        )

    def put(self, account_id: int, kind: str, key: str, value: bytes) -> Deferred[None]:
        """Keep a value in place of the one before. Fails with IntegrityError without the account."""
        row = {"account_id": account_id, "kind": kind, "key": key, "value": value}
        return self._store.write(lambda connection: _PUT(connection, row))

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
