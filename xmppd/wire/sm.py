"""The machine of stream management (XEP-0198 1.6.3), without a stream: who has handled how much, and the words for it.

Both ends of a stream have one, and it is the same for clients and between servers. All counters are unsigned 32-bit
numbers that start again at zero (section 4, the definition of ``h``); the machine itself counts on, and
compares modulo 2³².
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.xml import tag

MODULUS = 2**32
SLACK = 1_000_000  # more than there can be of what was sent and is not known any more

T = TypeVar("T")


class HandledCountTooHigh(Exception):
    """The peer acknowledges what was never sent (section 4); `h` is what it says, `sent` what is true."""

    def __init__(self, h: int, sent: int) -> None:
        super().__init__(h, sent)
        self.h = h
        self.sent = sent

    def stream_error(self) -> StreamError:
        """What section 4 answers."""
        details = {"xmlns": ns.SM, "h": str(self.h), "send-count": str(self.sent)}
        return StreamError(
            "undefined-condition", "more was acknowledged than was sent", tag("handled-count-too-high", details)
        )


class Machine(Generic[T]):
    """One end of a managed stream.

    `handled`: how many stanzas of the peer have been handled. `items`: what is for the peer and not acknowledged,
    oldest first; of these the first `sent` were sent on this stream. `acknowledged`: how many the peer has said it
    has, of all that was ever sent. `asked`: when an acknowledgement was asked for that has not come, in seconds;
    None when none is owed. `since`: when the first was sent that none was asked for.
    """

    __slots__ = ("acknowledged", "asked", "handled", "items", "sent", "since")

    def __init__(self, handled: int = 0, acknowledged: int = 0, items: Iterable[T] = ()) -> None:
        self.handled = handled
        self.acknowledged = acknowledged
        self.items: deque[T] = deque(items)
        self.sent = 0
        self.asked: float | None = None
        self.since: float | None = None

    @property
    def h(self) -> int:
        """What to tell the peer of its stanzas."""
        return self.handled % MODULUS

    @property
    def position(self) -> int:
        """The place of the last item among all that was ever for the peer; the first has 1."""
        return self.acknowledged + len(self.items)

    def push(self, item: T) -> int:
        """One more is for the peer; its place."""
        self.items.append(item)
        return self.acknowledged + len(self.items)

    def next(self) -> T | None:
        """The item that is to be sent next."""
        return self.items[self.sent] if self.sent < len(self.items) else None

    def was_sent(self, now: float) -> None:
        """It was sent, in seconds."""
        self.sent += 1
        if self.since is None:
            self.since = now

    def acknowledge(self, h: int, now: float) -> list[T]:
        """The peer has handled `h` of those sent: what it had not acknowledged before, oldest first.

        Raises `HandledCountTooHigh`. An `h` that was acknowledged before gives nothing new; one below that is as
        wrong as one that is too high, and cannot be told from it.
        """
        new = (h - self.acknowledged) % MODULUS
        if new > self.sent:
            raise HandledCountTooHigh(h, (self.acknowledged + self.sent) % MODULUS)
        self.acknowledged += new
        self.sent -= new
        self.asked = None
        self.since = now if self.sent else None
        return [self.items.popleft() for _ in range(new)]

    def restart(self) -> None:
        """Another stream takes the place of this one: what is not acknowledged is to be sent again (section 5)."""
        self.sent = 0
        self.asked = self.since = None

    def drop(self, unwanted: Collection[T]) -> bool:
        """Take items out that were not sent yet; whether others were behind one of them."""
        kept = [item for item in self.items if item not in unwanted]
        moved = any(old is not new for old, new in zip(self.items, kept, strict=False))
        self.items = deque(kept)
        return moved

    def place(self, h: int, known: list[int]) -> None:
        """The peer has handled `h`, and of what was sent only the last are known, whose places are `known`: those that
        it has are gone, and what is left is to be sent again.

        Raises `HandledCountTooHigh`, where that can be told.
        """
        floor = known[0] - SLACK if known else 0
        acknowledged = floor + (h - floor) % MODULUS
        if known and (acknowledged < 0 or acknowledged > known[-1] + SLACK):
            raise HandledCountTooHigh(h, known[-1] % MODULUS)
        for place in known:
            if place <= acknowledged:
                self.items.popleft()
        self.acknowledged = acknowledged
        self.restart()

    def should_ask(self, now: float, most: int, seconds: float) -> bool:
        """Whether an acknowledgement is to be asked for: more than `most` are not acknowledged, or the first of them
        has waited for so many seconds, and nothing was asked since (section 4)."""
        if self.asked is not None or self.since is None:
            return False
        return self.sent > most or now - self.since >= seconds

    def ask(self, now: float) -> None:
        """An acknowledgement was asked for."""
        self.asked = now
        self.since = None


def parse_h(text: str | None) -> int:
    """The value of an ``h`` attribute (xs:unsignedInt); `ValueError` for anything else."""
    if text is None or len(text) > 20 or not text.isascii() or not text.strip().isdigit() or int(text) >= MODULUS:
        raise ValueError("h is a number from 0 to 4294967295")
    return int(text)


# ---- the elements (sections 2 to 6)

FEATURE = tag("sm", {"xmlns": ns.SM})
REQUEST = tag("r", {"xmlns": ns.SM})


def answer(h: int) -> bytes:
    """``<a/>``: so many were handled."""
    return tag("a", {"xmlns": ns.SM, "h": str(h)})


def enabled(id: str, seconds: int) -> bytes:
    """``<enabled/>``, with an SM-ID where the stream can be resumed within so many seconds."""
    attributes = {"xmlns": ns.SM}
    if id:
        attributes |= {"id": id, "resume": "true", "max": str(seconds)}
    return tag("enabled", attributes)


def resumed(previd: str, h: int) -> bytes:
    """``<resumed/>``."""
    return tag("resumed", {"xmlns": ns.SM, "previd": previd, "h": str(h)})


def failed(condition: str, text: str, h: int | None = None) -> bytes:
    """``<failed/>``, with how many stanzas of the lost stream were handled where that is known (section 6)."""
    return tag(
        "failed",
        {"xmlns": ns.SM, "h": str(h) if h is not None else None},
        tag(condition, {"xmlns": ns.STANZA_ERRORS}),
        tag("text", {"xmlns": ns.STANZA_ERRORS, "xml:lang": "en"}, text),
    )
