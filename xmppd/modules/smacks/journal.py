"""What of a managed session is on disk: who it is, how much it has handled, and what its client has not acknowledged.

The theory. A message is on disk before it is sent, so that a client never counts what a crash takes away. What it
caused on disk and the sender's own count are asked for in the same turn, so they are one transaction: after a
crash either both are there, or neither, and the sender sends it again. Presence and iqs are sent at once; iqs are
written with the first count that may cover what caused them, both when they have waited for long, and at a stop in
order.

A stanza's position on disk is its number among all that the session was ever sent, so that the client's count says
which rows it has. After a restart there may have been more sent than is on disk, so what comes then gets positions
far behind (`unsent_from`), and the client's count at the resumption puts all in place again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from xmppd.modules.smacks.state import save_state
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
    they are on disk; `failed` when something could not be written that is to be tried again."""

    def __init__(
        self, session: Session, sm_id: str, machine: Machine[Queued],
        settled: Callable[[list[Queued], bool], None], failed: Callable[[], None], stored: SmSession | None = None,
    ) -> None:  # fmt: skip
        self.sm_id = sm_id
        self.hibernated: int | None = stored.hibernated if stored else None
        self.unsent_from: int | None = stored.unsent_from if stored else None
        self.changed = False  # something of the session may be other than it is on disk
        self.torn = False  # it is not known what is on disk: all has to be written again
        self.closed = False  # the session is over: what was for it is somebody else's
        self._session = session
        self._machine = machine
        self._settled = settled
        self._failed = failed
        self._taking: tuple[list[Queued], int, Deferred[bool]] | None = None  # what is being taken over
        self._unclear = False  # the store has not said whether it was
        self._store = session.host.server.store.sm
        # Later sessions have greater ones, and nobody has to be asked for a new one.
        self._key = stored.id if stored else int(session.host.server.now()) << 32 | secrets.randbits(32)
        self._ticket = 0
        self._handled = stored.handled if stored else 0  # as it is on disk, or will be where it is `_counted`
        self._counted = True
        self._saved = stored
        self._forgotten = 0  # the position up to which rows were deleted, or are being
        self._next = 0  # after a restart: the position of the next stanza

    def _row(self) -> SmSession:
        self.changed = False
        self._saved = SmSession(
            self._key, self._session.account.id, self.sm_id, self._session.jid.resource,
            self._handled, self.hibernated, self.unsent_from, save_state(self._session),
        )  # fmt: skip
        return self._saved

    # ---- the session

    def begin(self) -> None:
        """There is a new session."""
        self._store.add(self._row()).addErrback(self._lost)

    def save(self) -> None:
        """Write what has changed of the session, without its stanzas and its count."""
        if not self.changed or self.torn or self.closed:
            return
        before, row = self._saved, self._row()
        if before is None or replace(before, handled=row.handled) != row:
            self._store.save(row).addErrback(self._lost)

    def touch(self) -> Deferred[None]:
        """Write something, to see whether that works."""
        return self._store.save(self._row())

    def count(self) -> None:
        """Write how much has been handled. The caller has seen to it that what that caused is on disk as well."""
        if self.closed or (self._counted and self._handled == self._machine.handled):
            return
        self._counted = True
        self._handled = self._machine.handled
        if self.torn:
            self.rewrite()
            return
        waiting = self._store.handled(self._key, self._handled)
        if waiting is not None:
            waiting.addErrback(self._not_counted)

    def _not_counted(self, failure: Any) -> None:
        self._counted = False

    def _lost(self, failure: Any) -> None:
        self.torn = True
        self._counted = False
        self._failed()

    def remove(self) -> Deferred[None]:
        """The session is over."""
        self.closed = True
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
        if self._unclear or (self.torn and self._taking is not None):
            self._settled(list(items), False)
            return
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
        whether that was done. Where the store does not say, that is found out before anything else is written."""
        if self.torn or self._taking is not None:
            self._settled(items, False)
            return succeed(False)
        self._ticket += 1
        for item in items:
            item.ticket = self._ticket
        known: Deferred[bool] = Deferred()
        self._taking = items, self._ticket, known
        written = self._store.take_over(self._key, [item.row() for item in items], also)
        written.addCallbacks(lambda _: self._known(True), self._not_said)
        return known

    def _not_said(self, failure: Any) -> None:
        self._unclear = True
        self.find_out()

    @property
    def is_taking_over(self) -> bool:
        """Whether it is not known yet who has what was to be taken over."""
        return self._taking is not None

    def find_out(self) -> None:
        """Look whether what was taken over is here; what was asked for before that is done, or never will be."""
        if self._taking is not None and self._unclear:
            found = self._store.has(self._key, self._taking[0][0].position)
            found.addCallbacks(self._known, lambda failure: self._failed())

    def _known(self, here: bool) -> None:
        if self._taking is None:
            return
        (items, ticket, known), self._taking = self._taking, None
        self._unclear = False
        self._settled([item for item in items if item.ticket == ticket], here)
        if self.torn:
            self.rewrite()
        known.callback(here)

    def rewrite(self) -> None:
        """Write the session and all its stanzas anew, in the places that they have now."""
        if self.closed or self._taking is not None:
            self.torn = True
            return
        items = list(self._machine.items)
        self._ticket += 1
        for number, item in enumerate(items, self._machine.acknowledged + 1):
            item.ticket = self._ticket
            if self.unsent_from is None:
                item.position = number
        self.torn = False
        self._wait(self._store.rewrite(self._row(), [item.row() for item in items]), items, self._ticket)

    def _wait(self, writing: Deferred[None], items: list[Queued], ticket: int) -> None:
        def done(outcome: object, stored: bool) -> None:
            if not stored:
                self._lost(outcome)
            # Others may be part of a later writing, whose outcome is what counts.
            mine = [item for item in items if item.ticket == ticket]
            if mine and not self.closed:
                self._settled(mine, stored)

        writing.addCallbacks(done, done, callbackArgs=(True,), errbackArgs=(False,))

    def forget(self, items: list[Queued]) -> None:
        """The client has acknowledged these: their rows may go, when it is convenient."""
        for item in items:
            if item.ticket:
                self._forgotten = max(self._forgotten, item.position)

    def tidy(self) -> None:
        """Delete what was acknowledged."""
        position = self._forgotten
        if position and not self.torn and not self.closed:
            self._forgotten = 0
            self._store.acknowledged(self._key, position).addErrback(self._not_tidy, position)

    def _not_tidy(self, failure: Any, position: int) -> None:
        self._forgotten = max(self._forgotten, position)
        self._failed()

    # ---- after a restart

    def resume(self, h: int) -> None:
        """The client says how much it has: what it has not is put in its place, here and on disk. Raises
        `HandledCountTooHigh`."""
        assert self.unsent_from is not None
        self._machine.place(h, [item.position for item in self._machine.items if item.position < self.unsent_from])
        self.unsent_from = None
        self.rewrite()


