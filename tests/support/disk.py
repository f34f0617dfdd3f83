"""What a disk does to a world: it is full, it is slow, or it does not say what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.world import World
from xmppd.storage import Store


@contextmanager
def broken(world: World, *only: int, silently: bool = False) -> Iterator[None]:
    """The disk is full: no transaction is committed, or only those do not whose turns (from 1) are given. `silently`:
    they are, but the answer is lost."""
    dialect: Any = world.store._database.writing.dialect
    commit = dialect.do_commit
    turns: list[None] = []

    def do_commit(raw: Any) -> None:
        turns.append(None)
        fails = not only or len(turns) in only
        if not fails or silently:
            commit(raw)
        if fails:
            raise dialect.dbapi.OperationalError("database or disk is full")

    dialect.do_commit = do_commit
    try:
        yield
    finally:
        del dialect.do_commit


def crash(world: World) -> World:
    """kill -9: streams are gone, and what was not written; a new process starts on what is on disk."""
    world.clock.calls.clear()
    world.store = Store(world.clock, world.store._database, timeout=10.0, max_queue=100_000)
    after = World(before=world)
    after.run(after.server.start())
    return after


class Slow:
    """The store's writer, by hand: a group is in flight until `writes`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.quick = True
        # The seam that there is: whatever runs the groups has these three methods.
        world.store._writer_thread = self  # type: ignore[assignment]

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        if self.quick:
            done(work())
        else:
            self._waiting.append((work, done))

    def stop(self) -> None:
        pass

    def join(self, timeout: float) -> None:
        pass

    def writes(self) -> None:
        """The group in flight is written."""
        work, done = self._waiting.pop(0)
        done(work())
        self._world.settle()

    def writes_all(self) -> None:
        """Everything is written, and the disk is quick again."""
        self.quick = True
        while self._waiting:
            self.writes()
        self._world.settle()

