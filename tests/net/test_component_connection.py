"""External components over sockets: what becomes of them and of what waits for them when a connection breaks."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket

import pytest

from tests.net.loop import Loop
from tests.support.world import STARTED, World
from xmppd.net.component import WINDOW

SECTIONS = "[host:example.org]\n[component:push.example.org]\nsecret = secret\n"
HEADER = (
    b"<stream:stream to='push.example.org' xmlns='jabber:component:accept' "
    b"xmlns:stream='http://etherx.jabber.org/streams'>"
)
SOME = 20_000  # bytes of a message


class Sockets:
    """A server whose components are at the other ends of sockets, and romeo, who writes to them."""

    def __init__(self, config: str = "") -> None:
        self.loop = Loop()
        self.loop.advance(STARTED)
        self.world = World(f"c2s_rate = 100M\n{config}", SECTIONS, clock=self.loop)
        self.domain = self.world.components.components["push.example.org"]
        self.romeo = self.world.online("romeo@example.org/orchard")

    def connect(self) -> socket.socket:
        """A connection, of which the kernel keeps little."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs.settimeout(5)
        self.world.components.accepted(ours, "127.0.0.1")
        return theirs

    def component(self) -> socket.socket:
        """A component that is let in, and reads nothing after that."""
        sock = self.connect()
        sock.send(HEADER)
        self.turns()
        found = re.search(r"id='([^']+)'", sock.recv(4096).decode())
        assert found is not None
        sock.send(f"<handshake>{hashlib.sha1(f'{found[1]}secret'.encode()).hexdigest()}</handshake>".encode())
        self.turns()
        assert b"<handshake/>" in sock.recv(4096)
        return sock

    def turns(self, number: int = 20) -> None:
        """Some turns of the reactor."""
        for _ in range(number):
            self.loop.turn()

    def writes(self, count: int) -> None:
        """Romeo writes so many messages to the component."""
        for number in range(count):
            self.romeo.sends(f"<message to='push.example.org' id='{number}'><body>{'x' * SOME}</body></message>")
            self.loop.turn()

    def came_back(self) -> int:
        """How many of them have come back."""
        return len([element for element in self.romeo.all_that_came() if element.get("type") == "error"])


def reads(sock: socket.socket) -> bytes:
    """What has come."""
    with contextlib.suppress(BlockingIOError):
        return sock.recv(65536)
    return b""


@pytest.mark.parametrize("how", ["killed", "stuck"])
def test_one_that_breaks_while_much_waits_is_gone_and_all_comes_back(how: str) -> None:
    server = Sockets()
    sock = server.component()
    server.writes(20)
    if how == "killed":
        sock.close()
    else:
        server.loop.advance(61)  # c2s_write_timeout
    server.turns()
    assert not server.domain.connected
    assert server.came_back() >= 20 - WINDOW // SOME - 2  # the others were with the kernel
    server.component()


def test_what_waits_is_not_written_to_a_connection_that_is_lost() -> None:
    server = Sockets()
    sock = server.component()
    server.writes(10)
    sock.setblocking(False)
    stream = server.domain.stream
    assert stream is not None
    while stream.transport.unsent >= WINDOW:
        sock.recv(2048)
        server.loop.turn()
    sock.close()
    server.turns()
    assert server.came_back() >= 10 - WINDOW // SOME - 2


def test_one_that_takes_the_place_of_another_is_sent_what_comes() -> None:
    server = Sockets("component_conflict_resolve = kick_old\n")
    old = server.component()
    server.writes(10)
    new = server.component()
    new.setblocking(False)
    server.romeo.forget()
    server.writes(10)
    got = b""
    for _ in range(1000):
        server.loop.turn()
        got += reads(new)
    assert got.count(b"</message>") == 10
    old.close()


def test_one_too_many_of_an_address_is_sent_away_at_once() -> None:
    server = Sockets("max_unauthenticated_per_address = 2\n")
    socks = [server.connect() for _ in range(5)]
    server.turns()
    for sock in socks:
        sock.setblocking(False)
    assert [b"policy-violation" in reads(sock) for sock in socks] == [False, False, True, True, True]
