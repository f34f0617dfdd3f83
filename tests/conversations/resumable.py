"""Clients that resume their sessions (XEP-0198), have copies of what other devices say and hear (XEP-0280), and read
what was said before (XEP-0313); each is behind a link of its own."""

from __future__ import annotations

import abc
import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from xml.etree import ElementTree

from tests.conversations.link import Link
from tests.conversations.people import Person
from tests.conversations.process import PATIENCE, RunningServer

T = TypeVar("T")
Way = Literal["direct", "sent", "received"]  # to the client itself, or as a copy of what another one sent or received


class Message(NamedTuple):
    """A message as one account has it: `id` is what its server calls it, `message_id` what its sender does."""

    id: str
    sender: str
    to: str
    message_id: str
    body: str


class Client(abc.ABC):
    """One resource of a person, with the address `jid`; `link` is its way to the server."""

    def __init__(self, link: Link, name: str, resource: str) -> None:
        self.link = link
        self.account = f"{name}@localhost"
        self.jid = f"{self.account}/{resource}"

    @abc.abstractmethod
    async def arrives(self, priority: int, status: str) -> None:
        """Log in, enable stream management, and send the one presence of the session."""

    @abc.abstractmethod
    async def says(self, to: str, *bodies: str) -> None:
        """Send messages; when it returns they were given to the operating system, and are remembered."""

    @abc.abstractmethod
    async def gets(self) -> tuple[Way, Message]:
        """The next message, and how it came; its id is empty where it has not exactly one."""

    async def hears(self) -> str:
        """The body of the next message."""
        _, message = await self.gets()
        return message.body

    @abc.abstractmethod
    async def wants_copies(self) -> None:
        """Enable carbons."""

    async def pages(self, size: int, after: str = "", backwards: bool = False) -> AsyncIterator[list[Message]]:
        """The user's archive, each page in its order: forwards, from behind a message or from the beginning; or
        backwards from the end. Ends when there is no more; AssertionError when a message comes again, since that may
        never end."""
        seen = {after}
        async for page in self._pages(size, after, backwards):
            ids = {message.id for message in page}
            assert len(ids) == len(page) <= size and seen.isdisjoint(ids), page
            seen |= ids
            yield page

    @abc.abstractmethod
    def _pages(self, size: int, after: str, backwards: bool) -> AsyncIterator[list[Message]]:
        """See `pages`."""

    @abc.abstractmethod
    async def acknowledged(self) -> None:
        """Return when the server has acknowledged everything that was sent."""

    @abc.abstractmethod
    async def gone(self) -> None:
        """Return when the client knows that its connection is no more."""

    @abc.abstractmethod
    async def resumes(self) -> None:
        """Return when the session is resumed; AssertionError when there is a new one instead."""

    @abc.abstractmethod
    async def starts_anew(self) -> None:
        """Return when the session could not be resumed, and the client has a new one in its place, as `arrives` does;
        AssertionError when it was resumed."""

    @abc.abstractmethod
    async def leaves(self) -> None:
        """Close the stream in order, which ends the session."""

    @abc.abstractmethod
    def quiet(self) -> bool:
        """Whether everything was heard that has come."""

    @abc.abstractmethod
    async def close(self) -> None:
        """The test is over."""


class SlixmppClient(Client):
    """slixmpp, with a connection for each time that the test asks for one."""

    def __init__(self, server: RunningServer, link: Link, name: str, resource: str) -> None:
        super().__init__(link, name, resource)
        self.person = Person(server, name, resource)
        self.person.port = link.port
        for plugin in ("xep_0198", "xep_0280", "xep_0313", "xep_0359"):
            self.person.register_plugin(plugin)
        self.sm: Any = self.person.plugin["xep_0198"]
        self.heard: asyncio.Queue[tuple[Way, Message]] = asyncio.Queue()
        self.person.add_event_handler("message", lambda message: self._heard("direct", message))
        self.person.add_event_handler("carbon_sent", lambda carbon: self._heard("sent", carbon["carbon_sent"]))
        self.person.add_event_handler(
            "carbon_received", lambda carbon: self._heard("received", carbon["carbon_received"])
        )
        self.binds: list[Any] = []
        self.person.add_event_handler("session_bind", self.binds.append)
        self.disconnected = asyncio.Event()
        self.person.add_event_handler("disconnected", lambda _: self.disconnected.set())

    async def arrives(self, priority: int, status: str) -> None:
        enabled = asyncio.ensure_future(self.person.wait_until("sm_enabled", PATIENCE))
        await self.person.arrives(presence=False)
        await enabled
        assert self.sm.sm_id
        self.person.send_presence(ppriority=priority, pstatus=status)
        await self.acknowledged()

    async def says(self, to: str, *bodies: str) -> None:
        for body in bodies:
            self.person.send_message(to, body, mtype="chat")
        await self._written()

    def _heard(self, way: Way, message: Any) -> None:
        marks = message.xml.findall("{urn:xmpp:sid:0}stanza-id")
        ours = len([mark for mark in marks if mark.get("by") == self.account]) == 1
        self.heard.put_nowait((way, _described(message, message["stanza_id"]["id"] if ours else "")))

    async def gets(self) -> tuple[Way, Message]:
        return await asyncio.wait_for(self.heard.get(), PATIENCE)

    async def wants_copies(self) -> None:
        await self.person.plugin["xep_0280"].enable(timeout=PATIENCE)

    async def _pages(self, size: int, after: str, backwards: bool) -> AsyncIterator[list[Message]]:
        rsm = {"max": size, **({"after": after} if after else {})}
        pages: Any = self.person.plugin["xep_0313"].retrieve(reverse=backwards, iterator=True, rsm=rsm)
        async for page in pages:
            found = [message["mam_result"] for message in page["mam"]["results"]]
            yield [_described(result["forwarded"]["stanza"], result["id"]) for result in found]

    async def acknowledged(self) -> None:
        await self.person.acknowledged()

    async def gone(self) -> None:
        await asyncio.wait_for(self.disconnected.wait(), PATIENCE)

    async def resumes(self) -> None:
        failure = await self._comes_back()
        assert failure is None, f"not resumed: {ElementTree.tostring(failure.xml).decode()}"
        assert len(self.binds) == 1

    async def starts_anew(self) -> None:
        enabled = asyncio.ensure_future(self.person.wait_until("sm_enabled", PATIENCE))
        assert await self._comes_back() is not None, "it was resumed"
        await enabled
        assert len(self.binds) == 2
        self.person.send_presence()
        await self.acknowledged()

    async def _comes_back(self) -> Any:
        """None, or why the session could not be resumed."""
        await self.gone()
        self.disconnected.clear()
        resumed = asyncio.ensure_future(self.person.wait_until("session_resumed", PATIENCE))
        failed = asyncio.ensure_future(self.person.wait_until("sm_failed", PATIENCE))
        self.person.connect("127.0.0.1", self.link.port)
        done, rest = await asyncio.wait({resumed, failed}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in rest:
            waiting.cancel()
        await asyncio.gather(*done)
        return failed.result() if failed in done else None

    async def leaves(self) -> None:
        self.sm.send_ack()  # what it has not acknowledged would be kept for the next one
        await self.person.leaves()

    async def _written(self) -> None:
        await self.person.written()  # slixmpp forgets what it has not sent when the connection goes

    def quiet(self) -> bool:
        return self.heard.empty()

    async def close(self) -> None:
        self.person.abort()


def _described(message: Any, id: str) -> Message:
    sender, to, message_id = (message.xml.get(name, "") for name in ("from", "to", "id"))
    return Message(id, sender, to, message_id, message["body"])


class NodeClient(Client):
    """@xmpp/client in a Node.js of its own; it comes back by itself as soon as it can."""

    def __init__(self, folder: Path, link: Link, name: str, resource: str, service: str = "xmpp://{}") -> None:
        super().__init__(link, name, resource)
        script = Path(__file__).with_name("resume.mjs")
        self.command = ["node", str(script), str(folder), service.format(f"127.0.0.1:{link.port}"), name, resource]
        self.lines: list[str] = []
        self.disconnected = asyncio.Event()
        self.sessions: asyncio.Queue[str] = asyncio.Queue()  # "online" for a new one, "resumed" for the old one
        self.heard: asyncio.Queue[tuple[Way, Message]] = asyncio.Queue()
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()  # answers to commands

    async def arrives(self, priority: int, status: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1"},
        )  # fmt: skip
        self.reading = asyncio.ensure_future(self._read())
        self._do("start")
        await self._starts(priority, status)

    async def _starts(self, priority: int = 0, status: str = "") -> None:
        """A new session."""
        assert await self._next(self.sessions) == "online", self._transcript()
        await self._is_told("enabled")
        self._do("presence", priority=priority, status=status)
        await self.acknowledged()

    async def says(self, to: str, *bodies: str) -> None:
        for body in bodies:
            self._do("say", to=to, body=body)
            await self._is_told("said")

    async def gets(self) -> tuple[Way, Message]:
        return await self._next(self.heard)

    async def wants_copies(self) -> None:
        self._do("copies")
        await self._is_told("copied")

    async def _pages(self, size: int, after: str, backwards: bool) -> AsyncIterator[list[Message]]:
        edge, complete = after, False
        while not complete:
            self._do("page", size=size, edge=edge, backwards=backwards)
            page = await self._is_told("page")
            yield [Message(*(message[name] for name in Message._fields)) for message in page["messages"]]
            edge, complete = page["first" if backwards else "last"], page["complete"]

    async def acknowledged(self) -> None:
        self._do("acknowledged")
        await self._is_told("acknowledged")

    async def gone(self) -> None:
        await self._patiently(self.disconnected.wait())

    async def resumes(self) -> None:
        assert await self._next(self.sessions) == "resumed", self._transcript()

    async def starts_anew(self) -> None:
        await self._starts()

    async def leaves(self) -> None:
        self._do("stop")
        await self._is_told("stopped")

    def quiet(self) -> bool:
        return self.heard.empty()

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self.reading

    def _do(self, command: str, **arguments: str | int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode())
            happened = json.loads(line)
            event = happened["event"]
            if event == "message":
                self.heard.put_nowait((happened["way"], Message(*(happened[name] for name in Message._fields))))
            elif event in ("online", "resumed"):
                self.disconnected.clear()
                self.jid = happened.get("jid", self.jid)
                self.sessions.put_nowait(event)
            elif event == "disconnect":
                self.disconnected.set()
            elif event in ("enabled", "said", "copied", "page", "acknowledged", "stopped"):
                self.told.put_nowait(happened)

    async def _is_told(self, event: str) -> dict[str, Any]:
        """The next answer, which has to be this one."""
        answer = await self._next(self.told)
        assert answer["event"] == event, self._transcript()
        return answer

    async def _next(self, queue: asyncio.Queue[T]) -> T:
        return await self._patiently(queue.get())

    async def _patiently(self, awaitable: Awaitable[T]) -> T:
        waiting = asyncio.ensure_future(awaitable)
        await asyncio.wait({waiting, self.reading}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        if not waiting.done():
            waiting.cancel()
            raise AssertionError(f"what was waited for did not come:\n{self._transcript()}")
        return waiting.result()

    def _transcript(self) -> str:
        return "".join(self.lines)


Make = Callable[[RunningServer, Link, str, str], Client]


class Scene:
    """The clients of a test, and their links; nothing is left of them when it ends."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.clients: list[Client] = []
        self.links: list[Link] = []

    async def __aenter__(self) -> Scene:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        for link in self.links:
            link.close()

    async def enter(
        self, make: Make, name: str, resource: str, priority: int = 0, status: str = "", port: int | None = None
    ) -> Client:
        """A client that has logged in, behind a link, to another port of the server where that is told."""
        link = await Link(port or self.server.port).open()
        self.links.append(link)
        client = make(self.server, link, name, resource)
        self.clients.append(client)
        await client.arrives(priority, status)
        return client
