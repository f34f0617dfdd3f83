"""A load of clients that keep their sessions (XEP-0198) whatever happens to the connections and to the server, and a
tally that accounts for each thing they sent."""

from __future__ import annotations

import asyncio
import base64
import random
import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError, XMLPullParser, tostring

from tests.conversations.process import PATIENCE, RunningServer, unverified
from tests.conversations.raw import HEADER

CLIENT = "{jabber:client}"
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
SM = "{urn:xmpp:sm:3}"
STREAM = "{http://etherx.jabber.org/streams}"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
SERVER = "server"  # what a ping is sent to, in the tally

ASK_EVERY = 5  # stanzas after which a client asks for an acknowledgement
WINDOW = 40  # unacknowledged stanzas beyond which a client says nothing new
LONGEST_BURST = 10  # stanzas that a client sends at once
FOREVER = 24 * 3600.0  # seconds; the wait of somebody who has nothing to wait for
LATER = "later"  # the resource of those who look whether anything is left


# ---- what was sent and what became of it


class Key(NamedTuple):
    """Names a message, or a ping: the `number` counts from 0 for each pair of sender and receiver."""

    sender: str
    receiver: str
    number: int

    def __str__(self) -> str:
        return f"{self.sender} to {self.receiver}, number {self.number}"


@dataclass
class Fate:
    """In which round a message was sent, acknowledged to its sender, and arrived or came back."""

    sent: str
    acknowledged: str = ""
    arrived: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    resent: int = 0  # how often it was sent again
    delayed: bool = False  # whether it said when it was sent, at its first arrival

    def __str__(self) -> str:
        acknowledged = f"acknowledged {self.acknowledged}" if self.acknowledged else "never acknowledged"
        return f"sent {self.sent}{' and again' * self.resent}, {acknowledged}"


class Tally:
    """Counts everything. `round` says where the test is; reports name it. `crashed`: the server was killed, so that
    a ping that was sent again may have been answered again: an answer is sent at once, not when it is on disk."""

    def __init__(self) -> None:
        self.round = "at first"
        self.crashed = False
        self.fates: dict[Key, Fate] = {}
        self.arrivals = 0  # of all
        self.accounted = 0  # how many have arrived or come back, each once
        self._numbers: dict[tuple[str, str], int] = {}
        self._order: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._strays: list[str] = []

    # ---- told by the clients

    def sent(self, sender: str, receiver: str) -> Key:
        """Something new is sent: its name."""
        number = self._numbers.get((sender, receiver), 0)
        self._numbers[sender, receiver] = number + 1
        key = Key(sender, receiver, number)
        self.fates[key] = Fate(self.round)
        return key

    def acknowledged(self, key: Key) -> None:
        """The server has told its sender that it is handled."""
        self.fates[key].acknowledged = self.round

    def resent(self, key: Key) -> None:
        """Its sender sends it again, since it was not acknowledged when the connection was lost."""
        self.fates[key].resent += 1

    def arrived(self, key: Key, delayed: bool = False) -> None:
        """It is there (of a ping: its answer)."""
        fate = self._known(key, "arrived")
        if fate is not None:
            self.accounted += not fate.arrived and not fate.returned
            fate.delayed = delayed if not fate.arrived else fate.delayed
            fate.arrived.append(self.round)
            self._order.setdefault(key[:2], []).append((key.number, self.round))
        self.arrivals += 1

    def returned(self, key: Key, why: str) -> None:
        """It came back to its sender as an error."""
        fate = self._known(key, "came back")
        if fate is not None:
            self.accounted += not fate.arrived and not fate.returned
            fate.returned.append(f"{self.round} ({why})")

    def _known(self, key: Key, what: str) -> Fate | None:
        fate = self.fates.get(key)
        if fate is None:
            self._strays.append(f"{key}: {what} {self.round}, but nobody sent it")
        return fate

    # ---- asked by the tests

    @property
    def complete(self) -> bool:
        """Whether everything has arrived or come back."""
        return self.accounted == len(self.fates)

    def came_back(self) -> list[str]:
        """What came back, and when."""
        return [f"{key}: came back {', '.join(fate.returned)}" for key, fate in self.fates.items() if fate.returned]

    def problems(self) -> list[str]:
        """What is missing, what there is twice, and what came out of order, with the rounds in which it was."""
        found = list(self._strays)
        for key, fate in self.fates.items():
            ends = fate.arrived + [f"back {where}" for where in fate.returned]
            if not ends:
                found.append(f"{key}: missing; {fate}")
            elif len(ends) > (1 + fate.resent if key.receiver == SERVER and self.crashed else 1):
                found.append(f"{key}: {len(ends)} times: {'; '.join(ends)}; {fate}")
        for (sender, receiver), arrivals in self._order.items():
            highest, seen = -1, set()
            for number, where in arrivals:
                if number < highest and number not in seen:
                    key = Key(sender, receiver, number)
                    found.append(f"{key}: after number {highest}, {where}; {self.fates[key]}")
                highest = max(highest, number)
                seen.add(number)
        return found

    def report(self) -> str:
        """All of it in a few lines, for a test that fails."""
        problems, returned = self.problems(), self.came_back()
        heads = f"{len(self.fates)} sent, {self.arrivals} arrived, {len(returned)} back, {len(problems)} problems"
        return "\n".join([heads, *problems[:50], *returned[:10]])


# ---- a wait that ends with what it waits for


class Progress:
    """Wakes those who wait for something, each time that anything has happened."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def made(self) -> None:
        """Something has happened."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
        """Wait until `condition` holds; False when that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while not condition():
            if loop.time() >= deadline:
                return False
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.append(waiter)
            # Not wait_for: before Python 3.12 a task that is cancelled while its wait succeeds goes on.
            await asyncio.wait([waiter], timeout=deadline - loop.time())
        return True


# ---- one connection


class Stream(asyncio.Protocol):
    """A connection, and the XML stream on it; `next` returns the elements of the server one by one."""

    def __init__(self) -> None:
        self.condition = ""  # of the stream error that ended it
        self.finished = False  # whether the server has closed the stream, not only the connection
        self._elements: deque[Element] = deque()
        self._broken: Exception | None = None
        self._over = False
        self._progress = Progress()
        self._begin()

    def _begin(self) -> None:
        self._parser: Any = XMLPullParser(("start", "end"))
        self._depth = 0
        self._root: Element | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._parser.feed(data)
            for event, element in self._parser.read_events():
                self._read(event, element)
        except ParseError as error:
            self._broken = error
            self.abort(forget=False)
        self._progress.made()

    def _read(self, event: str, element: Element) -> None:
        if event == "start":
            self._root = element if self._depth == 0 else self._root
            self._depth += 1
            return
        self._depth -= 1
        if self._depth == 1:
            assert self._root is not None
            self._root.clear()  # or all that ever came would stay in memory
            self._elements.append(element)
        elif self._depth == 0:
            self.finished = self._over = True
            self._transport.close()

    def connection_lost(self, reason: Exception | None) -> None:
        self._over = True
        self._progress.made()

    def abort(self, forget: bool = True) -> None:
        """Drop the connection; what has come and was not looked at counts as lost on the way."""
        if forget:
            self._elements.clear()
        self._over = True
        self._transport.abort()
        self._progress.made()

    def stop_reading(self) -> None:
        """What the server sends from now on stays on the way."""
        self._transport.pause_reading()

    def read_on(self) -> None:
        """Read again, also what the server has sent meanwhile."""
        if not self._over and not self._transport.is_closing():
            self._transport.resume_reading()

    def reset(self) -> None:
        """Drop the connection by a TCP reset: the other side is told that it is broken, not that it has ended."""
        if not self._over and not self._transport.is_closing():
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def send(self, text: str) -> None:
        """Send, or not, if there is nobody any more."""
        if not self._over and not self._transport.is_closing():
            self._transport.write(text.encode())

    async def next(self, patience: float = PATIENCE) -> Element:
        """The next element; ConnectionResetError behind the last one."""
        while True:
            if self._elements:
                element = self._elements.popleft()
                if element.tag != f"{STREAM}error":
                    return element
                self.condition = element[0].tag.partition("}")[2]
                assert self.condition == "system-shutdown", f"the server says {shown(element)}"
            elif self._over:
                assert self._broken is None, f"this is no XML: {self._broken}"
                raise ConnectionResetError("the stream is over")
            else:
                heard = await self._progress.until(lambda: bool(self._elements) or self._over, patience)
                assert heard, "the server says nothing"

    async def open(self) -> Element:
        """Open a stream, the first or one after authentication; its features."""
        self._begin()
        self.send(HEADER)
        features = await self.next()
        assert features.tag == f"{STREAM}features", shown(features)
        return features


def shown(element: Element) -> str:
    """An element for people."""
    return tostring(element, encoding="unicode")


# ---- one client


class Client:
    """Logs in, and keeps its session: after a connection is lost it resumes and sends again what was not
    acknowledged. Whatever the server must not do raises AssertionError in the task `life`."""

    def __init__(self, server: RunningServer, name: str, resource: str, tally: Tally, happened: Progress) -> None:
        self.server = server
        self.name = name
        self.resource = resource
        self.jid = f"{name}@localhost/{resource}"
        self.tally = tally
        self.online = False
        self.available = False  # whether the server has taken its presence
        self.deaf = False  # whether what the server sends is lost on the way
        self.endings: list[str] = []  # the stream errors with which connections ended, "" for none
        self.unacknowledged: deque[tuple[Key | None, str]] = deque()
        self._happened = happened
        self._own = Progress()
        self._may_return = asyncio.Event()
        self._may_return.set()
        self._tls = unverified()
        self._id = ""
        self._sent = 0
        self._acknowledged = 0
        self._handled = 0
        self._leaving = False

    # ---- what a test has it do

    async def arrive(self) -> None:
        """Begin a session, and say that one is there."""
        await self.begin()
        self._send(None, "<presence/>")

    async def begin(self) -> None:
        """Log in, bind, and switch stream management on."""
        await self._log_in()
        resource = f"<resource>{self.resource}</resource>"
        self._stream.send(f"<iq type='set' id='b'><bind xmlns='{BIND}'>{resource}</bind></iq>")
        bound = await self._stream.next()
        assert bound.findtext(f".//{{{BIND}}}jid") == self.jid, shown(bound)
        self._stream.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        enabled = await self._stream.next()
        assert enabled.tag == f"{SM}enabled" and enabled.get("resume") == "true", shown(enabled)
        self._id = enabled.attrib["id"]
        self.online = True

    def say(self, other: Client, bare: bool = False) -> Key:
        """Send the next message to `other`, to its session or to its account; what the message is called."""
        key = self.tally.sent(self.name, other.name)
        to = f"{other.name}@localhost" if bare else other.jid
        body = f"<body>{self.name}:{key.number}</body>"
        self._send(key, f"<message to='{to}' type='chat' id='{other.name}:{key.number}'>{body}</message>")
        return key

    def ping(self, to: str = "localhost") -> Key:
        """Ask the server, or somebody, for an answer."""
        key = self.tally.sent(self.name, SERVER)
        self._send(key, f"<iq type='get' to='{to}' id='{SERVER}:{key.number}'><ping xmlns='urn:xmpp:ping'/></iq>")
        return key

    def ask(self) -> None:
        """Ask for an acknowledgement; after a resumption it is asked for in any case."""
        if self.online:
            self._stream.send("<r xmlns='urn:xmpp:sm:3'/>")

    async def talk(self, others: list[Client], chance: random.Random, going_on: Callable[[], bool]) -> None:
        """Send to `others` in bursts, no more than a window at a time."""
        while going_on():
            for _ in range(chance.randint(1, LONGEST_BURST)):
                if chance.random() < 0.1:
                    self.ping()
                else:
                    self.say(chance.choice(others), bare=chance.random() < 0.25)
                if self._sent % ASK_EVERY == 0:
                    self.ask()
            # Now and then everything is acknowledged before it goes on: a quiet server is to be killed as well.
            most = 0 if chance.random() < 0.1 else WINDOW
            self.ask()
            assert await self._own.until(partial(self._has_room, most)), f"{self}: nothing is acknowledged"

    def _has_room(self, most: int) -> bool:
        return len(self.unacknowledged) <= most

    def cut(self, stay_away: bool = False) -> None:
        """The connection is gone, at any moment from the handshake on; `stay_away`: until `come_back`."""
        if stay_away:
            self._may_return.clear()
        self.deaf = False
        self._stream.abort()

    def go_deaf(self) -> None:
        """From now on nothing reaches it any more; it has to be cut some time."""
        self.deaf = True
        self._stream.stop_reading()

    def hear_again(self) -> None:
        """What was sent to it since `go_deaf` reaches it after all."""
        self.deaf = False
        self._stream.read_on()

    def come_back(self) -> None:
        """It may resume."""
        self._may_return.set()

    def leave(self) -> None:
        """End the session in order; `life` ends when the server has closed the stream."""
        self._leaving = True
        self._stream.send(f"<a xmlns='urn:xmpp:sm:3' h='{self._handled}'/></stream:stream>")

    def __str__(self) -> str:
        return f"{self.name}, {self.tally.round}"

    # ---- connections

    async def life(self) -> None:
        """From the first connection to the end of the session."""
        while True:
            try:
                while True:
                    self._take(await self._stream.next(FOREVER))
            except ConnectionResetError:
                pass
            self.online = False
            self.endings.append(self._stream.condition)
            self._happened.made()
            if self._leaving:
                assert self._stream.finished, f"{self}: it left, and the server did not close the stream"
                return
            await self._may_return.wait()
            await self._return()

    async def _return(self) -> None:
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + PATIENCE, 0.01
        while True:
            try:
                await self._resume()
                return
            except OSError as error:
                assert loop.time() < deadline, f"{self}: the server does not come back: {error!r}"
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.2)

    async def _log_in(self) -> None:
        create = asyncio.get_running_loop().create_connection
        port = self.server.tls_port
        _, self._stream = await create(
            Stream, "127.0.0.1", port, ssl=self._tls, server_hostname="localhost", ssl_handshake_timeout=PATIENCE
        )
        await self._stream.open()
        initial = base64.b64encode(f"\0{self.name}\0secret".encode()).decode()
        self._stream.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>")
        answer = await self._stream.next()
        assert answer.tag == f"{SASL}success", f"{self}: {shown(answer)}"
        features = await self._stream.open()
        assert features.find(f"{SM}sm") is not None, shown(features)

    async def _resume(self) -> None:
        await self._log_in()
        self._stream.send(f"<resume xmlns='urn:xmpp:sm:3' previd='{self._id}' h='{self._handled}'/>")
        answer = await self._stream.next()
        assert answer.tag == f"{SM}resumed", f"{self}: the session is not resumed: {shown(answer)}"
        assert answer.get("previd") == self._id, f"{self}: another session is resumed: {shown(answer)}"
        self._drop_acknowledged(answer)
        for key, stanza in self.unacknowledged:
            self._stream.send(stanza)
            if key is not None:
                self.tally.resent(key)
        self.online = True
        self.ask()

    # ---- stanzas

    def _send(self, key: Key | None, stanza: str) -> None:
        self.unacknowledged.append((key, stanza))
        self._sent += 1
        if self.online:
            self._stream.send(stanza)

    def _drop_acknowledged(self, element: Element) -> None:
        """Take the `h` of the server: it never goes back, nor beyond what was sent."""
        h = int(element.attrib["h"])
        assert self._acknowledged <= h <= self._sent, (
            f"{self}: {self._acknowledged} of {self._sent} stanzas were acknowledged, and now {shown(element)}"
        )
        for _ in range(h - self._acknowledged):
            key, _ = self.unacknowledged.popleft()
            if key is not None:
                self.tally.acknowledged(key)
        self._acknowledged = h
        self._own.made()
        self._happened.made()

    def _take(self, element: Element) -> None:
        if element.tag == f"{SM}r":
            self._stream.send(f"<a xmlns='urn:xmpp:sm:3' h='{self._handled}'/>")
        elif element.tag == f"{SM}a":
            self._drop_acknowledged(element)
        else:
            assert element.tag in (f"{CLIENT}message", f"{CLIENT}presence", f"{CLIENT}iq"), f"{self}: {shown(element)}"
            self._handled += 1
            self._count(element)
            self._happened.made()

    def _count(self, stanza: Element) -> None:
        type = stanza.get("type", "")
        if type == "error":
            receiver, _, number = stanza.get("id", "").rpartition(":")
            assert receiver, f"{self}: {shown(stanza)}"
            error = stanza.find(f"{CLIENT}error")
            why = error[0].tag.partition("}")[2] if error is not None and len(error) else "no condition"
            self.tally.returned(Key(self.name, receiver, int(number)), why)
        elif stanza.tag == f"{CLIENT}message":
            found = re.fullmatch(r"(\w+):(\d+)", stanza.findtext(f"{CLIENT}body", ""))
            assert found is not None, f"{self}: {shown(stanza)}"
            delayed = stanza.find("{urn:xmpp:delay}delay") is not None
            self.tally.arrived(Key(found[1], self.name, int(found[2])), delayed)
        elif stanza.tag == f"{CLIENT}presence":
            self.available = self.available or stanza.get("from") == self.jid
        elif type == "result":
            receiver, _, number = stanza.get("id", "").rpartition(":")
            self.tally.arrived(Key(self.name, receiver, int(number)))


# ---- all of them


class Load:
    """Clients on one server, and what goes on between them. To be used as ``async with Load(...) as load``."""

    def __init__(self, server: RunningServer, chance: random.Random) -> None:
        self.server = server
        self.chance = chance
        self.tally = Tally()
        self.clients: list[Client] = []
        self._happened = Progress()
        self._tasks: list[asyncio.Task[None]] = []
        self._lives: dict[Client, asyncio.Task[None]] = {}
        self._talking: list[asyncio.Task[None]] = []
        self._silent = False

    async def __aenter__(self) -> Load:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self.clients:
            client.cut()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._happened.made())
        self._tasks.append(task)
        return task

    async def arrive(self, *names: str, resource: str = "here") -> list[Client]:
        """Clients of these accounts log in; they are available when this returns."""
        arrived = [Client(self.server, name, resource, self.tally, self._happened) for name in names]
        await asyncio.gather(*(client.arrive() for client in arrived))
        for client in arrived:
            self._lives[client] = self._start(client.life())
            client.ask()
        self.clients += arrived
        # Before that, messages to the account go another way than those to the session, and may be overtaken by them;
        # and so they do after a crash, where the presence was not on disk.
        await self.until(
            "all are available", lambda: all(client.available and not client.unacknowledged for client in arrived)
        )
        return arrived

    def talk(self) -> None:
        """Everybody begins to send to everybody."""
        for client in self.clients:
            others = [other for other in self.clients if other is not client]
            chance = random.Random(self.chance.random())
            self._talking.append(self._start(client.talk(others, chance, lambda: not self._silent)))

    def cut(self) -> None:
        """All connections are gone at once."""
        for client in self.clients:
            client.cut()

    def deafen(self) -> None:
        """Some of those who are connected hear nothing any more, until `cut_the_deaf`."""
        for client in self.clients:
            if client.online and self.chance.random() < 0.5:
                client.go_deaf()

    def cut_the_deaf(self) -> None:
        """Those who hear nothing have lost the connection, and what was on the way with it."""
        for client in self.clients:
            if client.deaf:
                client.cut()

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, and notice everything that goes wrong meanwhile."""
        reached = await self._happened.until(lambda: self._failed() is not None or condition())
        failed = self._failed()
        if failed is not None:
            raise failed
        assert reached, f"waited in vain until {what}, {self.tally.round}; {self.tally.report()}"

    def _failed(self) -> BaseException | None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    async def more(self, number: int) -> None:
        """Wait until so many more messages, and answers to pings, have arrived."""
        goal = self.tally.arrivals + number
        await self.until(f"{number} more have arrived", lambda: self.tally.arrivals >= goal)

    async def all_online(self) -> None:
        """Wait until everybody is connected."""
        await self.until("all are online", lambda: all(client.online for client in self.clients))

    async def acknowledged(self, *clients: Client) -> None:
        """Wait until everything these have sent is acknowledged."""
        for client in clients:
            client.ask()
        await self.until("all is acknowledged", lambda: not any(client.unacknowledged for client in clients))

    async def settle(self) -> list[str]:
        """Everybody stops, all is acknowledged and arrives, everybody leaves and looks whether anything is left; what
        is wrong then."""
        self._silent = True
        await self.until("nobody talks", lambda: all(task.done() for task in self._talking))
        await self.all_online()
        await self.acknowledged(*self.clients)
        await self._happened.until(lambda: self._failed() is not None or self.tally.complete)
        failed = self._failed()
        if failed is not None:
            raise failed
        # Whatever is missing will not come. The answers to these come behind what may have been on its way twice.
        await self._answered(self.clients)
        await self._leave(self.clients)
        self.tally.round = "afterwards"
        names = sorted({client.name for client in self.clients})
        looking = await self.arrive(*names, resource=LATER)
        await self._answered(looking)
        await self._leave(looking)
        return self.tally.problems()

    async def _answered(self, clients: list[Client]) -> None:
        pings = [client.ping() for client in clients]
        fates = self.tally.fates
        await self.until("the last pings are answered", lambda: all(fates[ping].arrived for ping in pings))

    async def _leave(self, clients: list[Client]) -> None:
        for client in clients:
            client.leave()
        await self.until("all have left", lambda: all(self._lives[client].done() for client in clients))

    async def leave(self, client: Client) -> None:
        """One of them ends its session in order, and takes no more part."""
        await self._leave([client])
        self.clients.remove(client)
