"""The event bus: modules hook events, in an order that has names.

An event is an object of one of the classes in `events.py`, whose docstrings say who fires it, when, and what a
handler's answer means. A handler is a function, plain or async, that takes the event and returns None to
pass it on, or anything else to say that it has taken it: then no later handler sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, TypeVar

E = TypeVar("E")
Handler = Callable[[E], Any]


class Stage(IntEnum):
    """When a handler's turn is, among those for the same event. Within a stage: in the order of hooking."""

    CHECK = 0  # is this allowed at all?
    BLOCK = 1  # does the user want it?
    CLEAN = 2  # what the sender may not say is taken out
    ARCHIVE = 3  # it is kept
    COPY = 4  # others get a copy
    DELIVER = 5  # it reaches whom it is for
    AFTER = 6  # it has happened


class Bus:
    """Who handles which event. One for each host."""

    def __init__(self) -> None:
        self._handlers: dict[type, list[tuple[Stage, Handler[Any]]]] = {}
        self._in_order: dict[type, tuple[Handler[Any], ...]] = {}

    def on(self, event: type[E], handler: Handler[E], stage: Stage = Stage.DELIVER) -> None:
        """Call `handler` with each event of this class, when it is the turn of `stage`."""
        handlers = self._handlers.setdefault(event, [])
        handlers.append((stage, handler))
        handlers.sort(key=lambda entry: entry[0])  # stable: within a stage the first hooked stays first
        self._in_order[event] = tuple(entry[1] for entry in handlers)

    async def fire(self, event: object) -> Any:
        """What the first handler that takes the event answers; None when none does.

        Does not wait unless a handler does. What a handler raises comes out here.
        """
        for handler in self._in_order.get(type(event), ()):
            answer = handler(event)
            if answer is None:
                continue
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer is not None:
                return answer
        return None

    def order(self) -> list[str]:
        """One line for each handler, as they are called: ``Arriving BLOCK xmppd.modules.blocklist.…``."""
        return [
            f"{event.__name__} {stage.name} {handler.__module__}.{handler.__qualname__}"
            for event, handlers in sorted(self._handlers.items(), key=lambda item: item[0].__name__)
            for stage, handler in handlers
        ]
