"""Client streams: from the first byte to a bound session (RFC 6120 sections 4 to 7), and the way of stanzas
between a session and its connection.

`ClientStream` takes bytes, or what they were parsed to, and gives elements; what carries them may be a socket, a
WebSocket, HTTP requests or a test. Its states:

    HEADER         a stream header has to come: at the start, after TLS, after authentication
    OPEN           features are out, the client may start TLS or authenticate
    EXCHANGE       an authentication is under way (sasl.py)
    AUTHENTICATED  features are out, the client has to bind a resource
    BOUND          stanzas flow
    CLOSED         nothing is listened to any more
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from xmppd.config import Boolean, Option
from xmppd.core.clients import Login
from xmppd.core.host import Host
from xmppd.core.session import Session
from xmppd.net import bind, features
from xmppd.net.addresses import TOO_MANY
from xmppd.net.admission import Admission
from xmppd.net.authentication import Authentication
from xmppd.net.framing import Framing
from xmppd.net.header import addressed_host, claimed_sender, language
from xmppd.net.limits import after_login
from xmppd.net.pace import Pace
from xmppd.net.sasl import Sasl
from xmppd.net.sasl2 import Sasl2
from xmppd.net.transport import Transport
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import JID
from xmppd.wire.parser import BEFORE_LOGIN, Event, Limits, StreamHeader
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.net.service import ClientService

C2S_REQUIRE_ENCRYPTION = Option(
    "c2s_require_encryption", Boolean(), "yes", "Whether a client has to start TLS before it may authenticate."
)
OPTIONS = (C2S_REQUIRE_ENCRYPTION,)

MAX_BACKLOG = 32  # stanzas that wait for one that takes long; beyond it the client has to wait as well
UNSENT_PAUSE = 256 * 1024  # bytes waiting for a client beyond which it is not read from


class State(Enum):
    """See the head of the file."""

    HEADER = auto()
    OPEN = auto()
    EXCHANGE = auto()
    AUTHENTICATED = auto()
    BOUND = auto()
    CLOSED = auto()


class ClientStream:
    """One client's stream; a `Receiver` for its connection and the `Carrier` of its session."""

    __slots__ = (
        "_admission", "_ahead", "_authentication", "_events", "_framing", "_held", "_pace", "_parser",
        "_sent_header", "_unsaid", "_withheld", "account_name", "config_version", "host", "id", "lang", "log", "login",
        "sender", "service", "session", "state", "transport",
    )  # fmt: skip

    def __init__(self, service: ClientService, transport: Transport, framing: Framing) -> None:
        self.service = service
        self.transport = transport
        self.id = service.server.token()
        self.log: Logger = service.log
        self.state = State.HEADER
        self.host: Host | None = None
        self.account_name: str | None = None  # the localpart, once authenticated
        self.login: Login | None = None  # how it was authenticated
        self.sender: JID | None = None  # who the client says it is, in the stream header
        self.lang: str | None = None
        self.config_version = ""  # of what was announced (XEP-0509)
        self.session: Session | None = None
        self._framing = framing
        self._parser = framing.parser(BEFORE_LOGIN)
        self._events: deque[Event] = deque()
        self._held = False  # an event is being handled that takes longer: the others wait
        self._sent_header = False
        self._ahead: list[bytes] = []  # what is sent with the answer to a request that came together with the header
        self._unsaid = 0  # bytes of ...
        self._withheld: list[bytes] | None = None  # ... what waits until the client is told that it has logged in
        self._authentication: Authentication | None = None
        clock = service.server.clock
        self._pace = Pace(clock, service.settings)
        self._admission = Admission(service.addresses, transport.peer, service.settings, clock, self._too_late)

    @property
    def admitted(self) -> bool:
        """Whether its address may have one more stream that is not authenticated."""
        return self._admission.granted or self.account_name is not None

    @property
    def kind(self) -> str:
        """What carries it, for statistics."""
        return self._framing.name

    @property
    def closed(self) -> bool:
        """Whether the stream is over: nothing is listened to any more, and nothing arrives."""
        return self.state is State.CLOSED

    # ---- from the connection

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, decrypted."""
        if self._authentication is not None and self._authentication.forbids(data):
            self.end(StreamError("not-authorized", "an authentication is under way"))
        self.service.busy.add(self)
        self.feed(data)
        self.slow_down(len(data))

    def rest(self) -> None:
        """Nothing has come for a while."""
        self._parser.rest()

    def feed(self, data: bytes) -> None:
        """Something of the stream; whoever gives it says by `slow_down` how much it cost."""
        self.take(self._parser.feed(data))

    def take(self, events: Iterable[Event]) -> None:
        """What came to the stream, as it was read."""
        if self.state is not State.CLOSED:
            self._events.extend(events)
            self._go_on()

    @property
    def limits(self) -> Limits:
        """What an element of the client may be now."""
        return self._parser.limits

    def secured(self) -> None:
        """The TLS handshake is done: the stream starts over (RFC 6120 section 5.4.3.3)."""

    def connection_lost(self, reason: str) -> None:
        """The connection is gone, in order or not."""
        self.log.info("{session}: disconnected: {reason}", session=self.id[:8], reason=reason)
        told = self._withheld is None
        session = self._stop()
        if session is not None:
            session.lost() if told else session.end()
        self.service.gone(self)

    # ---- events of the parser, one after the other

    def _go_on(self) -> None:
        while self._events and not self._held and self.state is not State.CLOSED:
            event = self._events.popleft()
            try:
                self._handle(event)
            except StreamError as error:
                self.end(error)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Stanza):
            self._handle_element(event)
        elif isinstance(event, StreamHeader):
            self._open(event)
        else:
            self.end(event if isinstance(event, StreamError) else None)

    # ---- the header

    def _open(self, header: StreamHeader) -> None:
        if self.state is not State.HEADER:
            raise StreamError("bad-format", "the stream is open already")
        attributes = header.attributes
        host = addressed_host(self.service.server, attributes.get("to"))
        if self.host is not None and host is not self.host and self.account_name is not None:
            raise StreamError("not-authorized", "the stream was authenticated for another host")
        if host is not None:
            self.host = host
        self.lang = language(attributes)
        if header.namespaces.get("") != ns.CLIENT:
            raise StreamError("invalid-namespace", f"the default namespace has to be {ns.CLIENT}")
        if attributes.get("version", "0").partition(".")[0] != "1":
            raise StreamError("unsupported-version", "this server speaks XMPP 1.0")
        if host is None:
            raise StreamError("host-unknown", "this server does not serve that domain")
        self._ahead = [self._header(attributes.get("from"))]
        self.sender = claimed_sender(attributes.get("from"), host.domain)
        if not self.admitted:
            raise StreamError("policy-violation", TOO_MANY)
        self.state = State.AUTHENTICATED if self.account_name is not None else State.OPEN
        if self.state is State.OPEN and not self._may_authenticate() and not self._framing.has_starttls:
            raise StreamError("policy-violation", "this takes encryption: https:// or wss://")
        if self.state is State.OPEN and self._may_authenticate():
            self._authentication = authentication = Authentication(self, host)
            authentication.add(ns.SASL, Sasl(authentication))
            if self.transport.secure:  # XEP-0388 section 3
                authentication.add(ns.SASL2, Sasl2(authentication))
        self._ahead.append(self.features())
        pipelined = self._events[0] if self._events else None
        if not (isinstance(pipelined, Stanza) and pipelined.name == "authenticate"):
            self._send_ahead()  # else all leaves with the answer to that (XEP-0509)

    def _header(self, to: str | None) -> bytes:
        """Our own header, once for each stream, which has a new id each time (RFC 6120 section 6.4.6)."""
        self._sent_header = True
        server = self.service.server
        domain = self.host.domain if self.host is not None else next(iter(server.hosts))
        return self._framing.header(domain, to, server.token())

    def features(self) -> bytes:
        """What the stream announces in its present state (RFC 6120 section 4.3.2)."""
        assert self.host is not None
        if self.state is not State.OPEN:
            return features.after_login(self.host, self.session)
        starttls = self._framing.has_starttls and not self.transport.secure
        requires_tls = self.host.settings[C2S_REQUIRE_ENCRYPTION]
        announced, self.config_version = features.before_login(self.host, self._authentication, starttls, requires_tls)
        return announced

    def _may_authenticate(self) -> bool:
        """Whether the stream is as private as it has to be for more than STARTTLS."""
        assert self.host is not None
        return self.transport.secure or not self.host.settings[C2S_REQUIRE_ENCRYPTION]

    # ---- elements

    def _handle_element(self, element: Stanza) -> None:
        state = self.state
        if state is State.BOUND:
            self._handle_bound(element)
        elif state is State.HEADER:
            raise StreamError("bad-format", "the header of a stream comes first")
        elif element.xmlns in (ns.SASL, ns.SASL2) and state in (State.OPEN, State.EXCHANGE):
            if self._authentication is None or not self._authentication.knows(element.xmlns):
                # RFC 6120 section 6.5.6; whoever sent a password has shown it already.
                self.write(tag("failure", {"xmlns": element.xmlns}, tag("encryption-required", {"xmlns": ns.SASL})))
                raise StreamError("policy-violation", "encryption is required before authentication")
            self._authentication.handle(element)
        elif state is State.EXCHANGE:
            raise StreamError("not-authorized", "an authentication is under way")
        elif element.xmlns == ns.TLS and element.name == "starttls" and state is State.OPEN:
            self._start_tls()
        elif state is State.AUTHENTICATED:
            self._handle_authenticated(element)
        elif not self._may_authenticate() or not bind.before_login(self, element):
            raise StreamError("not-authorized", "log in first")

    def _start_tls(self) -> None:
        """RFC 6120 section 5.4.2.3. Whatever came behind the request came in the clear, perhaps from somebody
        else: it must not be taken for what the client says under TLS."""
        if self.transport.secure or not self._framing.has_starttls:
            self.write(tag("failure", {"xmlns": ns.TLS}))
            self.end(None)
            return
        assert self.host is not None
        if self._events or self._parser.unfinished:
            raise StreamError("policy-violation", "nothing may follow <starttls/> before the handshake")
        self.write(tag("proceed", {"xmlns": ns.TLS}))
        self._restart()
        self.transport.start_tls(self.service.certificates.context(self.host.domain))

    def _restart(self) -> None:
        """A new stream begins, with a new parser: nothing of the old one goes on (RFC 6120 section 4.3.3)."""
        self._parser.close()
        self._events.clear()
        self._parser = self._framing.parser(self._limits())
        self._sent_header = False
        self._authentication = None
        self.state = State.HEADER

    def _limits(self) -> Limits:
        if self.account_name is None:
            return BEFORE_LOGIN
        assert self.host is not None
        return after_login(self.host.settings)

    def exchanging(self, under_way: bool) -> None:
        """An authentication has begun, or has failed and may be tried again."""
        if self.state is not State.CLOSED:
            self.state = State.EXCHANGE if under_way else State.OPEN

    def authenticated(self, local: str, login: Login) -> None:
        """The client has proved to be `local`: it opens a new stream now (RFC 6120 section 6.4.6)."""
        too_early = self._now_is(local, login)
        if self.state is State.CLOSED:  # it went away while the password was checked
            return
        self._restart()
        if too_early:
            raise StreamError("not-authorized", "a new stream header has to follow")

    def logged_in(self, local: str, login: Login) -> None:
        """The client has proved to be `local`, and its stream goes on (XEP-0388 section 2.6.1)."""
        too_early = self._now_is(local, login)
        if self.state is State.CLOSED:
            return
        if too_early:  # section 2.4
            raise StreamError("not-authorized", "nothing may be sent before the login is answered")
        self.state = State.AUTHENTICATED
        self._parser.limits = self._limits()

    def _now_is(self, local: str, login: Login) -> bool:
        """Whether the client has sent something before it could know."""
        self.account_name = local
        self.login = login
        self._admission.leave_address()
        return bool(self._events) or self._parser.unfinished

    def _handle_authenticated(self, element: Stanza) -> None:
        assert self.host is not None
        nonza = self.host.nonzas.get((element.xmlns, element.name))
        if nonza is not None:
            nonza(self, element)
            return
        bind.request(self, element)

    def bound(self, session: Session) -> bool:
        """The client has a session; False where its connection went away meanwhile."""
        if self.state is not State.AUTHENTICATED:
            session.end()
            return False
        self.session = session
        self.state = State.BOUND
        self._admission.cancel_deadline()
        self.log.info(
            "{session}: {jid} is bound, from {peer} by {kind}, {tls}",
            session=session.id, jid=session.jid.full, peer=self.transport.peer, kind=self.kind,
            tls=self.transport.tls_version or ("https" if self.transport.secure else "no TLS"),
        )  # fmt: skip
        return True

    def _handle_bound(self, element: Stanza) -> None:
        assert self.session is not None and self.host is not None
        if element.xmlns == ns.CLIENT:
            if element.name in ("message", "presence", "iq"):
                self.session.receive(element)
                return
            raise StreamError("unsupported-stanza-type")
        nonza = self.host.nonzas.get((element.xmlns, element.name))
        if nonza is not None:
            nonza(self, element)
            return
        if element.name in ("message", "presence", "iq") or element.xmlns in (ns.SERVER, ns.STREAM):
            raise StreamError("invalid-namespace")
        raise StreamError("unsupported-stanza-type")

    def wait_for(self, work: Any) -> None:
        """Handle something that takes longer; what comes next waits for it."""
        self._held = True
        running = self.service.server.tasks.start(self._guarded(work), "a stream's negotiation")
        if running is None:
            self._held = False
        else:
            running.addBoth(self._waited)

    def _waited(self, _: object) -> None:
        self._held = False
        self._go_on()
        self._let_read()

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except StreamError as error:
            self.end(error)
        except Exception:
            self.log.failure("{session}: negotiation failed", session=self.id[:8])
            self.end(StreamError("internal-server-error"))

    # ---- the carrier of a session

    def adopt(self, session: Session) -> None:
        """See `Carrier`."""
        self.session = session
        session.carrier = self
        if self.login is not None:
            self.login.take_place_of(session.find(Login))
            session.put(self.login)
        self.state = State.BOUND
        self._admission.cancel_deadline()
        self.log.info("{session}: {jid} is back, from {peer}", session=self.id[:8], jid=session.jid.full,
                      peer=self.transport.peer)  # fmt: skip

    def write(self, data: bytes) -> None:
        """Send an element to the client, after what waits for it."""
        if self._withheld is not None:
            self._withheld.append(data)
            self._unsaid += len(data)
            if self._unsaid > self.service.max_unsent:
                self.end(StreamError("resource-constraint", "too much waits for a client that logs in"))
            return
        if self._ahead:
            self._send_ahead()
        self.transport.write(data)

    send = write  # as a `Carrier`

    def _send_ahead(self) -> None:
        for element in self._ahead:
            self.transport.write(element)
        self._ahead = []

    def keep_alive(self) -> None:
        """Find out whether the client is there still, and keep its connection open (RFC 6120 section 4.6.1)."""
        if self.state is State.BOUND and self._withheld is None:
            self.transport.keep_alive()

    def withhold(self) -> None:
        """Keep what is sent from now on until `speak`."""
        self._withheld, self._unsaid = [], 0

    def speak(self, *elements: bytes) -> None:
        """Send `elements`, and then what was withheld."""
        withheld, self._withheld = self._withheld or [], None
        for element in (*elements, *withheld):
            self.write(element)

    def when_sent(self, callback: Callable[[bool], None]) -> None:
        """See `Carrier`."""
        if self.state is State.CLOSED:
            callback(False)
        else:
            self.transport.when_drained(callback)

    def work_done(self) -> None:
        """See `Carrier`."""
        self._let_read()

    # ---- how fast a client may be

    def slow_down(self, received: int) -> None:
        """Stop reading for a while when the client sends faster than it may, faster than its stanzas are
        handled, or does not read our answers."""
        wait = self._pace.sent(received)
        if self.state is State.CLOSED:
            return
        if wait:
            self.transport.pause_reading()
            self.service.server.clock.callLater(wait, self._let_read)
        if self._overloaded():
            self.transport.pause_reading()
            self.transport.when_drained(lambda gone: self._let_read())

    def _overloaded(self) -> bool:
        backlog = self.session.backlog if self.session is not None else 0
        return backlog + len(self._events) > MAX_BACKLOG or self.transport.unsent > UNSENT_PAUSE

    def _let_read(self) -> None:
        if self.state is not State.CLOSED and not self._overloaded() and not self._pace.is_too_fast():
            self.transport.resume_reading()

    # ---- the end

    def end(self, error: StreamError | None, outlived: bool = False) -> None:
        """Close the stream, with an error if there is one (RFC 6120 sections 4.4 and 4.9), and its session unless that
        has `outlived` it."""
        if self.state is State.CLOSED:
            return
        told = self._withheld is None
        self._withheld = None
        if not self._sent_header:
            self._ahead = [self._header(None)]
        if error is not None:
            self.log.info("{session}: stream error: {error}", session=self.id[:8], error=str(error))
            self.write(error.to_bytes())
        self.write(self._framing.end)
        session = self._stop()
        self.transport.close()
        if session is not None:
            session.lost() if outlived and told else session.end()

    def leave(self, error: StreamError) -> None:
        """See `Carrier`."""
        self.session = None
        self.end(error)

    def _stop(self) -> Session | None:
        """Nothing that the client sends counts any more; what it has sent before is still handled. Returns the
        session that has lost its stream by that."""
        if self.state is State.CLOSED:
            return None
        self.state = State.CLOSED
        self._admission.cancel_deadline()
        self._admission.leave_address()
        self._parser.close()
        self._events.clear()
        session, self.session = self.session, None
        return session

    def _too_late(self) -> None:
        self.end(StreamError("connection-timeout", "this took too long"))
