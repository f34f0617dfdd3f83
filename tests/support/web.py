"""Clients that come by HTTP: over a WebSocket, or with BOSH."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from twisted.internet.task import Clock
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request, TextMessage

from tests.support.http import Answer, Connection, request
from tests.support.world import Player, Wire, World
from xmppd.http.site import Site
from xmppd.net import websocket
from xmppd.net.bosh import Bosh
from xmppd.net.bosh.session import MAX_INACTIVITY
from xmppd.net.framing import on_its_own
from xmppd.wire.parser import StreamEnd, StreamHeader

FRAMING = "{urn:ietf:params:xml:ns:xmpp-framing}"
BOSH = "{http://jabber.org/protocol/httpbind}"


def web_world(config: str = "", sections: str = "[host:example.org]\n", *, clock: Clock | None = None) -> World:
    """A server that is ready, and reached by HTTP."""
    world = World(config, sections, clock=clock)
    websocket.set_up(world.service)
    Bosh(world.service)
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


class BoshPlayer(Player):
    """A client with BOSH, as a browser speaks it: one request is always open, and another one made to send."""

    def __init__(
        self, world: World, *, peer: str = "192.0.2.1", secure: bool = True, hold: int | str = 1, wait: int | str = 60,
        site: Site | None = None, headers: dict[str, str] | None = None, **attributes: str,
    ) -> None:  # fmt: skip
        self.peer, self.secure = peer, secure
        self.site = site or Site(world.server)
        self.headers = headers or {}
        super().__init__(world, Wire(peer, secure, {}), None)
        self.rid = 1573741820
        self.sid = ""
        self.first = {"hold": str(hold), "wait": str(wait), "ver": "1.6", **attributes}
        self.open: list[Connection] = []
        self.answers: list[ElementTree.Element] = []
        self.polls = str(hold) != "0"  # by itself, whenever nothing is open
        self.condition: str | None = None

    def opens_only(self, host: str = "example.org") -> None:
        """Begin the session, or the stream anew."""
        version = "xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'"
        if not self.sid:
            more = " ".join(f"{name}='{value}'" for name, value in self.first.items())
            self.asks(f"to='{host}' xml:lang='en' {version} {more}")
        else:
            self.asks(f"to='{host}' xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh'")

    def sends_only(self, xml: str | bytes) -> None:
        """A request with something in it."""
        self.asks("", on_its_own(xml.encode() if isinstance(xml, str) else xml).decode())

    def asks(self, attributes: str = "", inner: str = "", rid: int | None = None) -> Connection:
        """A request, on a connection of its own; the next one, unless `rid` says which."""
        if rid is None:
            rid, self.rid = self.rid, self.rid + 1
        sid = f"sid='{self.sid}'" if self.sid else ""
        body = f"<body xmlns='http://jabber.org/protocol/httpbind' rid='{rid}' {sid} {attributes}>{inner}</body>"
        return self.posts(body)

    def posts(self, body: str | bytes) -> Connection:
        """Anything at all."""
        connection = Connection(self.world, self.peer, self.site, secure=self.secure)
        self.open.append(connection)
        connection.sends(request("POST", "/http-bind", body, **self.headers))
        return connection

    def disconnects(self) -> None:
        """All connections break, and the client is not heard of again."""
        self.polls = False
        for connection in self.open:
            connection.breaks()
        self.open.clear()

    def _read(self) -> None:
        self.world.settle()
        while True:
            came = [(connection, data) for connection in self.open if (data := connection.received())]
            for connection, data in came:
                self.open.remove(connection)
                answer = Answer(data)
                assert answer.status == 200, data
                self._take(ElementTree.fromstring(answer.body))
            if self.polls and self.sid and not self.open and self.condition is None:
                self.asks()
                self.world.settle()
            elif not came:
                return

    def _take(self, body: ElementTree.Element) -> None:
        assert body.tag == f"{BOSH}body"
        self.answers.append(body)
        if body.get("sid"):
            self.sid = body.get("sid", "")
            self._inbox.append(StreamHeader(dict(body.attrib), {}))
        self._inbox += [_event(element) for element in body]
        if body.get("type") == "terminate":
            self.condition = body.get("condition", "")
            self._inbox.append(StreamEnd())
            self.wire.closed = True


def bosh_romeo(world: World, resource: str = "web", **options: object) -> BoshPlayer:
    world.account("romeo@example.org")
    player = BoshPlayer(world, **options)  # type: ignore[arg-type]
    player.authenticate("romeo", "example.org", "secret")
    player.bind(resource)
    return player


def by_hand(world: World, **options: object) -> BoshPlayer:
    """A client that is bound, and makes no request by itself; none is open."""
    player = bosh_romeo(world, **options)
    player._read()
    player.polls = False
    player.asks(f"pause='{MAX_INACTIVITY.default.rstrip('s')}'")
    player._read()
    assert not player.open
    player.answers.clear()
    return player


def body(connection: Connection) -> ElementTree.Element | None:
    """What a request was answered, None where it still waits."""
    connection.world.settle()
    data = connection.received()
    return ElementTree.fromstring(Answer(data).body) if data else None


def answered(connection: Connection) -> ElementTree.Element:
    answer = body(connection)
    assert answer is not None
    return answer


def is_ended(world: World) -> bool:
    world.settle()
    return world.service.counts() == {} and world.server.sessions.count == 0
