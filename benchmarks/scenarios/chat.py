"""Messages between two, in one direction, which the archives of both keep."""

from __future__ import annotations

from benchmarks.client import login, logout
from benchmarks.mam import all_messages
from benchmarks.measure import percentiles
from benchmarks.scenarios.base import MICROSECONDS, MILLISECONDS, Figure, Scenario, Stage, names, require
from benchmarks.traffic import Traffic, numbers

PAIRS = 50
WINDOW = 20  # messages under way between two, when the server has as much to do as it can
RATE = 500  # messages a second of all pairs, when it has less


class Chat(Scenario):
    """First as fast as it goes, which shows what a message costs; then so many a second, which shows how long it is
    under way."""

    name = "chat"
    figures = (
        Figure("cpu", "CPU per message, saturated", MICROSECONDS),
        Figure("paced", f"CPU per message, {RATE}/s", MICROSECONDS),
        Figure("p50", f"message, {RATE}/s, p50", MILLISECONDS),
        Figure("p99", f"message, {RATE}/s, p99", MILLISECONDS),
    )

    def users(self) -> list[str]:
        """See `Scenario`."""
        return names(2 * PAIRS)

    async def prepare(self, stage: Stage) -> None:
        """Log in, and warm up."""
        self._clients = stage.clients(self.users())
        await login(self._clients)
        self._traffic = Traffic(list(zip(self._clients[::2], self._clients[1::2], strict=True)))
        await self._traffic.saturate(WINDOW, WINDOW)

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        traffic = self._traffic
        async with stage.processes.measured() as saturated:
            count = await traffic.saturate(self.size(200, 50), WINDOW)
        await traffic.check()
        async with stage.processes.measured() as paced:
            calm = await traffic.pace(RATE, self.size(10, 3))
        await traffic.check()
        figures = {"cpu": saturated.cpu / count * 1e6, "paced": paced.cpu / calm * 1e6}
        return {**figures, **percentiles(traffic.latencies)}

    async def finish(self, stage: Stage) -> None:
        """Both archives of the first and the last pair have each message once, in order."""
        for pair in (0, PAIRS - 1):
            for client in self._clients[2 * pair : 2 * pair + 2]:
                kept = [numbers(each) for each in await all_messages(client)]
                wanted = [(pair, number) for number in range(self._traffic.sent[pair])]
                lost = sorted(set(wanted) - {each for each in kept if each})
                what = f"{client.user} has {len(kept)} of {len(wanted)} messages in its archive, or in disorder"
                require(kept == wanted, f"{what}; it lacks {lost[:10]}")
        await logout(self._clients)
