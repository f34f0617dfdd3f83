"""The counting of stream management (XEP-0198 1.6.3 section 4), without a stream: who has acknowledged what.

All counters are unsigned 32-bit numbers that start again at zero (section 4, the definition of ``h``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

MODULUS = 2**32

T = TypeVar("T")


class HandledCountTooHigh(Exception):
    """The peer acknowledges what was never sent (section 6); `h` is what it says, `sent` what is true."""

    def __init__(self, h: int, sent: int) -> None:
        super().__init__(h, sent)
        self.h = h
        self.sent = sent


class Unacknowledged(Generic[T]):
    """What was sent and not acknowledged yet, oldest first.

    `sent` counts what was ever sent, `acknowledged` what the peer has said it has.
    """

    __slots__ = ("acknowledged", "items")

    def __init__(self, acknowledged: int = 0, items: Iterable[T] = ()) -> None:
        self.acknowledged = acknowledged
        self.items: deque[T] = deque(items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def sent(self) -> int:
        """How many were ever sent."""
        return (self.acknowledged + len(self.items)) % MODULUS

    def push(self, item: T) -> None:
        """One more was sent."""
        self.items.append(item)

    def acknowledge(self, h: int) -> list[T]:
        """The peer has handled `h` of those sent: what it had not acknowledged before, oldest first.

        Raises `HandledCountTooHigh`. An `h` that was acknowledged before gives nothing new; one below that is as
        wrong as one that is too high, and cannot be told from it.
        """
        new = (h - self.acknowledged) % MODULUS
        if new > len(self.items):
            raise HandledCountTooHigh(h, self.sent)
        self.acknowledged = h % MODULUS
        return [self.items.popleft() for _ in range(new)]


def parse_h(text: str | None) -> int:
    """The value of an ``h`` attribute (xs:unsignedInt); `ValueError` for anything else."""
    if text is None or len(text) > 20 or not text.isascii() or not text.strip().isdigit() or int(text) >= MODULUS:
        raise ValueError("h is a number from 0 to 4294967295")
    return int(text)
