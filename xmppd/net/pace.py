"""How fast a peer may send: so many bytes a second, and more at once when it was quiet (XEP-0205 section 3)."""

from __future__ import annotations

from xmppd.config import Duration, Option, Scope, Settings, Size
from xmppd.core.clock import Clock

C2S_RATE = Option(
    "c2s_rate", Size(minimum=1000), "256k",
    "How many bytes a second a client may send; what is faster waits in the network.", scope=Scope.SERVER,
)  # fmt: skip
C2S_BURST = Option(
    "c2s_burst", Duration(), "4s", "For how long, at ``c2s_rate``, a client that was quiet may send at once.",
    scope=Scope.SERVER,
)  # fmt: skip
OPTIONS = (C2S_RATE, C2S_BURST)


class Pace:
    """The bytes that one peer may still send: they grow with time up to the burst, and go with what it sends. `rate`
    and `burst` are the options that say how many a second, and for how many seconds at once."""

    __slots__ = ("_allowance", "_burst", "_clock", "_rate", "_settings", "_then")

    def __init__(
        self, clock: Clock, settings: Settings, rate: Option[int] = C2S_RATE, burst: Option[float] = C2S_BURST
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._rate = rate
        self._burst = burst
        self._then = clock.seconds()
        self._allowance = float(settings[rate] * settings[burst])

    def sent(self, count: int) -> float:
        """The peer has sent so many bytes; for how many seconds it should not be read from now."""
        rate = self._settings[self._rate]
        now = self._clock.seconds()
        self._allowance = min(rate * self._settings[self._burst], self._allowance + (now - self._then) * rate) - count
        self._then = now
        return -self._allowance / rate if self._allowance < 0 else 0.0

    def is_too_fast(self) -> bool:
        """Whether it still has to wait. A clock may be short of the last byte."""
        return self._allowance + (self._clock.seconds() - self._then) * self._settings[self._rate] <= -1
