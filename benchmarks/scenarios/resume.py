"""Connections break, messages come, sessions are resumed (XEP-0198)."""

from __future__ import annotations

import functools
import time

from benchmarks.client import AT_A_TIME, Client, at_a_time, login, logout
from benchmarks.connection import Failed
from benchmarks.measure import percentiles, until
from benchmarks.scenarios.base import MICROSECONDS, MILLISECONDS, Figure, Scenario, Stage, names, require
from benchmarks.traffic import Count, message, numbers

SENDER = "sender"
EACH = 5  # messages to each while it is away


class Resume(Scenario):
    """All are cut off by TCP reset, get messages, and return, many at a time."""

    name = "resume"
    figures = (
        Figure("cpu", "CPU per resumption", MILLISECONDS),
        Figure("p50", "resumption, p50", MILLISECONDS),
        Figure("p99", "resumption, p99", MILLISECONDS),
        Figure("kept", "CPU per message to a hibernated session", MICROSECONDS),
    )

    def users(self) -> list[str]:
        """See `Scenario`."""
        return [SENDER, *names(self.size(300, 80))]

    async def prepare(self, stage: Stage) -> None:
        """Once without counting."""
        await self.once(stage)

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        sender, *old = stage.clients(self.users())
        await login([sender])
        without = stage.processes.sockets()
        await login(old)
        for client in old:
            client.on_message = too_early
            client.reset()
        await until(lambda: stage.processes.sockets() <= without, "that the server notices broken connections")
        kept = await self._send(stage, sender, old)
        new = stage.clients([client.user for client in old])
        arrived = Count(stage.target.alarm, "messages after resumption")
        for number, client in enumerate(new):
            client.on_message = _In(number, arrived)
        latencies: list[float] = []
        async with stage.processes.measured() as cost:
            await at_a_time(
                AT_A_TIME,
                [functools.partial(_resume, *both, latencies) for both in zip(new, old, strict=True)],
            )
            await arrived.reach(EACH * len(new))
        for client in new:
            await client.request("<query xmlns='jabber:iq:roster'/>")  # it is a session as before
            await client.all_acknowledged()
        arrived.check(EACH * len(new))
        await logout([sender, *new])
        return {"cpu": cost.cpu / len(new) * 1e3, **percentiles(latencies), "kept": kept * 1e6}

    async def _send(self, stage: Stage, sender: Client, receivers: list[Client]) -> float:
        """Messages to all; seconds of each."""
        async with stage.processes.measured() as cost:
            for number in range(EACH):
                for stream, receiver in enumerate(receivers):
                    sender.send(message(receiver.bare, stream, number))
                await sender.all_acknowledged()
        return cost.cpu / (EACH * len(receivers))


async def _resume(new: Client, old: Client, latencies: list[float]) -> None:
    start = time.perf_counter()
    await new.resume(old)
    latencies.append(time.perf_counter() - start)


def too_early(stanza: bytes) -> None:
    """Nothing may arrive before the cut."""
    raise Failed(f"arrived on the old connection: {stanza.decode()}")


class _In:
    """Takes the messages of one stream in their order."""

    def __init__(self, stream: int, arrived: Count) -> None:
        self._stream = stream
        self._next = 0
        self._arrived = arrived

    def __call__(self, stanza: bytes) -> None:
        require(numbers(stanza) == (self._stream, self._next), f"not message {self._next}: {stanza.decode()}")
        self._next += 1
        self._arrived.one()
