"""What one address may do before it has proved anything (XEP-0205): open streams, and fail to log in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from xmppd.config import Duration, Integer, Option, Scope
from xmppd.core.peers import network

MAX_UNAUTHENTICATED = Option(
    "max_unauthenticated_per_address", Integer(minimum=1), "100",
    "How many streams one address (of IPv6: one /64 network) may have that are not authenticated yet.",
    scope=Scope.SERVER,
)  # fmt: skip
LIMIT_AUTH_MAX = Option(
    "limit_auth_max", Integer(minimum=1), "5",
    "After how many failed logins within ``limit_auth_period`` the answers to an address become slow.",
    scope=Scope.SERVER,
)  # fmt: skip
LIMIT_AUTH_PERIOD = Option(
    "limit_auth_period", Duration(), "30s", "How long a failed login is held against its address.",
    scope=Scope.SERVER,
)  # fmt: skip
OPTIONS = (MAX_UNAUTHENTICATED, LIMIT_AUTH_MAX, LIMIT_AUTH_PERIOD)

MAX_DELAY = 8.0  # seconds; more would only keep sockets open for the attacker
TOO_MANY = "too many streams of this address are not authenticated yet"
REMEMBERED = 10_000  # addresses with failures; beyond it the oldest is forgotten


class Addresses:
    """Counts by address. `seconds` is a clock that only goes forward."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._streams: dict[str, int] = {}
        self._failures: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}  # before then nothing that an address tries is looked at

    def enter(self, peer: str, limit: int) -> bool:
        """Count one more unauthenticated stream; False, and not counted, when the address has its `limit`."""
        key = network(peer)
        if self._streams.get(key, 0) >= limit:
            return False
        self._streams[key] = self._streams.get(key, 0) + 1
        return True

    def leave(self, peer: str) -> None:
        """A stream that was counted is authenticated, or gone."""
        key = network(peer)
        left = self._streams.get(key, 0) - 1
        if left > 0:
            self._streams[key] = left
        else:
            self._streams.pop(key, None)

    def failed(self, peer: str, allowed: int, period: float) -> float:
        """Count a failed login; how many seconds its answer is to wait.

        Nothing for the first `allowed` within `period` seconds, then twice as long each time.
        """
        key = network(peer)
        now = self._seconds()
        failures = self._failures.pop(key, None) or deque(maxlen=1000)
        while failures and failures[0] <= now - period:
            failures.popleft()
        failures.append(now)
        self._failures[key] = failures  # put in again at the end: the first of the dict is the oldest
        if len(self._failures) > REMEMBERED:
            del self._failures[next(iter(self._failures))]
        excess = len(failures) - allowed
        if excess <= 0:
            return 0.0
        delay = min(MAX_DELAY, 0.25 * 2.0 ** min(excess, 10))
        self._until.pop(key, None)
        self._until[key] = now + delay
        if len(self._until) > REMEMBERED:
            del self._until[next(iter(self._until))]
        return delay

    def wait(self, peer: str) -> float:
        """For how many seconds the next attempt of an address is not looked at: one that leaves before it has its
        slow answer, and comes again, has gained nothing."""
        return max(0.0, self._until.get(network(peer), 0.0) - self._seconds())
