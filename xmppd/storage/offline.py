"""Messages that wait for their recipient (XEP-0160)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, func, insert, select
from twisted.internet.defer import Deferred

from .rows import OfflineMessage
from .schema import offline_message
from .sql import Query

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Offline", "forget"]

_message = offline_message.c
_SIZE = select(func.count(), func.coalesce(func.sum(func.length(_message.stanza)), 0)).where(
    _message.account_id == bindparam("id")
)
_APPEND = insert(offline_message)
_PEEK = Query(
    select(_message.id, _message.received, _message.stanza)
    .where(_message.account_id == bindparam("id"), _message.id > bindparam("after"))
    .order_by(_message.id)
    .limit(bindparam("limit"))
)
_DELETE_ONE = delete(offline_message).where(
    _message.account_id == bindparam("account"), _message.id == bindparam("one")
)


class Offline:
    """The waiting messages of all accounts.

    To hand them out: `peek`, deliver, and `delete` those that the recipient has acknowledged.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, account_id: int, received: int, stanza: bytes) -> Deferred[None]:
        """Keep a message that was `received` then, in milliseconds. Fails with IntegrityError without the account."""
        return self._store.append(_APPEND, {"account_id": account_id, "received": received, "stanza": stanza})

    def append_bounded(
        self, account_id: int, received: int, stanza: bytes, limit: int, limit_bytes: int
    ) -> Deferred[tuple[int, int] | None]:
        """As `append`, for whoever does not know how many wait: fires with how many there are now and how many bytes
        they have, or with None where they would be more than the limits, and it was not kept."""

        def job(connection: Connection) -> tuple[int, int] | None:
            count, size = _size(connection, account_id)
            if count >= limit or size + len(stanza) > limit_bytes:
                return None
            connection.execute(_APPEND, {"account_id": account_id, "received": received, "stanza": stanza})
            return count + 1, size + len(stanza)

        return self._store.write(job)

    def peek(self, account_id: int, after: int = 0, limit: int = 1000) -> Deferred[list[OfflineMessage]]:
        """The first `limit` messages that follow the id `after`, in the order in which they were kept."""
        page = {"id": account_id, "after": after, "limit": limit}
        return self._store.write(
            lambda connection: [OfflineMessage(*row) for row in _PEEK(connection, page)]
        )

    def delete(self, account_id: int, ids: Sequence[int]) -> Deferred[None]:
        """Forget the messages with these ids."""
        return self._store.write(lambda connection: forget(account_id, ids, connection))

    def size(self, account_id: int) -> Deferred[tuple[int, int]]:
        """How many messages wait, and how many bytes they have, with those that are queued."""
        return self._store.write(lambda connection: _size(connection, account_id))


def forget(account_id: int, ids: Sequence[int], connection: Connection) -> None:
    """Delete messages, as part of somebody's job."""
    if ids:
        connection.execute(_DELETE_ONE, [{"account": account_id, "one": id} for id in ids])


def _size(connection: Connection, account_id: int) -> tuple[int, int]:
    count, size = connection.execute(_SIZE, {"id": account_id}).one()
    return int(count), int(size)
