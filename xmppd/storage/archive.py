"""The messages of accounts, in the order in which they came (XEP-0313).

An id is 16 bytes that sort by arrival; whoever makes them answers for that. A page is found by an index from where
it begins, so it costs the same wherever it lies and however long the archive is.

What comes is on disk in a table of its own first, behind what came before from anybody, and is moved to its place
together with a thousand others, or before somebody looks there. One by one each message would change three pages for
each of its two archives; figures in docs/decisions/0014-hot-path.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BindParameter, Connection, Select, bindparam, delete, false, func, insert, select, true
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .rows import Archived
from .schema import account, archive, archive_recent
from .sql import Query, insert_new

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Archive", "Range"]

T = TypeVar("T")

MAX_BYTES = 1024 * 1024  # of a page
MAX_RECENT = 1000  # messages that wait for their places
MAX_RECENT_BYTES = 4 * 1024 * 1024
# Characters of an address that fit into an index for certain. A longer one goes to its place at once: where PostgreSQL
# refuses it, as it may above 2,700 bytes, it fails alone, and not with all that wait.
MAX_KEY = 500

_row = archive.c
_COLUMNS = [column.name for column in archive.c]
_APPEND = insert(archive_recent)
_PLACE = insert(archive)
# The condition is for SQLite, which takes the ON of ON CONFLICT for that of a join where there is none.
_recent = select(*(archive_recent.c[name] for name in _COLUMNS)).where(true())
_SORT = insert_new(archive, _recent.order_by(archive_recent.c.account_id, archive_recent.c.id))
_SORTED = delete(archive_recent)
_FOUND = select(func.count()).select_from(archive).where(
    _row.account_id == bindparam("account"), _row.id.in_(bindparam("ids", expanding=True))
)
_HELD = select(_row.id).where(
    _row.account_id == bindparam("account"), _row.id.in_(bindparam("ids", expanding=True))
)
_FIRST = select(_row.id).where(_row.account_id == bindparam("account")).order_by(_row.id).limit(1)
_LAST = (
    select(_row.id)
    .where(_row.account_id == bindparam("account"), _row.id <= bindparam("until"))
    .order_by(_row.id.desc())
    .limit(1)
)
_OLD = (
    select(_row.id)
    .where(_row.account_id == bindparam("account"), _row.id < bindparam("before"))
    .order_by(_row.id)
    .limit(bindparam("most"))
)
_DELETE = delete(archive).where(_row.account_id == bindparam("account"), _row.id.in_(bindparam("ids", expanding=True)))
_ACCOUNTS = (
    select(account.c.id)
    .where(account.c.host == bindparam("of_host"), account.c.id > bindparam("after"))
    .order_by(account.c.id)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Range:
    """What of an archive is meant: messages with a `contact` (a bare address; with `resource` of that one alone),
    whose ids are greater than `after` and less than `before`, or are among `ids`. None and "" do not limit."""

    contact: str | None = None
    resource: str = ""
    after: bytes | None = None
    before: bytes | None = None
    ids: tuple[bytes, ...] | None = None


class Archive:
    """The archives of all accounts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.appended = 0  # messages, so far
        # Whose messages wait for their places: those that came since the last moving was asked for, and those that it
        # is for until it is done. `_known` is False where there may be others, as at the start.
        self._unsorted: set[int] = set()
        self._sorting: set[int] = set()
        self._known = False
        self._sorts = 0
        self._recent = 0
        self._recent_bytes = 0

    def append(self, account_id: int, id: bytes, contact: str, resource: str, stanza: bytes) -> Deferred[None]:
        """Keep a message with somebody; fails with IntegrityError without the account."""
        row = {"account_id": account_id, "id": id, "contact": contact, "resource": resource, "stanza": stanza}
        self.appended += 1
        if len(contact) + len(resource) > MAX_KEY:
            return self._store.append(_PLACE, row)
        kept = self._store.append(_APPEND, row)
        self._unsorted.add(account_id)
        self._recent += 1
        self._recent_bytes += len(stanza)
        if self._recent >= MAX_RECENT or self._recent_bytes >= MAX_RECENT_BYTES:
            self._sort().addErrback(lambda failure: None)  # it is tried again, and whoever waits for it is told
        return kept

    def _sort(self) -> Deferred[None]:
        """Move what waits to its place."""
        self._sorts += 1
        number = self._sorts
        self._sorting |= self._unsorted
        self._unsorted = set()
        self._recent = self._recent_bytes = 0

        def settled(outcome: Any) -> Any:
            if isinstance(outcome, Failure):
                self._known = False
            elif number == self._sorts:  # else some are those of a later one
                self._sorting.clear()
                self._known = True
            return outcome

        return self._store.write(_sort).addBoth(settled)

    def _is_sorted(self, account_id: int) -> bool:
        """Whether everything in an archive has its place."""
        return self._known and account_id not in self._unsorted and account_id not in self._sorting

    def _read(self, account_id: int, job: Callable[[Connection], T]) -> Deferred[T]:
        """Read from an archive in which everything has its place."""
        if self._is_sorted(account_id):
            return self._store.read(job)
        return self._sort().addCallback(lambda _: self._store.read(job))

    def _write(self, account_id: int, job: Callable[[Connection], T]) -> Deferred[T]:
        """As `_read`, where it may be written, and behind what was asked for before."""
        if not self._is_sorted(account_id):
            self._sort().addErrback(lambda failure: None)  # of the same transaction, so the job fails as well
        return self._store.write(job)

    def page(
        self, account_id: int, range: Range, limit: int, backwards: bool, known: Sequence[bytes]
    ) -> Deferred[tuple[list[Archived], bool] | None]:
        """The first `limit` messages of a range in order, or with `backwards` the last ones, also in order, as far as
        they have no more than `MAX_BYTES`, and whether these are all.

        None where one of the ids in `known` is not in the archive. Sees what is committed.
        """
        query, values = _query(range, backwards), _values(account_id, range, limit + 1)
        must_be = sorted(set(known))

        def job(connection: Connection) -> tuple[list[Archived], bool] | None:
            if must_be:
                count = connection.execute(_FOUND, {"account": account_id, "ids": must_be}).scalar_one()
                if count != len(must_be):
                    return None
            rows: list[Archived] = []
            size = 0
            for id, stanza in query.each(connection, values):
                size += len(stanza)
                if len(rows) == limit or (rows and size > MAX_BYTES):
                    return rows[::-1] if backwards else rows, False
                rows.append(Archived(id, stanza))
            return rows[::-1] if backwards else rows, True

        return self._read(account_id, job)

    def ends(self, account_id: int, until: bytes = b"\xff" * 16) -> Deferred[tuple[bytes, bytes] | None]:
        """The ids of the first message, and of the last one up to `until`; None where there is none. Sees what is
        committed."""
        row = {"account": account_id, "until": until}

        def job(connection: Connection) -> tuple[bytes, bytes] | None:
            first, last = (connection.execute(end, row).scalar() for end in (_FIRST, _LAST))
            return None if first is None or last is None else (first, last)

        return self._read(account_id, job)

    def holds(self, account_id: int, ids: Sequence[bytes]) -> Deferred[set[bytes]]:
        """Which of these ids are in the archive, with what was asked for before."""
        row = {"account": account_id, "ids": list(ids)}
        return self._write(account_id, lambda connection: set(connection.execute(_HELD, row).scalars()))

    def expire(self, account_id: int, before: bytes, limit: int) -> Deferred[int]:
        """Delete the oldest messages, `limit` at most, whose ids are less than `before`; fires with how many there
        were."""

        def job(connection: Connection) -> int:
            row = {"account": account_id, "before": before, "most": limit}
            ids = list(connection.execute(_OLD, row).scalars())
            if ids:
                connection.execute(_DELETE, {"account": account_id, "ids": ids})
            return len(ids)

        return self._write(account_id, job)

    def accounts(self, host: str, after: int, limit: int) -> Deferred[list[int]]:
        """The ids of a host's accounts that are greater than `after`."""
        page = {"of_host": host, "after": after, "most": limit}
        return self._store.read(lambda connection: list(connection.execute(_ACCOUNTS, page).scalars()))


def _sort(connection: Connection) -> None:
    connection.execute(_SORT.on(connection))
    connection.execute(_SORTED)


def _query(range: Range, backwards: bool) -> Query:
    if range.ids is not None:
        return Query(_select(range, backwards))
    return _query_like(
        range.contact is not None, bool(range.resource), range.after is not None, range.before is not None, backwards
    )


@cache
def _query_like(contact: bool, resource: bool, after: bool, before: bool, backwards: bool) -> Query:
    """The query for all ranges that are limited by the same, which takes longer to make than to ask."""
    like = Range("" if contact else None, "-" if resource else "", b"" if after else None, b"" if before else None)
    return Query(_select(like, backwards))


def _select(range: Range, backwards: bool) -> Select[tuple[bytes, bytes]]:
    """The messages of a range; what limits it are parameters, as `_values` gives them."""
    query = select(_row.id, _row.stanza).where(_row.account_id == bindparam("account"))
    if range.contact is not None:
        query = query.where(_row.contact == bindparam("contact"))
        if range.resource:
            query = query.where(_row.resource == bindparam("resource"))
    if range.after is not None:
        query = query.where(_row.id > bindparam("after"))
    if range.before is not None:
        query = query.where(_row.id < bindparam("before"))
    if range.ids is not None:
        these: list[BindParameter[bytes]] = [bindparam(f"id{number}") for number, _ in enumerate(range.ids)]
        query = query.where(_row.id.in_(these) if these else false())
    return query.order_by(_row.id.desc() if backwards else _row.id).limit(bindparam("most"))


def _values(account_id: int, range: Range, limit: int) -> dict[str, Any]:
    ids = {f"id{number}": id for number, id in enumerate(range.ids or ())}
    limits = {"contact": range.contact, "resource": range.resource, "after": range.after, "before": range.before}
    return {"account": account_id, "most": limit, **limits, **ids}
