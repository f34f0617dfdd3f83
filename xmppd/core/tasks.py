"""Coroutines as work in progress: started in one place, so that none is lost and each failure is logged."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure


class Tasks:
    """The coroutines that are under way. One for the server."""

    def __init__(self) -> None:
        self._running: set[Deferred[Any]] = set()
        self._log = Logger(namespace="xmppd.tasks")

    def start(self, coroutine: Coroutine[Any, Any, Any], what: str) -> Deferred[Any] | None:
        """Run `coroutine` as far as it gets; None when it ended without waiting, else what fires at its end.

        A failure is logged with `what` it was; the Deferred never fails.
        """
        try:
            waiting = coroutine.send(None)
        except StopIteration:
            return None
        except Exception:
            self._log.failure("{what} failed", what=what)
            return None
        running: Deferred[Any] = Deferred.fromCoroutine(_resume(coroutine, waiting))
        self._running.add(running)
        running.addErrback(self._failed, what)
        running.addBoth(self._ended, running)
        return running

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return bool(self._running)

    def all_ended(self) -> Deferred[Any]:
        """Fires when what runs now has ended; that may have started something else."""
        return DeferredList(list(self._running))

    def cancel(self) -> None:
        """End whatever still runs: each coroutine sees `CancelledError` where it waits."""
        for running in list(self._running):
            running.cancel()

    def _ended(self, outcome: Any, running: Deferred[Any]) -> None:
        self._running.discard(running)

    def _failed(self, failure: Failure, what: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure("{what} failed", failure, what=what)


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, Any], waiting: Any) -> Generator[Any, Any, Any]:
    """The rest of a coroutine whose first step has been taken: it waits for `waiting`."""
    try:
        while True:
            try:
                value = yield waiting
            except GeneratorExit:  # what it waited for is gone, and nobody else knows of it
                coroutine.close()
                raise
            except BaseException as error:
                waiting = coroutine.throw(error)
            else:
                waiting = coroutine.send(value)
    except StopIteration as end:
        return end.value
