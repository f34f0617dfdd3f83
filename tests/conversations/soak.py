"""A long run of everything at once on a server: users with two devices each talk while connections are reset, devices
stop reading, people log out and in again, and the server is stopped and killed.

The first part has restarts, the second has one process for all of it, whose memory, files and threads are compared
before and after. In the end everybody is there, and everything has to be.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.conversations import figures
from tests.conversations.devices import Device
from tests.conversations.figures import Figures
from tests.conversations.ledger import Ledger
from tests.conversations.load import Load
from tests.conversations.process import RunningServer
from xmppd.wire import ns

RESOURCES = ("phone", "desk")
# All clients come from one address, and log in at once after each restart.
OPTIONS = "max_unauthenticated_per_address = 1000\n"

WITH_RESTARTS = 0.45  # of the time until the end begins
WARM_UP = 0.60  # of that time: when the process that is compared has been used enough
DEAF_PAGES = 5  # of the archive that a device asks for when it does not read
PAUSE = 0.8  # seconds in the mean between what a device sends
SECONDS_PER_RESTART = 12.0  # in the mean, and less often in a long run
ENDING = 12.0  # seconds that the end takes, of the whole time
TELL_EVERY = 10.0  # seconds between two lines about how far it is
WRONG = ("#error", "#critical", "Traceback", "Unhandled")  # in the log

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What has happened, and what is wrong with it."""

    seconds: float = 0.0
    happened: dict[str, int] = field(default_factory=dict)
    before: Figures = field(default_factory=Figures)
    after: Figures = field(default_factory=Figures)
    report: str = ""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        happened = ", ".join(f"{count} {what}" for what, count in self.happened.items())
        lines = [self.report, f"in {self.seconds:.0f} s: {happened}", f"before: {self.before}", f"after: {self.after}"]
        return "\n".join(lines)


def prepare(server: RunningServer, names: list[str]) -> None:
    """Give a server that does not run its users, who are all contacts of each other."""
    file = server.folder / "users.xml"
    users = []
    for name in names:
        items = "".join(f"<item jid='{other}@localhost' subscription='both'/>" for other in names if other != name)
        roster = f"<query xmlns='{ns.ROSTER}'>{items}</query>"
        users.append(f"<user name='{name}' password='secret'>{roster}</user>")
    file.write_text(f"<server-data xmlns='{ns.PIE}'><host jid='localhost'>{''.join(users)}</host></server-data>")
    server.xmppctl("import", str(file))


class Soak(Load):
    """The devices, and what happens to them. `minutes` is how long it goes on."""

    def __init__(
        self, server: RunningServer, names: list[str], chance: random.Random, minutes: float, say: Say
    ) -> None:
        super().__init__(server, chance)
        self.ledger = self.tally = Ledger()
        self.names = names
        self.visitors = names[len(names) * 2 // 3 :]  # who come and go; the others stay
        self.outcome = Outcome()
        self.here: dict[str, Device] = {}  # who is logged in, by label
        self._known: dict[str, Device] = {}  # who is, or was
        self._newest: dict[str, str] = {}  # of the archive, as far as a device has read it
        self._chats: dict[Device, asyncio.Task[None]] = {}
        self._began = time.monotonic()
        self._seconds = max(minutes * 60 - ENDING, 1.0)
        self._told = self._began
        self._say = say

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks = [task for task in self._tasks if not task.done() or task.cancelled() or task.exception()]
        return super()._start(work)

    # ---- people

    async def come(self, *names: str) -> None:
        """These users log in with all their devices, one device after the other."""
        for resource in RESOURCES:
            arrived = [Device(self.server, name, resource, self.ledger, self._happened) for name in names]
            for device in arrived:
                self.ledger.enroll(device.label, device.name not in self.visitors)
            await asyncio.gather(*(device.arrive() for device in arrived))
            for device in arrived:
                self._lives[device] = self._start(device.life())
                device.ask()
                self._known[device.label] = self.here[device.label] = device
            self.clients += arrived
            await self.until("all are available", partial(_all_available, arrived))

    def chat(self) -> None:
        """Everybody who is there and says nothing begins to talk."""
        for device in self.here.values():
            if not device.talks:
                device.talks = True
                chance = random.Random(self.chance.random())
                # Also those who are not there, which only their server knows.
                peers = partial(self._others, device.name)
                self._chats[device] = self._start(device.chat(peers, chance, PAUSE))

    def _others(self, name: str) -> list[Device]:
        return [device for device in self._known.values() if device.name != name]

    @property
    def _absent(self) -> list[str]:
        return [name for name in self.visitors if f"{name}/{RESOURCES[0]}" not in self.here]

    async def hush(self, *devices: Device) -> None:
        """These say nothing new, and everything they have said is acknowledged."""
        for device in devices:
            device.talks = False
        chats = [self._chats.pop(device) for device in devices if device in self._chats]
        await self.until("they are quiet", lambda: all(chat.done() for chat in chats))
        await self.until("they are online", lambda: all(device.online for device in devices))
        await self.acknowledged(*devices)

    async def go(self, *names: str) -> None:
        """These users log out, with one device after the other: where the last two go at once, the server cannot know
        that one of them has what the other has not acknowledged, and that is kept for the next."""
        for resource in reversed(RESOURCES):
            leaving = [self.here[f"{name}/{resource}"] for name in names]
            await self.hush(*leaving)
            await self._leave(list(leaving))
            for device in leaving:
                del self.here[device.label]
                self.clients.remove(device)
                del self._lives[device]

    # ---- what happens

    async def resets(self) -> None:
        """Connections of some are reset; they resume at once, or when more has been said."""
        some = self._some(0.4)
        away = [device for device in some if self.chance.random() < 0.5]
        for device in some:
            device.cut(stay_away=device in away)
        await self.more(self.chance.randint(20, 80))
        for device in away:
            device.come_back()
        await self.all_online()

    async def deafness(self) -> None:
        """Some read nothing for a while, also not what they have asked for; then they go on, or are reset."""
        some = self._some(0.3)
        for device in some:
            device.go_deaf()
            for _ in range(DEAF_PAGES):
                self._start(device.glance())
        await self.more(self.chance.randint(20, 80))
        for device in some:
            if self.chance.random() < 0.7:
                device.hear_again()
            else:
                device.cut()
        await self.all_online()

    async def visits(self) -> None:
        """Some who were there go, some who were not come back and read what they have missed."""
        some = {name for name in self.visitors if self.chance.random() < 0.7}
        coming = [name for name in self._absent if name in some]
        leaving = sorted(some - set(coming))
        await asyncio.gather(self.go(*leaving), self.come(*coming))
        self.count("logouts", len(leaving) * len(RESOURCES))
        self.count("logins", len(coming) * len(RESOURCES))
        self.chat()
        for name in coming:
            await self._catch_up(self.here[f"{name}/{RESOURCES[-1]}"])

    async def _catch_up(self, device: Device) -> None:
        """Read what the archive has behind the last that the device has read."""
        entries = await device.read_archive(self._newest.get(device.label, ""))
        if entries:
            self._newest[device.label] = entries[-1].id
        unknown = [entry.key for entry in entries if entry.key not in self.ledger.fates]
        if unknown or len({entry.key for entry in entries}) != len(entries):
            self.ledger.wrong(f"{device.label} read something twice, or what nobody sent: {unknown}")
        self.count("archived messages read", len(entries))

    async def kill(self) -> None:
        """The server crashes, with some who do not read, and some who come back late."""
        await self._restart(crash=True)

    async def term(self) -> None:
        """The server is stopped in order, and started again."""
        await self._restart(crash=False)

    async def _restart(self, crash: bool) -> None:
        for device in self._some(0.3):
            device.go_deaf()
        away = self._some(0.2)
        for device in away:
            device.cut(stay_away=True)
        # No wait for anything: the point is to interrupt the server wherever it happens to be.
        await asyncio.sleep(self.chance.uniform(0, 0.2))
        if crash:
            self.ledger.crashed = True
            await asyncio.to_thread(self.server.kill)
        else:
            status = await asyncio.to_thread(self.server.stop)
            assert status == 0, f"it ended with status {status}:\n{self.server.log()}"
        self._read_log()
        self.cut_the_deaf()
        await asyncio.to_thread(self.server.start)
        for device in away:
            device.come_back()
        await self.all_online()
        await self.more(20)

    def _some(self, share: float) -> list[Device]:
        found = [device for device in self.here.values() if device.online and self.chance.random() < share]
        return found[: len(self.here) // 2]  # somebody has to go on

    def count(self, what: str, more: int = 1) -> None:
        """One more of something has happened."""
        self.outcome.happened[what] = self.outcome.happened.get(what, 0) + more

    async def happen(self, what: Callable[[], Awaitable[None]]) -> None:
        """Let one of these happen, and tell now and then how far it is."""
        name = getattr(what, "__name__", "")
        self.count(name)
        number = self.outcome.happened[name]
        self.ledger.round = f"in {name} {number}"
        await what()
        self.ledger.round = f"after {name} {number}"
        now = time.monotonic()
        if now - self._told >= TELL_EVERY:
            self._told = now
            sent = f"{len(self.ledger.fates):,} sent, {self.ledger.arrivals:,} arrivals"
            self._say(f"{now - self._began:4.0f} s of {self._seconds:.0f}: {sent}, {self.ledger.round}")

    # ---- the run

    async def run(self) -> Outcome:
        """All of it."""
        await asyncio.to_thread(self.server.start)
        await self.come(*self.names)
        self.chat()
        await self.more(50)
        await self._with_restarts()
        self.outcome.before = await self._one_process()
        await self._until(1.0, [self.resets, self.deafness, self.visits])
        self.outcome.after = await self._rest()
        self.outcome.problems += self.outcome.after.growth(self.outcome.before)
        await self._check()
        return self.outcome

    async def _with_restarts(self) -> None:
        every = max(SECONDS_PER_RESTART, self._seconds / 100)
        restarts = [self.kill, self.term]
        self.chance.shuffle(restarts)
        due = time.monotonic()
        number = 0
        while not self._past(WITH_RESTARTS) or number < len(restarts):
            if time.monotonic() >= due:
                await self.happen(restarts[number % len(restarts)])
                number += 1
                due = time.monotonic() + self.chance.uniform(0.5, 1.5) * every
            else:
                await self.happen(self.chance.choice([self.resets, self.deafness, self.visits]))

    async def _one_process(self) -> Figures:
        """From here on there is one process; what it has when it has been used for a while."""
        await self.happen(self.term)
        await self._until(WARM_UP, [self.resets, self.deafness, self.visits])
        found = await self._rest()
        self.chat()
        return found

    async def _until(self, share: float, whats: list[Callable[[], Awaitable[None]]]) -> None:
        """Let these happen up to a share of the time, and each of them once however slow the machine is."""
        owed = self.chance.sample(whats, len(whats))
        while owed or not self._past(share):
            await self.happen(owed.pop() if owed else self.chance.choice(whats))

    def _past(self, share: float) -> bool:
        return time.monotonic() - self._began >= share * self._seconds

    async def _rest(self) -> Figures:
        """Everybody is there and silent, everything has arrived: what the server has then."""
        await self.come(*self._absent)
        await self.hush(*self.here.values())
        await self._happened.until(lambda: self._failed() is not None or not self.ledger.missing())
        found = await figures.at_rest(self.server, len(self.here))
        self._say(f"at rest: {found}")
        return found

    # ---- the end

    async def _check(self) -> None:
        """Whether everything is there, and everybody knows of everybody."""
        for device in self.here.values():
            device.appear(f"the last of {device.label}")
        everybody = list(self.here.values())
        await self.until("all see each other", partial(_all_see_each_other, everybody))
        readers = [self.here[f"{name}/{RESOURCES[0]}"] for name in self.names]
        for device, entries in zip(readers, await asyncio.gather(*map(Device.read_archive, readers)), strict=True):
            self.outcome.problems += self.ledger.check_archive(device.name, entries)
        await self.go(*self.names)
        await figures.at_rest(self.server, 0)
        status = await asyncio.to_thread(self.server.stop)
        self.outcome.problems += [f"the server ended with status {status}"] if status else []
        self._read_log()
        self.outcome.problems += self.ledger.problems()
        self.outcome.report = self.ledger.report()
        self.outcome.seconds = time.monotonic() - self._began

    def _read_log(self) -> None:
        """Look through the log of a process that has ended."""
        lines = self.server.log().splitlines()
        self.outcome.problems += [line for line in lines if any(word in line for word in WRONG)]
        self.server.lines.clear()  # it is long


def _all_available(devices: list[Device]) -> bool:
    return all(device.available and not device.unacknowledged for device in devices)


def _all_see_each_other(devices: list[Device]) -> bool:
    said = {device.jid: device.status for device in devices}
    return all(device.statuses.items() >= said.items() for device in devices)


async def soak(folder: Path, clients: int, minutes: float, seed: int, say: Say) -> Outcome:
    """Run it in a folder, with a server of its own."""
    # It warns of what is written to a connection that the server has just closed, which is what happens here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    names = [f"user{number}" for number in range(clients // len(RESOURCES))]
    server = RunningServer(folder, OPTIONS)
    prepare(server, names)
    try:
        run = Soak(server, names, random.Random(seed), minutes, say)
        async with run:
            return await run.run()
    finally:
        server.close()
