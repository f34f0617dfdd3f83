"""The PROXY protocol: headers in every form and spelling, and connections of proxies over sockets."""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.net.loop import Loop
from tests.support.world import World
from xmppd.config import ConfigError
from xmppd.net.proxy_protocol import LONGEST_V1, LONGEST_V2, V2, BehindProxy, missing, source
from xmppd.settings import check_proxied

V4 = "PROXY TCP4 203.0.113.9 192.0.2.1 4711 5222\r\n"
V6 = "PROXY TCP6 2001:db8::9 2001:db8::1 4711 5222\r\n"
PORTS = st.integers(0, 65535)


def v2(family: int, addresses: bytes, *, command: int = 1, version: int = 2, more: bytes = b"") -> bytes:
    body = addresses + more
    return V2 + bytes([version << 4 | command, family]) + struct.pack("!H", len(body)) + body


def tcp(client: str, *, more: bytes = b"") -> bytes:
    """A header of version 2 of a client with this address."""
    packed = ipaddress.ip_address(client).packed
    addresses = packed + bytes(len(packed)) + struct.pack("!HH", 4711, 5222)
    return v2(0x11 if len(packed) == 4 else 0x21, addresses, more=more)


def read(data: bytes) -> tuple[bytes, bytes]:
    """What is taken for a header, and what is left."""
    head = b""
    while wanted := missing(head):
        assert len(data) >= len(head) + wanted, "it wants more than there is"
        head += data[len(head) : len(head) + wanted]
    return head, data[len(head) :]


@pytest.mark.parametrize(("header", "client"), [
    (V4.encode(), "203.0.113.9"),
    (V6.encode(), "2001:db8::9"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n", "203.0.113.9"),
    (tcp("203.0.113.9"), "203.0.113.9"),
    (tcp("2001:db8::9"), "2001:db8::9"),
    (tcp("203.0.113.9", more=b"\x04\x00\x03abc"), "203.0.113.9"),
    (v2(0, b"", command=0), None),
    (v2(0, b"\x04\x00\x01a"), None),
    (v2(0x11, b"\xcb\0\x71\x09\xc0\0\2\1\0\1\0\2", command=0), None),
])  # fmt: skip
def test_a_header_names_the_client_and_nothing_behind_it_is_taken(header: bytes, client: str | None) -> None:
    for rest in (b"", b"<?xml version='1.0'?>", b"\r\n" * 20):
        assert read(header + rest) == (header, rest)
    assert source(header) == client


@given(st.ip_addresses(), PORTS, PORTS, st.binary(max_size=40))
def test_any_address_in_any_version(address: ipaddress.IPv4Address | ipaddress.IPv6Address, one: int, two: int,
                                    rest: bytes) -> None:  # fmt: skip
    text = f"PROXY TCP{address.version} {address} {address} {one} {two}\r\n".encode()
    wanted = str(getattr(address, "ipv4_mapped", None) or address)
    for header in (text, tcp(str(address))):
        assert read(header + rest) == (header, rest)
        assert source(header) == wanted


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda data: b"PROXY " + data),
                 st.binary(max_size=200).map(lambda data: V2 + data)))  # fmt: skip
def test_whatever_comes_is_a_header_or_none_and_never_too_long(data: bytes) -> None:
    head = b""
    try:
        while wanted := missing(head):
            assert len(head) + wanted <= LONGEST_V2 + 16
            if len(head) + wanted > len(data):
                return
            head += data[len(head) : len(head) + wanted]
        client = source(head)
    except ValueError:
        return
    assert client is None or ipaddress.ip_address(client)


@pytest.mark.parametrize("header", [
    b"<?xml version='1.0'?>", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03ABCDEF",
    b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n", b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 65536\r\n",
    b"PROXY TCP4 2001:db8::9 192.0.2.1 1 1\r\n", b"PROXY TCP6 203.0.113.9 2001:db8::1 1 1\r\n",
    b"PROXY TCP4 example.org 192.0.2.1 1 1\r\n", b"PROXY TCP4 203.0.113.9  192.0.2.1 1 1\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 1\r\n", b"PROXY UDP4 203.0.113.9 192.0.2.1 1 1\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 1\r\n", b"PROXY TCP4 203.0.113.9\nx 1 1 1\r\n",
    b"PROXY\r\nTCP4 1.1.1.1 x\r\n",
    b"PROXY TCP4 \xff 192.0.2.1 1 1\r\n", b"PROXY " + b"x" * LONGEST_V1,
    v2(0x11, b"\xcb\0\x71\x09"), v2(0x12, bytes(12)), v2(0x31, bytes(216)), v2(0x11, bytes(12), version=1),
    v2(0x11, bytes(12), command=2), v2(0x11, bytes(LONGEST_V2 + 1)),
])  # fmt: skip
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        source(read(header)[0])


# ---- the configuration


@pytest.mark.parametrize(("config", "complaint"), [
    ("proxy_protocol_ports = 6222\ntrusted_proxies = 127.0.0.1\n", "6222 has to be in c2s_ports or c2s_direct_tls"),
    ("proxy_protocol_ports = 0\ntrusted_proxies = 127.0.0.1\nc2s_ports = 0\n", "a port has to be named"),
    ("proxy_protocol_ports = 5222\n", "trusted_proxies has to name those who connect there"),
])  # fmt: skip
def test_ports_that_nobody_could_use_are_an_error(config: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f":2: proxy_protocol_ports: {complaint}"):
        check_proxied(World(config).server.settings)


def test_ports_of_either_kind_may_be_for_proxies() -> None:
    check_proxied(World("proxy_protocol_ports = 5222, 5223\ntrusted_proxies = 127.0.0.1\n").server.settings)


# ---- connections


class Port:
    """A port for proxies; `came` has who was let through, with what is to be read from them."""

    def __init__(self, tmp_path: Path) -> None:
        self.loop = Loop()
        settings = World("c2s_timeout = 10\ntrusted_proxies = 198.51.100.0/24, 2001:db8:1::/48\n").server.settings
        self.port = BehindProxy(self.loop, settings, self._accepted)
        self.came: list[tuple[str, bytes]] = []

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        try:
            self.came.append((peer, sock.recv(1000)))
        except BlockingIOError:
            self.came.append((peer, b""))
        sock.close()

    def connects(self, peer: str = "198.51.100.7") -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.port.accepted(ours, peer)
        return theirs

    def is_closed(self, sock: socket.socket) -> bool:
        self.loop.rounds(3)
        try:
            return sock.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


@pytest.fixture
def port(tmp_path: Path) -> Port:
    return Port(tmp_path)


@pytest.mark.parametrize("header", [V4.encode(), tcp("203.0.113.9")])
@pytest.mark.parametrize("peer", ["198.51.100.7", "::ffff:198.51.100.7", "2001:db8:1::5"])
def test_a_trusted_proxy_says_who_has_connected(port: Port, header: bytes, peer: str) -> None:
    port.connects(peer).send(header + b"<stream")
    port.loop.rounds(3)
    assert port.came == [("203.0.113.9", b"<stream")]
    assert not port.port.waiting


def test_a_header_may_come_byte_by_byte(port: Port) -> None:
    for header in (V6.encode(), tcp("2001:db8::9")):
        proxy = port.connects()
        for position in range(len(header)):
            assert not port.came
            proxy.send(header[position : position + 1])
            port.loop.rounds(2)
        assert port.came == [("2001:db8::9", b"")]
        port.came.clear()


def test_a_proxy_that_looks_after_itself_is_the_client(port: Port) -> None:
    port.connects().send(v2(0, b"", command=0))
    port.loop.rounds(3)
    assert port.came == [("198.51.100.7", b"")]


@pytest.mark.parametrize("peer", ["203.0.113.9", "127.0.0.1", "2001:db8:2::1"])
def test_nobody_else_may_say_who_they_are(port: Port, peer: str) -> None:
    logged: list[LogEvent] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        assert port.is_closed(port.connects(peer))
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert not port.came
    assert [event["peer"] for event in logged if "peer" in event] == [peer]


def test_whoever_says_nothing_or_nonsense_or_goes_is_closed(port: Port) -> None:
    silent = port.connects()
    nonsense = port.connects()
    nonsense.send(b"<?xml version='1.0'?><stream:stream>")
    assert port.is_closed(nonsense)
    port.connects().close()
    port.loop.rounds(3)
    assert len(port.port.waiting) == 1
    port.loop.advance(10)
    assert port.is_closed(silent)
    assert not (port.port.waiting or port.came or port.loop.readers or port.loop.calls)


def test_who_has_said_nothing_yet_is_closed_when_the_server_stops(port: Port) -> None:
    proxy = port.connects()
    port.port.stop()
    assert port.is_closed(proxy)
    assert not port.loop.calls


def test_a_connection_that_breaks_before_its_header_is_forgotten(port: Port) -> None:
    proxy = port.connects()
    (head,) = port.port.waiting
    head.connectionLost(Failure(ConnectionLost()))
    head.connectionLost(Failure(ConnectionLost()))
    assert port.is_closed(proxy)
    assert not (port.port.waiting or port.came or port.loop.readers or port.loop.calls)


def test_a_bug_in_one_connection_closes_that_one(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = port.connects()
    broken.send(V4.encode())
    with monkeypatch.context() as patch:
        patch.setattr(port.port, "_accepted", lambda sock, peer: 1 / 0)
        assert port.is_closed(broken)
    port.connects().send(V4.encode())
    port.loop.rounds(3)
    assert port.came == [("203.0.113.9", b"")]
