"""Where jobs run: on threads of their own, or at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

__all__ = ["Call", "Inline", "Reactor", "Threads", "Workers"]

T = TypeVar("T")


class Call(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Never make it."""

    def active(self) -> bool:
        """Whether it is still to be made."""


class Reactor(Protocol):
    """The part of a reactor that storage needs. In memory a `Clock` does: there are no threads."""

    def seconds(self) -> float:
        """Now, in seconds since 1970."""

    # The names are Twisted's.
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Call:
        """Call after `delay` seconds."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """Call on the reactor's thread, from any other."""


class Workers(Protocol):
    """Run work somewhere and tell the reactor's thread what came out."""

    def run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run `work`, which never raises, and call `done` with its result on the reactor's thread."""

    def stop(self) -> None:
        """Take no more work; what was taken is still done."""

    def join(self, timeout: float) -> None:
        """Wait until the work is done, `timeout` seconds at most for each thread."""


class Inline:
    """Runs everything at once on the caller's thread."""

    def run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run `work` and call `done`, before returning."""
        done(work())

    def stop(self) -> None:
        """Nothing to stop."""

    def join(self, timeout: float) -> None:
        """Nothing to wait for."""


class Threads:
    """A few threads that share one queue. They start with the first work, so that a fork before is safe.

    They are daemons: a disk that hangs does not keep a process alive that was told to end.
    """

    def __init__(self, reactor: Reactor, count: int, name: str) -> None:
        self._reactor = reactor
        self._count = count
        self._name = name
        self._threads: list[threading.Thread] = []
        self._inbox: SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = SimpleQueue()

    def run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Queue `work`; see `Workers`."""
        if not self._threads:
            self._start()
        self._inbox.put((work, done))

    def stop(self) -> None:
        """End each thread after the work that is queued."""
        for _ in self._threads:
            self._inbox.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the threads to end, `timeout` seconds at most for each. Not called by one of them."""
        for thread in self._threads:
            thread.join(timeout)

    def _start(self) -> None:
        for number in range(self._count):
            thread = threading.Thread(target=self._loop, name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _loop(self) -> None:
        while (task := self._inbox.get()) is not None:
            work, done = task
            self._reactor.callFromThread(done, work())
            # A result may be large, and the next work may be hours away.
            del task, work, done
