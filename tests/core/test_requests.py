"""Requests of the server itself: who may answer them, how often, and what comes of those that nobody answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.world import World
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import parse
from xmppd.wire.stanza import error_of

SECTIONS = "[host:example.org]\n[component:push.example.org]\nsecret = secret\n"
PING = b"<ping xmlns='urn:xmpp:ping'/>"


def ask(world: World, to: str = "push.example.org") -> list[Any]:
    """The list will have the answer."""
    outcome: list[Any] = []
    world.host.requests.send(parse(to), "get", PING, ("urn:xmpp:ping", "ping"), 30.0).addBoth(outcome.append)
    world.settle()
    return outcome


def condition(outcome: list[Any]) -> str:
    assert len(outcome) == 1
    error = outcome[0].value
    assert isinstance(error, StanzaError)
    return error.condition


def test_a_request_is_answered_once() -> None:
    world = World(sections=SECTIONS)
    component = world.component("push.example.org")
    outcome = ask(world)
    request = component.receives(
        "<iq type='get' id='*' from='example.org' to='push.example.org'><ping xmlns='urn:xmpp:ping'/></iq>"
    )
    assert outcome == []
    component.answers(request)
    assert [answer.type for answer in outcome] == ["result"]
    component.answers(request, "error")
    world.advance(100)
    assert len(outcome) == 1


def test_an_answer_of_somebody_else_does_not_count() -> None:
    world = World(sections=SECTIONS)
    component = world.component("push.example.org")
    romeo = world.online("romeo@example.org/orchard")
    outcome = ask(world)
    request = component.asked()
    component.answers(request, sender="other@push.example.org")
    romeo.sends(f"<iq type='result' id='{request.get('id')}' to='example.org'/>")
    assert outcome == []
    component.answers(request)
    assert len(outcome) == 1


def test_an_error_is_an_answer_that_can_be_read() -> None:
    world = World(sections=SECTIONS)
    component = world.component("push.example.org")
    outcome = ask(world)
    error = (
        "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no &lt;key&gt;</text></error>"
    )
    component.answers(component.asked(), "error", error)
    found = error_of(outcome[0])
    assert (found.condition, found.type, found.text) == ("forbidden", "auth", "no <key>")


@pytest.mark.parametrize("inner", ["", "<error/>", "<error type='odd'><odd xmlns='urn:example'/></error>"])
def test_an_error_that_says_nothing_is_undefined(inner: str) -> None:
    world = World(sections=SECTIONS)
    component = world.component("push.example.org")
    outcome = ask(world)
    component.answers(component.asked(), "error", inner)
    assert error_of(outcome[0]).condition == "undefined-condition"
    assert error_of(outcome[0]).type == "cancel"


def test_one_that_nobody_answers_has_an_end() -> None:
    world = World(sections=SECTIONS)
    component = world.component("push.example.org")
    outcome = ask(world)
    request = component.asked()
    world.advance(29)
    assert outcome == []
    world.advance(1)
    assert condition(outcome) == "remote-server-timeout"
    component.answers(request)
    component.receives_nothing()


def test_one_to_a_domain_that_is_not_there_comes_back_at_once() -> None:
    world = World(sections=SECTIONS)
    for to, expected in (("nowhere.example", "remote-server-not-found"), ("push.example.org", "service-unavailable")):
        assert condition(ask(world, to)) == expected


def test_only_so_many_wait_at_once() -> None:
    world = World("max_requests = 2\n", SECTIONS)
    world.component("push.example.org")
    assert ask(world) == ask(world) == []
    assert condition(ask(world)) == "resource-constraint"
    world.advance(30)
    assert ask(world) == []


def test_a_server_that_stops_waits_for_nobody() -> None:
    world = World(sections=SECTIONS)
    world.component("push.example.org")
    outcome = ask(world)
    world.stops()
    assert condition(outcome) == "resource-constraint"
    assert condition(ask(world)) == "resource-constraint"
