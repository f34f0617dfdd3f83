"""Messages to users of another server, and from there."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.client import Client, login, logout
from benchmarks.measure import Processes, percentiles
from benchmarks.scenarios.base import MICROSECONDS, MILLISECONDS, Figure, Scenario, Stage, names
from benchmarks.servers import DOMAIN, FAR, Needs, Xmppd
from benchmarks.traffic import Traffic
from tests.conversations.names import NameServer

PAIRS = 20
WINDOW = 10
RATE = 200  # messages a second in either direction, for the latency


class Federation(Scenario):
    """The other server is an xmppd for each of those that are measured. The two find each other by DNS, and know each
    other by dialback, as the certificates are nobody's."""

    name = "federation"
    figures = (
        Figure("sent", "CPU per message sent", MICROSECONDS),
        Figure("received", "CPU per message received", MICROSECONDS),
        Figure("p50", f"message sent, {RATE}/s, p50", MILLISECONDS),
        Figure("p99", f"message sent, {RATE}/s, p99", MILLISECONDS),
        Figure("back_p50", f"message received, {RATE}/s, p50", MILLISECONDS),
        Figure("back_p99", f"message received, {RATE}/s, p99", MILLISECONDS),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self._names = NameServer()
        self._far: Xmppd | None = None
        self._folder = TemporaryDirectory(prefix="xmppd-far-", ignore_cleanup_errors=True)

    def needs(self) -> Needs:
        """See `Scenario`."""
        return Needs(names_port=self._names.port)

    def users(self) -> list[str]:
        """See `Scenario`."""
        return names(PAIRS)

    async def prepare(self, stage: Stage) -> None:
        """Start the other server, log in on both sides, and write a little in both directions."""
        self._far = Xmppd(Path(self._folder.name) / "far", stage.certificate, self.needs(), hosts=[FAR])
        self._names.add(DOMAIN, stage.server.s2s_port)
        self._names.add(FAR, self._far.s2s_port)
        self._far.start()
        self._far.create(self.users())
        target = self._far.target()
        target.alarm = stage.target.alarm
        near, far = stage.clients(self.users()), [Client(target, user) for user in self.users()]
        await login([*near, *far])
        self._clients = [*near, *far]
        self._out = Traffic(list(zip(near, far, strict=True)))
        self._back = Traffic(list(zip(far, near, strict=True)))
        for traffic in (self._out, self._back):
            await traffic.saturate(WINDOW, WINDOW)
            await traffic.check()

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        sent = await self._saturate(stage.processes, self._out)
        received = await self._saturate(stage.processes, self._back)
        out = await self._pace(self._out)
        back = await self._pace(self._back)
        figures = {"sent": sent * 1e6, "received": received * 1e6, **out}
        return {**figures, **{f"back_{name}": value for name, value in back.items()}}

    async def _saturate(self, processes: Processes, traffic: Traffic) -> float:
        async with processes.measured() as cost:
            count = await traffic.saturate(self.size(200, 50), WINDOW)
        await traffic.check()
        return cost.cpu / count

    async def _pace(self, traffic: Traffic) -> dict[str, float]:
        await traffic.pace(RATE, self.size(10, 3))
        await traffic.check()
        return percentiles(traffic.latencies)

    async def finish(self, stage: Stage) -> None:
        """Log out."""
        await logout(self._clients)

    def close(self) -> None:
        """See `Scenario`."""
        if self._far is not None:
            self._far.stop()
        self._names.close()
        self._folder.cleanup()
