"""Stanzas that are on their way to other servers, and that those have not acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, insert, select
from twisted.internet.defer import Deferred

from .rows import OutgoingStanza
from .schema import outgoing_stanza

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Outbox"]

_row = outgoing_stanza.c
_APPEND = insert(outgoing_stanza)
_DELETE = delete(outgoing_stanza).where(_row.id == bindparam("one"))
_PAGE = (
    select(_row.id, _row.received, _row.stanza)
    .where(_row.id > bindparam("after"))
    .order_by(_row.id)
    .limit(bindparam("limit"))
)


class Outbox:
    """What is on its way, of all hosts and components. The ids are made by whoever appends, in the order in which
    stanzas are to leave, so that nobody waits for them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, id: int, received: int, stanza: bytes) -> Deferred[None]:
        """Keep a stanza that was `received` then, in milliseconds; fails with IntegrityError for an id in use."""
        return self._store.append(_APPEND, {"id": id, "received": received, "stanza": stanza})

    def delete(self, ids: Sequence[int]) -> Deferred[None]:
        """Forget stanzas: they have arrived, or gone back."""
        rows = [{"one": id} for id in ids]

        def job(connection: Connection) -> None:
            connection.execute(_DELETE, rows)

        return self._store.write(job)

    def page(self, after: int, limit: int) -> Deferred[list[OutgoingStanza]]:
        """The first `limit` stanzas with ids greater than `after`, in order."""
        page = {"after": after, "limit": limit}
        return self._store.write(lambda connection: [OutgoingStanza(*row) for row in connection.execute(_PAGE, page)])
