"""Time that is passed in: a reactor has it, and so has `twisted.internet.task.Clock` in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Forget it."""

    def active(self) -> bool:
        """Whether it is still to come."""


class Clock(Protocol):
    """Waits, in seconds."""

    def seconds(self) -> float:
        """A time that goes forward; only differences mean something."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Timer:
        """Call after `delay` seconds."""
