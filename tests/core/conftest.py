"""What the server writes to its log, for tests to look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import formatEvent, globalLogPublisher


class Log:
    """The lines of the log, and the exceptions that it tells of."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.failures: list[BaseException] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self.lines.append((event["log_level"].name, formatEvent(event)))
        if "log_failure" in event:
            self.failures.append(event["log_failure"].value)

    def at(self, level: str) -> list[str]:
        """The lines of one level."""
        return [text for found, text in self.lines if found == level]


@pytest.fixture
def log() -> Iterator[Log]:
    """The log from now on."""
    log = Log()
    globalLogPublisher.addObserver(log)
    yield log
    globalLogPublisher.removeObserver(log)
