"""External components (XEP-0114 1.6): programs that serve a domain of their own, beside the hosts of this server.

A component opens a stream for its domain, and shows by a digest that it knows the secret of it; then stanzas from its
domain are believed, and those for its domain go to it. `Component` is the domain, which is there also while nobody
serves it; `ComponentStream` takes bytes and gives bytes, as a client's stream does.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.logger import Logger

from xmppd.config import Addresses as AddressesKind
from xmppd.config import Choice, Option, Ports, Scope, Settings, Size, Text
from xmppd.core.iq import check_iq
from xmppd.core.server import Server
from xmppd.net.addresses import TOO_MANY, Addresses
from xmppd.net.admission import Admission, begin
from xmppd.net.connection import Connection, Flusher
from xmppd.net.header import header_bytes
from xmppd.net.limits import after_login
from xmppd.net.service import C2S_MAX_UNSENT, C2S_WRITE_TIMEOUT
from xmppd.net.transport import Transport
from xmppd.wire import ns
from xmppd.wire.content import from_client, to_client
from xmppd.wire.errors import StanzaError, StreamError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.parser import BEFORE_LOGIN, Event, StreamHeader, StreamParser
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

COMPONENT_PORTS = Option(
    "component_ports", Ports(), "5347", "Ports for external components, where there is a section for one.",
    scope=Scope.SERVER, live=False,
)  # fmt: skip
COMPONENT_INTERFACES = Option(
    "component_interfaces", AddressesKind(), "127.0.0.1",
    "Addresses for external components. What they send and get is not encrypted.", scope=Scope.SERVER, live=False,
)  # fmt: skip
SECRET = Option(
    "secret", Text(), "", "What the external component of this domain shows to be let in.",
    scope=Scope.COMPONENT, secret=True,
)  # fmt: skip
CONFLICT_RESOLVE = Option(
    "component_conflict_resolve", Choice("kick_new", "kick_old"), "kick_new",
    "Who has to go when a component connects for a domain that another one serves already.",
)  # fmt: skip
MAX_QUEUE = Option(
    "component_max_queue", Size(minimum=65536), "4M",
    "How many bytes may wait for a component that does not read them; what comes then is refused.",
)  # fmt: skip
OPTIONS = (COMPONENT_PORTS, COMPONENT_INTERFACES, SECRET, CONFLICT_RESOLVE, MAX_QUEUE)

MAX_BACKLOG = 64  # stanzas of a component that wait for one that takes long; beyond it the component waits as well
WINDOW = 64 * 1024  # bytes that are on their way; what comes then waits here, where it can still be given back
STANZA_WEIGHT = 500  # bytes of memory that the smallest stanza takes


class Component:
    """A domain that a component serves while it is connected, as `stream`; a `Destination`."""

    def __init__(self, server: Server, domain: str, settings: Settings) -> None:
        self.domain = domain
        self.settings = settings
        self.stream: ComponentStream | None = None
        self.log = Logger(namespace=f"xmppd.component.{domain}")
        self._server = server
        self._waiting: deque[Stanza] = deque()
        self._size = 0  # of what waits, in bytes
        self._draining = False

    @property
    def connected(self) -> bool:
        """See `Destination`."""
        return self.stream is not None

    async def receive(self, stanza: Stanza) -> None:
        """See `Destination`."""
        if self.stream is None:
            raise StanzaError("service-unavailable", "the component is not connected", type="wait")
        if self._size + _weight(stanza) > self.settings[MAX_QUEUE]:
            raise StanzaError("resource-constraint", "too much waits for the component")
        self._waiting.append(stanza)
        self._size += _weight(stanza)
        self._send()

    def _send(self) -> None:
        """Send what waits, as far as it leaves."""
        stream = self.stream
        while stream is not None and self._waiting and not self._draining:
            if stream.transport.unsent >= WINDOW:
                self._draining = True
                stream.transport.when_drained(partial(self._drained, stream))
                continue
            stanza = self._waiting.popleft()
            self._size -= _weight(stanza)
            stream.transport.write(from_client(stanza, ns.COMPONENT))

    def _drained(self, stream: ComponentStream, well: bool) -> None:
        # Of a lost connection `lost` will tell, and what waits stays until then.
        if well and stream is self.stream:
            self._draining = False
            self._send()

    def serve(self, stream: ComponentStream) -> None:
        """A component has shown that it knows the secret; raises `StreamError` where another one is there."""
        old = self.stream
        if old is not None:
            if self.settings[CONFLICT_RESOLVE] == "kick_new":
                raise StreamError("conflict", "another component serves this domain")
            old.end(StreamError("conflict", "another component has connected for this domain"))
        self.stream = stream
        self._draining = False
        self.log.info("{session}: the component {domain} is connected, from {peer}",
                      session=stream.id[:8], domain=self.domain, peer=stream.transport.peer)  # fmt: skip

    def lost(self, stream: ComponentStream, reason: str) -> None:
        """A stream is over. What has not left yet comes back to its senders."""
        if self.stream is not stream:
            return
        self.stream = None
        self.log.info("{session}: the component {domain} is gone: {reason}",
                      session=stream.id[:8], domain=self.domain, reason=reason)  # fmt: skip
        self.give_back()

    def give_back(self) -> None:
        """Tell the senders of what has not left yet that it has not arrived."""
        waiting, self._waiting, self._size = self._waiting, deque(), 0
        for stanza in waiting:
            error = StanzaError("service-unavailable", "the component is not connected", type="wait")
            self._server.tasks.start(self._server.bounce(stanza, error), "the error for a component's stanza")


def _weight(stanza: Stanza) -> int:
    """What a stanza that waits takes, in bytes; about."""
    attributes = sum(len(name) + len(value) for name, value in stanza.attributes.items())
    return STANZA_WEIGHT + len(stanza.inner) + attributes + sum(len(uri) for _, uri in stanza.prefixes)


class ComponentStream:
    """One component's stream; a `Receiver` for its connection."""

    def __init__(self, service: ComponentService, transport: Transport) -> None:
        self.service = service
        self.transport = transport
        self.id = service.server.token()
        self.closed = False
        self._component: Component | None = None  # whom the header names ...
        self._serves = False  # ... and whether the component has shown that it is that one
        self._sent_header = False
        self._parser = StreamParser(BEFORE_LOGIN)
        self._events: deque[Event] = deque()
        self._busy = False
        server = service.server
        self._admission = Admission(service.addresses, transport.peer, server.settings, server.clock, self._too_late)

    @property
    def admitted(self) -> bool:
        """Whether its address may have one more stream that is not authenticated."""
        return self._admission.granted or self._serves

    # ---- from the connection

    def data_received(self, data: bytes) -> None:
        """Bytes of the component."""
        if not self.closed:
            self._events.extend(self._parser.feed(data))
            self._go_on()
            if len(self._events) > MAX_BACKLOG and not self.closed:
                self.transport.pause_reading()

    def secured(self) -> None:
        """Never: there is no TLS on these ports."""

    def connection_lost(self, reason: str) -> None:
        """The connection is gone, in order or not."""
        self._stop(reason)
        self.service.gone(self)

    def _routed(self, _: object) -> None:
        self._busy = False
        self._go_on()

    def _go_on(self) -> None:
        while self._events and not self._busy:
            try:
                self._handle(self._events.popleft())
            except StreamError as error:
                self._events.clear()
                self.end(error)
        if len(self._events) <= MAX_BACKLOG and not self.closed:
            self.transport.resume_reading()

    def _handle(self, event: Event) -> None:
        if isinstance(event, StreamHeader):
            self._open(event)
        elif not isinstance(event, Stanza):
            self.end(event if isinstance(event, StreamError) else None)
        elif self._serves:
            self._take(event)
        else:
            self._check(event)

    # ---- section 3: the header, and the handshake

    def _open(self, header: StreamHeader) -> None:
        try:
            domain = parse(header.attributes.get("to", "")).full
        except InvalidJID:
            domain = ""
        self._component = self.service.components.get(domain)
        self._send_header(domain if self._component is not None else None)
        if header.namespaces.get("") != ns.COMPONENT:
            raise StreamError("invalid-namespace", f"the default namespace has to be {ns.COMPONENT}")
        if self._component is None:
            raise StreamError("host-unknown", "this server has no such component")
        if not self.admitted:
            raise StreamError("policy-violation", TOO_MANY)

    def _send_header(self, domain: str | None) -> None:
        self._sent_header = True
        sender = domain if domain is not None else next(iter(self.service.server.hosts))
        self.transport.write(header_bytes(sender, None, self.id, ns.COMPONENT))

    def _check(self, element: Stanza) -> None:
        """The component shows what it knows: the digest is of the stream's id and the secret."""
        component = self._component
        if component is None or (element.xmlns, element.name) != (ns.COMPONENT, "handshake"):
            raise StreamError("not-authorized", "the handshake has to come first")
        secret = component.settings[SECRET]
        wanted = hashlib.sha1(f"{self.id}{secret}".encode()).hexdigest()  # noqa: S324
        if not hmac.compare_digest(wanted.encode(), element.text().strip().lower().encode()) or not secret:
            component.log.warn("{session}: a component from {peer} does not know the secret of {domain}",
                               session=self.id[:8], peer=self.transport.peer, domain=component.domain)  # fmt: skip
            raise StreamError("not-authorized", "the handshake is wrong")
        component.serve(self)
        self._serves = True
        self._admission.leave_address()
        self._admission.cancel_deadline()
        self._parser.limits = after_login(component.settings)
        self.transport.write(tag("handshake"))

    # ---- stanzas of the component

    def _take(self, element: Stanza) -> None:
        # COMPAT: some libraries send stanzas in the namespace of clients.
        if element.xmlns not in (ns.COMPONENT, ns.CLIENT):
            raise StreamError("invalid-namespace")
        if element.name not in ("message", "presence", "iq"):
            raise StreamError("unsupported-stanza-type")
        stanza = self._addressed(to_client(element))
        if len(stanza.inner) > self._parser.limits.bytes:
            raise StreamError("policy-violation", "the stanza is too large in the namespace of clients")
        running = self.service.server.tasks.start(self._route(stanza), "a stanza of a component")
        if running is not None:
            self._busy = True  # RFC 6120 section 10.1: what comes behind it stays behind it
            running.addBoth(self._routed)

    def _addressed(self, stanza: Stanza) -> Stanza:
        """The stanza with its sender, which has to be of the component's domain."""
        assert self._component is not None
        try:
            sender = parse(stanza.attributes.pop("from"))
        except KeyError:
            raise StreamError("improper-addressing", "a stanza has no sender") from None
        except InvalidJID:
            raise StreamError("invalid-from", "the sender is no address") from None
        if sender.domain != self._component.domain:
            raise StreamError("invalid-from", "the sender is of another domain")
        if "to" not in stanza.attributes:
            raise StreamError("improper-addressing", "a stanza has no recipient")
        return stanza.addressed(sender=sender, to=None)

    async def _route(self, stanza: Stanza) -> None:
        server = self.service.server
        await server.or_bounce(stanza, self._route_or_refuse(stanza))

    async def _route_or_refuse(self, stanza: Stanza) -> None:
        to = stanza.attributes.pop("to")
        try:
            stanza.to = parse(to)
        except InvalidJID as error:
            raise StanzaError("jid-malformed", str(error)) from None
        if stanza.name == "iq":
            check_iq(stanza)
        if stanza.name == "message":
            await self.service.server.meet(stanza.to)
        await self.service.server.route(stanza)

    # ---- the end

    def end(self, error: StreamError | None) -> None:
        """Close the stream, with an error if there is one."""
        if self.closed:
            return
        if not self._sent_header:
            self._send_header(None)
        if error is not None:
            self.transport.write(error.to_bytes())
            self.service.log.info("{session}: the component at {peer} is sent away: {error}",
                                  session=self.id[:8], peer=self.transport.peer, error=str(error))  # fmt: skip
        self.transport.write(b"</stream:stream>")
        self._stop(str(error) if error is not None else "it has closed its stream")
        self.transport.close()

    def _stop(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._admission.cancel_deadline()
        self._admission.leave_address()
        self._parser.close()
        if not self._serves:
            self._events.clear()  # but what a component has sent before it went was received
        if self._component is not None:
            self._component.lost(self, reason)

    def _too_late(self) -> None:
        self.end(StreamError("connection-timeout", "this took too long"))


class ComponentService:
    """The components of a configuration, and the streams to them. `reactor` is for the sockets."""

    def __init__(self, server: Server, sections: Mapping[str, Settings], reactor: Any) -> None:
        """Raises `ConfigError` for a section that says nothing of how the component gets in."""
        self.server = server
        self.addresses = Addresses(server.clock.seconds)
        self.log = Logger(namespace="xmppd.component")
        self.components: dict[str, Component] = {}
        self._reactor = reactor
        self._flusher = Flusher(reactor)
        self._streams: set[ComponentStream] = set()
        for domain, settings in sections.items():
            if not settings[SECRET]:
                problem = f"[component:{domain}] has none, and an external component needs one: secret = ..."
                raise settings.error(SECRET, problem)
            component = Component(server, domain, settings)
            self.components[domain] = server.components[domain] = component
            for host in server.hosts.values():
                if domain.endswith(f".{host.domain}"):
                    host.disco.server.items.append((JID("", domain), ""))

    def accepted(self, sock: socket.socket, peer: str) -> None:
        """A component has connected."""
        settings = self.server.settings
        connection = Connection(
            self._reactor, self._flusher, sock, peer, settings[C2S_MAX_UNSENT], settings[C2S_WRITE_TIMEOUT]
        )
        begin(connection, self.stream(connection))

    def stream(self, transport: Transport) -> ComponentStream:
        """A new stream over `transport`."""
        stream = ComponentStream(self, transport)
        self._streams.add(stream)
        return stream

    def gone(self, stream: ComponentStream) -> None:
        """Called by a stream that has lost its connection."""
        self._streams.discard(stream)

    def keep_alive(self) -> None:
        """Send a space to every component: it finds dead ones."""
        for component in self.components.values():
            if component.stream is not None:
                component.stream.transport.keep_alive()

    def shut_down(self) -> None:
        """Close every stream."""
        for component in self.components.values():
            component.give_back()  # before there is nobody left to be told
        for stream in list(self._streams):
            stream.end(StreamError("system-shutdown", "the server is going down"))
