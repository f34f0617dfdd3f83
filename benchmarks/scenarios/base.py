"""What a scenario is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.client import Client, Target
from benchmarks.connection import Failed
from benchmarks.measure import Processes
from benchmarks.servers import Certificate, Needs, Server

MICROSECONDS, MILLISECONDS, KIB = "µs", "ms", "KiB"


@dataclass(frozen=True)
class Figure:
    """Something that a scenario measures. The less the better."""

    key: str
    label: str
    unit: str


@dataclass
class Stage:
    """A server that runs, and how to get in."""

    server: Server
    processes: Processes
    target: Target
    folder: Path
    certificate: Certificate

    def clients(self, users: Sequence[str]) -> list[Client]:
        """Clients of these accounts, which are not logged in."""
        return [Client(self.target, user) for user in users]


class Scenario(ABC):
    """Work for a server. It is made anew for each server; `quick` has it smaller."""

    name: ClassVar[str]
    figures: ClassVar[tuple[Figure, ...]]
    new_server: ClassVar[bool] = False  # for each repetition

    def __init__(self, quick: bool) -> None:
        self.quick = quick

    def needs(self) -> Needs:
        """What it wants of the server beside the usual; it may start what the server has to find."""
        return Needs()

    @abstractmethod
    def users(self) -> list[str]:
        """The accounts that it wants."""

    async def prepare(self, stage: Stage) -> None:  # noqa: B027 - most need none
        """Before the first repetition; nothing of it counts."""

    @abstractmethod
    async def once(self, stage: Stage) -> dict[str, float]:
        """One repetition; its figures. `Failed` where the work was not done, or not exactly once and in order."""

    async def finish(self, stage: Stage) -> None:  # noqa: B027 - most need none
        """After the last repetition; nothing of it counts."""

    def close(self) -> None:  # noqa: B027 - most need none
        """End what was started, whatever happened."""

    def size(self, full: int, quick: int) -> int:
        """A size."""
        return quick if self.quick else full


def names(count: int, prefix: str = "user") -> list[str]:
    """Names of accounts."""
    return [f"{prefix}{number:04}" for number in range(count)]


def require(condition: bool, what: str) -> None:
    """Fail unless it is so."""
    if not condition:
        raise Failed(what)
