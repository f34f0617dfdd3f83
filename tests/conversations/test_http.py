"""HTTP of a real server: a backend that owns the rosters of people who are online, and what watches the server."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.conversations.people import Person
from tests.conversations.process import PATIENCE, RunningServer, unverified

Make = Callable[..., RunningServer]


class Backend:
    """A backend in a few lines: a roster for each user, as JSON. `asked` has the paths, `connections` how many there
    were; where `fails` is not empty that is what it does instead."""

    def __init__(self) -> None:
        backend = self
        self.rosters: dict[str, Any] = {}
        self.asked: list[str] = []
        self.connections: set[Any] = set()
        self.fails = ""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                backend.asked.append(self.path)
                backend.connections.add(self.client_address)
                assert self.headers["Accept"] == "application/json"
                data = json.dumps(backend.rosters.get(self.path.rpartition("/")[2], {})).encode()
                if backend.fails == "hang up":
                    self.close_connection = True
                    return
                if backend.fails == "redirect":
                    self.send_response(302)
                    self.send_header("Location", "/users/elsewhere")
                    data = b""
                else:
                    self.send_response(500 if backend.fails == "error" else 200)
                if backend.fails == "html":
                    data = b"<html>Welcome</html>"
                if backend.fails == "endless":
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    try:
                        while True:
                            self.wfile.write(b"400\r\n" + b" " * 1024 + b"\r\n")
                    except OSError:
                        self.close_connection = True
                        return
                self.send_header("Content-Length", str(len(data) + (10 if backend.fails == "hang" else 0)))
                self.end_headers()
                self.wfile.write(data)
                if backend.fails == "hang":
                    backend.hung.wait(PATIENCE)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.hung = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/users/%s"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.hung.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.close()


@pytest.fixture
def server(make_server: Make, backend: Backend) -> RunningServer:
    """A server whose rosters are the backend's, with romeo and juliet."""
    sections = (
        "[host:localhost]\nmodules_enabled = http_roster_admin, block_subscriptions\n"
        f"http_roster_url = {backend.url}\nhttp_roster_timeout = 2s\n"
    )
    running = make_server("", sections).start()
    running.user("romeo", "juliet")
    return running


def post(server: RunningServer, *names: str, secure: bool = False) -> Any:
    """Ask for a refresh; the answer."""
    if secure:
        connection: Any = http.client.HTTPSConnection(
            "localhost", server.https_port, timeout=PATIENCE, context=unverified()
        )
    else:
        connection = http.client.HTTPConnection("localhost", server.http_port, timeout=PATIENCE)
    connection.request("POST", "/roster_admin/refresh", json.dumps(names), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200
    found = json.loads(answer.read())
    connection.close()
    return found


def test_a_backend_makes_friends_of_two_who_are_online_and_parts_them_again(
    server: RunningServer, backend: Backend
) -> None:
    async def play() -> None:
        romeo = await Person(server, "romeo", "orchard").arrives()
        juliet = await Person(server, "juliet", "balcony").arrives()
        pushed: asyncio.Queue[Any] = asyncio.Queue()
        romeo.add_event_handler("roster_update", pushed.put_nowait)
        assert list(romeo.client_roster) in ([], ["romeo@localhost"])
        for secure in (False, True):
            backend.rosters = {
                "romeo": {"juliet@localhost": {"name": "Juliet", "groups": ["Friends"]}},
                "juliet": {"romeo@localhost": {"groups": {"Friends": True}}},
            }
            answer = await asyncio.to_thread(post, server, "romeo", "juliet", secure=secure)
            assert answer == {"status": "ok", "message": "roster update complete", "updated": 2, "errors": 0}
            await romeo.sees("available", "juliet@localhost")
            await juliet.sees("available", "romeo@localhost")
            push = await asyncio.wait_for(pushed.get(), PATIENCE)
            item = push["roster"]["items"]["juliet@localhost"]
            assert (item["name"], item["subscription"], item["groups"]) == ("Juliet", "both", ["Friends"])
            romeo.send_presence(pstatus="here")
            assert (await juliet.sees("available", "romeo@localhost"))["status"] == "here"
            backend.rosters = {}
            await asyncio.to_thread(post, server, "romeo", "juliet", secure=secure)
            await romeo.sees("unavailable", "juliet@localhost")
            await juliet.sees("unavailable", "romeo@localhost")
            push = await asyncio.wait_for(pushed.get(), PATIENCE)
            assert push["roster"]["items"]["juliet@localhost"]["subscription"] == "remove"
        await romeo.leaves()
        await juliet.leaves()

    asyncio.run(play())
    assert len(backend.connections) <= 2  # they are used again


@pytest.mark.parametrize("fails", ["hang up", "error", "html", "hang", "endless", "redirect"])
def test_a_backend_that_fails_leaves_the_roster_as_it_was(
    server: RunningServer, backend: Backend, fails: str
) -> None:
    async def play() -> None:
        backend.rosters = {"romeo": {"juliet@localhost": {}}}
        romeo = await Person(server, "romeo", "orchard").arrives()
        backend.rosters, backend.fails = {}, fails
        answer = await asyncio.to_thread(post, server, "romeo")
        assert answer == {"status": "error", "message": "roster update complete", "updated": 0, "errors": 1}
        assert "/users/elsewhere" not in backend.asked
        await romeo.leaves()
        again = await Person(server, "romeo", "street").arrives()
        assert "juliet@localhost" in again.client_roster
        await again.leaves()

    asyncio.run(play())


def get(server: RunningServer, path: str, secure: bool = False) -> tuple[int, str]:
    connection: http.client.HTTPConnection
    if secure:
        connection = http.client.HTTPSConnection("127.0.0.1", server.https_port, timeout=PATIENCE, context=unverified())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=PATIENCE)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


@pytest.mark.parametrize("secure", [False, True])
def test_a_server_can_be_watched(make_server: Make, secure: bool) -> None:
    server = make_server().start()
    assert get(server, "/healthz", secure) == (200, "ready\n")
    status, text = get(server, "/metrics", secure)
    assert status == 200 and 'xmppd_sessions{host="localhost",state="live"} 0' in text
    assert get(server, "/", secure)[0] == get(server, "/roster_admin/refresh", secure)[0] == 404
    assert server.stop() == 0


def test_https_has_the_certificate_of_the_host(make_server: Make) -> None:
    server = make_server("", "[host:localhost]\n[host:other.localhost]\n").start()
    for name in ("localhost", "other.localhost"):
        context = ssl.create_default_context(cafile=str(server.folder / "certs" / f"{name}.crt"))
        context.set_alpn_protocols(["h2", "http/1.1"])
        connection = http.client.HTTPSConnection("127.0.0.1", server.https_port, timeout=PATIENCE, context=context)
        plain = socket.create_connection(("127.0.0.1", server.https_port), PATIENCE)
        connection.sock = context.wrap_socket(plain, server_hostname=name)
        assert connection.sock.selected_alpn_protocol() == "http/1.1"
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
