"""Clients that resume their sessions (XEP-0198), each behind a link of its own."""

from __future__ import annotations

import abc
import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.conversations.link import Link
from tests.conversations.people import Person
from tests.conversations.process import PATIENCE, RunningServer


class Client(abc.ABC):
    """One resource of a person; `link` is its way to the server."""

    link: Link

    @abc.abstractmethod
    async def arrives(self, priority: int, status: str) -> None:
        """Log in, enable stream management, and send the one presence of the session."""

    @abc.abstractmethod
    async def says(self, to: str, *bodies: str) -> None:
        """Send messages; when it returns they were given to the operating system, and are remembered."""

    @abc.abstractmethod
    async def hears(self) -> str:
        """The body of the next message."""

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
    def quiet(self) -> bool:
        """Whether everything was heard that has come."""

    @abc.abstractmethod
    async def close(self) -> None:
        """The test is over."""


class SlixmppClient(Client):
    """slixmpp, with a connection for each time that the test asks for one."""

    def __init__(self, server: RunningServer, link: Link, name: str, resource: str) -> None:
        self.link = link
        self.person = Person(server, name, resource)
        self.person.port = link.port
        self.person.register_plugin("xep_0198")
        self.sm = self.person.plugin["xep_0198"]
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

    async def hears(self) -> str:
        return str((await self.person.hears())["body"])

    async def acknowledged(self) -> None:
        await self._written()
        self.sm.request_ack()
        while self.sm.unacked_queue:
            await self.person.wait_until("stanza_acked", PATIENCE)

    async def gone(self) -> None:
        await asyncio.wait_for(self.disconnected.wait(), PATIENCE)

    async def resumes(self) -> None:
        await self.gone()
        self.disconnected.clear()
        resumed = asyncio.ensure_future(self.person.wait_until("session_resumed", PATIENCE))
        failed = asyncio.ensure_future(self.person.wait_until("sm_failed", PATIENCE))
        self.person.connect("127.0.0.1", self.link.port)
        done, _ = await asyncio.wait({resumed, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed in done:
            resumed.cancel()
            raise AssertionError(f"not resumed: {ElementTree.tostring(failed.result().xml).decode()}")
        failed.cancel()
        await resumed
        assert len(self.binds) == 1

    async def _written(self) -> None:
        # slixmpp forgets what is still in this queue when the connection goes.
        await asyncio.wait_for(self.person.waiting_queue.join(), PATIENCE)

    def quiet(self) -> bool:
        return self.person.heard.empty()

    async def close(self) -> None:
        self.person.abort()


class NodeClient(Client):
    """@xmpp/client in a Node.js of its own; it comes back by itself as soon as it can."""

    def __init__(self, folder: Path, link: Link, name: str, resource: str) -> None:
        self.link = link
        script = Path(__file__).with_name("resume.mjs")
        self.command = ["node", str(script), str(folder), f"xmpp://127.0.0.1:{link.port}", name, resource]
        self.lines: list[str] = []
        self.disconnected = asyncio.Event()
        self.sessions: asyncio.Queue[str] = asyncio.Queue()  # "online" for a new one, "resumed" for the old one
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.told: asyncio.Queue[str] = asyncio.Queue()  # answers to commands

    async def arrives(self, priority: int, status: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1"},
        )  # fmt: skip
        self.reading = asyncio.ensure_future(self._read())
        self._do("start")
        assert await self._next(self.sessions) == "online"
        assert await self._next(self.told) == "enabled"
        self._do("presence", priority=priority, status=status)
        await self.acknowledged()

    async def says(self, to: str, *bodies: str) -> None:
        for body in bodies:
            self._do("say", to=to, body=body)
            assert await self._next(self.told) == "said"

    async def hears(self) -> str:
        return await self._next(self.heard)

    async def acknowledged(self) -> None:
        self._do("acknowledged")
        assert await self._next(self.told) == "acknowledged"

    async def gone(self) -> None:
        await self._patiently(self.disconnected.wait())

    async def resumes(self) -> None:
        assert await self._next(self.sessions) == "resumed", self._transcript()

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
                self.heard.put_nowait(happened["body"])
            elif event in ("online", "resumed"):
                self.disconnected.clear()
                self.sessions.put_nowait(event)
            elif event == "disconnect":
                self.disconnected.set()
            elif event in ("enabled", "said", "acknowledged"):
                self.told.put_nowait(event)

    async def _next(self, queue: asyncio.Queue[str]) -> str:
        return await self._patiently(queue.get())

    async def _patiently(self, awaitable: Awaitable[Any]) -> Any:
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

    async def enter(self, make: Make, name: str, resource: str, priority: int = 0, status: str = "") -> Client:
        """A client that has logged in, behind a link."""
        link = await Link(self.server.port).open()
        self.links.append(link)
        client = make(self.server, link, name, resource)
        self.clients.append(client)
        await client.arrives(priority, status)
        return client
