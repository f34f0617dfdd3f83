"""Where the server of a domain is: SRV records of two services, mixed (RFC 6120 section 3.2, XEP-0368 section 2).

`Names` asks DNS. `find` says which targets to try, in groups: those of a later group only when none of an earlier one
can be reached (RFC 2782). The addresses of a target are looked up when it is its turn (`connecting`).
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, FirstError, gatherResults, maybeDeferred
from twisted.names import client, dns, error, hosts, resolve
from twisted.python.failure import Failure

from xmppd.core.clock import Clock
from xmppd.net.s2s.datagrams import QuietReactor
from xmppd.net.s2s.failed import not_found, unreachable
from xmppd.net.s2s.options import Target
from xmppd.wire.jid import ascii_domain

PORT = 5269  # where there are no records (RFC 6120 section 3.2.2)
MAX_TARGETS = 20  # records that are looked at: nobody has more machines that wait for others
MAX_ADDRESSES = 8  # of one target
_HOST_NAME = re.compile(rb"[A-Za-z0-9_.-]*", re.ASCII)  # and nothing that a log or an error would have to escape


@dataclass(frozen=True)
class Srv:
    """An SRV record (RFC 2782). `target` is a name in A-labels without the dot at its end, ``""`` for the root: the
    service is not there."""

    priority: int
    weight: int
    port: int
    target: str


class Resolver(Protocol):
    """Asks DNS. Both fail with `LookupFailed` where there is no answer; that there is nothing is one."""

    def services(self, name: str) -> Deferred[list[Srv]]:
        """The SRV records of a name."""

    def addresses(self, name: str) -> Deferred[list[str]]:
        """The IP addresses of a name, IPv6 and IPv4 by turns, IPv6 first (RFC 8305 section 4)."""


class LookupFailed(Exception):
    """DNS did not answer; says why."""


class Names:
    """A `Resolver` that asks name servers: `servers`, each an address and a port, or those that the system names. What
    is in ``/etc/hosts`` counts for addresses. No question takes longer than `timeout` gives, in seconds."""

    def __init__(self, reactor: Any, servers: Sequence[tuple[str, int]], timeout: Callable[[], float]) -> None:
        self._clock: Clock = reactor
        self._timeout = timeout
        asked: Any
        if servers:
            asked = client.Resolver(servers=list(servers), timeout=(1, 3, 5), reactor=QuietReactor(reactor))
        else:
            asked = client.Resolver(resolv="/etc/resolv.conf", timeout=(1, 3, 5), reactor=QuietReactor(reactor))
        self._resolver: Any = asked
        self._with_hosts: Any = resolve.ResolverChain([hosts.Resolver(), asked])

    def services(self, name: str) -> Deferred[list[Srv]]:
        """See `Resolver`."""
        return self._ask(self._resolver.lookupService, name, dns.SRV, _srv)

    def addresses(self, name: str) -> Deferred[list[str]]:
        """See `Resolver`."""
        both = [
            self._ask(self._with_hosts.lookupIPV6Address, name, dns.AAAA, lambda record: _ip(record.address)),
            self._ask(self._with_hosts.lookupAddress, name, dns.A, lambda record: _ip(record.address)),
        ]
        # One family without an answer is no reason not to use the other.
        answers: Deferred[list[Any]] = gatherResults([each.addErrback(_as_answer) for each in both], consumeErrors=True)
        return answers.addCallbacks(_by_turns, _first)

    def close(self) -> None:
        """Stop looking after the system's file of name servers."""
        call = getattr(self._resolver, "_parseCall", None)
        if call is not None and call.active():
            call.cancel()

    def _ask(
        self, question: Callable[[str], Deferred[Any]], name: str, kind: int, read: Callable[[Any], Any]
    ) -> Deferred[list[Any]]:
        # The library asks once for all who want to know the same, so its own answer must not be given up by one.
        answer: Deferred[list[Any]] = Deferred(lambda _: timer.cancel())

        def records(found: Any) -> list[Any]:
            return [read(record.payload) for record in found[0] if record.type == kind and _is_sane(record.payload)]

        def failed(failure: Failure) -> list[Any]:
            if failure.check(error.DNSNameError, error.AuthoritativeDomainError):
                return []
            if failure.check(error.DNSQueryTimeoutError):
                raise LookupFailed("DNS does not answer")
            if failure.check(UnicodeError):
                raise LookupFailed("that is no name")
            raise LookupFailed(f"DNS has answered with an error ({type(failure.value).__name__})")

        def tell(outcome: Any) -> None:
            if timer.active():
                timer.cancel()
            if not answer.called:
                answer.errback(outcome) if isinstance(outcome, Failure) else answer.callback(outcome)

        timer = self._clock.callLater(self._timeout(), tell, Failure(LookupFailed("DNS does not answer")))
        maybeDeferred(question, name).addCallbacks(records, failed).addBoth(tell)
        return answer


def _is_sane(record: Any) -> bool:
    return not isinstance(record, dns.Record_SRV) or _HOST_NAME.fullmatch(record.target.name) is not None


def _srv(record: Any) -> Srv:
    target = record.target.name.decode("ascii").rstrip(".").lower()
    return Srv(record.priority, record.weight, record.port, target)


def _ip(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _as_answer(failure: Failure) -> Any:
    failure.trap(LookupFailed)
    return failure.value


def _first(failure: Failure) -> Any:
    failure.trap(FirstError)
    error: Any = failure.value
    return error.subFailure


def _by_turns(families: list[Any]) -> list[str]:
    """What both families have; raises where none has answered with anything."""
    six, four = (found if isinstance(found, list) else [] for found in families)
    mixed = [address for pair in zip(six, four, strict=False) for address in pair]
    shorter = min(len(six), len(four))
    found = [*mixed, *six[shorter:], *four[shorter:]]
    for answer in families:
        if not found and isinstance(answer, LookupFailed):
            raise answer
    return found[:MAX_ADDRESSES]


async def find(
    domain: str,
    resolver: Resolver,
    configured: Mapping[str, tuple[Target, ...]],
    choose: Callable[[int], int] = secrets.randbelow,
    note: Callable[[str], None] = lambda text: None,
) -> list[list[Target]]:
    """The targets for a prepared domain, in groups. `configured` are those that are not looked up. `choose` gives a
    number below its argument; `note` is told what was found. Raises `Failed`."""
    if domain in configured:
        note(f"{domain} is in s2s_hosts: {', '.join(map(str, configured[domain]))}")
        return [list(configured[domain])]
    address = literal(domain)
    if address is not None:
        note(f"{domain} is an address: port {PORT}")
        return [[Target(address, PORT)]]
    name = ascii_domain(domain)
    answers = await gatherResults([
        resolver.services(f"_{service}._tcp.{name}").addErrback(_as_answer)
        for service in ("xmpps-server", "xmpp-server")
    ])
    for service, answer in zip(("_xmpps-server", "_xmpp-server"), answers, strict=True):
        note(f"{service}._tcp.{name}: {_told(answer)}")
    failed = [answer for answer in answers if isinstance(answer, LookupFailed)]
    records = [
        (record, direct_tls)
        for answer, direct_tls in zip(answers, (True, False), strict=True)
        if not isinstance(answer, LookupFailed)
        for record in answer
    ]
    offered = [(record, direct_tls) for record, direct_tls in records if record.target]
    if offered:
        return list(_groups(offered, choose))
    if failed:
        raise unreachable(f"{domain} could not be looked up: {failed[0]}")
    if records:  # a target of "." (RFC 2782): that rules the addresses out as well (XEP-0368 section 2)
        raise not_found(f"{domain} says that it has no XMPP server")
    note(f"no SRV records: the addresses of {name}, port {PORT}")
    return [[Target(name, PORT)]]


def _told(answer: list[Srv] | LookupFailed) -> str:
    if isinstance(answer, LookupFailed):
        return str(answer)
    shown = (f"{srv.target or '.'}:{srv.port} (priority {srv.priority}, weight {srv.weight})" for srv in answer)
    return ", ".join(shown) or "none"


def literal(domain: str) -> str | None:
    """The IP address that a domainpart is, None where it is a name."""
    try:
        return str(ipaddress.ip_address(domain.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _groups(records: list[tuple[Srv, bool]], choose: Callable[[int], int]) -> list[list[Target]]:
    """The targets by priority, those of one priority in an order drawn by weight (RFC 2782)."""
    groups: list[list[Target]] = []
    left = MAX_TARGETS
    for priority in sorted({record.priority for record, _ in records}):
        # Those without weight first, so that they have a small chance.
        todo = sorted((one for one in records if one[0].priority == priority), key=lambda one: one[0].weight)
        group: list[Target] = []
        while todo and left:
            drawn = choose(sum(record.weight for record, _ in todo) + 1)
            index = 0
            while drawn > todo[index][0].weight:
                drawn -= todo[index][0].weight
                index += 1
            record, direct_tls = todo.pop(index)
            group.append(Target(record.target, record.port, direct_tls))
            left -= 1
        if group:
            groups.append(group)
    return groups


Attempt = Callable[[], "Deferred[Any]"]


def race(attempts: Sequence[Attempt], clock: Clock, delay: float) -> Deferred[Any]:
    """Start attempts one after the other, `delay` seconds apart or as soon as the one before has failed (RFC 8305
    section 5); fires with what the first gives that succeeds, and cancels the others. Fails with the last failure."""
    running: list[Deferred[Any]] = []
    waiting = list(attempts)
    timer: Any = None
    decided = False

    def stop(_: object = None) -> None:
        nonlocal timer, decided
        decided = True
        waiting.clear()
        if timer is not None and timer.active():
            timer.cancel()
        timer = None
        for each in list(running):
            each.cancel()

    outcome: Deferred[Any] = Deferred(stop)

    def start() -> None:
        nonlocal timer
        if timer is not None and timer.active():
            timer.cancel()
        timer = None
        if not waiting:
            return
        attempt = waiting.pop(0)()
        running.append(attempt)
        if waiting:
            timer = clock.callLater(delay, start)
        attempt.addBoth(ended, attempt)

    def ended(result: Any, attempt: Deferred[Any]) -> None:
        running.remove(attempt)
        if decided:
            return
        if not isinstance(result, Failure):
            stop()
            outcome.callback(result)
        elif waiting:
            start()
        elif not running:
            outcome.errback(result)

    if not waiting:
        outcome.errback(Failure(LookupFailed("there is no address")))
    start()
    return outcome
