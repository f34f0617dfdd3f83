"""Connections to other servers: Happy Eyeballs over the targets of a domain (RFC 8305, XEP-0495)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IWriteDescriptor
from zope.interface import implementer

from xmppd.config import Settings
from xmppd.net.connection import Connection, Flusher
from xmppd.net.listeners import tune
from xmppd.net.s2s.finding import LookupFailed, Names, Resolver, find, race
from xmppd.net.s2s.options import CONNECT_TIMEOUT, DNS_SERVERS, HOSTS, Target
from xmppd.net.service import C2S_MAX_UNSENT, C2S_WRITE_TIMEOUT
from xmppd.net.transport import ServerTransport

STAGGER = 0.25  # seconds from one attempt to the next (RFC 8305 section 8)

Note = Callable[[str], None]


@dataclass(frozen=True)
class Endpoint:
    """One address of a target."""

    target: Target
    address: str

    def __str__(self) -> str:
        address = str(Target(self.address, self.target.port, self.target.direct_tls))
        return address if self.address == self.target.host else f"{address} of {self.target.host}"


class Unreachable(Exception):
    """No connection could be had; says why. `nowhere`: DNS has answered, and there is no address."""

    def __init__(self, text: str, nowhere: bool = False) -> None:
        super().__init__(text)
        self.nowhere = nowhere


class Network(Protocol):
    """What federation knows of the world."""

    async def find(self, domain: str, note: Note) -> list[list[Target]]:
        """See `finding.find`."""

    async def connect(
        self, targets: Sequence[Target], tried: frozenset[Endpoint], note: Note
    ) -> tuple[ServerTransport, Endpoint]:
        """A connection to one of these targets, but for what was `tried` before; not started yet. Raises
        `Unreachable`, which says of each what was wrong."""


class Internet:
    """The `Network` that there is."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._flusher = Flusher(reactor)
        self._names: Names | None = None

    @property
    def resolver(self) -> Resolver:
        """Asks DNS; made at the first question, for it keeps an eye on the system's name servers."""
        if self._names is None:
            timeout = partial(self._settings.__getitem__, CONNECT_TIMEOUT)
            servers: Sequence[tuple[str, int]] = self._settings[DNS_SERVERS]
            self._names = Names(self._reactor, servers, timeout)
        return self._names

    def close(self) -> None:
        """Ask nothing any more."""
        if self._names is not None:
            self._names.close()

    async def find(self, domain: str, note: Note) -> list[list[Target]]:
        """See `Network`."""
        return await find(domain, self.resolver, self._settings[HOSTS], note=note)

    async def connect(
        self, targets: Sequence[Target], tried: frozenset[Endpoint], note: Note
    ) -> tuple[ServerTransport, Endpoint]:
        """See `Network`."""
        wrong: list[str] = []
        nowhere = True

        def said(text: str) -> None:
            wrong.append(text)
            note(text)

        async def reach(target: Target) -> tuple[socket.socket, Endpoint]:
            nonlocal nowhere
            try:
                addresses = await self._addresses(target.host)
            except LookupFailed as error:
                nowhere = False
                said(f"{target.host}: {error}")
                raise
            if addresses:
                nowhere = False
            else:
                said(f"{target.host} has no address")
            endpoints = [Endpoint(target, address) for address in addresses]
            attempts = [partial(self._try, each, said) for each in endpoints if each not in tried]
            found: tuple[socket.socket, Endpoint] = await race(attempts, self._reactor, STAGGER)
            return found

        lanes = [lambda target=target: Deferred.fromCoroutine(reach(target)) for target in targets]
        try:
            sock, endpoint = await race(lanes, self._reactor, STAGGER)
        except (LookupFailed, OSError):
            raise Unreachable("; ".join(wrong) or "there is no address left", nowhere) from None
        tune(sock)
        note(f"{endpoint}: connected")
        settings = self._settings
        connection = Connection(
            self._reactor, self._flusher, sock, endpoint.address, settings[C2S_MAX_UNSENT], settings[C2S_WRITE_TIMEOUT]
        )
        return connection, endpoint

    def _addresses(self, host: str) -> Deferred[list[str]]:
        ready: Deferred[list[str]] = Deferred()
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            ready.callback([host])
            return ready
        return self.resolver.addresses(host)

    def _try(self, endpoint: Endpoint, said: Note) -> Deferred[tuple[socket.socket, Endpoint]]:
        def failed(failure: Any) -> Any:
            if failure.check(OSError):
                said(f"{endpoint}: {failure.value.strerror or failure.value}")
            return failure

        connecting = Connecting(self._reactor, endpoint, self._settings[CONNECT_TIMEOUT])
        return connecting.connected.addErrback(failed)


@implementer(IWriteDescriptor)
class Connecting:
    """A socket that is being connected. `connected` fires with it and the endpoint, or fails with `OSError`; to cancel
    it gives up."""

    def __init__(self, reactor: Any, endpoint: Endpoint, timeout: float) -> None:
        self.connected: Deferred[tuple[socket.socket, Endpoint]] = Deferred(lambda _: self._end())
        self._reactor = reactor
        self._endpoint = endpoint
        self._timer: Any = None
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        try:
            self.socket = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self.connected.errback(error)
            return
        self.socket.setblocking(False)
        code = self.socket.connect_ex((endpoint.address, endpoint.target.port))
        if code not in (0, errno.EINPROGRESS):
            self.socket.close()
            self.connected.errback(OSError(code, os.strerror(code)))
            return
        self._timer = reactor.callLater(timeout, self._failed, OSError(errno.ETIMEDOUT, "no answer"))
        reactor.addWriter(self)

    def fileno(self) -> int:
        """For the reactor."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "connecting"

    def doWrite(self) -> None:
        """The reactor: it is connected, or will not be."""
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(OSError(code, os.strerror(code)))
            return
        self._end(close=False)
        self.connected.callback((self.socket, self._endpoint))

    def connectionLost(self, reason: object) -> None:
        """The reactor: the socket is broken; some tell of that before anything else."""
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.socket.fileno() >= 0 else 0
        self._failed(OSError(code or errno.ECONNABORTED, os.strerror(code or errno.ECONNABORTED)))

    def _failed(self, error: OSError) -> None:
        if not self.connected.called:
            self._end()
            self.connected.errback(error)

    def _end(self, close: bool = True) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._reactor.removeWriter(self)
        if close:
            self.socket.close()
