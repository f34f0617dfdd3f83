"""What is on its way from one of our domains to one of another server, in order.

Messages and subscriptions are on disk from the moment they come until the other server has them, and wait some time for
one that cannot be reached; everything else lives for the moment, and goes back to its sender at once. Whatever does not
arrive goes back exactly once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from xmppd.core.routing import SUBSCRIPTION_TYPES
from xmppd.net.s2s.failed import Failed, unreachable
from xmppd.net.s2s.options import MAX_BACKOFF, MAX_QUEUE, MAX_TOTAL_QUEUE, RETRY_TIME
from xmppd.storage import StorageError
from xmppd.wire.errors import StanzaError
from xmppd.wire.stanza import Stanza

if TYPE_CHECKING:
    from xmppd.net.s2s.federation import Federation
    from xmppd.net.s2s.stream import ServerStream

WINDOW = 64 * 1024  # bytes that a stream may hold; what comes then waits here, where it can still be given back
STANZA_WEIGHT = 500  # bytes of memory that the smallest stanza takes
FIRST_BACKOFF = 1.0  # seconds; it doubles with each failure


class Item:
    """One stanza on its way. `kept`: its id in the store, 0 where it is not there. `received`: when it came, in
    milliseconds since 1970; `deadline`: until when it may wait, by the clock; `tries`: how often it was sent, and
    `sent_at` when for the last time, None while it waits; `gone`: it is not to be sent any more."""

    __slots__ = ("deadline", "gone", "kept", "link", "received", "sent_at", "stanza", "tries", "weight")

    def __init__(self, link: Link, stanza: Stanza, kept: int, received: int, deadline: float) -> None:
        self.link = link
        self.stanza = stanza
        self.kept = kept
        self.received = received
        self.deadline = deadline
        self.tries = 0
        self.sent_at: float | None = None
        self.gone = False
        self.weight = STANZA_WEIGHT + len(stanza.inner) + sum(len(uri) for _, uri in stanza.prefixes)


def is_kept(stanza: Stanza) -> bool:
    """Whether a stanza is worth a place on disk, and a wait."""
    if stanza.name == "message":
        return stanza.type != "error"
    return stanza.name == "presence" and stanza.type in SUBSCRIPTION_TYPES


class Link:
    """The stanzas from `local` to `remote`. `stream` is what carries them now; `connecting`: one is being made."""

    def __init__(self, federation: Federation, local: str, remote: str) -> None:
        self.federation = federation
        self.local = local
        self.remote = remote
        self.stream: ServerStream | None = None
        self.connecting = False
        self.failure: Failed | None = None  # why there is none, until there is one
        self.failures = 0  # in a row: to connect, or of streams that were lost before anything has arrived
        self.retry_at = 0.0
        self.queue: deque[Item] = deque()
        self.size = 0  # of what waits or is not acknowledged, in bytes; about
        self.log: Logger = federation.log
        self._draining: ServerStream | None = None

    @property
    def is_unused(self) -> bool:
        """Whether nothing would be missed."""
        over = self.failure is None or self.federation.clock.seconds() >= self.retry_at
        return not self.size and self.stream is None and not self.connecting and over

    # ---- what comes

    def take(self, stanza: Stanza) -> None:
        """Send a stanza, as soon as that can be; raises `StanzaError`."""
        federation = self.federation
        now = federation.clock.seconds()
        kept = is_kept(stanza)
        resting = self.stream is None and not self.connecting and now < self.retry_at
        if self.failure is not None and resting and (not kept or self.failure.lasting):
            raise self.failure.error()
        item = Item(self, stanza, 0, federation.server.now_ms(), now + federation.settings[RETRY_TIME])
        if self.size + item.weight > federation.settings[MAX_QUEUE]:
            raise StanzaError("resource-constraint", "too much waits for that server")
        if federation.size + item.weight > federation.settings[MAX_TOTAL_QUEUE]:
            raise StanzaError("resource-constraint", "too much waits for other servers")
        if kept:
            item.kept = federation.next_id(item.received)
            stored = federation.server.store.outbox.append(item.kept, item.received, stanza.to_bytes())
            stored.addErrback(self._not_stored, item)
        self.add(item)

    def add(self, item: Item) -> None:
        """One more is to be sent."""
        self.size += item.weight
        self.federation.size += item.weight
        self.queue.append(item)
        self.go_on()

    def _not_stored(self, failure: Failure, item: Item) -> None:
        """The disk is full, for example: what has not left yet goes back to its sender."""
        self.log.error(
            "a stanza for {remote} could not be stored: {error}", remote=self.remote, error=failure.getErrorMessage()
        )
        item.kept = 0
        if item.sent_at is None and not item.gone:
            self.refuse(item, StanzaError("resource-constraint", "the server cannot store this now"))

    def go_on(self) -> None:
        """Send what waits, as far as it leaves; see to it that there is a stream."""
        if self.stream is None:
            if self.queue and not self.connecting and self.federation.clock.seconds() >= self.retry_at:
                self.federation.connect(self)
            return
        while self.queue and self.stream is not None and self._draining is None:
            if self.stream.transport.unsent >= WINDOW:
                self._draining = self.stream
                self.stream.transport.when_drained(self._drained)
                continue
            item = self.queue.popleft()
            if not item.gone:
                item.tries += 1
                item.sent_at = self.federation.clock.seconds()
                self.stream.send(item)

    def _drained(self, well: bool) -> None:
        # Of a lost connection `closed` will tell, and what waits stays until then.
        if well and self._draining is self.stream:
            self._draining = None
            self.go_on()

    # ---- the streams

    def opened(self, stream: ServerStream) -> None:
        """There is a stream that may carry this pair."""
        if self.stream is None:
            self.stream = stream
            self._draining = None
            self.failure = None
            self.retry_at = 0.0
            self.go_on()

    def closed(self, stream: ServerStream, items: list[Item], successor: ServerStream | None) -> None:
        """A stream is over that carried `items` of this pair and others, which it cannot say to have arrived; they go
        first on the next one, which may be there already."""
        again: list[Item] = []
        now = self.federation.clock.seconds()
        for item in items:
            item.sent_at = None
            if item.tries == 1:  # it may have waited for the acknowledgement longer than it may wait for a stream
                item.deadline = max(item.deadline, now + self.federation.settings[RETRY_TIME])
            if item.stanza.name == "iq" and item.stanza.type in ("get", "set"):
                # Nobody knows whether it was carried out, and to do it again may be wrong.
                self.refuse(item, StanzaError("remote-server-timeout", "the connection to that server was lost"))
            else:
                again.append(item)
        self.queue.extendleft(reversed(again))
        if self.stream is stream:
            self.stream = successor
            self._draining = None
            if again and successor is None:
                self._pause()
                if self.failures > 1:
                    self.failure = unreachable("the connection to that server is lost again and again")
        self.go_on()

    def _pause(self) -> None:
        """Leave the other server alone for a while, longer each time."""
        longest: float = self.federation.settings[MAX_BACKOFF]
        pause = min(FIRST_BACKOFF * 2.0 ** min(self.failures, 20), longest)
        self.failures += 1
        self.retry_at = self.federation.clock.seconds() + pause * (0.75 + 0.5 * self.federation.random())

    def failed(self, failure: Failed) -> None:
        """There is no stream now. What may wait waits for the next try."""
        self.failure = failure
        self._pause()
        self.give_back(failure)
        self.log.warn(
            "{local} cannot reach {remote}: {why}; {waiting} stanzas wait for the next try, in {pause:.0f} s",
            local=self.local, remote=self.remote, why=failure.text, waiting=len(self.queue),
            pause=self.retry_at - self.federation.clock.seconds(),
        )  # fmt: skip

    def give_back(self, failure: Failed) -> None:
        """Return what may not wait any longer to its senders."""
        now = self.federation.clock.seconds()
        waiting, self.queue = self.queue, deque()
        for item in waiting:
            if item.gone:
                continue
            if failure.lasting or not item.kept or item.deadline <= now:
                self.refuse(item, failure.error())
            else:
                self.queue.append(item)

    # ---- what becomes of a stanza

    def arrived(self, items: Iterable[Item]) -> None:
        """The other server has stanzas."""
        self.failures = 0
        self._forget(list(items))
        self.go_on()

    def refuse(self, item: Item, error: StanzaError) -> None:
        """A stanza goes back to its sender."""
        item.gone = True
        self._forget([item])
        server = self.federation.server
        server.tasks.start(server.bounce(item.stanza, error), "the error for a stanza to another server")

    def _forget(self, items: list[Item]) -> None:
        weight = sum(item.weight for item in items)
        self.size -= weight
        self.federation.size -= weight
        ids = [item.kept for item in items if item.kept]
        if ids:
            gone: Deferred[Any] = self.federation.server.store.outbox.delete(ids)
            gone.addErrback(self._not_forgotten)

    def _not_forgotten(self, failure: Failure) -> None:
        failure.trap(StorageError)
        self.log.error(
            "what {remote} has will be sent again after a restart: {error}",
            remote=self.remote, error=failure.getErrorMessage(),
        )  # fmt: skip
