"""What of a managed session is on disk: who it is, how much it has handled, and what its client has not acknowledged.

The theory. A message is on disk before it is sent, so that a client never counts what a crash takes away. What it
caused on disk and the sender's own count are asked for in the same turn, so they are one transaction: after a
crash either both are there, or neither, and the sender sends it again. Presence and iqs are sent at once; iqs are
written before an acknowledgement is sent that may cover what caused them (`flush`), both when they have waited for
long, and at a stop in order.

A stanza's position on disk is its number among all that the session was ever sent, so that the client's count says
which rows it has. After a restart there may have been more sent than is on disk, so what comes then gets positions
far behind (`unsent_from`), and the client's count at the resumption puts all in place again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from xmppd.storage import SmSession, SmStanza
from xmppd.wire.sm import Machine
from xmppd.wire.stanza import Stanza

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from xmppd.core.session import Session


@dataclass(slots=True, eq=False)
class Queued:
    """A stanza that the client has not acknowledged, and when it came, in milliseconds since 1970.

    `held`: it is not to be sent before it is on disk. `kept`: somebody else has it until then. `ticket`: of the
    writing that it is part of, 0 where nobody has asked for it to be written.
    """

    stanza: Stanza
    time: int
    held: bool
    kept: bool = False
    position: int = 0
    ticket: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes in memory; the start tag is not worth counting."""
        return len(self.stanza.inner)

    def row(self) -> SmStanza:
        """As it is stored."""
        return SmStanza(self.position, self.time, self.stanza.to_bytes())


class Journal:
    """The disk side of one session. `settled` is called with the stanzas of a writing when it is done, and whether
    they are on disk; `state` gives what else of the session is to be kept."""

    def __init__(
        self, session: Session, sm_id: str, machine: Machine[Queued],
        settled: Callable[[list[Queued], bool], None], state: Callable[[], bytes], stored: SmSession | None = None,
    ) -> None:  # fmt: skip
        self.sm_id = sm_id
        self.hibernated: int | None = stored.hibernated if stored else None
        self.unsent_from: int | None = stored.unsent_from if stored else None
        self.changed = False  # something of the session is other than it is on disk
        self.torn = False  # rows are missing, or not in their places: all have to be written again
        self._session = session
        self._machine = machine
        self._settled = settled
        self._state = state
        self._store = session.host.server.store.sm
        self._key = stored.id if stored else secrets.randbits(62) + 1
        self._ticket = 0
        self._handled = stored.handled if stored else 0
        self._forgotten = 0  # the position up to which rows were deleted, or are being
        self._next = 0  # after a restart: the position of the next stanza

    def _row(self) -> SmSession:
        self._handled = self._machine.handled
        self.changed = False
        return SmSession(
            self._key, self._session.account.id, self.sm_id, self._session.jid.resource,
            self._handled, self.hibernated, self.unsent_from, self._state(),
        )  # fmt: skip

    # ---- the session

    def begin(self) -> None:
        """There is a new session."""
        self._store.add(self._row()).addErrback(self._lost)

    def save(self) -> None:
        """Write what has changed of the session, without its stanzas."""
        if self.changed and not self.torn:
            self._store.save(self._row()).addErrback(self._lost)

    def count(self) -> None:
        """Write how much has been handled."""
        if self._handled != self._machine.handled and not self.torn:
            self._handled = self._machine.handled
            waiting = self._store.handled(self._key, self._handled)
            if waiting is not None:
                waiting.addErrback(self._not_counted)

    def _not_counted(self, failure: Any) -> None:
        self._handled = -1

    def _lost(self, failure: Any) -> None:
        self.torn = True

    def remove(self) -> Deferred[None]:
        """The session is over."""
        return self._store.remove(self._key)

    # ---- its stanzas

    def place(self, item: Queued) -> None:
        """Give a stanza its position, and put it at the end of the machine's."""
        position = self._machine.push(item)
        if self.unsent_from is not None:
            self._next = max(self._next, self.unsent_from) + 1
            position = self._next
        item.position = position

    def found(self, item: Queued) -> None:
        """A stanza that was on disk at the start."""
        self._ticket += 1
        item.ticket = self._ticket
        self._next = max(self._next, item.position)

    def write(self, items: Iterable[Queued]) -> None:
        """Write stanzas that have their places."""
        if self.torn:
            self.rewrite()
            return
        for item in items:
            self._ticket += 1
            item.ticket = self._ticket
            data = item.row()
            self._wait(self._store.push(self._key, *data), [item], self._ticket)

    def take_over(self, items: list[Queued], also: Callable[[Connection], None]) -> Deferred[bool]:
        """Write stanzas that somebody else has kept, who forgets them by `also` in the same transaction; fires with
        whether that was done."""
        if self.torn:
            return self.rewrite(also)
        self._ticket += 1
        for item in items:
            item.ticket = self._ticket
        written = self._store.take_over(self._key, [item.row() for item in items], also)
        return self._wait(written, items, self._ticket)

    def rewrite(self, also: Callable[[Connection], None] | None = None) -> Deferred[bool]:
        """Write the session and all its stanzas anew, in the places that they have now; fires with whether that was
        done."""
        items = list(self._machine.items)
        self._ticket += 1
        for number, item in enumerate(items, self._machine.acknowledged + 1):
            item.ticket = self._ticket
            if self.unsent_from is None:
                item.position = number
        self.torn = False
        rewritten = self._store.rewrite(self._row(), [item.row() for item in items], also)
        rewritten.addErrback(self._still_torn)
        return self._wait(rewritten, items, self._ticket)

    def _still_torn(self, failure: Any) -> Any:
        self.torn = True
        return failure

    def _wait(self, writing: Deferred[None], items: list[Queued], ticket: int) -> Deferred[bool]:
        def done(outcome: object, stored: bool) -> bool:
            # A later writing has them, and its outcome is what counts.
            mine = [item for item in items if item.ticket == ticket]
            if mine:
                self._settled(mine, stored)
            return stored

        return writing.addCallbacks(done, done, callbackArgs=(True,), errbackArgs=(False,))

    def forget(self, items: list[Queued]) -> None:
        """The client has acknowledged these: their rows may go, when it is convenient."""
        for item in items:
            if item.ticket:
                self._forgotten = max(self._forgotten, item.position)

    @property
    def has_to_forget(self) -> bool:
        """Whether there are rows that may go."""
        return self._forgotten > 0

    def tidy(self) -> None:
        """Delete what was acknowledged."""
        if self._forgotten and not self.torn:
            self._store.acknowledged(self._key, self._forgotten).addErrback(lambda failure: None)
            self._forgotten = 0

    # ---- after a restart

    def resume(self, h: int) -> None:
        """The client says how much it has: what it has not is put in its place, here and on disk. Raises
        `HandledCountTooHigh`."""
        assert self.unsent_from is not None
        self._machine.place(h, [item.position for item in self._machine.items if item.position < self.unsent_from])
        self.unsent_from = None
        self.rewrite()


