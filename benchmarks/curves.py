"""How xmppd's cost grows with what there is of something: one function for each."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.archive import measure as ask_all
from benchmarks.archive import running
from benchmarks.client import Client, Target, login, logout, password
from benchmarks.history import SMALLEST, History
from benchmarks.scenarios.base import names, require
from benchmarks.scenarios.idle import calm, idle_cpu
from benchmarks.servers import DOMAIN, Certificate, Needs, Xmppd
from benchmarks.traffic import Count, Traffic, message

SPARE = 200  # descriptors of a process that are no client's connections
CLIENTS_EACH = 4000  # in one process
WINDOW = 10
PAIRS = 10
PAGES = {"last page": "last page", "page in the middle": "in the middle", "contact and time, in the middle": "filtered"}


@dataclass
class Curve:
    """What something costs (`unit`) by how much there is of something (`of`). `note` says what limited it."""

    title: str
    of: str
    unit: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    note: str = ""
    logarithmic: bool = True  # the axis of the sizes

    def add(self, line: str, size: float, cost: float) -> None:
        """A point."""
        self.lines.setdefault(line, []).append((size, cost))


@contextlib.asynccontextmanager
async def server(hosts: Sequence[str] = (DOMAIN,), more: str = "") -> AsyncIterator[Xmppd]:
    """An xmppd that runs, as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="xmppd-scale-", ignore_cleanup_errors=True) as folder:
        found = Xmppd(Path(folder) / "server", Certificate.make(Path(folder)), Needs(), hosts, more)
        try:
            found.start()
            yield found
        finally:
            found.stop()


# ---- sessions


def hold(target: tuple[str, int, int, str], users: list[str], pipe: Pipe) -> None:
    """A process of its own: log in, say so, and stay until told to go."""

    async def stay() -> None:
        clients = [Client(Target(*target), user) for user in users]
        await login(clients)
        pipe.send(len(clients))
        await asyncio.to_thread(pipe.recv)
        for client in clients:
            await client.all_acknowledged()
        pipe.send(len(clients))

    asyncio.run(stay())


class Crowd:
    """Clients in processes of their own, as each has only so many descriptors."""

    def __init__(self, target: Target) -> None:
        self._target = (target.domain, target.port, target.tls_port, target.certificate)
        self._context = get_context("spawn")
        self._held: list[tuple[BaseProcess, Pipe, int]] = []

    async def grow(self, users: Sequence[str]) -> None:
        """So many more log in."""
        for start in range(0, len(users), CLIENTS_EACH):
            part = list(users[start : start + CLIENTS_EACH])
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=hold, args=(self._target, part, theirs), daemon=True)
            process.start()
            theirs.close()
            self._held.append((process, ours, len(part)))
            require(await asyncio.to_thread(ours.recv) == len(part), "not all have logged in")

    async def end(self) -> None:
        """All are still there; and then they go."""
        for _, pipe, _ in self._held:
            pipe.send("go")
        for process, pipe, count in self._held:
            require(await asyncio.to_thread(pipe.recv) == count, "not all have stayed")
            await asyncio.to_thread(process.join)


async def sessions(quick: bool) -> list[Curve]:
    """Sessions that do nothing."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE
    wanted = [100, 300, 1000] if quick else [100, 1000, 5000, 10_000, 20_000]
    sizes = sorted({min(size, most) for size in wanted})
    memory = Curve("memory per idle session", "sessions", "KiB")
    cpu = Curve("CPU per idle session and second", "sessions", "µs")
    if max(wanted) > most:
        memory.note = f"no more than {most} sessions: the limit to open files (ulimit -Hn) is {most + SPARE}"
    users = names(sizes[-1] + 10)
    async with server() as running_server:
        running_server.create(users)
        processes, crowd = running_server.processes, Crowd(running_server.target())
        warm = [Client(running_server.target(), user) for user in users[-10:]]
        await login(warm)
        await logout(warm)
        before = (await calm(processes)).memory()
        there = 0
        for size in sizes:
            await crowd.grow(users[there:size])
            there = size
            after = (await calm(processes)).memory()
            memory.add("private", size, (after.private - before.private) / size / 1024)
            cpu.add("all", size, await idle_cpu(processes, 4 if quick else 10) / size * 1e6)
        await crowd.end()
    return [memory, cpu]


# ---- rosters


def roster_file(path: Path, owners: dict[str, int], contacts: Sequence[str]) -> None:
    """Accounts as XEP-0227 has them: owners of rosters, so many contacts each, and those contacts."""

    def account(user: str, others: Sequence[str]) -> str:
        items = "".join(f"<item jid='{other}@{DOMAIN}' subscription='both'/>" for other in others)
        query = f"<query xmlns='jabber:iq:roster'>{items}</query>"
        return f"<user name='{user}' password='{password(user)}'>{query}</user>\n"

    with path.open("w") as file:
        file.write(f"<server-data xmlns='urn:xmpp:pie:0'><host jid='{DOMAIN}'>\n")
        for owner, size in owners.items():
            file.write(account(owner, contacts[:size]))
        for number, contact in enumerate(contacts):
            file.write(account(contact, [owner for owner, size in owners.items() if number < size]))
        file.write("</host></server-data>\n")


async def rosters(quick: bool) -> list[Curve]:
    """Rosters, of which some contacts are online."""
    sizes = [10, 50, 200] if quick else [10, 50, 200, 1000, 2000]
    online, logins, turns = (20, 10, 10) if quick else (100, 50, 50)
    entering = Curve("CPU of a login and logout", "contacts in the roster", "ms")
    told = Curve("CPU per contact that is told of a presence", "contacts in the roster", "µs")
    contacts = names(sizes[-1], "contact")
    async with server() as running_server:
        owners = {f"owner{size}": size for size in sizes}
        roster_file(running_server.folder / "users.xml", owners, contacts)
        running_server.xmppctl("import", str(running_server.folder / "users.xml"))
        there = [Client(running_server.target(), contact) for contact in contacts[:online]]
        for owner, size in owners.items():
            entering.add("no contact online", size, await _enter(running_server, owner, logins))
        await login(there)
        for owner, size in owners.items():
            entering.add(f"{online} contacts online, or all", size, await _enter(running_server, owner, logins))
            told.add("all", size, await _tell(running_server, owner, there[:size], turns))
        await logout(there)
    return [entering, told]


async def _enter(running_server: Xmppd, user: str, times: int) -> float:
    """Log in and out again some times; milliseconds of each."""
    async with running_server.processes.measured() as cost:
        for _ in range(times):
            client = Client(running_server.target(), user)
            await client.login()
            await client.logout()
    return cost.cpu / times * 1e3


async def _tell(running_server: Xmppd, owner: str, contacts: Sequence[Client], turns: int) -> float:
    """Somebody's presence changes some times; microseconds for each contact that is told."""
    client = Client(running_server.target(), owner)
    await client.login()
    heard = Count(contacts[0].target.alarm, "presence deliveries")
    for contact in contacts:
        contact.on_presence = lambda stanza: heard.one() if b"<status>" in stanza else None
    async with running_server.processes.measured() as cost:
        for turn in range(turns):
            client.send(f"<presence><status>{turn}</status></presence>".encode())
            await heard.reach((turn + 1) * len(contacts))
    heard.check(turns * len(contacts))
    await client.logout()
    return cost.cpu / heard.value * 1e6


# ---- archive


async def archive(quick: bool) -> list[Curve]:
    """Pages of archives of different sizes, which were imported."""
    curve = Curve("CPU of a page of the archive", "messages in it", "ms")
    sizes = [SMALLEST, 5 * SMALLEST] if quick else [10_000, 100_000, 1_000_000]
    end_ms = int(time.time() - 3600) * 1000
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xmppd-scale-")))
        askers = [
            stack.enter_context(running(folder / str(size), History(size, end_ms), "", 1))[1] for size in sizes
        ]
        ask_all(askers, 30 if quick else 200, 1)
        for asker in askers:
            for kind, label in PAGES.items():
                curve.add(label, asker.history.size, asker.spent[kind].summary()["cpu_ms"])
    return [curve]


# ---- what is not acknowledged


async def queue(quick: bool) -> list[Curve]:
    """Messages to a client that reads, but acknowledges nothing, up to the limit of its queue."""
    curve = Curve("CPU per message, none acknowledged", "messages before it", "µs", logarithmic=False)
    limit, step = (1000, 250) if quick else (5000, 500)
    # It would count as delayed after 30 seconds, which has a cost of its own.
    async with server(more=f"smacks_max_queue_size = {limit}\nsmacks_max_ack_delay = 1h\n") as running_server:
        running_server.create(["sender", "receiver"])
        target = running_server.target()
        sender, receiver = Client(target, "sender"), Client(target, "receiver")
        await login([sender, receiver])
        arrived = Count(target.alarm, "messages")
        receiver.on_message = lambda stanza: arrived.one()
        receiver.acknowledges = False
        sent = 0
        while sent + step < limit:
            async with running_server.processes.measured() as cost:
                for _ in range(step):
                    sender.send(message(receiver.bare, 0, sent))
                    sent += 1
                    if sent % WINDOW == 0:
                        await sender.all_acknowledged()
                await arrived.reach(sent)
            curve.add("all", sent - step / 2, cost.cpu / step * 1e6)
        arrived.check(sent)
        await logout([sender, receiver])
    return [curve]


# ---- hosts


async def hosts(quick: bool) -> list[Curve]:
    """Hosts of one server, with people who write to each other at each."""
    memory = Curve("memory of the server, nobody there", "hosts", "MiB")
    cpu = Curve("CPU per message", "hosts", "µs")
    for size in [1, 10, 30] if quick else [1, 10, 30, 100]:
        domains = [DOMAIN, *(f"h{number}.{DOMAIN}" for number in range(1, size))]
        async with server(domains) as running_server:
            memory.add("private", size, (await calm(running_server.processes)).memory().private / 2**20)
            running_server.create(names(2 * PAIRS))
            cpu.add(f"between {PAIRS} pairs", size, await _talk(running_server, 50 if quick else 200))
    return [memory, cpu]


async def _talk(running_server: Xmppd, each: int) -> float:
    """Microseconds for each message, between pairs that are spread over the hosts."""
    base = running_server.target()
    pairs = []
    for number, (sender, receiver) in enumerate(zip(names(2 * PAIRS)[::2], names(2 * PAIRS)[1::2], strict=True)):
        domain = running_server.hosts[number * len(running_server.hosts) // PAIRS]
        target = Target(domain, base.port, base.tls_port, base.certificate, alarm=base.alarm)
        pairs.append((Client(target, sender), Client(target, receiver)))
    await login([client for pair in pairs for client in pair])
    traffic = Traffic(pairs)
    await traffic.saturate(WINDOW, WINDOW)
    async with running_server.processes.measured() as cost:
        count = await traffic.saturate(each, WINDOW)
    await traffic.check()
    await logout([client for pair in pairs for client in pair])
    return cost.cpu / count * 1e6


CURVES: dict[str, Callable[[bool], Awaitable[list[Curve]]]] = {
    "sessions": sessions, "rosters": rosters, "archive": archive, "queue": queue, "hosts": hosts,
}  # fmt: skip
