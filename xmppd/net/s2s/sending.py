"""Stanzas that a stream has sent, and whether the other server has them.

It says so itself where it acknowledges (XEP-0198). Where it does not, they count as arrived once its kernel has them
and the stream has lived on for a while: a server that ends may not have looked at what came last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from xmppd.wire import ns, sm
from xmppd.wire.content import from_client
from xmppd.wire.delay import delayed
from xmppd.wire.errors import StanzaError
from xmppd.wire.sm import Machine

if TYPE_CHECKING:
    from xmppd.core.clock import Clock
    from xmppd.net.s2s.link import Item
    from xmppd.net.transport import ServerTransport

LATE_MS = 1000  # how long a stanza may have waited without its recipient being told (XEP-0203)
SETTLE_SECONDS = 2.0  # how long a stream lives on before what it does not acknowledge counts as arrived


class Sending:
    """What one stream has sent. `max_bytes` is the largest stanza that the peer takes, 0 where it has not said
    (XEP-0478). `machine` counts for both directions, once `enable` was called."""

    def __init__(self, transport: ServerTransport, clock: Clock, now_ms: Callable[[], int]) -> None:
        self.max_bytes = 0
        self.machine: Machine[Item] | None = None
        self._transport = transport
        self._clock = clock
        self._now_ms = now_ms
        self._written = 0  # bytes of stanzas
        self._settling: deque[tuple[int, Item]] = deque()  # each with what was written up to its end
        self._ask_soon = False
        self._over = False
        self._all_arrived: list[Deferred[None]] = []

    def enable(self) -> Machine[Item]:
        """From now on stanzas are acknowledged."""
        self.machine = Machine()
        return self.machine

    def send(self, item: Item) -> None:
        """Send a stanza; one that is larger than the peer takes goes back to its sender (XEP-0478 section 4)."""
        stanza = item.stanza
        if stanza.name == "message" and (item.tries > 1 or self._now_ms() - item.received > LATE_MS):
            stanza = delayed(stanza, item.received, item.link.local)
        data = from_client(stanza, ns.SERVER)
        if self.max_bytes and len(data) > self.max_bytes:
            text = f"that server takes no more than {self.max_bytes} bytes"
            item.link.refuse(item, StanzaError("policy-violation", text))
            return
        self._transport.write(data)
        if self.machine is None:
            self._written += len(data)
            self._settling.append((self._written, item))
            return
        self.machine.push(item)
        self.machine.was_sent(self._clock.seconds())
        self._ask()

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Some time has passed: ask again, and see what has arrived that was sent so many seconds ago."""
        self._ask()
        if not self._settling or self._over:
            return
        # Under TLS more bytes are on their way than were written, so nothing counts too early.
        there = self._written - self._transport.outstanding
        latest = self._clock.seconds() - seconds
        arrived: list[Item] = []
        while self._settling and self._settling[0][0] <= there and (self._settling[0][1].sent_at or 0.0) <= latest:
            arrived.append(self._settling.popleft()[1])
        _arrived(arrived)
        self._tell()

    def _ask(self) -> None:
        """Ask for an acknowledgement behind what this turn sends; one question at a time."""
        machine = self.machine
        if machine is not None and machine.asked is None and not self._ask_soon and machine.sent:
            self._ask_soon = True
            self._clock.callLater(0, self._ask_now)

    def _ask_now(self) -> None:
        self._ask_soon = False
        machine = self.machine
        if machine is not None and not self._over and machine.asked is None and machine.sent:
            machine.ask(self._clock.seconds())
            self._transport.write(sm.REQUEST)

    def acknowledged(self, h: int) -> None:
        """The peer has handled so many; raises `HandledCountTooHigh`."""
        assert self.machine is not None
        items = self.machine.acknowledge(h, self._clock.seconds())
        if items:  # else it is asked again in a while
            _arrived(items)
            self._ask()
        self._tell()

    def when_all_arrived(self) -> Deferred[None]:
        """Fires when nothing is under way any more, or the stream is over."""
        arrived: Deferred[None] = Deferred()
        self._all_arrived.append(arrived)
        self._tell()
        return arrived

    def _tell(self) -> None:
        if not self.unconfirmed:
            waiting, self._all_arrived = self._all_arrived, []
            for each in waiting:
                each.callback(None)

    @property
    def owed_since(self) -> float | None:
        """Since when the oldest stanza is not acknowledged, by the clock."""
        return self.machine.items[0].sent_at if self.machine is not None and self.machine.items else None

    @property
    def unconfirmed(self) -> int:
        """How many stanzas are not known to have arrived."""
        return len(self._settling) + (len(self.machine.items) if self.machine is not None else 0)

    def end(self) -> list[Item]:
        """The stream is over: what is not known to have arrived, in order."""
        self._over = True
        items = [item for _, item in self._settling]
        self._settling.clear()
        if self.machine is not None:
            items += self.machine.items
            self.machine = None
        self._tell()
        return items


def _arrived(items: list[Item]) -> None:
    """Tell each link of its own."""
    by_link: dict[int, list[Item]] = {}
    for item in items:
        by_link.setdefault(id(item.link), []).append(item)
    for mine in by_link.values():
        mine[0].link.arrived(mine)
