"""A reactor that a test pumps by hand, and the three databases that every promise is tried on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from xmppd.storage import Store


class Pump(Clock):
    """A clock that takes calls from threads, and runs them when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self.from_threads = 0

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        self._calls.put((callable, args))

    def turn(self, wait: float = 0.0) -> None:
        """One turn of the reactor: what is due, then what threads asked for, awaited `wait` seconds."""
        self.advance(0)
        try:
            call, args = self._calls.get(timeout=wait) if wait else self._calls.get_nowait()
        except Empty:
            return
        self.from_threads += 1
        call(*args)
        self.advance(0)

    def until(self, true: Callable[[], bool], seconds: float = 20.0) -> None:
        """Turn until something is so."""
        end = monotonic() + seconds
        while not true():
            assert monotonic() < end, "it never came to pass"
            self.turn()
            if not true():
                self.turn(0.02)

    def settle(self, deferred: Deferred[Any]) -> Any:
        """Turn until a Deferred has fired; return its result, or its Failure."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.until(lambda: bool(results))
        return results[0]

    def run(self, deferred: Deferred[Any]) -> Any:
        """`settle`, but raise what a Failure holds."""
        result = self.settle(deferred)
        if isinstance(result, Failure):
            result.raiseException()
        return result


class Backend:
    """One kind of database: makes empty ones and opens stores on them."""

    def __init__(self, name: str, pump: Pump, fresh_url: Callable[[], str]) -> None:
        self.name = name
        self.threads = name != "memory"
        self.fresh_url = fresh_url
        self.url = fresh_url()
        self._pump = pump
        self._stores: list[Store] = []

    def open(self, **options: Any) -> Store:
        store = Store.open(self._pump, options.pop("url", self.url), **options)
        self._stores.append(store)
        return store

    def close(self) -> None:
        for store in self._stores:
            self._pump.run(store.close())


@pytest.fixture
def pump() -> Pump:
    return Pump()


def _backend(name: str, request: pytest.FixtureRequest) -> Iterator[Backend]:
    pump = request.getfixturevalue("pump")
    if name == "postgresql":
        fresh = request.getfixturevalue("postgresql")
    elif name == "sqlite":
        folder = request.getfixturevalue("tmp_path")
        numbers = iter(range(1000))

        def fresh() -> str:
            return f"sqlite:///{folder}/{next(numbers)}.db"

    else:

        def fresh() -> str:
            return "sqlite://"

    backend = Backend(name, pump, fresh)
    yield backend
    backend.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each of the three."""
    yield from _backend(request.param, request)


@pytest.fixture(params=["sqlite", "postgresql"])
def lasting(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Those with threads, which survive a restart."""
    yield from _backend(request.param, request)


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.open()
