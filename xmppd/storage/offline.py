"""Messages that wait for their recipient (XEP-0160)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Connection, LargeBinary, bindparam, delete, func, select, text
from twisted.internet.defer import Deferred

from .rows import OfflineMessage
from .schema import offline_message

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Offline"]

_message = offline_message.c
_COUNT = select(func.count()).select_from(offline_message).where(_message.account_id == bindparam("id"))
# One statement that counts and inserts. As text, because SQLAlchemy does not tell how many rows an INSERT of
# its own added on PostgreSQL.
_APPEND = text(
    "INSERT INTO offline_message (account_id, received, stanza) SELECT :id, :received, :stanza"
    " WHERE (SELECT count(*) FROM offline_message WHERE account_id = :id) < :limit"
).bindparams(
    bindparam("id", type_=BigInteger),
    bindparam("received", type_=BigInteger),
    bindparam("stanza", type_=LargeBinary),
    bindparam("limit", type_=BigInteger),
)
_PEEK = (
    select(_message.id, _message.received, _message.stanza)
    .where(_message.account_id == bindparam("id"), _message.id > bindparam("after"))
    .order_by(_message.id)
    .limit(bindparam("limit"))
)
_DELETE = delete(offline_message).where(
    _message.account_id == bindparam("account"), _message.id <= bindparam("last")
)

_DELETE_ONE = delete(offline_message).where(
    _message.account_id == bindparam("account"), _message.id == bindparam("one")
)


class Offline:
    """The waiting messages of all accounts.

    To hand them out: `peek`, deliver, and `delete` up to the last id that the recipient has acknowledged.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, account_id: int, received: int, stanza: bytes, limit: int) -> Deferred[bool]:
        """Keep a message; fires with False where `limit` messages wait already, and it was not kept.

        `received` is in milliseconds. Fails with IntegrityError without the account.
        """
        row = {"id": account_id, "received": received, "stanza": stanza, "limit": limit}
        return self._store.write(lambda connection: connection.execute(_APPEND, row).rowcount == 1)

    def peek(self, account_id: int, after: int = 0, limit: int = 1000) -> Deferred[list[OfflineMessage]]:
        """The first `limit` messages that follow the id `after`, in the order in which they were kept."""
        page = {"id": account_id, "after": after, "limit": limit}
        return self._store.write(
            lambda connection: [OfflineMessage(*row) for row in connection.execute(_PEEK, page)]
        )

    def delete(self, account_id: int, up_to_id: int) -> Deferred[int]:
        """Forget the messages with that id and smaller ones; fires with how many there were."""
        row = {"account": account_id, "last": up_to_id}
        return self._store.write(lambda connection: connection.execute(_DELETE, row).rowcount)

    def delete_these(self, account_id: int, ids: Sequence[int]) -> Deferred[None]:
        """Forget the messages with these ids."""
        rows = [{"account": account_id, "one": id} for id in ids]

        def job(connection: Connection) -> None:
            if rows:
                connection.execute(_DELETE_ONE, rows)

        return self._store.write(job)

    def count(self, account_id: int) -> Deferred[int]:
        """How many messages wait, with those that are queued."""
        row = {"id": account_id}
        return self._store.write(lambda connection: connection.execute(_COUNT, row).scalar_one())
