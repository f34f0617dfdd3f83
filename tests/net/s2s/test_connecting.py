"""Connections to other servers, on real sockets: who is tried, in which order, and what is left when it is over."""

from __future__ import annotations

import errno
import socket
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.net.loop import Loop, Receiver
from tests.support.ports import free_port
from tests.support.world import configuration
from xmppd.net.s2s.connecting import STAGGER, Connecting, Endpoint, Internet, Unreachable
from xmppd.net.s2s.finding import LookupFailed, Resolver, Srv
from xmppd.net.s2s.options import Target

TIMEOUT = 10.0
CONFIG = f"s2s_connect_timeout = {TIMEOUT:g}s"
SECTIONS = "[host:example.org]\n"
NAME = "xmpp.capulet.example"


class Book:
    """Knows addresses, or why there is none; to ask for any other name is to wait."""

    def __init__(self) -> None:
        self.known: dict[str, list[str] | LookupFailed] = {}
        self.waiting: dict[str, Deferred[list[str]]] = {}

    def services(self, name: str) -> Deferred[list[Srv]]:
        return defer.succeed([])

    def addresses(self, name: str) -> Deferred[list[str]]:
        known = self.known.get(name)
        if known is None:
            self.waiting[name] = Deferred()
            return self.waiting[name]
        return defer.fail(known) if isinstance(known, LookupFailed) else defer.succeed(list(known))


class ByBook(Internet):
    """The network that there is, but for names."""

    def __init__(self, reactor: Loop, book: Book) -> None:
        super().__init__(reactor, configuration(CONFIG, SECTIONS).server)
        self._book = book

    @property
    def resolver(self) -> Resolver:
        return self._book


class Place:
    """A few addresses of this machine, at some of which somebody listens on one port."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.book = Book()
        self.internet = ByBook(self.loop, self.book)
        self.port = free_port()
        self.sockets: list[socket.socket] = []
        self.notes: list[str] = []
        self.outcome: list[Any] = []
        self.seen: set[Connecting] = set()

    def keep(self, sock: socket.socket) -> socket.socket:
        self.sockets.append(sock)
        return sock

    def listens(self, address: str = "127.0.0.1") -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self.keep(socket.create_server((address, self.port), family=family))

    def swallows(self, address: str) -> None:
        """Whoever connects to this address waits: nobody takes those who are waiting already."""
        self.keep(socket.create_server((address, self.port), backlog=0))
        for _ in range(8):
            waiting = self.keep(socket.socket())
            waiting.setblocking(False)
            assert waiting.connect_ex((address, self.port)) in (0, errno.EINPROGRESS)

    def at(self, host: str = NAME, direct_tls: bool = False) -> Target:
        return Target(host, self.port, direct_tls)

    def connects(self, *targets: Target, tried: Sequence[Endpoint] = ()) -> Deferred[Any]:
        """Begin to connect to one of these targets, or to the one name."""
        attempt: Deferred[Any] = Deferred.fromCoroutine(
            self.internet.connect(targets or [self.at()], frozenset(tried), self.notes.append)
        )
        attempt.addBoth(self.outcome.append)
        self.look()
        return attempt

    def look(self) -> None:
        self.seen |= {each for each in self.loop.writers if isinstance(each, Connecting)}

    def turn(self, rounds: int = 20) -> None:
        for _ in range(rounds):
            self.loop.turn()
            self.look()

    def reaches(self, address: str) -> Endpoint:
        """A connection is had, to this address."""
        self.loop.until(lambda: self.outcome)
        self.look()
        [outcome] = self.outcome
        assert not isinstance(outcome, Failure), outcome
        connection, endpoint = outcome
        self.keep(connection.socket)
        assert (connection.peer, endpoint.address) == (address, address)
        assert connection.socket.getpeername()[:2] == (address, self.port)
        assert isinstance(endpoint, Endpoint)
        return endpoint

    def fails(self) -> str:
        """No connection is had, and that is why."""
        self.loop.until(lambda: self.outcome)
        [outcome] = self.outcome
        assert isinstance(outcome, Failure) and outcome.check(Unreachable), outcome
        return outcome.getErrorMessage()

    def is_quiet(self) -> bool:
        """Whether nothing is left of any attempt but the connection that was had."""
        had = [outcome[0].socket for outcome in self.outcome if isinstance(outcome, tuple)]
        left = [each for each in self.seen if each.socket.fileno() != -1 and each.socket not in had]
        return not left and not self.loop.writers and not self.loop.readers and not self.loop.calls


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    for sock in [*place.sockets, *(each.socket for each in place.seen)]:
        sock.close()


# ---- one target


def test_a_connection_is_had_and_ready_to_use(place: Place) -> None:
    listening = place.listens()
    place.book.known[NAME] = ["127.0.0.1"]
    place.connects()
    endpoint = place.reaches("127.0.0.1")
    assert endpoint == Endpoint(place.at(), "127.0.0.1")
    connection = place.outcome[0][0]
    assert place.is_quiet(), "it does not read before it is started"
    assert connection.socket.gettimeout() == 0
    assert connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    peer, receiver = place.keep(listening.accept()[0]), Receiver()
    connection.start(receiver)
    connection.write(b"from here")
    peer.sendall(b"from there")
    place.loop.until(lambda: receiver.data == b"from there")
    assert peer.recv(100) == b"from here"
    assert place.notes == [f"127.0.0.1:{place.port} of {NAME}: connected"]


@pytest.mark.parametrize("direct_tls", [True, False])
def test_a_target_that_is_an_address_is_not_looked_up(place: Place, direct_tls: bool) -> None:
    place.listens()
    place.connects(place.at("127.0.0.1", direct_tls))
    assert place.reaches("127.0.0.1") == Endpoint(place.at("127.0.0.1", direct_tls), "127.0.0.1")
    assert not place.book.waiting
    assert place.notes == [f"127.0.0.1:{place.port}{' (direct TLS)' if direct_tls else ''}: connected"]


def test_ipv6(place: Place) -> None:
    place.book.known[NAME] = ["::1", "127.0.0.1"]
    try:
        place.listens("::1")
    except OSError:  # this machine has none: then the other address it is
        place.listens()
        place.connects()
        place.reaches("127.0.0.1")
        return
    place.connects()
    place.reaches("::1")
    assert place.notes == [f"[::1]:{place.port} of {NAME}: connected"]


def test_who_refuses_is_told(place: Place) -> None:
    place.book.known[NAME] = ["127.0.0.1", "127.0.0.2"]
    place.connects(place.at(), place.at("127.0.0.3", direct_tls=True))
    text = place.fails()
    for endpoint in (
        f"127.0.0.1:{place.port} of {NAME}: ", f"127.0.0.2:{place.port} of {NAME}: ",
        f"127.0.0.3:{place.port} (direct TLS): ",
    ):  # fmt: skip
        assert endpoint in text
    assert text.lower().count("refused") == 3
    assert text == "; ".join(place.notes)
    assert place.is_quiet()


@pytest.mark.parametrize(
    ("known", "text"),
    [([], f"{NAME} has no address"), (LookupFailed("DNS does not answer"), f"{NAME}: DNS does not answer")],
)
def test_a_name_without_an_address_is_told(place: Place, known: list[str] | LookupFailed, text: str) -> None:
    place.book.known[NAME] = known
    place.connects()
    assert place.fails() == text
    assert place.notes == [text] and place.is_quiet()


def test_without_any_target_there_is_no_address_left(place: Place) -> None:
    attempt = Deferred.fromCoroutine(place.internet.connect([], frozenset(), place.notes.append))
    attempt.addBoth(place.outcome.append)
    assert place.fails() == "there is no address left"


# ---- what was tried before


def test_what_was_tried_is_left_out(place: Place) -> None:
    for address in ("127.0.0.1", "127.0.0.2"):
        place.listens(address)
    place.book.known[NAME] = ["127.0.0.1", "127.0.0.2"]
    place.connects(tried=[Endpoint(place.at(), "127.0.0.1")])
    place.reaches("127.0.0.2")
    assert place.is_quiet()


def test_when_all_were_tried_there_is_no_address_left(place: Place) -> None:
    place.listens()
    place.book.known[NAME] = ["127.0.0.1"]
    place.connects(tried=[Endpoint(place.at(), "127.0.0.1")])
    assert place.fails() == "there is no address left"
    assert place.notes == [] and place.is_quiet()


@pytest.mark.parametrize("other", [Target(NAME, 1), Target("other.example", 5269)])
def test_the_same_address_of_another_target_was_not_tried(place: Place, other: Target) -> None:
    place.listens()
    place.book.known[NAME] = ["127.0.0.1"]
    place.connects(tried=[Endpoint(other, "127.0.0.1"), Endpoint(place.at(direct_tls=True), "127.0.0.1")])
    place.reaches("127.0.0.1")


# ---- several addresses (RFC 8305)


def test_a_second_address_is_tried_when_the_first_refuses(place: Place) -> None:
    place.listens("127.0.0.2")
    place.book.known[NAME] = ["127.0.0.1", "127.0.0.2"]
    place.connects()
    place.reaches("127.0.0.2")
    assert place.loop.seconds() == 0
    assert [note.endswith(": connected") for note in place.notes] == [False, True]
    assert place.is_quiet()


def test_a_second_target_is_tried_when_the_first_has_no_address(place: Place) -> None:
    place.listens()
    place.book.known["a.example"] = []
    place.book.known["b.example"] = LookupFailed("DNS does not answer")
    place.connects(place.at("a.example"), place.at("b.example"), place.at("127.0.0.1"))
    place.reaches("127.0.0.1")
    assert place.loop.seconds() == 0 and place.is_quiet()


def test_an_address_that_says_nothing_does_not_hold_up_the_next(place: Place) -> None:
    place.swallows("127.0.0.1")
    place.listens("127.0.0.2")
    place.book.known[NAME] = ["127.0.0.1", "127.0.0.2"]
    place.connects()
    place.loop.advance(STAGGER * 0.9)
    place.turn()
    assert not place.outcome and len(place.loop.writers) == 1
    place.loop.advance(STAGGER * 0.1)
    place.look()
    place.reaches("127.0.0.2")
    assert place.notes == [f"127.0.0.2:{place.port} of {NAME}: connected"]
    assert len(place.seen) == 2 and place.is_quiet()


def test_a_target_that_says_nothing_does_not_hold_up_the_next(place: Place) -> None:
    place.swallows("127.0.0.1")
    place.listens("127.0.0.2")
    place.connects(place.at("127.0.0.1"), place.at("127.0.0.2"))
    place.loop.advance(STAGGER)
    place.look()
    place.reaches("127.0.0.2")
    assert len(place.seen) == 2 and place.is_quiet()


def test_a_name_that_nobody_answers_for_does_not_hold_up_the_next(place: Place) -> None:
    place.listens()
    place.connects(place.at("slow.example"), place.at("127.0.0.1"))
    place.turn()
    assert not place.outcome
    place.loop.advance(STAGGER)
    place.reaches("127.0.0.1")
    assert place.notes == [f"127.0.0.1:{place.port}: connected"]
    assert place.is_quiet()
    assert place.book.waiting["slow.example"].called, "it was given up"


def test_who_was_first_may_still_win(place: Place) -> None:
    place.listens("127.0.0.2")
    place.swallows("127.0.0.1")
    place.connects(place.at("slow.example"), place.at("127.0.0.1"))
    place.loop.advance(STAGGER)
    place.turn()
    assert not place.outcome
    place.book.waiting["slow.example"].callback(["127.0.0.2"])
    place.look()
    place.reaches("127.0.0.2")
    assert len(place.seen) == 2 and place.is_quiet()


# ---- an end to it


def test_an_address_that_says_nothing_is_given_up_in_its_time(place: Place) -> None:
    for address in ("127.0.0.1", "127.0.0.2"):
        place.swallows(address)
    place.book.known[NAME] = ["127.0.0.1", "127.0.0.2"]
    place.connects()
    place.loop.advance(STAGGER)
    place.look()
    place.loop.advance(TIMEOUT - STAGGER)
    place.turn()
    assert not place.outcome and len(place.loop.writers) == 1
    place.loop.advance(STAGGER)
    port = place.port
    assert place.fails() == f"127.0.0.1:{port} of {NAME}: no answer; 127.0.0.2:{port} of {NAME}: no answer"
    assert len(place.seen) == 2 and place.is_quiet()


def test_who_does_not_want_it_any_more_closes_the_sockets(place: Place) -> None:
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        place.swallows(address)
    place.book.known[NAME] = ["127.0.0.1", "127.0.0.2"]
    attempt = place.connects(place.at(), place.at("127.0.0.3"))
    place.loop.advance(STAGGER)
    place.look()
    assert len(place.seen) == len(place.loop.writers) == 3 and not place.is_quiet()
    attempt.cancel()
    assert place.outcome and place.is_quiet()
    assert isinstance(place.outcome[0], Failure)
    place.loop.advance(100)
    assert place.is_quiet()


@pytest.mark.parametrize("started", [1, 7, 100])
def test_a_hundred_names_that_nobody_answers_for_leave_nothing_behind(place: Place, started: int) -> None:
    attempt = place.connects(*(place.at(f"slow{number}.example") for number in range(100)))
    for _ in range(started - 1):
        place.loop.advance(STAGGER)
    assert len(place.book.waiting) == started
    attempt.cancel()
    assert isinstance(place.outcome[0], Failure)
    assert all(answer.called for answer in place.book.waiting.values())
    place.loop.advance(1000)
    assert len(place.book.waiting) == started and place.is_quiet()


def test_a_hundred_names_are_given_up_for_the_one_that_answers(place: Place) -> None:
    place.listens()
    place.connects(*(place.at(f"slow{number}.example") for number in range(100)))
    for _ in range(99):
        place.loop.advance(STAGGER)
    place.book.waiting["slow50.example"].callback(["127.0.0.1"])
    place.look()
    place.reaches("127.0.0.1")
    assert all(answer.called for answer in place.book.waiting.values())
    assert place.is_quiet() and place.notes == [f"127.0.0.1:{place.port} of slow50.example: connected"]


# ---- one socket


def connecting(place: Place, address: str) -> tuple[Connecting, list[Any]]:
    outcome: list[Any] = []
    one = Connecting(place.loop, Endpoint(place.at(address), address), TIMEOUT)
    one.connected.addBoth(outcome.append)
    place.look()
    return one, outcome


def error_of(outcome: Sequence[Any]) -> OSError:
    [failure] = outcome
    assert isinstance(failure, Failure) and isinstance(failure.value, OSError), failure
    return failure.value


def test_a_socket_that_gets_no_answer_is_closed_after_its_time(place: Place) -> None:
    place.swallows("127.0.0.1")
    one, outcome = connecting(place, "127.0.0.1")
    place.loop.advance(TIMEOUT - 0.1)
    place.turn()
    assert not outcome and one.socket.fileno() != -1
    place.loop.advance(0.1)
    assert error_of(outcome).errno == errno.ETIMEDOUT
    assert place.is_quiet()


def test_a_socket_that_is_connected_has_no_time_to_keep(place: Place) -> None:
    place.listens()
    one, outcome = connecting(place, "127.0.0.1")
    place.loop.until(lambda: outcome)
    assert outcome == [(one.socket, Endpoint(place.at("127.0.0.1"), "127.0.0.1"))]
    assert not place.loop.writers and not place.loop.calls and one.socket.fileno() != -1


def test_a_socket_that_is_refused_is_closed(place: Place) -> None:
    _, outcome = connecting(place, "127.0.0.1")
    place.loop.until(lambda: outcome)
    assert error_of(outcome).errno == errno.ECONNREFUSED
    assert place.is_quiet()


def test_an_address_that_cannot_be_connected_to_fails_at_once(place: Place) -> None:
    one, outcome = connecting(place, "255.255.255.255")
    assert error_of(outcome).strerror
    assert one.socket.fileno() == -1 and place.is_quiet()


def test_a_socket_that_nobody_wants_any_more_is_closed(place: Place) -> None:
    place.swallows("127.0.0.1")
    one, outcome = connecting(place, "127.0.0.1")
    one.connected.cancel()
    assert outcome[0].check(CancelledError)
    assert place.is_quiet()


def test_a_socket_that_the_reactor_finds_broken_is_closed(place: Place) -> None:
    place.swallows("127.0.0.1")
    one, outcome = connecting(place, "127.0.0.1")
    one.connectionLost(Failure(ConnectionError()))
    one.connectionLost(Failure(ConnectionError()))
    assert error_of(outcome).errno == errno.ECONNABORTED
    assert place.is_quiet()


# ---- the settings


class Settled(Place):
    """With settings of its own."""

    def __init__(self, config: str) -> None:
        super().__init__()
        self.network = Internet(self.loop, configuration(config, SECTIONS).server)

    def finds(self, domain: str) -> object:
        outcome: list[object] = []
        finding: Coroutine[Any, Any, object] = self.network.find(domain, self.notes.append)
        Deferred.fromCoroutine(finding).addBoth(outcome.append)
        return outcome[0]


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"capulet.example": "192.0.2.1:1"}, [[Target("192.0.2.1", 1)]]),
        ({"capulet.example": "tls:a.example:1 [::1]:2"}, [[Target("a.example", 1, True), Target("::1", 2)]]),
    ],
)
def test_servers_are_where_the_settings_say(config: Mapping[str, str], found: list[list[Target]]) -> None:
    lines = "".join(f"\n    {domain} = {targets}" for domain, targets in config.items())
    settled = Settled(f"s2s_hosts ={lines}")
    assert settled.finds("capulet.example") == found
    settled.network.close()
    assert not settled.loop.calls


def test_to_close_what_never_asked_is_nothing() -> None:
    settled = Settled("")
    settled.network.close()
    assert not settled.loop.calls


def test_after_the_end_nobody_looks_after_the_name_servers_of_the_system() -> None:
    settled = Settled("")
    assert settled.network.resolver is settled.network.resolver
    assert settled.loop.calls
    settled.network.close()
    assert not settled.loop.calls
