"""Pages of a message archive (XEP-0313)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone

from benchmarks.client import login, logout
from benchmarks.mam import PAGE, all_messages, page
from benchmarks.measure import percentiles
from benchmarks.scenarios.base import MILLISECONDS, Figure, Scenario, Stage, names, require
from benchmarks.traffic import Traffic, numbers

OWNER = "owner"
SENDERS = 10
PARTS = 4  # of the archive, each of a time of its own
WINDOW = 50
TICKS = 0.05  # seconds, more than any kernel has between two ticks
KINDS = {"last": "last page", "back": "paging back", "filter": "with, start and end"}


class Archive(Scenario):
    """An archive of some ten thousand messages with ten people; each page is compared with what it has to be."""

    name = "archive"
    figures = tuple(
        figure
        for kind, label in KINDS.items()
        for figure in (
            Figure(kind, f"CPU per query, {label}", MILLISECONDS),
            Figure(f"{kind}_p50", f"{label}, p50", MILLISECONDS),
            Figure(f"{kind}_p99", f"{label}, p99", MILLISECONDS),
        )
    )

    def users(self) -> list[str]:
        """See `Scenario`."""
        return [OWNER, *names(SENDERS)]

    async def prepare(self, stage: Stage) -> None:
        """The archive grows as it does in life: the messages are sent."""
        self._owner, *self._senders = stage.clients(self.users())
        await login([self._owner, *self._senders])
        self._per_part = self.size(20_000, 4_000) // SENDERS // PARTS
        traffic = Traffic([(sender, self._owner) for sender in self._senders])
        self._times: list[tuple[str, str]] = []
        for _ in range(PARTS):
            start = await next_second()
            await traffic.saturate(self._per_part, WINDOW)
            await traffic.check()
            self._times.append((start, await next_second()))
        await logout(self._senders)
        found = [numbers(each) for each in await all_messages(self._owner)]
        self._order = [each for each in found if each is not None]
        total = self._per_part * PARTS
        require(len(self._order) == len(found) == total * SENDERS, f"{len(found)} messages in the archive")
        for sender in range(SENDERS):
            own = [number for stream, number in self._order if stream == sender]
            require(own == list(range(total)), f"the messages of {sender} are not in order")
        self._back()

    def _back(self) -> None:
        """Paging starts from the end."""
        self._position, self._before = len(self._order), ""

    async def _last_page(self, number: int) -> None:
        found = await page(self._owner)
        require([numbers(each) for each in found.messages] == self._order[-PAGE:], "not the last page")

    async def _page_back(self, number: int) -> None:
        if self._position <= 0:
            self._back()
        found = await page(self._owner, self._before)
        start = max(0, self._position - PAGE)
        wanted = self._order[start : self._position]
        require([numbers(each) for each in found.messages] == wanted, f"not the page before {self._position}")
        self._position, self._before = start, found.first

    async def _filtered(self, number: int) -> None:
        sender, part = number % SENDERS, number % PARTS
        start, end = self._times[part]
        form = {"with": self._senders[sender].bare, "start": start, "end": end}
        found = await page(self._owner, "", form)
        after = (part + 1) * self._per_part
        wanted = [(sender, number) for number in range(max(part * self._per_part, after - PAGE), after)]
        require([numbers(each) for each in found.messages] == wanted, f"not the last page of part {part} with {sender}")

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        asked: dict[str, Callable[[int], Awaitable[None]]] = {
            "last": self._last_page, "back": self._page_back, "filter": self._filtered,
        }  # fmt: skip
        figures: dict[str, float] = {}
        count = self.size(200, 40)
        self._back()
        for kind, ask in asked.items():
            latencies: list[float] = []
            async with stage.processes.measured() as cost:
                for number in range(count):
                    start = time.perf_counter()
                    await ask(number)
                    latencies.append(time.perf_counter() - start)
            figures[kind] = cost.cpu / count * 1e3
            figures.update({f"{kind}_{name}": value for name, value in percentiles(latencies).items()})
        return figures

    async def finish(self, stage: Stage) -> None:
        """Log out."""
        await logout([self._owner])


async def next_second() -> str:
    """Wait until a second begins; its time. Prosody's archive knows whole seconds only, of a clock of the kernel that
    is behind by the time between two ticks."""
    moment = math.floor(time.time()) + 1
    await asyncio.sleep(moment + TICKS - time.time())
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
