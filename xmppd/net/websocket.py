"""XMPP over WebSockets (RFC 7395): the same streams as over TCP, with each element in a message of its own.

Frames are read and written by wsproto. TLS is that of HTTP, ended here or by a trusted proxy in front; there is no
STARTTLS, and without TLS nobody logs in where ``c2s_require_encryption`` is on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import h11
from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, RejectConnection, Request, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from xmppd.core.http import WEBSOCKET_PATH, HttpRequest, HttpResponse
from xmppd.net.addresses import TOO_MANY
from xmppd.net.connection import Connection
from xmppd.net.framing import Framing, on_its_own
from xmppd.net.header import MAX_ADDRESS
from xmppd.net.service import ClientService
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.parser import Event, Limits, StreamEnd, StreamHeader, StreamParser
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

SUBPROTOCOL = "xmpp"
FRAME_COST = 100  # bytes that a frame counts beside what is in it

# What a message stands in, for a parser that knows streams only.
_AROUND = f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'>".encode()


def set_up(clients: ClientService) -> None:
    """Answer at `WEBSOCKET_PATH`."""

    def handle(request: HttpRequest) -> HttpResponse:
        if not clients.server.ready:
            return HttpResponse(503, b"the server is starting or stopping\n")
        return _upgrade(clients, request)

    clients.server.http.on("GET", WEBSOCKET_PATH, handle)


def _upgrade(clients: ClientService, request: HttpRequest) -> HttpResponse:
    """Section 3.1: the handshake of RFC 6455 section 4.2, for the subprotocol of XMPP."""
    handshake = H11Handshake(ConnectionType.SERVER)
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, values in request.headers.items()
               for value in values]  # fmt: skip
    try:
        handshake.initiate_upgrade_connection(headers, request.path)
        offered = next(event.subprotocols for event in handshake.events() if isinstance(event, Request))
    except RemoteProtocolError as error:
        hint = error.event_hint if isinstance(error.event_hint, RejectConnection) else RejectConnection()
        said = {name.decode("latin-1"): value.decode("latin-1") for name, value in hint.headers}
        return HttpResponse(hint.status_code, b"this takes a WebSocket\n", headers=said)
    except (h11.ProtocolError, UnicodeError):
        return HttpResponse(400, b"this takes a WebSocket\n")
    if SUBPROTOCOL not in offered:
        return HttpResponse(400, b"this takes a WebSocket with the subprotocol xmpp\n")
    accepted = handshake.send(AcceptConnection(subprotocol=SUBPROTOCOL))

    def take_over(connection: Connection) -> WebSocket:
        connection.write(accepted)
        return WebSocket(clients, connection, request)

    return HttpResponse(101, takes_over=take_over)


# ---- how a stream is framed


class MessageParser:
    """Reads messages, each of which is one element (section 3.3)."""

    unfinished = False  # what is not whole in its message is an error

    def __init__(self, limits: Limits) -> None:
        self._parser = StreamParser(limits)
        self._parser.feed(_AROUND)

    @property
    def limits(self) -> Limits:
        """See `Parser`."""
        return self._parser.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._parser.limits = limits

    def feed(self, data: bytes) -> list[Event]:
        """The event of one message."""
        if not data.startswith(b"<"):
            return [StreamError("not-well-formed", "a message begins with an element")]
        events = self._parser.feed(data)
        if events and isinstance(events[-1], StreamError):
            return events[-1:]
        if len(events) != 1 or not isinstance(events[0], Stanza) or self._parser.unfinished:
            return [StreamError("not-well-formed", "a message is one element, and all of it")]
        element = events[0]
        if element.xmlns != ns.FRAMING:
            return events
        if element.name == "open":
            return [StreamHeader(element.attributes, {"": ns.CLIENT})]
        return [StreamEnd() if element.name == "close" else StreamError("unsupported-stanza-type")]

    def rest(self) -> None:
        """See `Parser`: nothing is kept from one document to the next."""

    def close(self) -> None:
        """See `Parser`."""
        self._parser.close()


def opening(domain: str, to: str | None, id: str) -> bytes:
    """The server's ``<open/>`` (section 3.4)."""
    to = to if to and len(to) < MAX_ADDRESS else None
    return tag("open", {"xmlns": ns.FRAMING, "from": domain, "to": to, "id": id, "version": "1.0", "xml:lang": "en"})


FRAMING = Framing("websocket", MessageParser, opening, tag("close", {"xmlns": ns.FRAMING}))


# ---- the transport of a stream


class WebSocket:
    """One WebSocket: the `Transport` of its stream, and the `Receiver` of its connection."""

    def __init__(self, clients: ClientService, connection: Connection, request: HttpRequest) -> None:
        self._connection = connection
        self._frames = Frames(ConnectionType.SERVER)
        self._message = bytearray()  # what has come of one that is not whole yet
        self._closing = False
        self._proxied = request.proxied
        self._gone = False
        self.peer = request.client
        self.secure = request.secure
        self.stream = clients.stream(self, FRAMING)
        if not self.stream.admitted:
            self.stream.end(StreamError("policy-violation", TOO_MANY))

    # ---- from the connection

    def data_received(self, data: bytes) -> None:
        """See `Receiver`."""
        if self._closing:
            return
        self._frames.receive_data(data)
        cost = len(data)
        for event in self._frames.events():
            cost += FRAME_COST
            if isinstance(event, TextMessage):
                self._take(event)
            elif isinstance(event, Ping):
                self._connection.write(self._frames.send(event.response()))
            elif isinstance(event, CloseConnection):  # the client's, or what is wrong with what it sends
                self._part(event.code, event.reason or "")
            elif isinstance(event, BytesMessage):
                self._part(CloseReason.UNSUPPORTED_DATA, "messages are text")  # section 3.2
            if self._closing:
                return
        self.stream.slow_down(cost)

    def _take(self, event: TextMessage) -> None:
        self._message += event.data.encode()
        if len(self._message) > self.stream.limits.bytes:
            text = f"more than {self.stream.limits.bytes} bytes in one message"
            self.stream.end(StreamError("policy-violation", text))
        elif event.message_finished:
            message = bytes(self._message)
            self._message.clear()
            self.stream.feed(message)

    def _part(self, code: int, reason: str) -> None:
        """The WebSocket ends, and the stream was not closed before (section 3.6): its session may be resumed."""
        self._close_frame(code, reason)
        self._connection.close()
        self._tell_gone(f"the WebSocket was closed: {reason}" if reason else "the WebSocket was closed")

    def _close_frame(self, code: int, reason: str = "") -> None:
        self._closing = True
        with contextlib.suppress(LocalProtocolError):  # both ends may say it at once
            self._connection.write(self._frames.send(CloseConnection(code=code, reason=reason or None)))

    def secured(self) -> None:
        """See `Receiver`: TLS was there before the WebSocket."""

    def connection_lost(self, reason: str) -> None:
        """See `Receiver`."""
        self._closing = True
        self._tell_gone(reason)

    def _tell_gone(self, reason: str) -> None:
        if not self._gone:
            self._gone = True
            self.stream.connection_lost(reason)

    # ---- for the stream; see `Transport`

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client."""
        return self._connection.unsent

    @property
    def tls_version(self) -> str:
        """The version of TLS, where that ends here."""
        return "" if self._proxied else self._connection.tls_version

    def write(self, data: bytes) -> None:
        """Send an element as a message."""
        if not self._closing:
            self._connection.write(self._frames.send(TextMessage(on_its_own(data).decode())))

    def keep_alive(self) -> None:
        """Section 3.8: by pings of the WebSocket, and not by white space."""
        if not self._closing:
            self._connection.write(self._frames.send(Ping()))

    def start_tls(self, context: object) -> None:
        """Never: section 3.9."""
        raise RuntimeError("TLS does not begin within a WebSocket")

    def channel_binding(self, type: str) -> bytes | None:
        """None where TLS may end in front of this server."""
        return None if self._proxied else self._connection.channel_binding(type)

    def pause_reading(self) -> None:
        """Leave what arrives to the kernel."""
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._connection.resume_reading()

    def when_drained(self, callback: Callable[[bool], None]) -> None:
        """Call back when all that was written has gone to the kernel, or never will."""
        self._connection.when_drained(callback)

    def close(self) -> None:
        """The stream is closed: so is the WebSocket."""
        if not self._closing:
            self._close_frame(CloseReason.NORMAL_CLOSURE)
            self._connection.close()

    def abort(self, reason: str) -> None:
        """Drop the connection now."""
        self._connection.abort(reason)
