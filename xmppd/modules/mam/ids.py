"""Ids of archived messages: UUIDs of version 7 (RFC 9562 section 5.7), as 16 bytes that sort by arrival.

48 bits are the time in milliseconds, 12 count within one, and 62 are random: nobody guesses an id (XEP-0313 section 3),
and none is made twice. The time never goes back, whatever the clock does.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable

_COUNT = 2**12
BLOCK = 1024  # bytes of randomness that are asked for at once


class Randomness:
    """Numbers that nobody can guess. The system is asked for many at a time, which takes a tenth of the time."""

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def bits(self, count: int) -> int:
        """A number of so many bits."""
        size = (count + 7) // 8
        if self._used + size > len(self._bytes):
            self._bytes, self._used = secrets.token_bytes(BLOCK), 0
        start, self._used = self._used, self._used + size
        return int.from_bytes(self._bytes[start : self._used], "big") >> (8 * size - count)


class Ids:
    """Makes ids. `now_ms` tells the time in milliseconds since 1970; `random` gives a number of so many bits."""

    def __init__(self, now_ms: Callable[[], int], random: Callable[[int], int], last: bytes | None = None) -> None:
        """`last` is the id that was made before."""
        self._now_ms = now_ms
        self._random = random
        self._last = (time_of(last), int.from_bytes(last[6:8], "big") % _COUNT) if last is not None else (0, 0)

    def continue_after(self, id: bytes) -> None:
        """What comes sorts behind an id that there is already."""
        self._last = max(self._last, (time_of(id), _COUNT - 1))

    @property
    def last(self) -> bytes:
        """An id that no id made so far is greater than, and every later one is."""
        milliseconds, count = self._last
        return (milliseconds << 80 | 7 << 76 | count << 64 | (1 << 64) - 1).to_bytes(16, "big")

    def make(self) -> bytes:
        """A new id, greater than all before it."""
        now = (self._now_ms(), 0)
        milliseconds, count = now if now > self._last else (self._last[0], self._last[1] + 1)
        if count == _COUNT:
            milliseconds, count = milliseconds + 1, 0
        self._last = milliseconds, count
        number = milliseconds << 80 | 7 << 76 | count << 64 | 2 << 62 | self._random(62)
        return number.to_bytes(16, "big")


def time_of(id: bytes) -> int:
    """When a message came, in milliseconds since 1970."""
    return int.from_bytes(id[:6], "big")


def first_at(milliseconds: int) -> bytes:
    """What is less than or equal to every id of this millisecond and later ones, and greater than those before."""
    return min(max(milliseconds, 0), 2**48 - 1).to_bytes(6, "big") + bytes(10)


def to_text(id: bytes) -> str:
    """An id as it is told to clients."""
    digits = id.hex()  # uuid.UUID does the same in ten times the time
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def from_text(text: str) -> bytes | None:
    """The id that a client means; None where it cannot be one of ours."""
    try:
        id = uuid.UUID(text).bytes
    except ValueError:
        return None
    return id if to_text(id) == text else None
