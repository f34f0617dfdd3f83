"""The HTTP site: twisted.web reads requests, and what is in `HttpRoutes` answers them.

Framing is twisted.web's; the limits are here: how much a head and a body may have, how long a request may take to come,
and how many connections there are. Whoever may not ask is told so before the body is read, and the connection closed.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.logger import Logger
from twisted.web import http
from twisted.web.http import RESPONSES

from xmppd.config import Addresses, Duration, Integer, Option, Ports, Scope, Size
from xmppd.core.clock import Timer
from xmppd.core.http import HTTPS_PORTS, HttpRequest, HttpResponse, Route, host_name
from xmppd.core.peers import TRUSTED_PROXIES, is_trusted
from xmppd.core.server import Server
from xmppd.http.forwarded import origin_of
from xmppd.http.transport import HttpTransport
from xmppd.net.certificates import Certificates
from xmppd.net.connection import Connection, Flusher
from xmppd.net.service import C2S_MAX_UNSENT, C2S_WRITE_TIMEOUT

HTTP_PORTS = Option("http_ports", Ports(), "5280", "Ports for HTTP.", scope=Scope.SERVER, live=False)
HTTP_INTERFACES = Option(
    "http_interfaces", Addresses(), "", "Addresses for HTTP; where none is given those of ``interfaces``.",
    scope=Scope.SERVER, live=False,
)  # fmt: skip
MAX_CONTENT_SIZE = Option(
    "http_max_content_size", Size(minimum=1024), "1M", "The largest body of a request that is read.",
    scope=Scope.SERVER,
)  # fmt: skip
REQUEST_TIMEOUT = Option(
    "http_request_timeout", Duration(minimum=1), "30s", "How long a request may take to come, from its first byte on.",
    scope=Scope.SERVER,
)  # fmt: skip
IDLE_TIMEOUT = Option(
    "http_idle_timeout", Duration(minimum=1), "60s", "How long a connection is kept between two requests.",
    scope=Scope.SERVER,
)  # fmt: skip
MAX_CONNECTIONS = Option(
    "http_max_connections", Integer(minimum=1), "1000", "How many HTTP connections there may be at once.",
    scope=Scope.SERVER,
)  # fmt: skip
OPTIONS = (
    HTTP_PORTS, HTTPS_PORTS, HTTP_INTERFACES, MAX_CONTENT_SIZE, REQUEST_TIMEOUT, IDLE_TIMEOUT, MAX_CONNECTIONS,
)  # fmt: skip

# What twisted says of these types is not what they are; they are used by their documentation.
_Request: Any = http.Request
_Channel: Any = http.HTTPChannel
_Factory: Any = http.HTTPFactory

MAX_HEAD = 16 * 1024  # bytes of a request's line and headers
MAX_HEADERS = 100


class Request(_Request):
    """A request as twisted.web has it, until it is whole."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """For twisted.web: the request is whole. Nothing of it is looked at as if it came from a form."""
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.process()

    def process(self) -> None:
        """For twisted.web: answer."""
        route, request = self.channel.asked
        request.body = self.content.read()
        self.content.close()
        self.channel.factory.server.tasks.start(self._answer(route, request), "an HTTP request")

    async def _answer(self, route: Route, request: HttpRequest) -> None:
        site = self.channel.factory
        try:
            answer = route.handle(request)
            response = await answer if isinstance(answer, Awaitable) else answer
            headers = _headers(response, route)
        except Exception:
            site.logger.failure("{method} {path} failed", method=request.method, path=request.path)
            response = HttpResponse(500)
            headers = _headers(response, route)
        request.body, request.lost = b"", None  # the connection remembers the request until the next one comes
        if self._disconnected:
            return
        if response.takes_over is not None:
            self.channel.hand_over(response.takes_over)
            return
        self.setResponseCode(response.status)
        for name, value in headers.items():
            self.setHeader(name, value)
        self.write(response.body if request.method != "HEAD" else b"")
        self.finish()

    def connectionLost(self, reason: Any) -> None:
        """For twisted.web: nobody waits for the answer any more."""
        request = self.channel.asked[1] if self.channel is not None and self.channel.asked else None
        super().connectionLost(reason)
        if request is not None and request.lost is not None:
            request.lost()

    def handleContentChunk(self, data: bytes) -> None:
        """For twisted.web: more of the body has come."""
        limit = min(self.channel.asked[0].max_body, self.channel.factory.server.settings[MAX_CONTENT_SIZE])
        if self.content.tell() + len(data) > limit:
            self.channel.refuse(HttpResponse(413, b"the body is too large\n"))
        elif not self.channel.refused:
            super().handleContentChunk(data)


class Channel(_Channel):
    """One connection."""

    requestFactory = Request
    totalHeadersSize = MAX_HEAD
    maxHeaders = MAX_HEADERS
    asked: tuple[Route, HttpRequest] | None = None
    refused = False
    factory: Site
    _buffer: bytes  # of twisted.web: what was read and not looked at ...
    _dataBuffer: list[bytes]  # ... also while a request is answered
    _deadline: Timer | None = None

    def connectionMade(self) -> None:
        """For twisted.web."""
        super().connectionMade()
        self.factory.connections.add(self)
        if len(self.factory.connections) > self.factory.server.settings[MAX_CONNECTIONS]:
            self.refuse(HttpResponse(503, b"too many connections\n"))

    def connectionLost(self, reason: Any) -> None:
        """For twisted.web."""
        self._cancel_deadline()
        self.factory.connections.discard(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """For twisted.web: a request is complete in time, or there is none."""
        if self.refused:
            return
        if self._deadline is None and not self._handlingRequest:
            timeout = self.factory.server.settings[REQUEST_TIMEOUT]
            self._deadline = self.factory.server.clock.callLater(timeout, self._too_late)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        """For twisted.web: who may ask for this?"""
        super().allHeadersReceived()
        twisted_request = self.requests[-1]
        headers: dict[str, list[str]] = {}
        for name, values in twisted_request.requestHeaders.getAllRawHeaders():
            headers[name.decode("latin-1").lower()] = [value.decode("latin-1") for value in values]
        if self._version != b"HTTP/1.1":  # RFC 6455 section 4.2.1
            headers.pop("upgrade", None)
        peer = str(self.transport.connection.peer)
        request = HttpRequest(
            self._command.decode("latin-1"), self._path.partition(b"?")[0].decode("latin-1"), peer, peer,
            self.transport.connection.secure, headers,
        )  # fmt: skip
        found = self.factory.admit(request, self.length)
        if isinstance(found, HttpResponse):
            self.refuse(found)
        else:
            self.asked = found, request

    def allContentReceived(self) -> None:
        """For twisted.web: the request is whole."""
        self._cancel_deadline()
        if not self.refused:
            super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """For twisted.web: a body, or the next request."""
        if not self.refused:
            super().rawDataReceived(data)

    def timeoutConnection(self) -> None:
        """For twisted.web: nothing has come for a while; but perhaps an answer is still on its way."""
        if self.transport.connection.unsent:
            self.setTimeout(self.timeOut)
        else:
            super().timeoutConnection()

    def hand_over(self, takes_over: Callable[[Any], Any]) -> None:
        """The connection is for something else than HTTP from now on."""
        self.factory.connections.discard(self)
        read_ahead = b"".join([*self._dataBuffer, self._buffer])
        self._dataBuffer, self._buffer = [], b""
        self.transport.hand_over(takes_over, read_ahead)

    def refuse(self, response: HttpResponse) -> None:
        """Answer what was not read to its end, and close."""
        if self.refused:
            return
        self.refused = True
        reason = RESPONSES.get(response.status, b"Refused").decode()
        head = [f"HTTP/1.1 {response.status} {reason}", "Connection: close"]
        headers = _headers(response, self.asked[0] if self.asked is not None else None)
        head += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*head, "", ""]).encode("latin-1") + response.body)
        self.loseConnection()

    def _too_late(self) -> None:
        self._deadline = None
        self.refuse(HttpResponse(408, b"this took too long\n"))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _headers(response: HttpResponse, route: Route | None) -> dict[str, str]:
    """The headers of an answer; nothing of it is to be taken for something else, shown as a page, or kept."""
    headers = {
        "Content-Type": response.type, "Content-Length": str(len(response.body)), "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Cache-Control": "no-store",
        **response.headers,
    }  # fmt: skip
    if route is not None and route.cors:
        headers.update(_EVERY_ORIGIN)
    if any("\r" in value or "\n" in value for value in headers.values()):
        raise ValueError("a header has a line end")
    return headers


_EVERY_ORIGIN = {"Access-Control-Allow-Origin": "*"}


def _preflight(routes: Mapping[str, Route]) -> Route:
    """What a browser asks before it sends for a page of another origin what a form could not send."""
    headers = {
        "Access-Control-Allow-Methods": ", ".join(sorted(method for method, route in routes.items() if route.cors)),
        "Access-Control-Allow-Headers": "Content-Type", "Access-Control-Max-Age": "86400",
    }  # fmt: skip
    return Route(lambda request: HttpResponse(200, headers=headers), lambda request: None, 0, cors=True)


class Site(_Factory):
    """Answers on the ports for HTTP and for HTTPS."""

    protocol = Channel
    noisy = False

    def __init__(self, server: Server) -> None:
        super().__init__(timeout=server.settings[IDLE_TIMEOUT], reactor=server.clock)
        self.server = server
        self.connections: set[Channel] = set()
        self.logger = Logger(namespace="xmppd.http")

    def connect(self, connection: Connection) -> Channel:
        """Somebody has connected: begin to answer."""
        channel: Channel = self.buildProtocol(IPv4Address("TCP", connection.peer, 0))
        transport = HttpTransport(connection, channel)
        connection.start(transport)
        channel.makeConnection(transport)
        return channel

    def log_request(self, request: HttpRequest, status: int) -> None:
        """Say what was asked for and refused."""
        self.logger.info("{client}: {method} {path}: {status}", client=request.client, method=request.method,
                      path=request.path[:200], status=status)  # fmt: skip

    def admit(self, request: HttpRequest, length: int | None) -> Route | HttpResponse:
        """Who answers a request whose body has so many bytes, None where that is not said; or why nobody does."""
        try:
            self._see_through_proxies(request)
        except ValueError as error:
            self.log_request(request, 400)
            return HttpResponse(400, f"{error}\n".encode())
        routes, refused = self._find(request)
        if not routes:
            return HttpResponse(404, b"there is nothing here\n")
        cors = any(route.cors for route in routes.values())
        route = routes.get(request.method)
        if route is None and cors and request.method == "OPTIONS":
            return _preflight(routes)
        refused = (route or next(iter(routes.values()))).admit(request) or refused
        if refused is None and route is None:
            refused = HttpResponse(405, b"not by this method\n", headers={"Allow": ", ".join(sorted(routes))})
        if route is not None and (length or 0) > min(route.max_body, self.server.settings[MAX_CONTENT_SIZE]):
            refused = refused or HttpResponse(413, b"the body is too large\n")
        if refused is not None or route is None:
            refused = refused or HttpResponse(404)
            self.log_request(request, refused.status)
            refused.headers.update(_EVERY_ORIGIN if cors else {})
            return refused
        return route

    def _see_through_proxies(self, request: HttpRequest) -> None:
        """Whom a request comes from, and how. Raises `ValueError` for what no proxy says."""
        trusted = self.server.settings[TRUSTED_PROXIES]
        request.client, came_by_https = origin_of(request.peer, request.headers, trusted)
        request.proxied = is_trusted(request.peer, trusted) or request.is_forwarded
        if is_trusted(request.peer, trusted) and request.is_forwarded:
            request.secure = came_by_https

    def _find(self, request: HttpRequest) -> tuple[dict[str, Route], HttpResponse | None]:
        """The routes of the server, or of the host that the request names; or of the one host that has any. Where there
        are several, and none is named, also what to say to whoever may ask."""
        routes = self.server.http.find(request.path)
        if routes:
            return routes, None
        hosts = {name: routes for name, host in self.server.hosts.items() if (routes := host.http.find(request.path))}
        named = host_name(request.header("host"))
        if len(hosts) > 1 and named not in hosts:
            text = f"the Host header has to be one of: {', '.join(hosts)}\n"
            return next(iter(hosts.values())), HttpResponse(421, text.encode())
        return hosts.get(named) or next(iter(hosts.values()), {}), None

    def shut_down(self) -> None:
        """Close what is open."""
        for channel in list(self.connections):
            channel.loseConnection()


class HttpService:
    """The site on its ports, and its connections. `reactor` is for the sockets, `certificates` for HTTPS."""

    def __init__(self, server: Server, certificates: Certificates, reactor: Any) -> None:
        self._site = Site(server)
        self.connections: Collection[Channel] = self._site.connections
        self._server = server
        self._certificates = certificates
        self._reactor = reactor
        self._flusher = Flusher(reactor)

    def accepted(self, sock: socket.socket, peer: str) -> None:
        """Somebody has connected to an ordinary port."""
        self._start(sock, peer, tls=False)

    def accepted_tls(self, sock: socket.socket, peer: str) -> None:
        """Somebody has connected to a port for HTTPS."""
        self._start(sock, peer, tls=True)

    def _start(self, sock: socket.socket, peer: str, tls: bool) -> None:
        settings = self._server.settings
        connection = Connection(
            self._reactor, self._flusher, sock, peer, settings[C2S_MAX_UNSENT], settings[C2S_WRITE_TIMEOUT]
        )
        if tls:  # at once, so that nothing is said before it
            connection.start_tls(self._certificates.context(next(iter(self._server.hosts))))
        self._site.connect(connection)

    def shut_down(self) -> None:
        """Close what is open."""
        self._site.shut_down()
