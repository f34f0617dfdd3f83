"""Messages to people who are not there, until they come."""

from __future__ import annotations

from benchmarks.client import ASK, Client, login, logout
from benchmarks.connection import Failed
from benchmarks.scenarios.base import MICROSECONDS, Figure, Scenario, Stage, names, require
from benchmarks.traffic import ACK_EVERY, Count, message, numbers

SENDER = "sender"


class Offline(Scenario):
    """Each gets some hundred messages while away, and logs in then. The login is part of the delivery."""

    name = "offline"
    figures = (
        Figure("store", "CPU per message, stored", MICROSECONDS),
        Figure("deliver", "CPU per message, delivered at login", MICROSECONDS),
        Figure("time", "login until the last message", "ms"),
    )

    def users(self) -> list[str]:
        """See `Scenario`."""
        return [SENDER, *names(self.size(5, 3))]

    async def prepare(self, stage: Stage) -> None:
        """All have been there before; once without counting."""
        self._sent = 0
        clients = stage.clients(self.users())
        await login(clients)
        await logout(clients[1:])
        self._sender = clients[0]
        self._sender.on_message = _refused
        await self.once(stage)

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        each = self.size(200, 100)
        first, self._sent = self._sent, self._sent + each
        clients = stage.clients(self.users()[1:])
        async with stage.processes.measured() as stored:
            for stream, client in enumerate(clients):
                for number in range(first, self._sent):
                    data = message(client.bare, stream, number)
                    self._sender.send(data + ASK if number % ACK_EVERY == 0 else data)
                await self._sender.all_acknowledged()
        arrived = Count(stage.target.alarm, "offline messages")
        got: list[list[int]] = [[] for _ in clients]
        for stream, client in enumerate(clients):
            self._listen(client, stream, got[stream], arrived)
        async with stage.processes.measured() as delivered:
            for client in clients:
                before = arrived.value
                await client.login()
                await arrived.reach(before + each)
        total = each * len(clients)
        arrived.check(total)
        for client, found in zip(clients, got, strict=True):
            require(found == list(range(first, self._sent)), f"{client.user} has {len(found)} messages, or in disorder")
            await client.all_acknowledged()
        await logout(clients)
        return {
            "store": stored.cpu / total * 1e6,
            "deliver": delivered.cpu / total * 1e6,
            "time": delivered.wall / len(clients) * 1e3,
        }

    def _listen(self, client: Client, stream: int, got: list[int], arrived: Count) -> None:
        def hear(stanza: bytes) -> None:
            found = numbers(stanza)
            if found is None or found[0] != stream:
                raise Failed(f"not a message to it: {stanza.decode()}")
            got.append(found[1])
            arrived.one()

        client.on_message = hear

    async def finish(self, stage: Stage) -> None:
        """Log out."""
        await logout([self._sender])


def _refused(stanza: bytes) -> None:
    raise Failed(f"the sender got {stanza.decode()}")
