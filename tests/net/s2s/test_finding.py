"""Where the server of a domain is: the order of targets, when addresses alone will do, and questions to DNS."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.python.failure import Failure

from tests.conversations.names import HOST, NameServer
from xmppd.net.s2s.failed import Failed
from xmppd.net.s2s.finding import MAX_ADDRESSES, MAX_TARGETS, PORT, LookupFailed, Names, Srv, find, race
from xmppd.net.s2s.options import Target

T = TypeVar("T")

DOMAIN = "capulet.example"
DIRECT, PLAIN = f"_xmpps-server._tcp.{DOMAIN}", f"_xmpp-server._tcp.{DOMAIN}"
NOWHERE = Srv(0, 0, 0, "")
BROKEN = LookupFailed("DNS does not answer")
PATIENCE = 5.0  # seconds of real time until a test gives up

Answer = list[Srv] | LookupFailed


class World:
    """What DNS knows of services: for other names there is nothing."""

    def __init__(self, services: Mapping[str, Answer]) -> None:
        self.known = services
        self.asked: list[str] = []

    def services(self, name: str) -> Deferred[list[Srv]]:
        self.asked.append(name)
        answer = self.known.get(name, [])
        return defer.fail(answer) if isinstance(answer, LookupFailed) else defer.succeed(list(answer))

    def addresses(self, name: str) -> Deferred[list[str]]:
        raise AssertionError("the addresses of a target are looked up when it is its turn")


def outcome_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never really waits; raises what it raises."""
    outcome: list[T | Failure] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    assert outcome, "it waits"
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def first(number: int) -> int:
    """Draws the first there is."""
    return 0


def found(
    direct: Answer | None = None, plain: Answer | None = None, choose: Callable[[int], int] = first
) -> list[list[Target]]:
    """The targets of the domain, with these records of its two services."""
    return outcome_of(find(DOMAIN, World({DIRECT: direct or [], PLAIN: plain or []}), {}, choose))


def failed(direct: Answer | None = None, plain: Answer | None = None) -> Failed:
    with pytest.raises(Failed) as raised:
        found(direct, plain)
    return raised.value


# ---- records


def test_the_records_of_both_services_are_mixed_by_priority() -> None:
    """XEP-0368 section 2.1."""
    direct = [Srv(20, 0, 443, "a.example"), Srv(5, 0, 5270, "b.example")]
    plain = [Srv(10, 0, 5269, "c.example"), Srv(20, 1, 5222, "a.example"), Srv(1000, 0, 5269, "d.example")]
    assert found(direct, plain) == [
        [Target("b.example", 5270, True)],
        [Target("c.example", 5269)],
        [Target("a.example", 443, True), Target("a.example", 5222)],
        [Target("d.example", 5269)],
    ]


@pytest.mark.parametrize(
    ("weights", "chances"),
    [
        ((1, 3), {1: 2, 3: 3}),  # RFC 2782: a number from 0 to the sum, both included
        ((0, 1, 3), {0: 1, 1: 1, 3: 3}),
        ((3, 0, 1), {0: 1, 1: 1, 3: 3}),
        ((100,), {100: 101}),
        ((0,), {0: 1}),
    ],
)
def test_a_target_comes_first_as_often_as_its_weight_says(weights: tuple[int, ...], chances: Mapping[int, int]) -> None:
    """The ports are the weights, so that each is known by it."""
    # One of them is of the other service, which makes no difference.
    direct, *plain = (Srv(1, weight, weight, "a.example") for weight in weights)
    counted = Counter(
        found([direct], plain, lambda number, drawn=drawn: min(drawn, number - 1))[0][0].port  # type: ignore[misc]
        for drawn in range(sum(weights) + 1)
    )
    assert counted == chances


def test_each_draw_is_among_those_that_are_left() -> None:
    asked: list[int] = []

    def last(number: int) -> int:
        asked.append(number)
        return number - 1

    groups = found([Srv(1, 7, 1, "a.example"), Srv(2, 5, 2, "a.example")], [Srv(1, 2, 3, "a.example")], last)
    assert asked == [10, 3, 6]
    assert [[target.port for target in group] for group in groups] == [[1, 3], [2]]


@given(
    records=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 65535), st.booleans()), min_size=1, max_size=MAX_TARGETS
    ),
    draws=st.randoms(use_true_random=False),
)
def test_each_target_is_tried_once_and_those_of_one_priority_together(
    records: list[tuple[int, int, bool]], draws: Any
) -> None:
    numbered = [(Srv(priority, weight, port, "a.example"), direct) for port, (priority, weight, direct)
                in enumerate(records)]  # fmt: skip
    groups = found(
        [record for record, direct in numbered if direct], [record for record, direct in numbered if not direct],
        draws.randrange,
    )  # fmt: skip
    assert [{target.port for target in group} for group in groups] == [
        {record.port for record, _ in numbered if record.priority == priority}
        for priority in sorted({record.priority for record, _ in numbered})
    ]
    assert all(target.direct_tls == records[target.port][2] for group in groups for target in group)
    assert sum(map(len, groups)) == len(records)


def test_there_is_an_end_to_how_many_targets_are_tried() -> None:
    many = [Srv(priority, 0, port, "a.example") for priority in (1, 2, 3) for port in range(MAX_TARGETS - 5)]
    assert [len(group) for group in found(plain=many)] == [MAX_TARGETS - 5, 5]


# ---- where there is none


@pytest.mark.parametrize(
    ("direct", "plain", "expected"),
    [
        ([NOWHERE], [Srv(1, 0, 5269, "a.example")], Target("a.example", 5269)),
        ([Srv(1, 0, 5270, "a.example")], [NOWHERE], Target("a.example", 5270, True)),
        ([], [NOWHERE, Srv(1, 0, 5269, "a.example")], Target("a.example", 5269)),
    ],
)
def test_a_service_that_is_not_there_leaves_the_other(
    direct: list[Srv], plain: list[Srv], expected: Target
) -> None:
    assert found(direct, plain) == [[expected]]


@pytest.mark.parametrize(("direct", "plain"), [([NOWHERE], [NOWHERE]), ([], [NOWHERE]), ([NOWHERE], [])])
def test_a_domain_that_says_it_has_no_server_has_none(direct: list[Srv], plain: list[Srv]) -> None:
    """RFC 2782, and XEP-0368 section 2.1: its addresses do not count."""
    failure = failed(direct, plain)
    assert failure.condition == "remote-server-not-found" and failure.lasting
    assert DOMAIN in failure.text


def test_without_any_record_the_addresses_of_the_domain_count() -> None:
    assert found() == [[Target(DOMAIN, PORT)]]


@pytest.mark.parametrize(
    ("direct", "plain"),
    [(BROKEN, BROKEN), (BROKEN, []), ([], BROKEN), (BROKEN, [NOWHERE]), ([NOWHERE], BROKEN)],
)
def test_without_an_answer_nobody_knows(direct: Answer, plain: Answer) -> None:
    failure = failed(direct, plain)
    assert failure.condition == "remote-server-timeout" and not failure.lasting
    assert DOMAIN in failure.text and str(BROKEN) in failure.text


@pytest.mark.parametrize("direct", [True, False])
def test_one_answer_will_do_where_it_has_a_target(direct: bool) -> None:
    there: Answer = [Srv(1, 0, 5000, "a.example")]
    groups = found(there, BROKEN) if direct else found(BROKEN, there)
    assert groups == [[Target("a.example", 5000, direct)]]


# ---- what is not looked up


def test_what_is_configured_is_not_looked_up() -> None:
    world, notes = World({DIRECT: BROKEN}), list[str]()
    targets = (Target("192.0.2.1", 5000), Target("localhost", 5001, True))
    assert outcome_of(find(DOMAIN, world, {DOMAIN: targets}, note=notes.append)) == [list(targets)]
    assert world.asked == []
    assert "192.0.2.1:5000" in notes[0] and "localhost:5001 (direct TLS)" in notes[0]


def test_what_is_configured_for_others_makes_no_difference() -> None:
    assert outcome_of(find(DOMAIN, World({}), {"other.example": (Target("192.0.2.1", 1),)})) == [[Target(DOMAIN, PORT)]]


@pytest.mark.parametrize(
    ("domain", "address"), [("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]", "2001:db8::1"), ("[::1]", "::1")]
)
def test_an_address_is_not_looked_up(domain: str, address: str) -> None:
    world = World({})
    assert outcome_of(find(domain, world, {})) == [[Target(address, PORT)]]
    assert world.asked == []


@pytest.mark.parametrize("domain", ["1.2.3", "192.0.2.256", "42"])
def test_what_is_almost_an_address_is_a_name(domain: str) -> None:
    assert outcome_of(find(domain, World({}), {})) == [[Target(domain, PORT)]]


def test_names_of_other_scripts_are_asked_for_in_ascii() -> None:
    world = World({})
    assert outcome_of(find("b\u00fccher.example", world, {})) == [[Target("xn--bcher-kva.example", PORT)]]
    assert world.asked == [f"_{service}._tcp.xn--bcher-kva.example" for service in ("xmpps-server", "xmpp-server")]


def test_what_was_found_is_told() -> None:
    notes: list[str] = []
    world = World({DIRECT: BROKEN, PLAIN: [Srv(1, 2, 3, "a.example"), NOWHERE]})
    outcome_of(find(DOMAIN, world, {}, note=notes.append))
    assert notes == [f"{DIRECT}: {BROKEN}", f"{PLAIN}: a.example:3 (priority 1, weight 2), .:0 (priority 0, weight 0)"]


# ---- attempts that race


class Racers:
    """Attempts, each of which ends when the test says so."""

    def __init__(self, number: int, delay: float = 1.0) -> None:
        self.clock = Clock()
        self.started: list[Deferred[str]] = []
        self.cancelled: list[int] = []
        self.outcome: list[Any] = []
        self.race = race([self._start] * number, self.clock, delay)
        self.race.addBoth(self.outcome.append)

    def _start(self) -> Deferred[str]:
        number = len(self.started)
        attempt: Deferred[str] = Deferred(lambda _: self.cancelled.append(number))
        self.started.append(attempt)
        return attempt

    def fail(self, number: int, text: str = "no") -> None:
        self.started[number].errback(OSError(text))

    @property
    def failure(self) -> BaseException:
        [outcome] = self.outcome
        assert isinstance(outcome, Failure) and outcome.value is not None, outcome
        return outcome.value


def test_attempts_start_one_after_the_other() -> None:
    racers = Racers(3)
    assert len(racers.started) == 1
    racers.clock.advance(0.9)
    assert len(racers.started) == 1
    racers.clock.advance(0.1)
    assert len(racers.started) == 2
    racers.clock.advance(1)
    assert len(racers.started) == 3
    racers.clock.advance(100)
    assert (len(racers.started), racers.outcome, racers.cancelled) == (3, [], [])


def test_the_first_that_succeeds_before_any_other_has_started() -> None:
    racers = Racers(3)
    racers.started[0].callback("won")
    assert racers.outcome == ["won"]
    racers.clock.advance(100)
    assert len(racers.started) == 1 and not racers.clock.calls


@pytest.mark.parametrize("winner", [0, 1, 2])
def test_the_first_that_succeeds_wins_and_the_others_are_cancelled(winner: int) -> None:
    racers = Racers(4)
    racers.clock.pump([1, 1])
    racers.started[winner].callback("won")
    assert racers.outcome == ["won"]
    assert racers.cancelled == [number for number in range(3) if number != winner]
    racers.clock.advance(100)
    assert len(racers.started) == 3 and not racers.clock.calls


def test_a_failure_starts_the_next_at_once_and_the_one_after_that_in_its_time() -> None:
    racers = Racers(3)
    racers.clock.advance(0.9)
    racers.fail(0)
    assert len(racers.started) == 2
    racers.clock.advance(0.9)
    assert len(racers.started) == 2
    racers.clock.advance(0.1)
    assert len(racers.started) == 3


def test_the_others_may_still_succeed_when_one_has_failed() -> None:
    racers = Racers(2)
    racers.clock.advance(1)
    racers.fail(1)
    assert racers.outcome == []
    racers.started[0].callback("won")
    assert racers.outcome == ["won"]


def test_when_all_have_failed_the_last_failure_is_told() -> None:
    racers = Racers(3)
    racers.clock.pump([1, 1])
    for number in (2, 0, 1):
        assert racers.outcome == []
        racers.fail(number, f"number {number}")
    assert str(racers.failure) == "number 1"
    assert racers.cancelled == [] and not racers.clock.calls


def test_attempts_may_have_ended_when_they_start() -> None:
    clock, outcome = Clock(), list[Any]()
    attempts = [lambda: defer.fail(OSError("no")), lambda: defer.succeed("won"), Deferred]
    race(attempts, clock, 1.0).addBoth(outcome.append)
    assert outcome == ["won"] and not clock.calls


def test_all_may_have_failed_when_they_start() -> None:
    clock, outcome = Clock(), list[Any]()
    race([lambda: defer.fail(OSError("no"))] * MAX_TARGETS, clock, 1.0).addBoth(outcome.append)
    assert outcome[0].check(OSError) and not clock.calls


def test_a_race_of_nobody_fails() -> None:
    assert isinstance(Racers(0).failure, LookupFailed)


def test_who_does_not_want_the_outcome_any_more_ends_the_attempts() -> None:
    racers = Racers(4)
    racers.clock.pump([1])
    racers.race.cancel()
    assert racers.cancelled == [0, 1]
    assert isinstance(racers.failure, CancelledError)
    racers.clock.advance(100)
    assert len(racers.started) == 2 and not racers.clock.calls


def test_races_within_a_race_end_with_it() -> None:
    inner = [Racers(3), Racers(3)]
    for racers in inner:
        racers.clock.advance(1)
    clock, outcome = Clock(), list[Any]()
    outer = race([lambda racers=racers: racers.race for racers in inner], clock, 1.0)  # type: ignore[misc]
    outer.addBoth(outcome.append)
    clock.advance(1)
    outer.cancel()
    assert [racers.cancelled for racers in inner] == [[0, 1], [0, 1]]
    assert outcome and not any(each.calls for each in (clock, *(racers.clock for racers in inner)))


# ---- questions to name servers


class Asking:
    """Runs a reactor of its own until what was asked is answered."""

    def __init__(self) -> None:
        self.reactor = SelectReactor()

    def names(self, *ports: int, timeout: float = 4.0) -> Names:
        return Names(self.reactor, [("127.0.0.1", port) for port in ports], lambda: timeout)

    def outcome(self, answer: Deferred[Any]) -> Any:
        """The answer, or the failure."""
        outcome: list[Any] = []
        answer.addBoth(outcome.append)
        give_up = time.monotonic() + PATIENCE
        while not outcome:
            assert time.monotonic() < give_up, "there is no answer"
            self.reactor.iterate(0.01)
        return outcome[0]

    def failure(self, answer: Deferred[Any]) -> str:
        """How a question failed."""
        outcome = self.outcome(answer)
        assert isinstance(outcome, Failure) and outcome.check(LookupFailed), outcome
        return outcome.getErrorMessage()


@pytest.fixture
def asking() -> Iterator[Asking]:
    asking = Asking()
    yield asking
    asking.reactor.iterate(0)  # ports are closed in the turn after the one in which they are given up
    for call in asking.reactor.getDelayedCalls():
        call.cancel()  # type: ignore[misc]
    for selectable in asking.reactor.removeAll():
        selectable.connectionLost(Failure(ConnectionError("the test is over")))
    asking.reactor.waker.connectionLost(Failure(ConnectionError("the test is over")))


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


class Reluctant(NameServer):
    """Has its own way to answer."""

    def __init__(self, change: Callable[[dns.Message], None], times: int = 1000) -> None:
        self._change = change
        self._times = times
        super().__init__()

    def _answer(self, data: bytes) -> bytes:
        answer = dns.Message()
        answer.fromStr(super()._answer(data))
        if self._times:
            self._times -= 1
            self._change(answer)
        return answer.toStr()


@pytest.fixture
def reluctant() -> Iterator[Callable[..., NameServer]]:
    made: list[NameServer] = []

    def make(change: Callable[[dns.Message], None], times: int = 1000) -> NameServer:
        made.append(Reluctant(change, times))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a name server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def record(name: bytes, payload: Any) -> dns.RRHeader:
    return dns.RRHeader(name, payload.TYPE, dns.IN, 60, payload)


def sets_code(code: int) -> Callable[[dns.Message], None]:
    def change(message: dns.Message) -> None:
        message.answers, message.rCode = [], code

    return change


def test_the_records_of_a_service(asking: Asking, server: NameServer) -> None:
    server.services[PLAIN] = [(10, 60, 5269, "XMPP.capulet.example"), (20, 0, 5000, "backup.example."), (0, 0, 0, "")]
    outcome = asking.outcome(asking.names(server.port).services(PLAIN))
    assert outcome == [Srv(10, 60, 5269, "xmpp.capulet.example"), Srv(20, 0, 5000, "backup.example"), NOWHERE]


@pytest.mark.parametrize("target", ["a\nb.example", "a\x00b.example", "a\x1b[2J.example", "a b.example", "a<b.example"])
def test_a_record_with_a_target_that_is_no_host_does_not_count(
    asking: Asking, server: NameServer, target: str
) -> None:
    server.services[PLAIN] = [(0, 0, 5269, target), (1, 0, 5269, "xmpp.capulet.example")]
    assert asking.outcome(asking.names(server.port).services(PLAIN)) == [Srv(1, 0, 5269, "xmpp.capulet.example")]


def test_that_there_is_nothing_is_an_answer(asking: Asking, server: NameServer) -> None:
    names = asking.names(server.port)
    server.addresses[DOMAIN] = "192.0.2.1"
    assert asking.outcome(names.services("nowhere.example")) == []  # no such name
    assert asking.outcome(names.services(DOMAIN)) == []  # the name is there, without such records
    assert asking.outcome(names.addresses("nowhere.example")) == []


def test_the_addresses_of_a_name(asking: Asking, server: NameServer) -> None:
    server.addresses["xmpp.capulet.example"] = "192.0.2.1"
    assert asking.outcome(asking.names(server.port).addresses("xmpp.capulet.example")) == ["192.0.2.1"]


def test_the_system_knows_addresses_that_name_servers_do_not(asking: Asking, server: NameServer) -> None:
    del server.addresses[HOST]
    assert "127.0.0.1" in asking.outcome(asking.names(server.port).addresses(HOST))


def adds(*addresses: str) -> Callable[[dns.Message], None]:
    """Answers with these addresses, those of the family that is asked for."""

    def change(message: dns.Message) -> None:
        kind: Any = dns.Record_AAAA if message.queries[0].type == dns.AAAA else dns.Record_A
        family = [address for address in addresses if (":" in address) == (kind is dns.Record_AAAA)]
        message.rCode = dns.OK
        name = message.queries[0].name.name
        message.answers = [record(name, kind(address)) for address in family]

    return change


@pytest.mark.parametrize(
    ("given", "mixed"),
    [
        (["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"],
         ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]),
        (["192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"],
         ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]),
        (["2001:db8::1", "192.0.2.1", "192.0.2.2"], ["2001:db8::1", "192.0.2.1", "192.0.2.2"]),
        (["2001:db8::1"], ["2001:db8::1"]),
        ([f"192.0.2.{number}" for number in range(1, 12)], [f"192.0.2.{number}" for number in range(1, 9)]),
    ],
)  # fmt: skip
def test_addresses_of_both_families_by_turns(
    asking: Asking, reluctant: Callable[..., NameServer], given: list[str], mixed: list[str]
) -> None:
    """RFC 8305 section 4."""
    server = reluctant(adds(*given))
    assert asking.outcome(asking.names(server.port).addresses(DOMAIN)) == mixed
    assert len(mixed) <= MAX_ADDRESSES


@pytest.mark.parametrize("kind", [dns.A, dns.AAAA])
def test_one_family_without_an_answer_leaves_the_other(
    asking: Asking, reluctant: Callable[..., NameServer], kind: int
) -> None:
    def change(message: dns.Message) -> None:
        (sets_code(dns.ESERVER) if message.queries[0].type == kind else adds("192.0.2.1", "2001:db8::1"))(message)

    names = asking.names(reluctant(change).port)
    assert asking.outcome(names.addresses(DOMAIN)) == ["192.0.2.1" if kind == dns.AAAA else "2001:db8::1"]


@pytest.mark.parametrize("kind", [dns.A, dns.AAAA])
def test_no_address_of_one_family_and_no_answer_about_the_other_is_no_answer(
    asking: Asking, reluctant: Callable[..., NameServer], kind: int
) -> None:
    def change(message: dns.Message) -> None:
        (sets_code(dns.ESERVER) if message.queries[0].type == kind else adds())(message)

    assert asking.failure(asking.names(reluctant(change).port).addresses(DOMAIN))


@pytest.mark.parametrize("code", [dns.ESERVER, dns.EREFUSED, dns.EFORMAT, dns.ENOTIMP])
def test_an_error_of_the_name_server_is_no_answer(
    asking: Asking, reluctant: Callable[..., NameServer], code: int
) -> None:
    names = asking.names(reluctant(sets_code(code)).port)
    assert "error" in asking.failure(names.services(PLAIN))
    assert "error" in asking.failure(names.addresses(DOMAIN))


def test_a_name_server_that_never_answers(asking: Asking, deaf: int) -> None:
    names = asking.names(deaf, timeout=0.05)
    assert asking.failure(names.services(PLAIN)) == "DNS does not answer"
    assert asking.failure(names.addresses(DOMAIN)) == "DNS does not answer"


def test_another_name_server_is_asked_where_the_first_does_not_answer(
    asking: Asking, deaf: int, server: NameServer
) -> None:
    server.add(DOMAIN, 5269)
    assert asking.outcome(asking.names(deaf, server.port).services(PLAIN)) == [Srv(10, 0, 5269, HOST)]


def test_what_does_not_fit_into_a_datagram_comes_by_tcp(
    asking: Asking, reluctant: Callable[..., NameServer]
) -> None:
    def truncate(message: dns.Message) -> None:
        message.answers, message.trunc = [], 1

    server = reluctant(truncate, times=1)
    server.services[PLAIN] = [(1, 0, port, "a.example") for port in (1, 2, 3)]
    outcome = asking.outcome(asking.names(server.port).services(PLAIN))
    assert [found.port for found in outcome] == [1, 2, 3]


def test_the_records_of_others_in_an_answer_do_not_count(
    asking: Asking, reluctant: Callable[..., NameServer]
) -> None:
    def change(message: dns.Message) -> None:
        name = message.queries[0].name.name
        message.rCode = dns.OK
        message.answers = [
            record(name, dns.Record_CNAME(b"other.example")),
            record(name, dns.Record_A("192.0.2.1")),
            record(name, dns.Record_TXT(b"text")),
        ]

    names = asking.names(reluctant(change).port)
    assert asking.outcome(names.services(PLAIN)) == []
    assert asking.outcome(names.addresses(DOMAIN)) == ["192.0.2.1"]


def test_who_gives_up_a_question_is_not_told_of_an_error_of_dns(asking: Asking, deaf: int) -> None:
    names = asking.names(deaf)
    for answer in (names.services(PLAIN), names.addresses(DOMAIN)):
        answer.cancel()
        outcome = asking.outcome(answer)
        assert isinstance(outcome, Failure) and outcome.check(CancelledError), outcome


@pytest.mark.parametrize(
    "question",
    [lambda names: names.services(PLAIN), lambda names: names.addresses(DOMAIN)],
    ids=["services", "addresses"],
)
def test_who_gives_up_a_question_does_not_take_the_answer_from_others(
    asking: Asking, server: NameServer, question: Callable[[Names], Deferred[Any]]
) -> None:
    server.add(DOMAIN, 5269)
    server.addresses[DOMAIN] = "192.0.2.1"
    names = asking.names(server.port)
    given_up, kept = question(names), question(names)
    given_up.addErrback(lambda _: None)
    given_up.cancel()
    assert asking.outcome(kept) in ([Srv(10, 0, 5269, HOST)], ["192.0.2.1"])


@pytest.mark.parametrize(
    "label", [b"\xff\xfe", b"\0", b" ", "\u00fc".encode(), b"\xc3", b"_", b"-", b"a..b", b"a b", b"xn--\xff"]
)
def test_any_target_that_dns_names_can_be_looked_up(
    asking: Asking, reluctant: Callable[..., NameServer], label: bytes
) -> None:
    """It is the owner of the domain who has written it."""

    def change(message: dns.Message) -> None:
        message.rCode, message.answers = dns.OK, []
        if message.queries[0].type == dns.SRV:
            payload = dns.Record_SRV(1, 0, 5269, label + b".example")
            message.answers.append(record(message.queries[0].name.name, payload))

    names = asking.names(reluctant(change).port, timeout=0.5)
    outcome = asking.outcome(names.services(PLAIN))
    for found in outcome if isinstance(outcome, list) else []:
        addresses = asking.outcome(names.addresses(found.target))
        assert addresses == [] or addresses.check(LookupFailed)


def test_the_name_servers_of_the_system_are_looked_for_until_it_is_closed() -> None:
    clock = Clock()
    names = Names(clock, [], lambda: 1.0)
    assert clock.calls
    names.close()
    names.close()
    assert not clock.calls


def test_name_servers_of_ones_own_need_no_looking_after() -> None:
    clock = Clock()
    names = Names(clock, [("127.0.0.1", 53)], lambda: 1.0)
    names.close()
    assert not clock.calls


def test_from_a_domain_to_its_addresses(asking: Asking, server: NameServer) -> None:
    server.add(DOMAIN, 5000, 5001)
    server.addresses[HOST] = "127.0.0.1"
    names = asking.names(server.port)
    groups = asking.outcome(Deferred.fromCoroutine(find(DOMAIN, names, {})))
    assert groups == [[Target(HOST, 5001, True)], [Target(HOST, 5000)]]
    assert "127.0.0.1" in asking.outcome(names.addresses(HOST))
    groups = asking.outcome(Deferred.fromCoroutine(find("nowhere.example", names, {})))
    assert groups == [[Target("nowhere.example", PORT)]]
    assert asking.outcome(names.addresses("nowhere.example")) == []
