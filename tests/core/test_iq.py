"""Requests and answers: RFC 6120 section 8.2.3."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.core.conftest import Log
from tests.support.world import Player, World
from xmppd.core.iq import IQHandlers, Request, Target
from xmppd.wire.errors import StanzaError

ORCHARD = "romeo@example.org/orchard"
QUERY = "<q xmlns='urn:example'/>"
SERVER = "example.org"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


def answers(world: World, handler: Any, type: str = "get") -> list[Request]:
    """The server answers {urn:example}q with what `handler` says; the requests that came."""
    requests: list[Request] = []

    def handle(request: Request) -> bytes | Awaitable[bytes | None] | None:
        requests.append(request)
        return handler(request)  # type: ignore[no-any-return]

    world.host.iq.on(Target.SERVER, type, "urn:example", "q", handle)
    return requests


@pytest.mark.parametrize(
    ("attributes", "inner"),
    [
        ("type='get'", QUERY),  # 1: no id
        ("id='1'", QUERY),  # 2: no type
        ("id='1' type='subscribe'", QUERY),
        ("id='1' type='GET'", QUERY),
        ("id='1' type=''", QUERY),
        ("id='1' type='get'", ""),  # 5: one child
        ("id='1' type='set'", "text"),
        ("id='1' type='get'", QUERY + QUERY),
        ("id='1' type='set'", QUERY + "<other xmlns='urn:example'/>"),
    ],
)
@pytest.mark.parametrize("to", ["", SERVER, "romeo@example.org", "juliet@example.org", "juliet@example.org/balcony"])
def test_a_request_that_breaks_a_rule(world: World, romeo: Player, attributes: str, inner: str, to: str) -> None:
    """Once: bad-request, wherever it was to go, and nobody has to look at it."""
    juliet = world.online("juliet@example.org/balcony")
    world.befriend(romeo, juliet)
    requests = answers(world, lambda request: None)
    address = f" to='{to}'" if to else ""
    romeo.sends(f"<iq {attributes}{address}>{inner}</iq>")
    id = "1" if "id=" in attributes else None
    romeo.receives_error("bad-request", "modify", name="iq", id=id, sender=to or None)
    romeo.receives_nothing()
    juliet.receives_nothing()
    assert not requests


@pytest.mark.parametrize("type", ["result", "error"])
@pytest.mark.parametrize("rest", ["", " id='1'"])
@pytest.mark.parametrize("inner", ["", QUERY, QUERY + QUERY])
@pytest.mark.parametrize("to", ["", SERVER, "romeo@example.org", "nobody@example.org", "nobody@example.org/x"])
def test_an_answer_is_never_answered(romeo: Player, type: str, rest: str, inner: str, to: str) -> None:
    """Rule 4, also for answers that break a rule themselves."""
    address = f" to='{to}'" if to else ""
    romeo.sends(f"<iq type='{type}'{rest}{address}>{inner}</iq>")
    romeo.receives_nothing()


@pytest.mark.parametrize(("type", "inner"), [
    ("get", "<p xmlns='urn:example'/>"), ("get", "<q xmlns='urn:other'/>"), ("set", QUERY), ("get", "<q/>"),
    ("get", "<q xmlns=''/>"),
])  # fmt: skip
def test_what_nobody_serves(world: World, romeo: Player, type: str, inner: str) -> None:
    """Type, namespace and name have to be right."""
    requests = answers(world, lambda request: None)
    romeo.sends(f"<iq id='1' type='{type}' to='{SERVER}'>{inner}</iq>")
    romeo.receives_error("service-unavailable", "cancel", name="iq", id="1", sender=SERVER)
    romeo.receives_nothing()
    assert not requests


def test_white_space_around_the_payload(world: World, romeo: Player) -> None:
    requests = answers(world, lambda request: None)
    romeo.sends(f"<iq id='1' type='get' to='{SERVER}'>\n  {QUERY}\n</iq>")
    romeo.receives(f"<iq id='1' type='result' from='{SERVER}' to='{ORCHARD}'/>")
    assert requests[0].payload.uri == "urn:example"


def test_answers(world: World, romeo: Player) -> None:
    """At once or later, with a payload or without."""
    later: Deferred[bytes | None] = Deferred()
    kinds = iter([None, b"<a xmlns='urn:a'/>", later])
    answers(world, lambda request: next(kinds))
    for id in "123":
        romeo.sends(f"<iq id='{id}' type='get' to='{SERVER}'>{QUERY}</iq>")
    romeo.receives(f"<iq id='1' type='result' from='{SERVER}' to='{ORCHARD}'/>")
    romeo.receives(f"<iq id='2' type='result' from='{SERVER}' to='{ORCHARD}'><a xmlns='urn:a'/></iq>")
    romeo.receives_nothing()
    later.callback(b"<b xmlns='urn:b'/>")
    romeo.receives(f"<iq id='3' type='result' from='{SERVER}' to='{ORCHARD}'><b xmlns='urn:b'/></iq>")
    romeo.receives_nothing()


def test_a_refusal(world: World, romeo: Player) -> None:
    """With its text and its own condition; the type is the condition's unless another is given."""

    def refuse(request: Request) -> None:
        raise StanzaError("conflict", "it's <taken>", type="modify", application=b"<mine xmlns='urn:example'/>")

    answers(world, refuse)
    romeo.sends(f"<iq id='1' type='get' to='{SERVER}'>{QUERY}</iq>")
    stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas"
    romeo.receives(
        f"<iq id='1' type='error' from='{SERVER}' to='{ORCHARD}'><error type='modify'><conflict xmlns='{stanzas}'/>"
        f"<text xmlns='{stanzas}' xml:lang='en'>it's &lt;taken&gt;</text><mine xmlns='urn:example'/></error></iq>"
    )


@pytest.mark.parametrize("to", [f" to='{SERVER}'", ""])
def test_a_bug_is_answered_and_logged(world: World, romeo: Player, log: Log, to: str) -> None:
    """The client is told that much; the log has the traceback; the stream goes on."""

    async def fail(request: Request) -> None:
        raise ZeroDivisionError("secret")

    for target in (Target.SERVER, Target.OWN):
        world.host.iq.on(target, "get", "urn:example", "q", fail)
    romeo.sends(f"<iq id='1' type='get'{to}>{QUERY}</iq>")
    romeo.receives_error("internal-server-error", "cancel", name="iq", id="1", sender=SERVER if to else None)
    assert b"secret" not in romeo.received_bytes()
    assert [type(failure) for failure in log.failures] == [ZeroDivisionError]
    romeo.sends("<iq id='2' type='get'><q xmlns='urn:other'/></iq>")
    romeo.receives_error("service-unavailable", "cancel", name="iq", id="2")


def test_the_answer_to_a_client_that_left_is_for_nobody(world: World, romeo: Player) -> None:
    later: Deferred[bytes | None] = Deferred()
    answers(world, lambda request: later)
    romeo.sends(f"<iq id='1' type='get' to='{SERVER}'>{QUERY}</iq>")
    garden = world.online("romeo@example.org/garden")
    romeo.disconnects()
    later.callback(None)
    garden.receives(f"<presence type='unavailable' from='{ORCHARD}' to='romeo@example.org/garden'/>")
    garden.receives_nothing()


def test_two_cannot_answer_the_same() -> None:
    handlers = IQHandlers()
    handlers.on(Target.SERVER, "get", "urn:example", "q", lambda request: None)
    handlers.on(Target.OWN, "get", "urn:example", "q", lambda request: None)
    handlers.on(Target.SERVER, "set", "urn:example", "q", lambda request: None)
    with pytest.raises(ValueError):
        handlers.on(Target.SERVER, "get", "urn:example", "q", lambda request: None)


@pytest.mark.parametrize("to", ["", f" to='{SERVER}'"])
def test_the_session_that_old_clients_ask_for(romeo: Player, to: str) -> None:
    """RFC 3921 section 3: an empty result."""
    romeo.sends(f"<iq id='1' type='set'{to}><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
    sender = f" from='{SERVER}'" if to else ""
    romeo.receives(f"<iq id='1' type='result'{sender} to='{ORCHARD}'/>")
