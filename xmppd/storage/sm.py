"""Sessions under stream management, and what their clients have not acknowledged (XEP-0198 section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from twisted.internet.defer import Deferred

from .rows import SmSession, SmStanza
from .schema import account, sm_session, sm_stanza
from .sql import Query, Upsert

if TYPE_CHECKING:
    from .store import Store

__all__ = ["StreamManagement"]

_session = sm_session.c
_stanza = sm_stanza.c
_SAVE = Upsert(sm_session)
_PUSH = insert(sm_stanza)
_UPDATE = (
    update(sm_session)
    .where(_session.id == bindparam("session"))
    .values(hibernated=bindparam("since"), unsent_from=bindparam("from_position"), state=bindparam("new_state"))
)
_HANDLED = update(sm_session).where(_session.id == bindparam("session")).values(handled=bindparam("count"))
_ACKNOWLEDGED = delete(sm_stanza).where(
    _stanza.session_id == bindparam("session"), _stanza.position <= bindparam("last")
)
_CLEAR = delete(sm_stanza).where(_stanza.session_id == bindparam("session"))
_REMOVE = delete(sm_session).where(_session.id == bindparam("session"))
# There are more accounts than sessions, so SQLite must not begin with those of the host.
_ACCOUNTS = (
    select(account.c.localpart)
    .where(account.c.id.in_(select(_session.account_id)), func.coalesce(account.c.host, "") == bindparam("of_host"))
    .order_by(account.c.localpart)
)
_SESSIONS = Query(select(sm_session).where(_session.account_id == bindparam("account")).order_by(_session.id))
_STANZAS = Query(
    select(_stanza.position, _stanza.sent, _stanza.stanza)
    .where(_stanza.session_id == bindparam("session"))
    .order_by(_stanza.position)
)
_LAST = select(func.coalesce(func.max(_stanza.position), 0)).where(_stanza.session_id == _session.id).scalar_subquery()
_RECOVER = (
    update(sm_session).where(_session.unsent_from.is_(None)).values(unsent_from=_LAST + bindparam("slack"))
)
_HAS = select(_stanza.position).where(
    _stanza.session_id == bindparam("session"), _stanza.position == bindparam("place")
)


class StreamManagement:
    """The managed sessions of all accounts. What is asked for in one turn is on disk together, or not at all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._generation = 0
        self._counts: dict[int, dict[str, int]] = {}  # of the group that is collected, by session

    def add(self, session: SmSession) -> Deferred[None]:
        """A new session. Fails with IntegrityError without the account."""
        row = asdict(session)
        return self._store.write(lambda connection: _SAVE(connection, row))

    def save(self, session: SmSession) -> Deferred[None]:
        """Keep what has become of a session, but for how much it has handled."""
        row = {
            "session": session.id, "since": session.hibernated, "from_position": session.unsent_from,
            "new_state": session.state,
        }  # fmt: skip
        return self._store.append(_UPDATE, row)

    def handled(self, id: int, count: int) -> Deferred[None] | None:
        """So many of the client's stanzas have been handled, more than at the call before; None where that goes with
        an earlier call's."""
        if self._generation != self._store.generation:
            self._generation = self._store.generation
            self._counts.clear()
        row = self._counts.get(id)
        if row is not None:
            row["count"] = count
            return None
        self._counts[id] = row = {"session": id, "count": count}
        return self._store.append(_HANDLED, row)

    def push(self, id: int, position: int, sent: int, stanza: bytes) -> Deferred[None]:
        """One more stanza for the client; `sent` is its time in milliseconds. Fails with IntegrityError without the
        session."""
        row = {"session_id": id, "position": position, "sent": sent, "stanza": stanza}
        return self._store.append(_PUSH, row)

    def take_over(
        self, id: int, stanzas: Iterable[SmStanza], also: Callable[[Connection], None]
    ) -> Deferred[None]:
        """More stanzas for the client, and `also` in the same transaction."""
        rows = [{"session_id": id, **stanza._asdict()} for stanza in stanzas]

        def job(connection: Connection) -> None:
            connection.execute(_PUSH, rows)
            also(connection)

        return self._store.write(job)

    def acknowledged(self, id: int, position: int) -> Deferred[None]:
        """The client has all up to this position."""
        return self._store.append(_ACKNOWLEDGED, {"session": id, "last": position})

    def rewrite(self, session: SmSession, stanzas: Iterable[SmStanza]) -> Deferred[None]:
        """Keep a session with just these stanzas."""
        row = asdict(session)
        rows = [{"session_id": session.id, **stanza._asdict()} for stanza in stanzas]

        def job(connection: Connection) -> None:
            connection.execute(_CLEAR, {"session": session.id})
            _SAVE(connection, row)
            if rows:
                connection.execute(_PUSH, rows)

        self._counts.pop(session.id, None)  # a count that comes now has to come behind this
        return self._store.write(job)

    def remove(self, id: int) -> Deferred[None]:
        """The session is over, and what was for it is somebody else's."""

        def job(connection: Connection) -> None:
            connection.execute(_REMOVE, {"session": id})

        return self._store.write(job)

    def has(self, id: int, position: int) -> Deferred[bool]:
        """Whether the session's stanza in this place is there, after all that was asked for before."""
        row = {"session": id, "place": position}
        return self._store.write(lambda connection: connection.execute(_HAS, row).first() is not None)

    def recover(self, slack: int) -> Deferred[None]:
        """Whatever ran before does not run any more, and its clients may have been sent more than is here, by `slack`
        at most: positions are not what they count until they have said what they have."""

        def job(connection: Connection) -> None:
            connection.execute(_RECOVER, {"slack": slack})

        return self._store.write(job)

    def accounts(self, host: str) -> Deferred[list[str]]:
        """The localparts of a host's accounts that have sessions."""
        row = {"of_host": host}
        return self._store.write(lambda connection: list(connection.execute(_ACCOUNTS, row).scalars()))

    def sessions(self, account_id: int) -> Deferred[list[tuple[SmSession, list[SmStanza]]]]:
        """The sessions of an account, oldest first, each with what its client has not acknowledged, in order."""

        def stanzas(connection: Connection, id: int) -> list[SmStanza]:
            return [SmStanza(*row) for row in _STANZAS(connection, {"session": id})]

        def job(connection: Connection) -> list[tuple[SmSession, list[SmStanza]]]:
            found = [SmSession(*row) for row in _SESSIONS(connection, {"account": account_id})]
            return [(session, stanzas(connection, session.id)) for session in found]

        return self._store.write(job)
