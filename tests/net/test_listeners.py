"""Listening sockets: what can be bound, and what happens to who connects."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.loop import Loop
from xmppd.net.listeners import ACCEPTS_A_TURN, Listener, PortUnusable, bind, tune


class Doors:
    """A listener on a free port, and who came in."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.socket = bind("127.0.0.1", 0)
        self.came: list[tuple[socket.socket, str]] = []
        self.listener = Listener(self.loop, self.socket, lambda sock, peer: self.came.append((sock, peer)))

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.socket.getsockname(), timeout=5)
        return client


@pytest.fixture
def doors() -> Iterator[Doors]:
    made = Doors()
    made.listener.start()
    yield made
    for sock, _ in made.came:
        sock.close()
    made.listener.stop()


def test_who_connects_is_handed_on(doors: Doors) -> None:
    client = doors.connect()
    doors.loop.until(lambda: doors.came)
    [(accepted, peer)] = doors.came
    assert peer == "127.0.0.1" and accepted.getpeername() == client.getsockname()
    assert accepted.gettimeout() == 0
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    client.close()


def test_a_flood_is_taken_in_turns(doors: Doors) -> None:
    clients = [doors.connect() for _ in range(ACCEPTS_A_TURN + 6)]
    doors.listener.doRead()
    assert len(doors.came) == ACCEPTS_A_TURN
    doors.listener.doRead()
    assert len(doors.came) == ACCEPTS_A_TURN + 6
    doors.listener.doRead()  # nobody is left
    for client in clients:
        client.close()


def test_before_the_start_and_after_the_end_nobody_is_let_in() -> None:
    doors = Doors()
    client = doors.connect()
    doors.loop.turn()
    assert not doors.came
    doors.listener.start()
    doors.loop.until(lambda: doors.came)
    doors.listener.stop()
    assert not doors.loop.readers
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(client.getpeername(), timeout=5)
    doors.came[0][0].close()
    client.close()


def test_what_goes_wrong_with_one_does_not_close_the_door(doors: Doors) -> None:
    taken = doors.listener._accepted

    def refuse(sock: socket.socket, peer: str) -> None:
        raise RuntimeError("of this one")

    doors.listener._accepted = refuse
    client = doors.connect()
    assert doors.listener.doRead() is None  # type: ignore[func-returns-value]
    assert client.recv(1) == b""
    doors.listener._accepted = taken
    other = doors.connect()
    doors.loop.until(lambda: doors.came)
    client.close()
    other.close()


def test_without_descriptors_who_connects_is_closed_and_not_kept_waiting(doors: Doors) -> None:
    first, second, third = (doors.connect() for _ in range(3))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    filler: list[int] = []
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                filler.append(os.dup(0))
        for client in (first, second):
            doors.listener.doRead()  # one at a time is refused, again and again
            assert client.recv(1) == b""
        assert not doors.came
        os.close(filler.pop())
        doors.listener.doRead()
    finally:
        for descriptor in filler:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(doors.came) == 1
    assert doors.came[0][0].getpeername() == third.getsockname()
    for client in (first, second, third):
        client.close()


def test_a_port_that_is_taken() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnusable, match=f"cannot listen on 127.0.0.1 port {port}: .*in use") as raised:
            bind("127.0.0.1", port)
        assert not raised.value.no_such_address


def test_an_address_that_the_machine_does_not_have() -> None:
    with pytest.raises(PortUnusable) as raised:
        bind("192.0.2.1", 0)
    assert raised.value.no_such_address and "\n" not in str(raised.value)


def test_all_addresses() -> None:
    with bind("*", 0) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"
        port = listening.getsockname()[1]
        with contextlib.suppress(PortUnusable), bind("::", port) as both:  # beside it: IPv6 alone
            assert both.getsockname()[1] == port


def test_tuning_a_socket_that_is_no_tcp_is_an_error_to_notice() -> None:
    one, other = socket.socketpair()
    with one, other, pytest.raises(OSError, match=r"[Nn]ot supported"):
        tune(one)
