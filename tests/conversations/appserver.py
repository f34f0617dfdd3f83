"""slixmpp's component client as an app server (XEP-0357), and a server in memory that it and clients can connect to.

That server's clock is moved by the test, so that hours of hibernation pass at once; what goes over the sockets is real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from slixmpp import ClientXMPP, ComponentXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from tests.conversations.process import PATIENCE
from tests.support.world import Wire, World
from xmppd.net.framing import TCP

PUBSUB = "{http://jabber.org/protocol/pubsub}"
PUSH = "{urn:xmpp:push:0}"
DATA = "{jabber:x:data}"
QUIET_TURNS = 200


@dataclass
class Push:
    """A push: the node, what the summary says, and the request itself."""

    node: str
    fields: dict[str, str]
    iq: Any

    @property
    def important(self) -> bool:
        """Whether it has a text."""
        return "last-message-body" in self.fields


class AppServer(ComponentXMPP):  # type: ignore[misc]
    """An app server. It answers each push with a result, unless `refusal`, or `silent`, says otherwise."""

    def __init__(self, domain: str, secret: str, port: int) -> None:
        super().__init__(domain, secret, "127.0.0.1", port)
        self.pushed: asyncio.Queue[Push] = asyncio.Queue()
        self.refusal: tuple[str, str] | None = None
        self.silent = False
        path = f"{{jabber:component:accept}}iq/{PUBSUB}pubsub"
        self.register_handler(Callback("push", MatchXPath(path), self._asked))

    async def arrives(self) -> AppServer:
        """Connect, and shake hands."""
        started = asyncio.ensure_future(self.wait_until("session_start", PATIENCE))
        self.connect()
        await started
        return self

    async def leaves(self) -> None:
        """Go away."""
        gone = asyncio.ensure_future(self.wait_until("disconnected", PATIENCE))
        await self.disconnect()
        await gone

    def _asked(self, iq: Any) -> None:
        publish = iq.xml.find(f"{PUBSUB}pubsub/{PUBSUB}publish")
        notification = publish.find(f"{PUBSUB}item/{PUSH}notification")
        fields = {field.get("var"): field.findtext(f"{DATA}value") for field in notification.iter(f"{DATA}field")}
        assert fields.pop("FORM_TYPE") == "urn:xmpp:push:summary", ElementTree.tostring(notification)
        if self.refusal is not None:
            self.refuses(iq, *self.refusal)
        elif not self.silent:
            iq.reply().send()
        self.pushed.put_nowait(Push(publish.get("node"), fields, iq))

    def refuses(self, iq: Any, condition: str, type: str) -> None:
        """Answer with an error."""
        reply = iq.reply()
        reply["type"] = "error"
        reply["error"]["condition"] = condition
        reply["error"]["type"] = type
        reply.send()

    async def push(self) -> Push:
        """The next push."""
        return await asyncio.wait_for(self.pushed.get(), PATIENCE)


class Bridge:
    """A world that real clients and components can connect to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.moved = 0  # how often something was read or written

    async def open(self) -> Bridge:
        """Listen, on ports of its own."""
        self._clients = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self._components = await asyncio.start_server(self._component, "127.0.0.1", 0)
        self.port = self._clients.sockets[0].getsockname()[1]
        self.component_port = self._components.sockets[0].getsockname()[1]
        return self

    def close(self) -> None:
        """The test is over."""
        self._clients.close()
        self._components.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = SocketWire(self, writer, True)  # as if under TLS, which is not what this is about
        await self._carry(reader, writer, self.world.service.stream(wire, TCP))

    async def _component(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._carry(reader, writer, self.world.components.stream(SocketWire(self, writer, False)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Any) -> None:
        try:
            while data := await reader.read(65536):
                self.moved += 1
                stream.data_received(data)
                self.world.settle()
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            return  # the test is over
        stream.connection_lost("the connection was closed")
        self.world.settle()
        writer.close()

    async def passes(self, seconds: float) -> None:
        """Time passes, step by step, and everybody does what they do then."""
        steps = int(seconds) if seconds < 20 else 20
        for _ in range(steps):
            await self.quiet()
            self.world.advance(seconds / steps)
        await self.quiet()

    async def quiet(self) -> None:
        """Let what is on the way arrive: nothing is, once nothing has moved for so many turns of the one loop that all
        ends run in."""
        turns = 0
        while turns < QUIET_TURNS:
            moved = self.moved
            await asyncio.sleep(0)
            self.world.settle()
            turns = turns + 1 if self.moved == moved else 0


class SocketWire(Wire):
    """A wire with a socket at its end."""

    def __init__(self, bridge: Bridge, writer: asyncio.StreamWriter, secure: bool) -> None:
        super().__init__("127.0.0.1", secure, {})
        self._bridge = bridge
        self._writer = writer

    def write(self, data: bytes) -> None:
        """See `Wire`."""
        if not self._writer.is_closing():
            self._bridge.moved += 1
            self._writer.write(data)

    def close(self) -> None:
        """See `Wire`."""
        super().close()
        self._writer.close()

    def abort(self, reason: str) -> None:
        """See `Wire`."""
        super().abort(reason)
        self._writer.close()


class Phone(ClientXMPP):  # type: ignore[misc]
    """slixmpp as a phone that can be woken, on a `Bridge`."""

    def __init__(self, bridge: Bridge, full: str) -> None:
        super().__init__(full, "secret", plugin_config={"feature_mechanisms": {"unencrypted_scram": True}})
        self.bridge = bridge
        self.enable_starttls = self.enable_direct_tls = False
        self.enable_plaintext = True
        self.heard: list[str] = []
        self.add_event_handler("message", self._hears)
        self.register_plugin("xep_0198")

    def _hears(self, message: Any) -> None:
        if message["body"]:
            self.heard.append(message["body"])

    async def arrives(self, presence: bool = True) -> Phone:
        """Log in, with stream management."""
        self.bridge.world.account(self.requested_jid.bare)
        enabled = asyncio.ensure_future(self.wait_until("sm_enabled", PATIENCE))
        self.connect("127.0.0.1", self.bridge.port)
        await enabled
        if presence:
            self.send_presence()
        await self.bridge.quiet()
        return self

    async def asks(self, xml: str) -> Any:
        """Send the payload of a set."""
        iq = self.make_iq_set(sub=ElementTree.fromstring(xml))
        return await iq.send(timeout=PATIENCE)

    async def wants_push(self, domain: str, node: str) -> None:
        """Enable push."""
        await self.asks(f"<enable xmlns='urn:xmpp:push:0' jid='{domain}' node='{node}'/>")
        self.plugin["xep_0198"].send_ack()
        await self.bridge.quiet()

    async def vanishes(self) -> None:
        """The network is gone."""
        gone = asyncio.ensure_future(self.wait_until("disconnected", PATIENCE))
        self.abort()
        await gone
        await self.bridge.quiet()

    async def returns(self) -> None:
        """It connects again, and resumes its session."""
        resumed = asyncio.ensure_future(self.wait_until("session_resumed", PATIENCE))
        self.connect("127.0.0.1", self.bridge.port)
        await resumed
        await self.bridge.quiet()


@asynccontextmanager
async def bridged(world: World) -> AsyncIterator[Bridge]:
    """A bridge to a world."""
    bridge = await Bridge(world).open()
    try:
        yield bridge
    finally:
        bridge.close()
