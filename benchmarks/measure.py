"""What a server costs: processor time and memory of its process and all below it, as the kernel counts them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import PATIENCE, Failed

TICK = 1 / os.sysconf("SC_CLK_TCK")
# Seconds after the last answer until the processor time is read: servers may write what they have answered already.
# It is the same for all, and far more than any of them waits before it commits.
SETTLE = 0.3
LOOK = 0.02  # seconds between two looks at what cannot be awaited, such as a file in /proc


@dataclass
class Cost:
    """What a piece of work took, in seconds: processor time of the server and of the clients, and time."""

    cpu: float = 0.0
    client: float = 0.0
    wall: float = 0.0


@dataclass(frozen=True)
class Memory:
    """Bytes of all processes: pages shared with others in part (PSS), and those that no file backs (private)."""

    pss: int
    private: int


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat after the name, which may have spaces and brackets in it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Processes:
    """A process and its descendants. It was started in a session of its own, by which orphans are found as well."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.costs: list[Cost] = []  # of all that was measured

    def pids(self) -> list[int]:
        """Those that are alive."""
        parents, own = {}, {self.root}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = _stat(int(entry.name))
            except OSError:
                continue  # it has just ended
            if fields[0] in "ZX":
                continue
            parents[int(entry.name)] = int(fields[1])
            if int(fields[3]) == self.root:
                own.add(int(entry.name))
        while True:
            more = {pid for pid, parent in parents.items() if parent in own} - own
            if not more:
                return sorted(own & parents.keys())
            own |= more

    def cpu(self) -> float:
        """Seconds of processor time so far: user and system, of all threads, and of children that have ended."""
        total = 0.0
        for pid in self.pids():
            try:
                fields = _stat(pid)
                # The clock of a process (clock_getcpuclockid) has nanoseconds where /proc/PID/stat has 10 ms.
                total += time.clock_gettime((~pid << 3) | 2) + (int(fields[13]) + int(fields[14])) * TICK
            except OSError:
                continue
        return total

    def memory(self) -> Memory:
        """What is in memory now."""
        found = {"Pss:": 0, "Anonymous:": 0}
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                name = line.split(maxsplit=1)[0]
                if name in found:
                    found[name] += int(line.split()[1]) * 1024
        return Memory(found["Pss:"], found["Anonymous:"])

    def _descriptors(self) -> list[str]:
        found = []
        for pid in self.pids():
            try:
                links = list(Path(f"/proc/{pid}/fd").iterdir())
            except OSError:
                continue
            for link in links:
                with contextlib.suppress(OSError):
                    found.append(str(link.readlink()))
        return found

    def sockets(self) -> int:
        """How many sockets are open, so that it can be seen when a server has noticed that one is gone."""
        return sum(name.startswith("socket:") for name in self._descriptors())

    def has_open(self, path: Path) -> bool:
        """Whether a file is open."""
        return str(path) in self._descriptors()

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[Cost]:
        """Measure what is done inside."""
        cost = Cost()
        cpu, client, wall = self.cpu(), time.process_time(), time.perf_counter()
        yield cost
        cost.wall = time.perf_counter() - wall
        cost.client = time.process_time() - client
        await asyncio.sleep(SETTLE)
        cost.cpu = self.cpu() - cpu
        self.costs.append(cost)


async def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait for something that can only be looked at."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:g} seconds")
        await asyncio.sleep(LOOK)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    found = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": found[49] * 1000, "p99": found[98] * 1000}
