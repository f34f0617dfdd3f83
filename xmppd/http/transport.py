"""What twisted.web has below its protocol: a `Connection`, so that HTTP has its limits, and WebSockets get it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from xmppd.net.connection import Receiver
from xmppd.net.transport import Transport

if TYPE_CHECKING:
    from xmppd.http.site import Channel

UNSENT_PAUSE = 64 * 1024  # bytes waiting for a client beyond which no more are made for it


@implementer(ITransport, IPushProducer)
class HttpTransport:
    """The transport of a `Channel`, and the receiver of the connection, also for whoever has taken that over."""

    disconnecting = False

    def __init__(self, connection: Any, channel: Channel) -> None:
        self.connection: Transport = connection
        self._channel: Channel | None = channel
        self._producer: Any = None
        self._successor: Receiver | None = None
        self._paused = False

    # ---- from the connection

    def data_received(self, data: bytes) -> None:
        """See `Receiver`."""
        if self._successor is not None:
            self._successor.data_received(data)
        elif self._channel is not None:
            self._channel.dataReceived(data)

    def secured(self) -> None:
        """See `Receiver`."""

    def connection_lost(self, reason: str) -> None:
        """See `Receiver`."""
        if self._successor is not None:
            self._successor.connection_lost(reason)
        elif self._channel is not None:
            self._channel.connectionLost(Failure(ConnectionLost(reason)))

    # ---- for twisted.web

    def write(self, data: bytes) -> None:
        """Send, and have the producer wait while much is not taken."""
        self.connection.write(data)
        if self._producer is not None and not self._paused and self.connection.unsent > UNSENT_PAUSE:
            self._paused = True
            self._producer.pauseProducing()
            self.connection.when_drained(self._drained)

    def _drained(self, gone: bool) -> None:
        self._paused = False
        if gone and self._producer is not None:
            self._producer.resumeProducing()

    def writeSequence(self, parts: Iterable[bytes]) -> None:
        """Send what is in pieces."""
        self.write(b"".join(parts))

    def loseConnection(self) -> None:
        """Close when everything is sent."""
        self.disconnecting = True
        self.connection.close()

    def abortConnection(self) -> None:
        """Close now."""
        self.disconnecting = True
        self.connection.abort("it took too long")

    def getPeer(self) -> IPv4Address | IPv6Address:
        """The other end, without its port."""
        kind = IPv6Address if ":" in self.connection.peer else IPv4Address
        return kind("TCP", self.connection.peer, 0)

    def getHost(self) -> IPv4Address:
        """Our end, which nobody asks for."""
        return IPv4Address("TCP", "", 0)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Who makes what is sent."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Nobody makes anything any more."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Read nothing for a while."""
        self.connection.pause_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        self.connection.resume_reading()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # ---- for protocols other than HTTP

    def hand_over(self, takes_over: Callable[[Any], Receiver], read_ahead: bytes) -> None:
        """Let somebody else have the connection, with what was read of it and not looked at."""
        self._producer = self._channel = None
        self._successor = takes_over(self.connection)
        self.connection.resume_reading()
        if read_ahead:
            self._successor.data_received(read_ahead)
