"""Requests to other HTTP servers, such as the backend that owns the rosters: connections are kept for the next one.

No redirect is followed, and no proxy of the environment is used. Certificates of https are verified.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from xmppd.core.http import FetchError

KEPT_FOR_EACH = 20  # connections to one server that wait for the next request
KEPT_SECONDS = 60


class Client:
    """A `Fetch`."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = KEPT_FOR_EACH
        self._pool.cachedConnectionTimeout = KEPT_SECONDS
        self._agent = Agent(reactor, pool=self._pool)

    async def __call__(self, url: str, accept: str, seconds: float, max_size: int) -> bytes:
        """See `Fetch`."""
        fetching = Deferred.fromCoroutine(self._fetch(url, accept, max_size))
        fetching.addTimeout(seconds, self._reactor)
        try:
            return await fetching
        except FetchError:
            raise
        except (defer.TimeoutError, CancelledError):
            raise FetchError(f"no answer within {seconds:g} seconds") from None
        except ResponseFailed as error:
            raise FetchError("; ".join(reason.getErrorMessage() for reason in error.reasons)) from None
        except Exception as error:
            raise FetchError(f"{type(error).__name__}: {error}") from None

    async def _fetch(self, url: str, accept: str, max_size: int) -> bytes:
        headers = Headers({"Accept": [accept], "User-Agent": ["xmppd"]})
        response: Any = await self._agent.request(b"GET", url.encode("ascii"), headers)
        body = _Body(max_size)
        response.deliverBody(body)
        data = await body.whole
        if response.code != 200:
            raise FetchError(f"status {response.code}")
        return data

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed


class _Body(Protocol):
    """Collects a body; ends the connection when there is too much of it, or nobody waits any more."""

    def __init__(self, max_size: int) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._left = max_size
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """For twisted."""
        self._left -= len(data)
        self._parts.append(data)
        if self._left < 0 and not self.whole.called:
            self.whole.errback(FetchError("the answer is too large"))
            self._abort()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        """For twisted: that was all."""
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(FetchError(f"the answer is not whole: {reason.getErrorMessage()}"))

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection() if hasattr(transport, "abortConnection") else transport.stopProducing()
