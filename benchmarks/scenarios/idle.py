"""Sessions in which nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.client import Client, login, logout
from benchmarks.measure import Processes, until
from benchmarks.scenarios.base import KIB, MICROSECONDS, Figure, Scenario, Stage, names

LITTLE = 0.002  # seconds of processor time between two looks
WARM_UP = 10  # sessions that come and go before, so that what is loaded for the first one counts for none


class Idle(Scenario):
    """Many log in and stay. What the second half of them takes is free of what was reserved before."""

    name = "idle"
    new_server = True
    figures = (
        Figure("memory", "memory per session (private)", KIB),
        Figure("pss", "memory per session (PSS)", KIB),
        Figure("cpu", "CPU per session and second", MICROSECONDS),
    )

    def users(self) -> list[str]:
        """See `Scenario`."""
        return names(self.size(1000, 300))

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        warm = stage.clients(self.users()[:WARM_UP])
        await login(warm)
        await logout(warm)
        clients = stage.clients(self.users())
        half = len(clients) // 2
        await login(clients[:half])
        before = (await calm(stage.processes)).memory()
        await login(clients[half:])
        after = (await calm(stage.processes)).memory()
        cpu = await idle_cpu(stage.processes, self.size(10, 4))
        await _are_there(clients)
        await logout(clients)
        return {
            "memory": (after.private - before.private) / (len(clients) - half) / 1024,
            "pss": (after.pss - before.pss) / (len(clients) - half) / 1024,
            "cpu": cpu / len(clients) * 1e6,
        }


async def calm(processes: Processes) -> Processes:
    """Wait until a server has done what logins leave it to do: it uses less than a tenth of a processor."""
    last = processes.cpu()

    def is_calm() -> bool:
        nonlocal last
        before, last = last, processes.cpu()
        return last - before < LITTLE

    await asyncio.sleep(1)
    await until(is_calm, "the server's rest")
    return processes


async def idle_cpu(processes: Processes, seconds: float) -> float:
    """Processor time of each second, while nobody asks for anything."""
    async with processes.measured() as cost:
        await asyncio.sleep(seconds)
    return cost.cpu / seconds


async def _are_there(clients: Sequence[Client]) -> None:
    """None was lost while it did nothing."""
    for client in clients:
        await client.all_acknowledged()
