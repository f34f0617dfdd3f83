"""A real server behind nginx, configured as the documentation says: who is behind it counts, and nobody else may say
who they are."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conversations.peers import RealNginx
from tests.conversations.process import PATIENCE, RunningServer, unverified
from tests.conversations.raw import HEADER, RawClient
from tests.support.ports import free_port

Make = Callable[..., RunningServer]
CLIENT, OTHER = "127.0.0.2", "127.0.0.3"  # whom the proxy sees; the proxy itself is 127.0.0.1


@pytest.fixture
def behind(make_server: Make, tmp_path: Path) -> Iterator[tuple[RunningServer, RealNginx]]:
    server = make_server()
    ports = free_port(), free_port()
    text = server.config.read_text()
    text = text.replace(f"c2s_ports = {server.port}", f"c2s_ports = {server.port}, {ports[0]}")
    text = text.replace(f"direct_tls_ports = {server.tls_port}", f"direct_tls_ports = {server.tls_port}, {ports[1]}")
    more = f"proxy_protocol_ports = {ports[0]}, {ports[1]}\ntrusted_proxies = 127.0.0.1\n"
    server.config.write_text(text.replace("[host:", f"{more}max_unauthenticated_per_address = 1\n[host:"))
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = RealNginx(folder, server, ports)
    server.start()
    nginx.start()
    yield server, nginx
    nginx.close()


def connect(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))


def says(sock: socket.socket, end: bytes) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while end not in got and (data := sock.recv(4096)):
            got += data
    return got


def test_clients_log_in_through_it(behind: tuple[RunningServer, RealNginx]) -> None:
    server, nginx = behind
    server.user("romeo")
    for direct_tls in (False, True):
        client = RawClient(nginx, direct_tls)
        assert client.login("romeo", "orchard") == "romeo@localhost/orchard"
        client.socket.close()


def test_limits_are_of_who_is_behind_it(behind: tuple[RunningServer, RealNginx]) -> None:
    _, nginx = behind
    first, second, other = (connect(nginx.port, address) for address in (CLIENT, CLIENT, OTHER))
    for sock, said in ((first, b"</stream:features>"), (second, b"<policy-violation"), (other, b"</stream:features>")):
        sock.sendall(HEADER.encode())
        assert said in says(sock, said)
        if sock is not first:
            sock.close()
    first.close()


def test_nobody_else_is_let_in_where_the_proxy_connects(behind: tuple[RunningServer, RealNginx]) -> None:
    server, _ = behind
    found = re.search(r"proxy_protocol_ports = (\d+)", server.config.read_text())
    assert found is not None
    stranger = connect(int(found[1]), CLIENT)
    assert says(stranger, b"anything") == b""
    assert CLIENT in server.wait_for("trusted_proxies")
    proxy = connect(int(found[1]), "127.0.0.1")
    proxy.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert says(proxy, b"anything") == b""
    assert "PROXY header" in server.wait_for("127.0.0.1 is closed")


def test_what_a_client_says_of_itself_reaches_no_log_and_opens_nothing(
    behind: tuple[RunningServer, RealNginx],
) -> None:
    server, nginx = behind
    for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        asking = http.client.HTTPSConnection(
            "127.0.0.1", nginx.https_port, context=unverified(), source_address=(CLIENT, 0), timeout=PATIENCE
        )
        asking.request("GET", "/metrics", headers={"Host": "localhost", **headers})
        assert asking.getresponse().status == 403
        assert f"{CLIENT}: GET /metrics" in server.wait_for("/metrics")
        asking.close()
