"""Presence among people who all know each other."""

from __future__ import annotations

from collections import Counter

from benchmarks.client import Client, login, logout
from benchmarks.connection import Failed, attribute
from benchmarks.scenarios.base import MICROSECONDS, Figure, Scenario, Stage, names, require
from benchmarks.traffic import Count

LEFT, THERE = b"unavailable", b""


class Presence(Scenario):
    """Each leaves and returns, one after the other: all others hear of both, and who returns hears of all others. So
    there are three deliveries for each contact."""

    name = "presence"
    figures = (
        Figure("cpu", "CPU per delivery, presence alone", MICROSECONDS),
        Figure("login", "CPU per delivery, with a login", MICROSECONDS),
    )

    def users(self) -> list[str]:
        """See `Scenario`."""
        return names(self.size(60, 20))

    async def prepare(self, stage: Stage) -> None:
        """Everybody subscribes to everybody, by stanzas as people do it."""
        clients = stage.clients(self.users())
        await login(clients)
        await self._subscribe(clients)
        await logout(clients)
        self._clients = {client.bare.encode(): client for client in stage.clients(self.users())}
        await login(list(self._clients.values()))
        for client in self._clients.values():
            both = client.roster.count(b"'both'") + client.roster.count(b'"both"')
            require(both == len(self._clients) - 1, f"{client.user} has {both} contacts")
            await client.all_acknowledged()
        await self._round(stage, again=False)

    async def _subscribe(self, clients: list[Client]) -> None:
        place = {client.bare.encode(): number for number, client in enumerate(clients)}
        granted = Count(clients[0].target.alarm, "subscriptions")
        known: set[tuple[int, int]] = set()

        def hear(own: int, stanza: bytes) -> None:
            bare = attribute(stanza, "from").partition(b"/")[0]
            kind = attribute(stanza, "type")
            if kind == b"subscribe":
                clients[own].send(b"<presence to='%b' type='subscribed'/>" % bare)
                if own > place[bare]:
                    clients[own].send(b"<presence to='%b' type='subscribe'/>" % bare)
            elif kind == b"subscribed" and (own, place[bare]) not in known:
                known.add((own, place[bare]))
                granted.one()

        for own, client in enumerate(clients):
            client.on_presence = lambda stanza, own=own: hear(own, stanza)
        # One asks after the other: it is not what is measured, and all at once is more than some can take.
        for own, client in enumerate(clients):
            for other in clients[own + 1 :]:
                client.send(f"<presence to='{other.bare}' type='subscribe'/>".encode())
            await granted.reach(granted.value + 2 * (len(clients) - own - 1))

    async def _round(self, stage: Stage, again: bool) -> float:
        """All leave and return in turn, by new logins or on the streams that they have; seconds of each delivery."""
        others = len(self._clients) - 1
        heard: Counter[tuple[bytes, bytes, bytes]] = Counter()
        count = Count(stage.target.alarm, "presence deliveries")

        def listen(own: bytes, client: Client) -> None:
            def hear(stanza: bytes) -> None:
                bare, kind = attribute(stanza, "from").partition(b"/")[0], attribute(stanza, "type")
                if bare == own:
                    return  # its own sessions; some servers tell, others do not
                if kind not in (LEFT, THERE):
                    raise Failed(stanza.decode())
                heard[own, bare, kind] += 1
                count.one()

            client.on_presence = hear

        for bare, client in self._clients.items():
            listen(bare, client)
        async with stage.processes.measured() as cost:
            for turn, (bare, client) in enumerate(list(self._clients.items())):
                if again:
                    await client.logout()
                else:
                    client.send(b"<presence type='unavailable'/>")
                await count.reach((3 * turn + 1) * others)
                if again:
                    (client,) = stage.clients([client.user])
                    self._clients[bare] = client
                    listen(bare, client)
                    await client.login()
                else:
                    client.send(b"<presence/>")
                await count.reach((3 * turn + 3) * others)
        count.check(3 * others * len(self._clients))
        # Of each who leaves once and returns once: its return, and that it was there when the other returned.
        wrong = [each for each, times in heard.items() if times != (1 if each[2] == LEFT else 2)]
        require(not wrong, f"heard too often or too rarely: {wrong[:3]}")
        return cost.cpu / count.value

    async def once(self, stage: Stage) -> dict[str, float]:
        """See `Scenario`."""
        again = await self._round(stage, again=True)
        return {"cpu": await self._round(stage, again=False) * 1e6, "login": again * 1e6}

    async def finish(self, stage: Stage) -> None:
        """Leave for good."""
        await logout(list(self._clients.values()))
