"""Work in progress: nothing is lost, each failure is logged, and all of it can be ended."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.core.conftest import Log
from xmppd.core.tasks import Tasks


async def wait_for(deferred: Deferred[Any], seen: list[Any]) -> None:
    """Note what comes of it."""
    try:
        seen.append(await deferred)
    except BaseException as error:
        seen.append(type(error))
        raise


def test_what_does_not_wait_is_done_at_once() -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append("done")

    assert Tasks().start(work(), "work") is None
    assert seen == ["done"]


def test_what_waits_goes_on_later() -> None:
    seen: list[Any] = []
    ended: list[Any] = []
    waiting: Deferred[str] = Deferred()
    running = Tasks().start(wait_for(waiting, seen), "work")
    assert running is not None
    running.addCallback(ended.append)
    assert not seen and not ended
    waiting.callback("result")
    assert seen == ["result"]
    assert ended == [None]


def test_what_waits_several_times() -> None:
    deferreds: list[Deferred[int]] = [Deferred() for _ in range(3)]
    seen: list[int | str] = []

    async def work() -> None:
        for deferred in deferreds:
            try:
                seen.append(await deferred)
            except ValueError as error:
                seen.append(str(error))

    running = Tasks().start(work(), "work")
    assert running is not None
    deferreds[0].callback(1)
    deferreds[2].callback(3)
    assert not running.called
    deferreds[1].errback(ValueError("two"))
    assert seen == [1, "two", 3]
    assert running.called


def test_a_failure_is_logged_with_what_it_was(log: Log) -> None:
    """At once or later; whoever waits for the end is not bothered with it."""
    tasks = Tasks()
    error = ValueError("wrong")

    async def fail() -> None:
        raise error

    assert tasks.start(fail(), "the first work") is None
    waiting: Deferred[None] = Deferred()
    running = tasks.start(wait_for(waiting, []), "the second work")
    assert running is not None
    ended: list[Any] = []
    running.addCallback(ended.append)
    waiting.errback(error)
    assert ended == [None]
    assert log.failures == [error, error]
    assert log.at("critical") == ["the first work failed", "the second work failed"]


def test_cancelled_work_sees_it_where_it_waits_and_is_not_a_failure(log: Log) -> None:
    tasks = Tasks()
    seen: list[Any] = []
    for _ in range(2):
        tasks.start(wait_for(Deferred(), seen), "work")
    tasks.cancel()
    assert seen == [CancelledError, CancelledError]
    assert not log.failures
    tasks.cancel()
    assert len(seen) == 2


def test_the_end_of_all() -> None:
    tasks = Tasks()
    waiting: list[Deferred[None]] = [Deferred(), Deferred()]
    for deferred in waiting:
        tasks.start(wait_for(deferred, []), "work")
    ended = tasks.all_ended()
    waiting[0].callback(None)
    assert not ended.called
    waiting[1].errback(ValueError("wrong"))
    assert ended.called
    assert tasks.all_ended().called
