"""UDP for questions to name servers: a socket for each, on a port that nobody can guess.

Twisted's own ports write two lines to the log whenever one is opened or closed, which strangers could make many of.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

MAX_DATAGRAM = 65535
READS_A_TURN = 16


class QuietReactor:
    """A reactor with such ports; everything else is that of `reactor`."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> Datagrams:
        """See `IReactorUDP`; raises `CannotListenError`."""
        protocol.noisy = False
        return Datagrams(self._reactor, port, protocol, interface)


@implementer(IReadDescriptor)
class Datagrams:
    """A UDP socket for a datagram protocol."""

    def __init__(self, reactor: Any, port: int, protocol: Any, interface: str) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self.socket = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            self.socket.bind((interface, port))
        except OSError as error:
            self.socket.close()
            raise CannotListenError(interface, port, error) from None
        reactor.addReader(self)
        protocol.makeConnection(self)

    def fileno(self) -> int:
        """For the reactor."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "datagrams"

    def doRead(self) -> None:
        """The reactor: an answer, or anything else that was sent to this port."""
        for _ in range(READS_A_TURN):
            try:
                data, address = self.socket.recvfrom(MAX_DATAGRAM)
            except OSError:  # there is nothing more, or nobody listens where a question was sent
                return
            self._protocol.datagramReceived(data, address[:2])
            if self.socket.fileno() < 0:
                return

    def connectionLost(self, reason: object) -> None:
        """The reactor: the socket is broken."""
        self.stopListening()

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        """Send a datagram; one that cannot be sent is lost, as any may be."""
        with contextlib.suppress(OSError):
            self.socket.sendto(data, address)

    def stopListening(self) -> Deferred[None]:
        """Close the socket."""
        self._reactor.removeReader(self)
        self.socket.close()
        return succeed(None)
