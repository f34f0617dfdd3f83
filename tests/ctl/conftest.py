"""A server without doors, on a store in memory, for the commands; and its admin socket on a real reactor."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.support import ports
from xmppd import settings as options
from xmppd.core.host import Host
from xmppd.core.server import Server
from xmppd.ctl.admin import AdminSocket
from xmppd.storage import Store

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC

CONFIG = """\
[xmppd]
data_path = {data_path}
certificates = {data_path}/certs
interfaces = 127.0.0.1
c2s_ports = {port}
c2s_direct_tls_ports =
http_ports =
https_ports =
s2s_ports =
s2s_direct_tls_ports =

[host:example.org]
[host:example.com]
"""


class Clients:
    """The part of the service for clients that commands ask."""

    def counts(self) -> dict[str, dict[str, int]]:
        return {"c2s": {"bound": 2, "opened": 1}}


class World:
    """A server with two hosts, and a clock and a reactor that the test turns."""

    def __init__(self, config_path: Path) -> None:
        self.config = options.read(config_path)
        self.clock = Clock()
        self.clock.advance(NOW)
        self.clients: Any = Clients()
        self.reactor: Any = SelectReactor()
        store = Store.open(self.clock, "sqlite://")
        in_thread: Any = maybeDeferred
        self.server = Server(self.config.server, store, self.clock, self.clock.seconds, in_thread)
        for domain, settings in self.config.hosts.items():
            self.server.hosts[domain] = Host(self.server, domain, settings)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, and return or raise what it did."""
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        for _ in range(10_000):
            if results:
                break
            self.clock.advance(0)
        assert results, "it waits for something that does not come"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def until(self, true: Callable[[], Any]) -> None:
        """Turn clock and reactor until something is so."""
        end = time.monotonic() + 20
        while not true():
            assert time.monotonic() < end, "it never came to pass"
            self.clock.advance(0)
            self.reactor.iterate(0.01)


class Peer:
    """Somebody at the admin socket."""

    def __init__(self, world: World, path: Path) -> None:
        self._world = world
        self.received = b""
        self.closed = False
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.setblocking(False)

    def send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                self._world.reactor.iterate(0.01)

    def ask(self, command: str, **arguments: Any) -> None:
        self.send(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")

    def answer(self) -> Any:
        """The next answer."""
        self._world.until(lambda: self.read() or b"\n" in self.received)
        line, self.received = self.received.split(b"\n", 1)
        return json.loads(line)

    def is_closed(self) -> bool:
        """Whether the server has closed the connection, and everything it sent before has been taken."""
        self.read()
        return self.closed and not self.received

    def read(self) -> None:
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self.received += data
        self.closed = self.closed or not data


@pytest.fixture
def free_port() -> int:
    return ports.free_port()


@pytest.fixture
def config_path(tmp_path: Path, free_port: int) -> Path:
    """The file of a configuration that can be used; nothing else exists yet."""
    path = tmp_path / "xmppd.cfg"
    path.write_text(CONFIG.format(data_path=tmp_path / "var", port=free_port))
    return path


@pytest.fixture
def world(config_path: Path) -> World:
    return World(config_path)


@pytest.fixture
def admin(world: World) -> Iterator[AdminSocket]:
    """The admin socket, accepting."""
    path = options.admin_socket(world.config.server)
    path.parent.mkdir()
    made = AdminSocket(world.server, world.clients, path, world.reactor)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def connect(world: World, admin: AdminSocket) -> Iterator[Callable[[], Peer]]:
    """Makes connections to the admin socket."""
    peers: list[Peer] = []

    def new() -> Peer:
        peers.append(Peer(world, admin.path))
        return peers[-1]

    yield new
    for peer in peers:
        peer.socket.close()
