"""The HTTP site: framing, limits, and who may ask."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tests.support.http import Answer, Connection, ask, request
from tests.support.world import World
from xmppd.core.http import HttpRequest, HttpResponse
from xmppd.http.site import Site


def world_with(config: str = "") -> World:
    """A server that repeats what it is sent to /echo, and answers /later when `world.later` fires."""
    world = World(config)

    def echo(asked: HttpRequest) -> HttpResponse:
        return HttpResponse(200, f"{asked.method} {asked.path} {len(asked.body)}".encode())

    async def later(asked: HttpRequest) -> HttpResponse:
        waiting: Deferred[HttpResponse] = Deferred()
        pending.append(waiting)
        return await waiting

    def broken(asked: HttpRequest) -> HttpResponse:
        raise RuntimeError("a bug")

    pending: list[Deferred[HttpResponse]] = []
    world.pending = pending  # type: ignore[attr-defined]
    world.server.http.on("GET", "/echo", echo)
    world.server.http.on("POST", "/echo", echo, max_body=2000)
    world.server.http.on("GET", "/later", later)
    world.server.http.on("GET", "/broken", broken)
    return world


def test_a_request_is_answered_and_the_connection_kept() -> None:
    connection = Connection(world_with())
    for body in (b"", b"abc"):
        connection.sends(request(path="/echo?x=1", body=body))
        answer = Answer(connection.received())
        assert (answer.status, answer.body) == (200, f"POST /echo {len(body)}".encode())
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not connection.closed


def test_requests_that_come_together_are_answered_in_order() -> None:
    world = world_with()
    connection = Connection(world)
    connection.sends(request("GET", "/later") + request("GET", "/echo"))
    assert connection.received() == b""
    (waiting,) = world.pending  # type: ignore[attr-defined]
    waiting.callback(HttpResponse(200, b"first"))
    world.settle()
    got = connection.received()
    assert got.index(b"first") < got.index(b"GET /echo 0")


@pytest.mark.parametrize("split", [1, 7, 1000])
def test_a_request_may_come_in_pieces(split: int) -> None:
    connection = Connection(world_with())
    data = request(path="/echo", body=b"x" * 50)
    for start in range(0, len(data), split):
        connection.sends(data[start : start + split])
    assert Answer(connection.received()).body == b"POST /echo 50"


def test_a_chunked_body_is_read() -> None:
    connection = Connection(world_with())
    connection.sends(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert Answer(connection.received()).body == b"POST /echo 5"


@pytest.mark.parametrize("head", [
    "Content-Length: 3\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 3",
    "Content-Length: 3\r\nContent-Length: 4",
    "Content-Length: +3",
    "Content-Length: 0x3",
    "Content-Length: -1",
    "Content-Length: 3, 3",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: xchunked",
    "Content-Length : 3",
    "no colon",
    "X: a\x00b",
])  # fmt: skip
def test_framing_that_can_be_read_in_two_ways_is_refused(head: str) -> None:
    connection = Connection(world_with())
    connection.sends(f"POST /echo HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\nabcGET /echo HTTP/1.1\r\n\r\n".encode())
    got = connection.received()
    assert got.startswith(b"HTTP/1.1 400 ") and b"/echo" not in got
    assert connection.closed


@pytest.mark.parametrize("path", ["/", "/echo/", "/ECHO", "/echo/../echo", "/%65cho", "//echo", "/etc/passwd"])
def test_nothing_else_is_there(path: str) -> None:
    connection = Connection(world_with())
    connection.sends(request("GET", path))
    assert Answer(connection.received()).status == 404
    assert connection.closed


def test_another_method_is_refused() -> None:
    answer = ask(world_with(), request("DELETE", "/echo"))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read(announced: bool) -> None:
    connection = Connection(world_with())
    head = "Content-Length: 100000000" if announced else "Transfer-Encoding: chunked"
    connection.sends(f"POST /echo HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
    for _ in range(20):
        connection.sends(b"400\r\n" + b"x" * 1024 + b"\r\n")
    got = connection.received()
    assert Answer(got).status == 413
    assert got.count(b"HTTP/1.1") == 1 and connection.closed


def test_a_head_that_is_too_large_is_refused() -> None:
    connection = Connection(world_with())
    connection.sends(b"GET /echo HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(20)))
    assert Answer(connection.received()).status == 400
    assert connection.closed
    connection = Connection(world_with())
    connection.sends(b"GET /" + b"x" * 100_000)
    assert connection.closed


def test_a_request_has_to_come_in_time_however_slowly() -> None:
    world = world_with("http_request_timeout = 30s\n")
    connection = Connection(world)
    connection.sends(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
    for _ in range(29):
        world.advance(1)
        connection.sends(b"x")
    assert not connection.closed
    world.advance(1.5)
    assert Answer(connection.received()).status == 408
    assert connection.closed


def test_a_connection_that_says_nothing_is_closed() -> None:
    world = world_with("http_idle_timeout = 60s\n")
    connection = Connection(world)
    world.advance(60)
    assert connection.closed


def test_an_answer_that_takes_long_is_waited_for() -> None:
    world = world_with()
    connection = Connection(world)
    connection.sends(request("GET", "/later"))
    world.advance(600)
    assert not connection.closed
    (waiting,) = world.pending  # type: ignore[attr-defined]
    waiting.callback(HttpResponse(200, b"at last"))
    world.settle()
    assert Answer(connection.received()).body == b"at last"


def test_whoever_does_not_wait_for_the_answer_harms_nobody() -> None:
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    world = world_with()
    connection = Connection(world)
    connection.sends(request("GET", "/later"))
    connection.channel.connectionLost(Failure(ConnectionLost()))
    (waiting,) = world.pending  # type: ignore[attr-defined]
    waiting.callback(HttpResponse(200, b"too late"))
    world.settle()
    assert connection.received() == b""


def test_a_bug_is_an_answer_without_details() -> None:
    answer = ask(world_with(), request("GET", "/broken"))
    assert answer.status == 500 and b"bug" not in answer.body


def test_there_are_only_so_many_connections() -> None:
    world = world_with("http_max_connections = 2\n")
    site = Site(world.server)
    first, second, third = (Connection(world, site=site) for _ in range(3))
    assert Answer(third.received()).status == 503 and third.closed
    second.sends(request("GET", "/echo"))
    assert Answer(second.received()).status == 200
    assert first.received() == b""


def test_a_header_with_a_line_end_does_not_leave() -> None:
    world = world_with()
    world.server.http.on("GET", "/header", lambda asked: HttpResponse(200, headers={"X": "a\r\nb: c"}))
    got = ask(world, request("GET", "/header"))
    assert "b" not in got.headers


def test_what_proxies_say_that_are_not_of_one_mind_is_refused() -> None:
    world = world_with("trusted_proxies = 192.0.2.0/24\n")
    for peer, status in (("192.0.2.1", 400), ("203.0.113.9", 200)):
        connection = Connection(world, peer)
        connection.sends(request("GET", "/echo", Forwarded="for=203.0.113.1", X_Forwarded_For="203.0.113.2"))
        assert Answer(connection.received()).status == status
