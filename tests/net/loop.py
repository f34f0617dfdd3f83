"""A reactor for one test: real sockets, time that the test moves, and a client at the other end."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.python.failure import Failure

PATIENCE = 5.0  # seconds of real time until a test gives up


class Loop(Clock):
    """As much of a reactor as connections and listeners use."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def turn(self, wait: float = 0.0) -> None:
        """One round: calls that are due, then sockets that are ready."""
        self.advance(0)
        if not self.readers | self.writers:
            return
        readable, writable, _ = select.select(self.readers, self.writers, [], wait)
        for descriptor in readable:
            if descriptor in self.readers:
                self._done(descriptor, descriptor.doRead())
        for descriptor in writable:
            if descriptor in self.writers:
                self._done(descriptor, descriptor.doWrite())
        self.advance(0)

    def _done(self, descriptor: Any, reason: Exception | None) -> None:
        if reason is not None:
            self.removeReader(descriptor)
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(reason))

    def until(self, condition: Callable[[], object], *clients: Peer) -> None:
        """Go on until the condition holds."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, "it does not happen"
            self.turn(0.001)
            for client in clients:
                client.pump()

    def rounds(self, number: int, *clients: Peer) -> None:
        """Go on for a while, when nothing is expected to happen."""
        for _ in range(number):
            self.turn()
            for client in clients:
                client.pump()


class Receiver:
    """What a connection under test tells."""

    def __init__(self) -> None:
        self.data = b""
        self.calls: list[str] = []
        self.lost: str | None = None
        self.on_data: Callable[[bytes], None] = lambda data: None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.calls.append("data")
        self.on_data(data)

    def secured(self) -> None:
        self.calls.append("secured")

    def connection_lost(self, reason: str) -> None:
        assert self.lost is None
        self.lost = reason
        self.calls.append("lost")


class Peer:
    """The client's end: plain at first, under TLS once `start_tls` was called."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)
        self.tls: SSL.Connection | None = None
        self.data = b""  # decrypted
        self.raw = b""  # as it came
        self.segments: list[bytes] = []
        self.ended = False  # the server has closed its half
        self.reading = True
        self.secured = False
        self.error: Exception | None = None
        self._out = b""

    def start_tls(self, context: SSL.Context, name: str = "", alpn: list[bytes] | None = None) -> None:
        self.tls = SSL.Connection(context, None)
        if name:
            self.tls.set_tlsext_host_name(name.encode())
        if alpn:
            self.tls.set_alpn_protos(alpn)
        self.tls.set_connect_state()
        self.pump()

    def send(self, data: bytes) -> None:
        if self.tls is None:
            self._out += data
        else:
            while data:
                data = data[self.tls.send(data[:16384]) :]
        self.pump()

    def pump(self) -> None:
        """Move what can be moved."""
        if self.reading and not self.ended:
            with contextlib.suppress(BlockingIOError):
                while True:
                    try:
                        got = self.socket.recv(1 << 20)
                    except ConnectionError:
                        got = b""
                    if not got:
                        self.ended = True
                        break
                    self.raw += got
                    self.segments.append(got)
                    if self.tls is not None:
                        self.tls.bio_write(got)
                    else:
                        self.data += got
        if self.tls is not None:
            self._run_tls(self.tls)
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionError):
            while self._out:
                self._out = self._out[self.socket.send(self._out) :]

    def _run_tls(self, tls: SSL.Connection) -> None:
        try:
            if not self.secured:
                tls.do_handshake()
                self.secured = True
            while True:
                self.data += tls.recv(1 << 16)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            pass
        except SSL.Error as error:
            self.error = self.error or error
        with contextlib.suppress(SSL.WantReadError):
            while True:
                self._out += tls.bio_read(1 << 16)

    def close(self) -> None:
        self.socket.close()
        self.ended = True


def client_context(version: int | None = None) -> SSL.Context:
    """A client that trusts everybody, at one version of TLS or any."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version is not None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    return context


def records(raw: bytes) -> list[int]:
    """The content types of the TLS records in `raw`."""
    types = []
    while raw:
        types.append(raw[0])
        raw = raw[5 + int.from_bytes(raw[3:5], "big") :]
    return types
