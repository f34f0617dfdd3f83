"""Listening sockets: bound before the server starts, accepting once it runs."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

BACKLOG = 1024
ACCEPTS_A_TURN = 64  # so that a flood of connections does not hold up those who are connected
DEAD_PEER_MS = 120_000  # after this long without an answer to anything sent the kernel gives a peer up

Accepted = Callable[[socket.socket, str], None]  # takes a connection, with its peer's address


class PortUnusable(Exception):
    """An address and port cannot be listened on; one line that says why. `no_such_address`: the machine has no
    such address at all."""

    def __init__(self, text: str, no_such_address: bool = False) -> None:
        super().__init__(text)
        self.no_such_address = no_such_address


def bind(address: str, port: int) -> socket.socket:
    """A listening socket on ``*``, ``::`` or an address, not yet accepting; raises `PortUnusable`."""
    host = "" if address == "*" else address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise PortUnusable(f"cannot listen on {address}: {error.strerror or error}", True) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        missing = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
        raise PortUnusable(f"cannot listen on {address} port {port}: {error.strerror or error}", missing) from None
    return listening


@implementer(IReadDescriptor)
class Listener:
    """Accepts connections on a socket and hands each to `accepted`, with its peer's address."""

    def __init__(self, reactor: Any, sock: socket.socket, accepted: Accepted) -> None:
        self._reactor = reactor
        self.socket = sock
        self._accepted = accepted
        self._log = Logger(namespace="xmppd.net")
        # Given up for a moment when there are no descriptors left: the connection that waits can then be taken
        # and closed, instead of waking us for ever.
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def start(self) -> None:
        """Begin to accept."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Stop for good."""
        self._reactor.removeReader(self)
        self.socket.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def fileno(self) -> int:
        """For the reactor."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "listener"

    def connectionLost(self, reason: object) -> None:
        """For the reactor: the socket is broken."""
        self._log.error("a listening socket was lost")

    def doRead(self) -> None:
        """The reactor: somebody connects."""
        for _ in range(ACCEPTS_A_TURN):
            try:
                accepted, address = self.socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._refuse_one()
                else:
                    self._log.error("accept failed: {error}", error=str(error))
                return
            try:
                tune(accepted)
                self._accepted(accepted, str(address[0]))
            except Exception:
                # What goes wrong with one connection must not reach the reactor: it would drop the listener.
                self._log.failure("a connection could not be taken")
                accepted.close()

    def _refuse_one(self) -> None:
        self._log.error("out of file descriptors: a connection was refused (raise the limit, ulimit -n)")
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        try:
            self.socket.accept()[0].close()
        except OSError:
            pass
        finally:
            try:
                self._spare = os.open(os.devnull, os.O_RDONLY)
            except OSError:
                self._spare = -1


def tune(sock: socket.socket) -> None:
    """Set what every connection has: no waiting for more before a small packet leaves, and an end to dead peers."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
