"""Messages from some clients to others, each of which has to arrive once and in order."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence

from benchmarks.client import ASK, Client
from benchmarks.connection import PATIENCE, Alarm, Failed

ACK_EVERY = 5  # messages after which a client asks what the server has
TEXT = b"it is the east, and juliet is the sun: arise, fair sun, and kill the envious moon"
NUMBERS = re.compile(rb"<body[^>]*>(\d+)\.(\d+) ")


def message(to: str, stream: int, number: int) -> bytes:
    """Such a message as clients send today: a text of some 80 characters, a chat state, a request for a receipt, and an
    id of its own. `stream` and `number` are in the text."""
    id = b"m%d-%d" % (stream, number)
    return (
        b"<message to='%b' type='chat' id='%b'><body>%d.%d %b</body>"
        b"<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>"
        b"<origin-id xmlns='urn:xmpp:sid:0' id='%b'/></message>" % (to.encode(), id, stream, number, TEXT, id)
    )


def numbers(stanza: bytes) -> tuple[int, int] | None:
    """The stream and the number of a message; nothing where it is another one."""
    found = NUMBERS.search(stanza)
    return (int(found[1]), int(found[2])) if found else None


class Count:
    """Waits until something has happened so many times, and sees to it that it does not happen more often."""

    def __init__(self, alarm: Alarm, what: str) -> None:
        self._alarm = alarm
        self._what = what
        self.value = 0
        self._wanted = 0
        self._reached: asyncio.Future[None] | None = None

    def one(self) -> None:
        """It happened."""
        self.value += 1
        if self.value >= self._wanted and self._reached is not None and not self._reached.done():
            self._reached.set_result(None)

    async def reach(self, wanted: int, seconds: float = PATIENCE) -> None:
        """Wait until it has happened so many times in all."""
        self._alarm.check()
        if self.value < wanted:
            self._wanted, self._reached = wanted, asyncio.get_running_loop().create_future()
            try:
                await self._alarm.wait(self._reached, self._what, seconds)
            except Failed as error:
                raise Failed(f"{self.value} of {wanted} {self._what}: {error}") from None

    def check(self, wanted: int) -> None:
        """Nothing more has happened since."""
        self._alarm.check()
        if self.value != wanted:
            raise Failed(f"{self.value} {self._what} instead of {wanted}")


class Traffic:
    """Pairs of clients, of which the first writes to the second. A client may receive from several."""

    def __init__(self, pairs: Sequence[tuple[Client, Client]]) -> None:
        self.pairs = pairs
        self.sent = [0] * len(pairs)
        self.got = [0] * len(pairs)
        self.latencies: list[float] = []
        self._sent_at: list[list[float]] = [[] for _ in pairs]
        self._limit = [0] * len(pairs)
        self._answers = False  # whether each that arrives lets the next one go
        self.arrived = Count(pairs[0][0].target.alarm, "messages")
        for _, receiver in pairs:
            receiver.on_message = self._receive

    def _send(self, pair: int) -> None:
        number = self.sent[pair]
        self.sent[pair] += 1
        self._sent_at[pair].append(time.perf_counter())
        sender, receiver = self.pairs[pair]
        data = message(receiver.bare, pair, number)
        sender.send(data + ASK if self.sent[pair] % ACK_EVERY == 0 else data)

    def _receive(self, stanza: bytes) -> None:
        now = time.perf_counter()
        found = numbers(stanza)
        if found is None or found[1] != self.got[found[0]] or not complete(stanza):
            raise Failed(f"not the message that has to come: {stanza.decode()}")
        pair, number = found
        self.latencies.append(now - self._sent_at[pair][number])
        self.got[pair] += 1
        if self._answers and self.sent[pair] < self._limit[pair]:
            self._send(pair)
        self.arrived.one()

    async def saturate(self, each: int, window: int) -> int:
        """Each pair so many messages, so many of them under way at any time; how many they are in all."""
        self._answers, self._limit = True, [sent + each for sent in self.sent]
        self.latencies.clear()
        total = sum(self._limit)
        for _ in range(min(window, each)):
            for pair in range(len(self.pairs)):
                self._send(pair)
        await self.arrived.reach(total, seconds=3 * PATIENCE)
        return each * len(self.pairs)

    async def pace(self, rate: float, seconds: float) -> int:
        """So many messages a second in all, of one pair after the other; how many they were."""
        self._answers = False
        self.latencies.clear()
        before, total = sum(self.sent), round(rate * seconds)
        start = time.perf_counter()
        for number in range(total):
            wait = start + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            self._send(number % len(self.pairs))
        await self.arrived.reach(before + total)
        return total

    async def check(self) -> None:
        """All have been acknowledged by the server, and none came twice."""
        for sender in dict.fromkeys(sender for sender, _ in self.pairs):
            await sender.all_acknowledged()
        self.arrived.check(sum(self.sent))


def complete(stanza: bytes) -> bool:
    """Whether a message has all that was sent with it."""
    return b"urn:xmpp:receipts" in stanza and b"<origin-id" in stanza and b"chatstates" in stanza
