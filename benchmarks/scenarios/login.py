"""Logins, until everything is there that a client wants: roster, carbons, stream management and presence.

Once as clients of old do it, one step after the other; and once by a token that an earlier login has brought, with all
that can be asked for together (SASL2, Bind 2, FAST).
"""

from __future__ import annotations

import functools
import time

from benchmarks.client import AT_A_TIME, Client, at_a_time, login, logout
from benchmarks.measure import percentiles
from benchmarks.scenarios.base import MILLISECONDS, Figure, Scenario, Stage, names, require
from benchmarks.servers import Needs


class Login(Scenario):
    """TCP, STARTTLS, SCRAM-SHA-1, resource, stream management, roster, carbons, presence; many at a time."""

    name = "login"
    figures = (
        Figure("cpu", "CPU per login", MILLISECONDS),
        Figure("p50", "login, p50", MILLISECONDS),
        Figure("p99", "login, p99", MILLISECONDS),
    )
    def users(self) -> list[str]:
        """See `Scenario`."""
        return names(self.size(500, 100))

    async def prepare(self, stage: Stage) -> None:
        """Each account once, so that the client has what SCRAM makes of the password, and the server is warm."""
        clients = stage.clients(self.users())
        await login(clients)
        await logout(clients)

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        clients = self.fresh(stage)
        latencies: list[float] = []

        async def timed(client: Client) -> None:
            start = time.perf_counter()
            await self.enter(client)
            latencies.append(time.perf_counter() - start)

        async with stage.processes.measured() as cost:
            await at_a_time(AT_A_TIME, [functools.partial(timed, client) for client in clients])
        require(len({client.jid for client in clients}) == len(clients), "two clients have the same address")
        await logout(clients)
        return {"cpu": cost.cpu / len(clients) * 1e3, **percentiles(latencies)}

    def fresh(self, stage: Stage) -> list[Client]:
        """The clients that log in."""
        return stage.clients(self.users())

    async def enter(self, client: Client) -> None:
        """The login itself."""
        await client.login()


class LoginByToken(Login):
    """Direct TLS, and a token with which resource, stream management and carbons are asked for; then as `Login`."""

    name = "token"
    figures = (
        Figure("cpu", "CPU per login by token", MILLISECONDS),
        Figure("p50", "login by token, p50", MILLISECONDS),
        Figure("p99", "login by token, p99", MILLISECONDS),
    )
    def needs(self) -> Needs:
        """See `Scenario`."""
        return Needs(token=True)

    async def prepare(self, stage: Stage) -> None:
        """A token for each account."""
        self._owners = stage.clients(self.users())
        await at_a_time(AT_A_TIME, [client.get_token for client in self._owners])
        await logout(self._owners)
        await self.once(stage)

    def fresh(self, stage: Stage) -> list[Client]:
        """See `Login`; they are who got the tokens."""
        clients = stage.clients(self.users())
        for client, owner in zip(clients, self._owners, strict=True):
            client.token, client.agent = owner.token, owner.agent
        return clients

    async def enter(self, client: Client) -> None:
        """See `Login`."""
        await client.login_by_token()
