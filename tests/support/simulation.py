"""A server and its clients on a disk of which anything can be expected, and schedules of what happens to them."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from twisted.internet.task import Clock

from tests.support.clients import DOMAIN, Client, Ledger
from tests.support.faulty import Died, Disk
from tests.support.world import STARTED, World

CONFIG = "c2s_rate = 100M\nlimit_auth_max = 1000000\n"
PEOPLE = "abcde"


@cache
def disk_with_people() -> Disk:
    """A disk with accounts for `PEOPLE`; the first three are each other's contacts."""
    disk = Disk()
    clock = _clock(STARTED)
    world = World(CONFIG, clock=clock, store=disk.store(clock))
    players = [world.online(f"{local}@{DOMAIN}/x") for local in PEOPLE]
    for number, one in enumerate(players[:3]):
        for other in players[number + 1 : 3]:
            world.befriend(one, other)
    for player in players:
        player.disconnects()
    world.advance(1)
    disk.save()
    return disk


def _clock(seconds: float) -> Clock:
    clock = Clock()
    clock.advance(seconds)
    return clock


@contextmanager
def drawn_from(seed: int) -> Iterator[random.Random]:
    """A source of chance for a schedule; what the server draws meanwhile is the same each time as well."""
    chance = random.Random(seed)
    server = random.Random(seed)

    def text(size: int | None = None) -> str:
        return server.randbytes(size or 32).hex()

    def data(size: int | None = None) -> bytes:
        return server.randbytes(size or 32)

    steady: dict[str, Any] = {
        "token_urlsafe": text, "token_hex": text, "token_bytes": data, "randbits": server.getrandbits,
    }  # fmt: skip
    before = {name: getattr(secrets, name) for name in steady}
    for name, function in steady.items():
        setattr(secrets, name, function)
    try:
        yield chance
    finally:
        for name, function in before.items():
            setattr(secrets, name, function)


class Scene:
    """Everybody, the server, and its disk."""

    def __init__(self) -> None:
        self.disk = disk_with_people()
        self.disk.begin()
        self.ledger = Ledger()
        self.ledger.failing = lambda: self.disk.failed > 0
        self.a = self._client("a/orchard")
        self.b = self._client("b/balcony", carbons=True)
        self.b2 = self._client("b/chamber")
        self.c = self._client("c/hall")
        self.d = self._client("d/street", managed=False)
        self.e = self._client("e/late")  # not there before the end
        self.clients = [self.a, self.b, self.b2, self.c, self.d]
        self.ledger.shared.add(self.b.bare)
        self.managed = [client for client in self.clients if client.managed]
        self.played = 0  # commits, when `check` began
        self._past: list[World] = []  # kept, for what is left of them to end with the scene and not in its midst
        self.world = self._process(_clock(STARTED + 1000))

    def _client(self, name: str, *, managed: bool = True, carbons: bool = False) -> Client:
        local, _, resource = name.partition("/")
        return Client(self.ledger, f"{local}@{DOMAIN}/{resource}", managed=managed, carbons=carbons)

    def _process(self, clock: Clock) -> World:
        world = World(CONFIG, clock=clock, store=self.disk.store(clock))
        world.starts()
        return world

    # ---- the process

    def dies(self, chance: Callable[[Client], int | None] = lambda client: None) -> None:
        """The process is no more; of what it has sent each client reads as many elements as `chance` says, or all.
        Another takes its place, on a disk that works."""
        self.ledger.died += 1
        for client in self.clients:
            client.orphaned(chance(client))
        self._again()

    def stops(self) -> None:
        """The process ends in order, and another takes its place, on a disk that works."""
        self.disk.slow = False
        while self.disk.busy:
            self.disk.work()
        self.world.service.shut_down()
        for client in self.clients:
            client.cut()
        self.world.stops()
        self._again()

    def _again(self) -> None:
        self._past.append(self.world)
        self.disk.heal()
        self.world = self._process(_clock(self.world.clock.seconds() + 1))

    # ---- time

    def settle(self) -> None:
        """Let everything happen that waits for nothing but its turn, until nobody has anything to react to."""
        self.world.settle()
        while sum(client.reads() for client in (*self.clients, self.e)):
            self.world.settle()

    def wait(self, seconds: float) -> None:
        """Move the clock, a second at a time, with everybody reading."""
        while seconds > 0:
            self.world.advance(min(1.0, seconds))
            self.settle()
            seconds -= 1

    def arrive(self, *clients: Client) -> None:
        """Have clients back or there, who are not."""
        for client in clients:
            if client.player is None:
                client.connects(self.world)
                self.settle()

    # ---- the end

    def calm_down(self) -> None:
        """The disk works, everybody is there, and everything that waits for time or the disk has happened."""
        self.disk.heal()
        while self.disk.busy:
            self.disk.work()
        for client in self.clients:
            client.silent = False
            if client.mute:
                client.cut()
        self.settle()
        self.wait(6)
        for client in self.clients:
            assert not client.up or not client.requested, f"{client.full} waits for an answer"
        for _ in range(5):
            self.arrive(*self.clients)
            self.wait(3)
            if all(client.up for client in self.clients):
                break
        for client in self.clients:
            assert client.up, f"{client.full} cannot log in"
            client.requests()
        self.settle()
        self.wait(6)
        for client in self.managed:
            assert not client.owed, f"{client.full}: {client.owed} are not acknowledged"

    def check(self) -> None:
        """Everybody is there and sees it, and every message is where it belongs."""
        self.calm_down()
        for client in self.clients:  # its presence may have been refused, or its messages could not be had
            client.hides()
            client.tells()
            self.settle()
        self.arrive(self.e)
        self.wait(3)
        self.ledger.check()
        for client in (self.a, self.b, self.b2, self.c):
            client.tells()
        self.settle()
        self._sees_all(self.a, self.b, self.b2, self.c)
        self._sees_all(self.c, self.a, self.b, self.b2)
        self._has_copies()
        for session in self.world.server.sessions:
            assert session.backlog == 0
        assert not self.world.server.tasks.busy

    def _sees_all(self, client: Client, *others: Client) -> None:
        for other in others:
            client.seen.pop(other.full, None)
            client.probes(other.bare)
        self.settle()
        for other in others:
            seen = client.seen.get(other.full)
            assert seen == str(other.presence), f"{client.full} sees {seen} of {other.full}, not {other.presence}"

    def _has_copies(self) -> None:
        message = self.a.says(self.b2.full)
        assert message is not None
        self.settle()
        assert message.copied == [self.b.full], f"copies go to {message.copied}"
        self.wait(2)


class Schedule:
    """What happens to a scene, drawn from a seed. `steps` says it in words."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self.scene = scene
        self.chance = chance
        self.steps = scene.ledger.notes
        self._ways: list[tuple[int, Callable[[], str | None]]] = [
            (30, self._says), (6, self._tells), (8, self._requests), (5, self._acknowledges), (9, self._cut),
            (14, self._connects), (3, self._mute), (3, self._silent), (1, self._leaves), (1, self._forgets),
            (10, self._waits), (6, self._slow), (12, self._works), (3, self._full), (3, self._dies), (2, self._stops),
            (1, self._long),
        ]  # fmt: skip

    def go(self, steps: int) -> None:
        """Take so many steps, and look at what has become of it all."""
        for client in self.scene.clients:
            client.connects(self.scene.world)
        self.scene.settle()
        weights, ways = zip(*self._ways, strict=True)
        while steps:
            did = self.chance.choices(ways, weights)[0]()
            if did is None:
                continue
            steps -= 1
            self.steps.append(f"* {did}")
            if self.chance.random() < 0.8:
                self.scene.world.settle()
            for client in self.scene.clients:
                if self.chance.random() < 0.6:
                    client.reads()
        self.steps.append("* check")
        self.scene.check()

    def _anybody(self) -> Client:
        return self.chance.choice(self.scene.clients)

    def _says(self) -> str | None:
        client = self._anybody()
        others = [other for other in self.scene.clients if other.bare != client.bare]
        told = []
        for _ in range(self.chance.choice((1, 1, 1, 2, 5))):
            other = self.chance.choice(others)
            to = self.chance.choice((other.full, other.bare, f"e@{DOMAIN}"))
            message = client.says(to)
            if message is not None:
                told.append(f"{message.id} to {to.replace(f'@{DOMAIN}', '')}")
        return f"{_short(client)} says {', '.join(told)}" if told else None

    def _tells(self) -> str | None:
        client = self._anybody()
        if not client.up:
            return None
        client.tells()
        return f"{_short(client)} presence {client.presence}"

    def _requests(self) -> str | None:
        client = self._anybody()
        if not client.up or not client.managed:
            return None
        client.requests()
        return f"{_short(client)} requests"

    def _acknowledges(self) -> str | None:
        client = self._anybody()
        if not client.up or not client.managed:
            return None
        client.acknowledges()
        return f"{_short(client)} acknowledges"

    def _some(self, client: Client) -> int | None:
        """How much a client still reads; one without stream management everything."""
        return self.chance.choice((None, None, 0, 1, 2, 3)) if client.managed else None

    def _cut(self) -> str | None:
        client = self._anybody()
        if client.player is None:
            return None
        some = self._some(client)
        client.cut(some)
        return f"{_short(client)} is cut" + (f" after {some}" if some is not None else "")

    def _connects(self) -> str | None:
        client = self._anybody()
        if client.player is not None:
            return None
        client.connects(self.scene.world)
        return f"{_short(client)} connects"

    def _mute(self) -> str | None:
        client = self._anybody()
        if not client.up or not client.managed or client.mute:
            return None
        client.mute = True
        return f"{_short(client)} is mute"

    def _silent(self) -> str | None:
        client = self.chance.choice(self.scene.managed)
        client.silent = not client.silent
        return f"{_short(client)} silent={client.silent}"

    def _leaves(self) -> str | None:
        client = self._anybody()
        if not client.up:
            return None
        client.leaves()
        return f"{_short(client)} leaves"

    def _forgets(self) -> str | None:
        client = self.chance.choice(self.scene.managed)
        if client.player is not None or not client.previd:
            return None
        client.forgets()
        return f"{_short(client)} forgets"

    def _waits(self) -> str | None:
        seconds = self.chance.choice((0.1, 0.5, 1.0, 1.0, 2.0, 5.0))
        self.scene.world.advance(seconds)
        return f"{seconds}s"

    def _slow(self) -> str | None:
        self.scene.disk.slow = not self.scene.disk.slow
        return f"slow={self.scene.disk.slow}"

    def _works(self) -> str | None:
        if not self.scene.disk.busy:
            return None
        self.scene.disk.work()
        return "disk works"

    def _full(self) -> str | None:
        disk = self.scene.disk
        if disk.full:
            disk.full = False
            return "room again"
        if self.chance.random() < 0.5:
            disk.fails = {disk.commits + self.chance.randint(1, 3)}
            return f"commit {min(disk.fails)} fails"
        disk.full = True
        return "full"

    def _dies(self) -> str | None:
        kept = self.scene.disk.busy and self.chance.random() < 0.5
        if kept:
            self.scene.disk.work(told=False)
        if not kept and not self.scene.disk.slow and self.chance.random() < 0.5:
            self.scene.disk.dies_before = self.scene.disk.commits + 1
            with suppress(Died):
                self.scene.world.settle()
        self.scene.dies(self._some)
        return "dies" + (", what was under way is on disk" if kept else "")

    def _stops(self) -> str | None:
        self.scene.stops()
        return "stops in order"

    def _long(self) -> str | None:
        scene = self.scene
        self.steps.append("* a long time")
        for _ in range(7):
            for message in scene.ledger.messages.values():
                message.moved = True
            scene.disk.slow = False
            while scene.disk.busy:
                scene.disk.work()
            scene.world.advance(100)
            for client in scene.clients:
                client.reads()
            scene.world.settle()
        return "700s"


def _short(client: Client) -> str:
    return client.full.replace(f"@{DOMAIN}", "")


def simulate(seed: int, steps: int = 150) -> Scene:
    """Run the schedule of a seed; an `AssertionError` tells it."""
    with drawn_from(seed) as chance:
        scene = Scene()
        schedule = Schedule(scene, chance)
        try:
            schedule.go(steps)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(schedule.steps)) from error
        return scene
