"""The PROXY protocol, versions 1 and 2: a proxy that passes connections on says in their first bytes who has connected.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. Only proxies in ``trusted_proxies`` may connect where it is
spoken. The header is taken off the socket to its last byte and no further, so that what follows, TLS or a stream, finds
the connection as if the client had made it.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from xmppd.config import Option, Ports, Scope, Settings
from xmppd.core.peers import TRUSTED_PROXIES, address, is_trusted
from xmppd.net.limits import C2S_TIMEOUT
from xmppd.net.listeners import Accepted

PROXY_PROTOCOL_PORTS = Option(
    "proxy_protocol_ports", Ports(), "",
    "Those of ``c2s_ports`` and ``c2s_direct_tls_ports`` where only proxies in ``trusted_proxies`` connect, which say "
    "by the PROXY protocol for whom.", scope=Scope.SERVER, live=False,
)  # fmt: skip
OPTIONS = (TRUSTED_PROXIES, PROXY_PROTOCOL_PORTS)

V1 = b"PROXY "
V2 = b"\r\n\r\n\x00\r\nQUIT\n"
SHORTEST = len(b"PROXY UNKNOWN\r\n")  # no header of either version is shorter
LONGEST_V1 = 107
LONGEST_V2 = 4096  # of what follows the first 16 bytes; addresses take 12 or 36, the rest says more of the connection


def missing(head: bytes) -> int:
    """How many bytes at least are still to come of a header that begins with `head`; 0 where it is whole. Raises
    `ValueError` where it is none."""
    if not (head[: len(V2)] == V2[: len(head)] or head[: len(V1)] == V1[: len(head)]):
        raise ValueError("it does not begin with a PROXY header")
    if len(head) < SHORTEST:
        return SHORTEST - len(head)
    if head.startswith(V1):
        if head.endswith(b"\r\n"):
            return 0
        if b"\n" in head or b"\r" in head[:-1] or len(head) >= LONGEST_V1:
            raise ValueError("its PROXY header has no end")
        return 1 if head.endswith(b"\r") else 2
    if len(head) < 16:
        return 16 - len(head)
    length = int.from_bytes(head[14:16], "big")
    if length > LONGEST_V2:
        raise ValueError("its PROXY header is too long")
    return 16 + length - len(head)


def source(head: bytes) -> str | None:
    """The address that a whole header names as that of the client, None where the proxy speaks for itself or does not
    know. Raises `ValueError`."""
    return _source_v2(head) if head.startswith(V2) else _source_v1(head)


def _source_v1(head: bytes) -> str | None:
    words = head[:-2].decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ValueError("its PROXY header names no addresses")
    for word in words[2:4]:
        if (":" in word) != (words[1] == "TCP6") or "%" in word:
            raise ValueError("its PROXY header has an address of another kind")
        address(word)
    for port in words[4:6]:
        if not (port.isdecimal() and len(port) <= 5 and int(port) < 65536):
            raise ValueError("its PROXY header names no port")
    return str(address(words[2]))


def _source_v2(head: bytes) -> str | None:
    version, command, family = head[12] >> 4, head[12] & 15, head[13]
    if version != 2 or command > 1:
        raise ValueError("its PROXY header is of no known version")
    if command == 0 or family == 0:
        return None
    size = {0x11: 4, 0x21: 16}.get(family)  # TCP over IPv4 and IPv6
    if size is None or len(head) < 16 + 2 * size + 4:
        raise ValueError("its PROXY header names no addresses")
    packed = head[16 : 16 + size]
    return str(address(socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, packed)))


class BehindProxy:
    """Takes the connections of a port where the PROXY protocol is spoken, and gives them to `accepted`."""

    def __init__(self, reactor: Any, settings: Settings, accepted: Accepted) -> None:
        self.reactor = reactor
        self.log = Logger(namespace="xmppd.net")
        self.waiting: set[Head] = set()
        self.settings = settings
        self._accepted = accepted

    def accepted(self, sock: socket.socket, peer: str) -> None:
        """Somebody has connected."""
        if is_trusted(peer, self.settings[TRUSTED_PROXIES]):
            self.waiting.add(Head(self, sock, peer))
        else:
            self.refuse(sock, peer, "it is not in trusted_proxies, and this port is for proxies")

    def refuse(self, sock: socket.socket, peer: str, why: str) -> None:
        """Close a connection."""
        self.log.warn("the connection of {peer} is closed: {why}", peer=peer, why=why)
        sock.close()

    def ended(self, head: Head, why: str | None, client: str) -> None:
        """A header has come, or will not, which is `why`."""
        self.waiting.discard(head)
        if why is not None:
            self.refuse(head.socket, head.peer, why)
            return
        try:
            self._accepted(head.socket, client)
        except Exception:  # as for a `Listener`: nothing of one connection reaches the reactor
            self.log.failure("a connection could not be taken")
            head.socket.close()

    def stop(self) -> None:
        """Close what has not said yet for whom it is."""
        for head in list(self.waiting):
            head.end("the server is going down")


@implementer(IReadDescriptor)
class Head:
    """A connection until its header has come."""

    def __init__(self, port: BehindProxy, sock: socket.socket, peer: str) -> None:
        self.socket = sock
        self.peer = peer
        self._port = port
        self._head = b""
        port.reactor.addReader(self)
        self._timer = port.reactor.callLater(port.settings[C2S_TIMEOUT], self.end, "its PROXY header took too long")

    def fileno(self) -> int:
        """For the reactor."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "proxy"

    def doRead(self) -> None:
        """The reactor: some of it is here."""
        try:
            while wanted := missing(self._head):
                data = self.socket.recv(wanted)
                if not data:
                    raise ValueError("it was closed before its PROXY header was there")
                self._head += data
            client = source(self._head) or self.peer
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self.end(str(error))
        else:
            self.end(None, client)

    def connectionLost(self, reason: Any) -> None:
        """The reactor: the socket is broken."""
        if self._timer.active():
            self.end("it is broken")

    def end(self, why: str | None, client: str = "") -> None:
        """It is known who has connected; or `why` not."""
        if self._timer.active():
            self._timer.cancel()
        self._port.reactor.removeReader(self)
        self._port.ended(self, why, client)
