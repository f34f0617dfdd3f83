"""A session under stream management, as the `Keeper` of what its client is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from xmppd.config import Integer, Option, Size
from xmppd.core.events import QueuedWhileAway
from xmppd.core.session import NOBODY, Carrier, Session
from xmppd.modules.smacks.journal import Journal, Queued
from xmppd.storage import SmSession, SmStanza
from xmppd.wire import ns, sm
from xmppd.wire.errors import StanzaError
from xmppd.wire.sm import Machine
from xmppd.wire.stanza import Stanza
from xmppd.wire.stored import read_stored

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from twisted.internet.defer import Deferred

MAX_QUEUE = Option(
    "smacks_max_queue_size", Integer(minimum=10), "5000",
    "How many stanzas a client may leave unacknowledged; beyond it the session ends.",
)  # fmt: skip
MAX_QUEUE_BYTES = Option(
    "smacks_max_queue_bytes", Size(minimum=65536), "16M",
    "How many bytes a client may leave unacknowledged; beyond it the session ends.",
)  # fmt: skip
MAX_UNACKED = Option(
    "smacks_max_unacked_stanzas", Integer(minimum=0), "20",
    "After how many stanzas an acknowledgement is asked for at once; for fewer it is asked for a second later.",
)  # fmt: skip
OPTIONS = (MAX_QUEUE, MAX_QUEUE_BYTES, MAX_UNACKED)

ASK_SECONDS = 1.0  # after which an acknowledgement is asked for of what was sent since the last


@dataclass(slots=True, eq=False)
class Book:
    """What the managed sessions of a host share: how one hibernates, and for how long; those that something is due for
    at the next `sweep`; those of all hosts with iqs that are not on disk; the ended ones that are still there; and the
    messages, by their id(), that were refused since the last sweep: one for several resources is refused once."""

    hibernate: Callable[[Managed], None]
    wait: Callable[[Managed, float | None], None]
    unwritten: set[Managed]
    due: set[Managed] = field(default_factory=set)
    over: set[Journal] = field(default_factory=set)
    refused: dict[int, Stanza] = field(default_factory=dict)


class Managed:
    """Record of a session under stream management.

    `id` is the SM-ID, empty where the session cannot be resumed. `connected` is False while it hibernates, and while
    a stream that resumes it, `resuming`, is still being sent what waited; `timer` ends a hibernation, which began at
    `hibernated_at`, in seconds of the clock; `away` until the client is back; `expiring` when the time is over.
    `until`: when a hibernation ends for which somebody has chosen another time, in milliseconds since 1970.
    `restarted`: it was hibernating when the process started, and has not come back yet. `told`: the highest count that
    the client was told. `ack_owed`: an answer could not be given because the store failed.
    """

    __slots__ = (
        "ack_owed", "away", "book", "connected", "delay_told", "expiring", "hibernated_at", "id", "journal", "machine",
        "restarted", "resuming", "session", "size", "timer", "told", "until",
    )  # fmt: skip

    def __init__(self, session: Session, id: str, stored: SmSession | None = None) -> None:
        self.session = session
        self.id = id
        self.book = session.host.service(Book)
        self.machine: Machine[Queued] = Machine(stored.handled if stored else 0)
        self.journal = Journal(session, id, self.machine, self._settled, lambda: self.book.due.add(self), stored)
        self.connected = stored is None
        self.away = stored is not None
        self.restarted = stored is not None
        self.told = self.machine.handled
        self.resuming: Carrier | None = None
        self.timer: Any = None
        self.until: int | None = None
        self.hibernated_at = 0.0
        self.size = 0
        self.expiring = False
        self.delay_told = False
        self.ack_owed = False

    # ---- the keeper: what is for the client

    def push(self, stanza: Stanza, repeatable: bool) -> None:
        """See `Keeper`."""
        held = stanza.name == "message" and not repeatable
        item = Queued(stanza, self.session.host.server.now_ms(), held)
        self._place(item)
        if item.held:
            self.journal.write([item])
        elif stanza.name != "presence":
            self.book.unwritten.add(self)
        self.release()
        self._look_at_limits()

    def take_over(
        self, stanzas: list[tuple[int, Stanza]], forget: Callable[[Connection], None]
    ) -> Deferred[bool]:
        """See `Keeper`."""
        items = [Queued(stanza, received, held=True, kept=True) for received, stanza in stanzas]
        for item in items:
            self._place(item)
        taken = self.journal.take_over(items, forget)
        self._look_at_limits()
        return taken

    @property
    def hibernates(self) -> bool:
        """See `Keeper`."""
        return self.timer is not None

    @property
    def overdue(self) -> bool:
        """See `Keeper`."""
        return self.delay_told

    @property
    def queued(self) -> int:
        """See `Keeper`."""
        return len(self.machine.items)

    def unacknowledged(self) -> list[tuple[int, Stanza]]:
        """See `Keeper`."""
        return [(item.time, item.stanza) for item in self.machine.items if not item.held]

    def saved(self) -> Deferred[None]:
        """See `Keeper`."""
        self.journal.changed = True
        self.journal.save()
        return self.session.host.server.store.barrier()

    def wait(self, seconds: float | None) -> None:
        """See `Keeper`."""
        self.book.wait(self, seconds)

    def _place(self, item: Queued) -> None:
        self.journal.place(item)
        self.size += item.size
        self.book.due.add(self)
        if not item.held:
            self._tell_queued(item)

    def _tell_queued(self, item: Queued) -> None:
        """What waits for a client that is away may be a reason to wake it; what may not be kept is none."""
        if self.delay_told or (not self.connected and self.resuming is None):
            server = self.session.host.server
            event = QueuedWhileAway(self.session, item.stanza, item.time)
            server.tasks.start(self.session.host.bus.fire(event), "a hibernation's event")

    def release(self) -> None:
        """Send what may be sent, and ask for an acknowledgement where it is time."""
        if not self.connected:
            return
        machine, session = self.machine, self.session
        now = session.host.server.clock.seconds()
        while (item := machine.next()) is not None and not item.held:
            session.carrier.send(item.stanza.to_bytes())
            machine.was_sent(now)
        if machine.should_ask(now, session.host.settings[MAX_UNACKED], ASK_SECONDS):
            self.ask()

    def ask(self) -> None:
        """Ask for an acknowledgement (section 4)."""
        self.machine.ask(self.session.host.server.clock.seconds())
        self.session.carrier.send(sm.REQUEST)

    def _settled(self, items: list[Queued], stored: bool) -> None:
        """Stanzas are on disk, or cannot be."""
        if stored:
            for item in items:
                was_held, item.held, item.kept = item.held, False, False
                if was_held:
                    self._tell_queued(item)
            self.release()
            return
        dropped = [item for item in items if self._must_go(item)]
        for item in items:
            item.ticket = 0
            item.held = False
        self._drop(dropped)
        self.release()

    def _must_go(self, item: Queued) -> bool:
        """Whether a stanza is not for the client any more because it is not on disk: a message that its sender can be
        told of, one that somebody else has kept, and a copy, which nobody waits for. Errors are sent all the same,
        or their senders would never learn."""
        return item.kept or (item.held and item.stanza.type != "error")

    def _drop(self, items: list[Queued]) -> None:
        if not items:
            return
        server = self.session.host.server
        gone = set(items)
        moved = self.machine.drop(gone)
        self.size -= sum(item.size for item in items)
        if moved and self.journal.unsent_from is None:
            self.journal.torn = True
        for item in items:
            if item.kept or is_copy(self.session, item.stanza) or id(item.stanza) in self.book.refused:
                continue
            self.book.refused[id(item.stanza)] = item.stanza
            self.session.log.error("{session}: a message was refused: it cannot be stored", session=self.session.id)
            error = StanzaError("resource-constraint", "the server cannot store this now")
            server.tasks.start(server.bounce(item.stanza, error), "the error for a message")
        if self.journal.torn:
            self.journal.rewrite()

    def _look_at_limits(self) -> None:
        """A client that does not acknowledge: what is kept for it has to have an end."""
        settings = self.session.host.settings
        machine = self.machine
        if len(machine.items) <= settings[MAX_QUEUE] and self.size <= settings[MAX_QUEUE_BYTES]:
            return
        session = self.session
        session.log.info("{session}: too much is unacknowledged, the session ends", session=session.id)
        session.close("policy-violation", "too many stanzas are not acknowledged")

    def restore(self, row: SmStanza) -> None:
        """A stanza that the last process has stored."""
        item = Queued(read_stored(row.stanza), row.sent, held=False, position=row.position)
        self.machine.push(item)
        self.size += item.size
        self.journal.found(item)

    # ---- what the client says

    def handled(self, stanza: Stanza) -> None:
        """See `Keeper`. Where something was asked for of the store in this turn, a message's count goes with it. What
        presence and iqs cause may be caused twice."""
        self.machine.handled += 1
        if stanza.type == "set":  # it may have been told that it has what a crash must not take away, such as carbons
            self.journal.changed = True
            self.book.due.add(self)
            self.journal.save()
        elif stanza.name == "presence":
            self.journal.changed = True
            self.book.due.add(self)
        elif stanza.name == "message" and self.session.host.server.store.collecting:
            self.count()

    def count(self) -> None:
        """Write how much of what the client has sent was handled, with what it has made of the session, and with the
        iqs to anybody that it may have caused."""
        for managed in list(self.book.unwritten):
            managed.flush()
        self.journal.save()
        self.journal.count()

    def acknowledge(self, h: int) -> None:
        """The client has handled `h` stanzas; raises `HandledCountTooHigh`."""
        items = self.machine.acknowledge(h, self.session.host.server.clock.seconds())
        self.size -= sum(item.size for item in items)
        self.journal.forget(items)
        self.delay_told = False
        if items:
            self.book.due.add(self)

    def place(self, h: int) -> None:
        """The client has handled `h` of what the last process and this one had for it; raises
        `HandledCountTooHigh`."""
        self.journal.resume(h)
        self.size = sum(item.size for item in self.machine.items)
        self.delay_told = False

    def owes_error(self) -> bool:
        """Whether an error for the client waits for the disk: it answers something that counts as handled, so no
        count may be told before it is sent."""
        machine = self.machine
        return self.connected and any(item.stanza.type == "error" for item in islice(machine.items, machine.sent, None))

    def flush(self, everything: bool = False) -> None:
        """Write what is not on disk yet: iqs, or `everything`, that is presence too."""
        self.book.unwritten.discard(self)
        if self.journal.torn:
            self.journal.rewrite()
            return
        self.journal.write(
            item for item in self.machine.items if not item.ticket and (everything or item.stanza.name != "presence")
        )

    # ---- the stream

    def leave(self) -> None:
        """There is no stream any more, and nothing is sent."""
        self.connected = False
        self.resuming = None
        self.session.carrier = NOBODY

    def lost(self) -> bool:
        """See `Keeper`."""
        if not self.id or self.session.ended:
            return False
        self.book.hibernate(self)
        return True


def is_copy(session: Session, stanza: Stanza) -> bool:
    """Whether a message is a copy for this session, of one that went where it was to go, or of its archive."""
    if stanza.sender != session.account.jid:
        return False
    return any(stanza.has(*name) for name in ((ns.CARBONS, "sent"), (ns.CARBONS, "received"), (ns.MAM, "result")))
