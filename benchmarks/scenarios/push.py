"""Messages of which an app server is told, as the client that they are for is not there (XEP-0357)."""

from __future__ import annotations

import functools

from benchmarks.appserver import AppServer
from benchmarks.client import AT_A_TIME, Client, at_a_time, login, logout
from benchmarks.measure import until
from benchmarks.scenarios.base import MICROSECONDS, Figure, Scenario, Stage, names, require
from benchmarks.scenarios.resume import too_early
from benchmarks.servers import PUSH, SECRET, Needs
from benchmarks.traffic import Count, message

SENDER = "sender"


class Push(Scenario):
    """One message to each, so that each causes one push: servers differ in how many messages they put into one."""

    name = "push"
    figures = (
        Figure("offline", "CPU per message with a push, no session", MICROSECONDS),
        Figure("hibernated", "CPU per message with a push, hibernated", MICROSECONDS),
    )

    def needs(self) -> Needs:
        """See `Scenario`."""
        return Needs(push=True)

    def users(self) -> list[str]:
        """See `Scenario`."""
        return [SENDER, *names(self.size(300, 80))]

    async def prepare(self, stage: Stage) -> None:
        """Connect the app server; once without counting."""
        self._sent = 0
        self._app = AppServer(stage.target, PUSH, SECRET)
        await self._app.connect(stage.server.component_port)
        (self._sender,) = stage.clients([SENDER])
        await login([self._sender])
        clients = await self._arrive(stage)
        await self._enable(clients)
        await logout(clients)
        await self.once(stage)

    async def _arrive(self, stage: Stage, messages: int = 0) -> list[Client]:
        """All log in, and get what was kept for them."""
        arrived = Count(stage.target.alarm, "messages kept for those who come")
        clients = stage.clients(self.users()[1:])
        for client in clients:
            client.on_message = lambda stanza: arrived.one()
        await login(clients)
        await arrived.reach(messages * len(clients))
        return clients

    async def _enable(self, clients: list[Client]) -> None:
        for client in clients:
            await client.request(f"<enable xmlns='urn:xmpp:push:0' jid='{PUSH}' node='{client.user}'/>", "set")

    async def _told(self, stage: Stage, clients: list[Client]) -> float:
        """A message to each, and a push for each; seconds of each message."""
        before = self._app.count.value
        self._app.pushed.clear()
        async with stage.processes.measured() as cost:
            for stream, client in enumerate(clients):
                self._sender.send(message(client.bare, stream, self._sent))
            await self._sender.all_acknowledged()
            await self._app.count.reach(before + len(clients))
        self._sent += 1
        wrong = {node: count for node, count in self._app.pushed.items() if count != 1}
        require(not wrong and len(self._app.pushed) == len(clients), f"pushes: {list(wrong.items())[:3]}")
        return cost.cpu / len(clients)

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        offline = await self._told(stage, stage.clients(self.users()[1:]))
        without = stage.processes.sockets()
        old = await self._arrive(stage, messages=1)
        await self._enable(old)
        for client in old:
            await client.all_acknowledged()
            client.on_message = too_early
            client.reset()
        await until(lambda: stage.processes.sockets() <= without, "that the server notices broken connections")
        hibernated = await self._told(stage, old)
        await self._return(stage, old)
        return {"offline": offline * 1e6, "hibernated": hibernated * 1e6}

    async def _return(self, stage: Stage, old: list[Client]) -> None:
        arrived = Count(stage.target.alarm, "messages after resumption")
        new = stage.clients([client.user for client in old])
        for client in new:
            client.on_message = lambda stanza: arrived.one()
        await at_a_time(AT_A_TIME, [functools.partial(a.resume, b) for a, b in zip(new, old, strict=True)])
        await arrived.reach(len(new))
        for client in new:
            await client.all_acknowledged()
        arrived.check(len(new))
        await logout(new)

    async def finish(self, stage: Stage) -> None:
        """Log out."""
        self._app.close()
        await logout([self._sender])
