"""A backend owns the rosters, and says over HTTP when they have changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from benchmarks.client import Client, login, logout
from benchmarks.connection import PATIENCE, Failed
from benchmarks.measure import percentiles
from benchmarks.scenarios.base import MICROSECONDS, MILLISECONDS, Figure, Scenario, Stage, names, require
from benchmarks.servers import DOMAIN, Needs
from benchmarks.traffic import Count
from tests.support.ports import free_port

NEIGHBOURS = 10  # on either side, who stay contacts
SINGLE = 20  # refreshes of one pair, for the latency


class Backend:
    """Answers ``GET /USER`` with a roster. Connections are kept."""

    def __init__(self, users: Sequence[str]) -> None:
        self._users = list(users)
        self._half = len(users) // 2
        self.friends: set[int] = set()  # who have, for now, whoever sits opposite as a contact
        self.port = free_port()

    async def listen(self) -> None:
        """Begin."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def close(self) -> None:
        """End."""
        self._server.close()

    def opposite(self, number: int) -> int:
        """Who sits opposite."""
        return (number + self._half) % len(self._users)

    def roster(self, number: int) -> dict[str, dict[str, object]]:
        """The roster of a user: neighbours, and perhaps one more."""
        others = {(number + step) % len(self._users) for step in range(-NEIGHBOURS, NEIGHBOURS + 1)} - {number}
        if number in self.friends:
            others.add(self.opposite(number))
        return {f"{self._users[other]}@{DOMAIN}": {"name": self._users[other], "groups": ["All"]} for other in others}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                user = head.split(b" ")[1].removeprefix(b"/").decode()
                body = json.dumps(self.roster(self._users.index(user))).encode()
                length = f"Content-Length: {len(body)}\r\n\r\n"
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{length}".encode() + body)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the server has closed its connection, or all is over
        finally:
            writer.close()


class Rosters(Scenario):
    """Everybody is online. For each two who sit opposite, a contact comes or goes: each roster changes by one, the
    clients are told, and the two see each other or do not any more."""

    name = "rosters"
    figures = (
        Figure("cpu", "CPU per roster refreshed", MICROSECONDS),
        Figure("p50", "backend's word until both know, p50", MILLISECONDS),
        Figure("p99", "backend's word until both know, p99", MILLISECONDS),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self._backend = Backend(self.users())

    def needs(self) -> Needs:
        """See `Scenario`."""
        return Needs(roster_port=self._backend.port)

    def users(self) -> list[str]:
        """See `Scenario`."""
        return names(self.size(400, 100))

    async def prepare(self, stage: Stage) -> None:
        """The backend answers, and all log in; once without counting."""
        await self._backend.listen()
        self._clients = stage.clients(self.users())
        self._pushes = Count(stage.target.alarm, "roster pushes")
        await login(self._clients)
        for number, client in enumerate(self._clients):
            self._listen(number, client)
        await self._change(stage, range(len(self._clients) // 2))

    def _listen(self, number: int, client: Client) -> None:
        opposite = self._clients[self._backend.opposite(number)].bare.encode()

        def pushed(stanza: bytes) -> None:
            there = number in self._backend.friends
            removed = b"'remove'" in stanza or b'"remove"' in stanza
            if opposite not in stanza or removed == there:
                raise Failed(f"not the change of a roster: {stanza.decode()}")
            self._pushes.one()

        client.on_iq = pushed

    async def _change(self, stage: Stage, pairs: Sequence[int]) -> None:
        """Something changes between all who sit opposite each other in so many pairs; and all have been told of it."""
        changed = [number for pair in pairs for number in (pair, self._backend.opposite(pair))]
        self._backend.friends ^= set(changed)
        before = self._pushes.value
        answer = await _post(stage.server.http_port, [self._clients[number].user for number in changed])
        require(answer.get("updated") == len(changed) and not answer.get("errors"), f"the refresh: {answer}")
        await self._pushes.reach(before + len(changed))
        self._pushes.check(before + len(changed))

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`; contacts come, and go again."""
        pairs = range(len(self._clients) // 2)
        async with stage.processes.measured() as cost:
            for _ in range(2):
                await self._change(stage, pairs)
        latencies = []
        for pair in [pair for pair in pairs[:SINGLE] for _ in range(2)]:
            start = time.perf_counter()
            await self._change(stage, [pair])
            latencies.append(time.perf_counter() - start)
        return {"cpu": cost.cpu / (2 * len(self._clients)) * 1e6, **percentiles(latencies)}

    async def finish(self, stage: Stage) -> None:
        """Log out."""
        await logout(self._clients)
        self._backend.close()


async def _post(port: int, users: Sequence[str]) -> dict[str, object]:
    """Tell the server whose rosters have changed; its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(users).encode()
    head = f"POST /roster_admin/refresh HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    require(answer.startswith(b"HTTP/1.1 200"), answer.decode())
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert isinstance(found, dict)
    return found
