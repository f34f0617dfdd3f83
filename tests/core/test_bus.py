"""The event bus: who is called when, and what becomes of what handlers answer and raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.core.conftest import Log
from tests.support.world import STANZA_ID, Player, World
from xmppd.core.bus import Bus, Stage
from xmppd.core.events import Arriving, Sent
from xmppd.wire.errors import StanzaError


@dataclass
class Happened:
    """An event."""

    calls: list[str]


class Happened2(Happened):
    """Another one, which is not handled by who handles the first."""


def noting(name: str, answer: Any = None) -> Callable[[Happened], Any]:
    """A handler that notes that it was called."""

    def handler(event: Happened) -> Any:
        event.calls.append(name)
        return answer

    return handler


def fire(bus: Bus, event: object) -> Any:
    """What comes of it, when nothing has to be waited for."""
    results: list[Any] = []
    Deferred.fromCoroutine(bus.fire(event)).addCallback(results.append)
    assert results, "it waits"
    return results[0]


def test_stages_give_the_order_and_hooking_the_order_within() -> None:
    bus = Bus()
    for stage in (Stage.AFTER, Stage.DELIVER, Stage.COPY, Stage.ARCHIVE, Stage.CLEAN, Stage.BLOCK, Stage.CHECK):
        for number in (1, 2):
            bus.on(Happened, noting(f"{stage.name} {number}"), stage)
    event = Happened([])
    assert fire(bus, event) is None
    stages = ("CHECK", "BLOCK", "CLEAN", "ARCHIVE", "COPY", "DELIVER", "AFTER")
    assert event.calls == [f"{stage} {number}" for stage in stages for number in (1, 2)]


def test_an_answer_ends_the_event() -> None:
    """Any but None: False and 0 as well."""
    for answer in (True, False, 0, "taken"):
        bus = Bus()
        bus.on(Happened, noting("one"))
        bus.on(Happened, noting("two", answer))
        bus.on(Happened, noting("three"))
        event = Happened([])
        assert fire(bus, event) is answer
        assert event.calls == ["one", "two"]


def test_handlers_that_wait() -> None:
    """The next one is called when the one before is done."""
    bus = Bus()
    ready: Deferred[None] = Deferred()

    async def slow(event: Happened) -> None:
        event.calls.append("slow")
        await ready
        event.calls.append("done")

    bus.on(Happened, slow)
    bus.on(Happened, noting("next", True))
    event = Happened([])
    results: list[Any] = []
    Deferred.fromCoroutine(bus.fire(event)).addCallback(results.append)
    assert event.calls == ["slow"]
    ready.callback(None)
    assert (event.calls, results) == (["slow", "done", "next"], [True])


def test_what_a_handler_raises_comes_out() -> None:
    bus = Bus()

    def refuse(event: Happened) -> None:
        raise StanzaError("gone")

    bus.on(Happened, refuse)
    bus.on(Happened, noting("never"))
    event = Happened([])
    with pytest.raises(StanzaError):
        bus.fire(event).send(None)
    assert not event.calls


def test_only_the_class_itself_is_handled() -> None:
    bus = Bus()
    bus.on(Happened, noting("called"))
    event = Happened2([])
    assert fire(bus, event) is None
    assert not event.calls


def test_the_order_is_printed() -> None:
    """One line for each handler, in the order in which they are called."""

    def checks(event: Happened) -> None: ...
    def delivers(event: Happened) -> None: ...

    bus = Bus()
    bus.on(Happened2, checks)
    bus.on(Happened, delivers)
    bus.on(Happened, checks, Stage.CHECK)
    here = f"{__name__}.test_the_order_is_printed.<locals>"
    assert bus.order() == [
        f"Happened CHECK {here}.checks",
        f"Happened DELIVER {here}.delivers",
        f"Happened2 DELIVER {here}.checks",
    ]


def test_the_order_of_a_host() -> None:
    """Of the modules without which there is no messaging: a surprising change shows here."""
    ours = ("xmppd.modules.roster.", "xmppd.modules.presence.", "xmppd.modules.offline.", "xmppd.core.")
    order = [line.replace("xmppd.", "", 1) for line in World().host.bus.order() if line.split()[2].startswith(ours)]
    assert order == [
        "AccountLoading DELIVER modules.roster.load",
        "AccountLoading DELIVER modules.offline.setup.<locals>.<lambda>",
        "AccountRemoving DELIVER modules.presence.subscription.end_all",
        "Arriving CHECK modules.presence.broadcast.refuse_strangers",
        "Arriving CLEAN core.cleaning.clean",
        "Arriving DELIVER modules.presence.arriving",
        "BecomingAvailable DELIVER modules.offline.deliver",
        "BoundInline DELIVER modules.offline.at_binding",
        "Ended DELIVER modules.presence.broadcast.ended",
        "HibernationEnded DELIVER modules.presence.broadcast.resumed",
        "Sent CLEAN core.cleaning.clean_sent",
        "Sent DELIVER modules.presence.sent",
        "Undelivered DELIVER modules.offline.keep",
    ]


# ---- on the way of a stanza


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online("romeo@example.org/orchard")


@pytest.fixture
def juliet(world: World) -> Player:
    return world.online("juliet@example.org/balcony")


HI = "<message id='1' to='juliet@example.org'><body>Hi</body></message>"


@pytest.mark.parametrize("event", [Sent, Arriving])
@pytest.mark.parametrize("waits", [False, True])
def test_a_handler_refuses_a_stanza(world: World, romeo: Player, juliet: Player, event: type, waits: bool) -> None:
    """At the sender's side and at the recipient's: the sender is told, and nobody else."""

    def refuse(event: Any) -> None:
        if event.stanza.name == "message" and event.stanza.type is None:
            raise StanzaError("not-acceptable", "no")

    async def refuse_later(event: Any) -> None:
        refuse(event)

    world.host.bus.on(event, refuse_later if waits else refuse, Stage.BLOCK)
    romeo.sends(HI)
    romeo.receives_error("not-acceptable", "modify", name="message", id="1", sender="juliet@example.org")
    juliet.receives_nothing()


@pytest.mark.parametrize("event", [Sent, Arriving])
@pytest.mark.parametrize("error", [ValueError("secret"), RecursionError("secret"), CancelledError("secret")])
def test_a_handler_has_a_bug(
    world: World, romeo: Player, juliet: Player, log: Log, event: type, error: Exception
) -> None:
    """internal-server-error without details, the traceback in the log, and the stream goes on."""
    broken = [True]

    def fail(event: Any) -> None:
        if broken and event.stanza.name == "message" and event.stanza.type != "error":
            raise error

    world.host.bus.on(event, fail)
    romeo.sends(HI)
    romeo.receives_error("internal-server-error", "cancel", name="message", id="1", sender="juliet@example.org")
    assert b"secret" not in romeo.received_bytes()
    assert log.failures == [error]
    broken.clear()
    romeo.sends(HI)
    assert juliet.takes().get("id") == "1"


@pytest.mark.parametrize("event", [Sent, Arriving])
def test_a_handler_takes_a_stanza(world: World, romeo: Player, juliet: Player, event: type) -> None:
    world.host.bus.on(event, lambda event: True if event.stanza.name == "message" else None, Stage.BLOCK)
    romeo.sends(HI)
    romeo.receives_nothing()
    juliet.receives_nothing()


@pytest.mark.parametrize("event", [Sent, Arriving])
def test_a_handler_changes_a_stanza(world: World, romeo: Player, juliet: Player, event: type) -> None:
    """Those who come later, and the recipient, get the copy."""
    seen: list[bool] = []

    def change(event: Any) -> None:
        event.stanza = event.stanza.extended("urn:x", "x", b"<x xmlns='urn:x'/>")

    def look(event: Any) -> None:
        seen.append(event.stanza.has("urn:x", "x"))

    world.host.bus.on(event, look, Stage.COPY)
    world.host.bus.on(event, change, Stage.CLEAN)
    romeo.sends(HI)
    got = juliet.takes()
    assert [child.tag for child in got if child.tag != STANZA_ID] == ["{jabber:client}body", "{urn:x}x"]
    assert seen[0]
