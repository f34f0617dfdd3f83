"""Clients that come by HTTP."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request, TextMessage

from tests.support.http import Connection
from tests.support.world import Player, World
from xmppd.http.site import Site
from xmppd.net import websocket
from xmppd.wire.parser import StreamEnd, StreamHeader

FRAMING = "{urn:ietf:params:xml:ns:xmpp-framing}"


def web_world(config: str = "", sections: str = "[host:example.org]\n") -> World:
    """A server that is ready, and reached by HTTP."""
    world = World(config, sections)
    websocket.set_up(world.service)
    world.server.ready = True
    return world


class WebSocketPlayer(Player):
    """A client over a WebSocket."""

    def __init__(
        self, world: World, *, peer: str = "192.0.2.1", secure: bool = True, bindings: dict[str, bytes] | None = None,
        headers: dict[str, str] | None = None, subprotocols: tuple[str, ...] = ("xmpp",), site: Site | None = None,
    ) -> None:  # fmt: skip
        self.connection = Connection(world, peer, site, secure=secure, bindings=bindings)
        self.frames = WSConnection(ConnectionType.CLIENT)
        super().__init__(world, self.connection.wire, None)
        self.header = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='{host}' version='1.0'/>"
        self.accepted = False
        self.closed_with: int | None = None
        self.pings = 0
        self.pongs: list[bytes] = []
        self.messages: list[str] = []
        self._part = ""
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.transmit(
            Request(host="localhost", target="/xmpp-websocket", subprotocols=list(subprotocols), extra_headers=extra)
        )
        self._read()

    def transmit(self, event: Event) -> None:
        """Send something of a WebSocket."""
        self.connection.sends_only(self.frames.send(event))

    def sends_only(self, xml: str | bytes) -> None:
        """A message."""
        self.transmit(TextMessage(xml if isinstance(xml, str) else xml.decode()))

    def sends_raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.connection.sends(data)

    def disconnects(self) -> None:
        """The connection breaks."""
        self.connection.breaks()

    def _read(self) -> None:
        data = self.connection.received()
        if not data:
            return
        self.frames.receive_data(data)
        for event in self.frames.events():
            self._take(event)

    def _take(self, event: Any) -> None:
        if isinstance(event, AcceptConnection):
            assert event.subprotocol == "xmpp"
            self.accepted = True
        elif isinstance(event, TextMessage):
            self._part += event.data
            if event.message_finished:
                message, self._part = self._part, ""
                self.messages.append(message)
                self._inbox.append(_event(ElementTree.fromstring(message)))
        elif isinstance(event, Ping):
            self.pings += 1
        elif isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            self.closed_with = event.code
        else:
            assert not isinstance(event, BytesMessage), event


def _event(element: ElementTree.Element) -> Any:
    """An element as the tests of streams know it."""
    if element.tag == f"{FRAMING}open":
        return StreamHeader(dict(element.attrib), {})
    return StreamEnd() if element.tag == f"{FRAMING}close" else element
