"""A whole server in memory, on a clock that tests move, and the people who talk through it.

    world = World()
    romeo = world.login("romeo@example.org/orchard")
    romeo.sends("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.receives("<iq type='result' id='1' to='romeo@example.org/orchard'/>")

The streams are the real ones, from the header on; only the socket below them is not there.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from xmppd import settings as options
from xmppd.auth.credentials import make
from xmppd.config import Config, load_bytes
from xmppd.core.server import Server
from xmppd.net.component import ComponentService
from xmppd.net.framing import TCP, TLS_FIRST
from xmppd.net.service import ClientService
from xmppd.service import add_hosts
from xmppd.storage import Store
from xmppd.wire import ns
from xmppd.wire.content import to_client
from xmppd.wire.jid import parse, prepare_domain
from xmppd.wire.parser import Limits, StreamEnd, StreamError, StreamHeader, StreamParser

HEADER = (
    "<?xml version='1.0'?><stream:stream to='{host}' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)
ROOMY = Limits(bytes=10_000_000, depth=1000, elements=100_000, attributes=1000)
STARTED = 1_700_000_000.0
STANZA_ID = "{urn:xmpp:sid:0}stanza-id"


def inline(function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
    """Stands for a thread: at once."""
    try:
        return succeed(function(*args, **kwargs))
    except Exception:
        return fail()


class Wire:
    """The transport of a stream under test: what is written is kept, what happens to it is noted."""

    def __init__(self, peer: str, secure: bool, bindings: dict[str, bytes]) -> None:
        self.peer = peer
        self.secure = secure
        self.tls_version = "TLSv1.3" if secure else ""
        self.bindings = bindings
        self.unsent = 0
        self.written = b""
        self.paused = self.closed = False
        self.aborted = ""
        self.tls_started = False
        self.chain: list[Any] = []  # of certificates
        self.stuck = False  # a client that does not read: nothing drains
        self._drained: list[Any] = []
        self.receiver: Any = None  # of an HTTP connection; streams are given what is received by who plays their client

    def start(self, receiver: Any) -> None:
        self.receiver = receiver

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data
            if self.stuck:
                self.unsent += len(data)

    def keep_alive(self) -> None:
        self.write(b" ")

    def start_tls(self, context: Any, to: str | None = None, alpn: bytes = b"") -> None:
        self.tls_started = self.secure = True
        self.tls_version = "TLSv1.3"

    def channel_binding(self, type: str) -> bytes | None:
        return self.bindings.get(type) if self.secure else None

    def peer_chain(self) -> list[Any]:
        return self.chain if self.secure else []

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def when_drained(self, callback: Any) -> None:
        if self.aborted:
            callback(False)
        elif self.stuck:
            self._drained.append(callback)
        else:
            callback(True)

    def reads_again(self, *, lost: bool = False) -> None:
        """The client that was `stuck` has read everything; or it has `lost` the connection before it could."""
        self.stuck = False
        self.unsent = 0
        waiting, self._drained = self._drained, []
        for callback in waiting:
            callback(not lost)

    def close(self) -> None:
        self.closed = True

    def abort(self, reason: str) -> None:
        self.closed = True
        self.aborted = reason


class NoCertificates:
    """Certificates are of the tests with sockets."""

    def context(self, domain: str) -> None:
        return None


def configuration(config: str, sections: str) -> Config:
    """What is in a file with these lines under ``[xmppd]``, and these sections."""
    known = [option for group in options.declared().values() for option in group]
    path = Path(tempfile.gettempdir()) / "xmppd.cfg"
    return load_bytes(f"[xmppd]\n{config}\n{sections}".encode(), path, known, normalise_domain=prepare_domain)


class World:
    """A server with its hosts, all modules, and a store in memory. `config` is added to ``[xmppd]``, `sections` are
    the host sections. `before`: the world of which this one is the restart, with its store and its clock. `clock` and
    `store` are others than a world makes for itself."""

    def __init__(
        self, config: str = "", sections: str = "[host:example.org]\n", before: World | None = None,
        *, clock: Clock | None = None, store: Store | None = None,
    ) -> None:  # fmt: skip
        if before is not None:
            clock, store = before.clock, before.store
        if clock is None:
            clock = Clock()
            clock.advance(STARTED)
        self.clock = clock
        self.config = configuration(config, sections)
        self.store = store if store is not None else Store.open(self.clock, "sqlite://")
        self.server = Server(self.config.server, self.store, self.clock, self.clock.seconds, inline)
        self.server.secret = b"a secret"
        self.server.token_key = b"another secret"
        add_hosts(self.server, self.config)
        self.service = ClientService(self.server, NoCertificates(), self.clock)  # type: ignore[arg-type]
        self.components = ComponentService(self.server, self.config.components, self.clock)
        self.host = next(iter(self.server.hosts.values()))

    def starts(self) -> None:
        """Bring back what the last process left, as the service does before anybody can connect."""
        self.run(self.server.start())

    def stops(self) -> None:
        """End in order, as the service does when it is told to; the clients close their ends."""
        self.server.shut_down()
        self.service.shut_down()
        for stream in list(self.service._streams):
            stream.connection_lost("the client closed")
        for _ in range(60):
            self.settle()
            if not self.server.tasks.busy:
                break
            self.clock.advance(1)
        else:
            self.server.tasks.cancel()
        self.run(self.server.stop())
        self.result(self.store.close())

    def settle(self) -> None:
        """Let everything happen that waits for nothing but its turn."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)
        self.settle()

    def result(self, waiting: Deferred[Any]) -> Any:
        """What a Deferred comes to, now."""
        outcome: list[Any] = []
        waiting.addBoth(outcome.append)
        self.settle()
        assert outcome, "it is still waiting"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def run(self, coroutine: Any) -> Any:
        """What a coroutine comes to, now."""
        return self.result(Deferred.fromCoroutine(coroutine))

    def account(self, bare: str, password: str = "secret") -> None:
        """Make an account; one that is there stays as it is."""
        jid = parse(bare)
        if self.result(self.store.accounts.find(jid.domain, jid.local)) is None:
            keys = make(password, iterations=1).keys
            rows = {name: (k.salt, k.iterations, k.stored_key, k.server_key) for name, k in keys.items()}
            self.result(self.store.accounts.create(jid.domain, jid.local, rows))

    def connect(
        self, *, secure: bool = True, peer: str = "192.0.2.1", bindings: dict[str, bytes] | None = None,
        direct_tls: bool = False,
    ) -> Player:  # fmt: skip
        """A client that has connected and said nothing yet."""
        wire = Wire(peer, secure, bindings or {})
        return Player(self, wire, self.service.stream(wire, TLS_FIRST if direct_tls else TCP))

    def component(self, domain: str, secret: str = "secret") -> Component:
        """A component that has connected, and serves its domain."""
        component = Component(self)
        component.opens(domain)
        component.shakes_hands(secret)
        component.receives("<handshake/>")
        return component

    def login(self, full: str, password: str = "secret", **connection: Any) -> Player:
        """A client that is bound, at the resource of `full`; its account is made where there is none."""
        jid = parse(full)
        self.account(jid.bare, password)
        player = self.connect(**connection)
        player.authenticate(jid.local, jid.domain, password)
        player.bind(jid.resource)
        return player

    def online(self, full: str, presence: str = "<presence/>") -> Player:
        """A client that is bound, has asked for its roster and sent presence; what came of that is passed over."""
        player = self.login(full)
        player.sends("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
        player.sends(presence)
        player.forget()
        return player

    def befriend(self, one: Player, other: Player) -> None:
        """Let two who are online subscribe to each other; what came of it is passed over."""
        one.sends(f"<presence type='subscribe' to='{other.bare}'/>")
        other.sends(f"<presence type='subscribed' to='{one.bare}'/>")
        other.sends(f"<presence type='subscribe' to='{one.bare}'/>")
        one.sends(f"<presence type='subscribed' to='{other.bare}'/>")
        one.forget()
        other.forget()


class Peer:
    """One end of a stream: what it sends, and what it receives in order."""

    def __init__(self, world: World, wire: Wire, stream: Any) -> None:
        self.world = world
        self.wire = wire
        self.stream = stream
        self.full = self.bare = ""
        self.header = HEADER
        self._seen = 0
        self._parser = StreamParser(ROOMY)
        self._inbox: list[Any] = []


    def opens(self, host: str = "example.org") -> None:
        """Send a stream header, with a new parser for the answer."""
        self.opens_only(host)
        self.world.settle()

    def opens_only(self, host: str = "example.org") -> None:
        """As `opens`; what waits for its turn goes on waiting."""
        self._parser = StreamParser(ROOMY)
        self.sends_only(self.header.format(host=host))

    # ---- talking

    def sends(self, xml: str | bytes) -> None:
        """Send text, and let the server do what it does with it."""
        self.sends_only(xml)
        self.world.settle()

    def sends_only(self, xml: str | bytes) -> None:
        """Send text; what waits for its turn goes on waiting."""
        self.stream.data_received(xml.encode() if isinstance(xml, str) else xml)

    def disconnects(self) -> None:
        """The connection breaks."""
        self.wire.closed = True
        self.stream.connection_lost("the network broke")
        self.wire.reads_again(lost=True)
        self.world.settle()

    def receives(self, expected: str) -> ElementTree.Element:
        """The next that came has to be this. An attribute or a text ``*`` may be anything."""
        got = self.takes()
        wanted = _parse(expected)
        difference = _difference(wanted, got)
        assert not difference, f"{difference}\n expected {expected}\n received {ElementTree.tostring(got).decode()}"
        return got

    def receives_error(
        self, condition: str, type: str, *, name: str | None = None, id: str | None = None,
        sender: str | None = None, to: str | None = None,
    ) -> ElementTree.Element:  # fmt: skip
        """The next that came is a stanza error (RFC 6120 section 8.3); its text may be anything."""
        got = self.takes()
        error = got.find("{jabber:client}error")
        assert got.get("type") == "error" and error is not None, _shown(got)
        stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas"
        assert (error[0].tag, error.get("type")) == (f"{{{stanzas}}}{condition}", type), _shown(got)
        assert (got.get("id"), got.get("from"), got.get("to")) == (id, sender, to or self.full), _shown(got)
        assert name is None or got.tag == f"{{jabber:client}}{name}", _shown(got)
        return got

    def receives_all(self, *expected: str) -> None:
        """The next that came have to be these, in any order."""
        got = [self.takes() for _ in expected]
        for one in expected:
            match = next((element for element in got if not _difference(_parse(one), element)), None)
            assert match is not None, f"no {one} among {[ElementTree.tostring(e).decode() for e in got]}"
            got.remove(match)

    def receives_nothing(self) -> None:
        """Nothing came."""
        self._read()
        assert not self._inbox, f"received {[_shown(event) for event in self._inbox]}"

    def receives_stream_error(self, condition: str) -> None:
        """The stream was ended with this error, and the connection closed."""
        got = self.takes()
        assert got.tag == "{http://etherx.jabber.org/streams}error", _shown(got)
        assert got[0].tag == f"{{urn:ietf:params:xml:ns:xmpp-streams}}{condition}", _shown(got)
        self.receives_end()

    def receives_end(self) -> None:
        """The stream was closed, and the connection with it."""
        self._read()
        assert self._inbox and isinstance(self._inbox.pop(0), StreamEnd)
        assert self.wire.closed

    def receives_header(self) -> StreamHeader:
        """The server's stream header."""
        self._read()
        header = self._inbox.pop(0)
        assert isinstance(header, StreamHeader), header
        return header

    def takes(self) -> ElementTree.Element:
        """The next that came, as it is."""
        self._read()
        assert self._inbox, "received nothing"
        event = self._inbox.pop(0)
        assert isinstance(event, ElementTree.Element), f"received {event!r}"
        return event

    def all_that_came(self) -> list[ElementTree.Element]:
        """Every element that has come and was not looked at."""
        self._read()
        came, self._inbox = self._inbox, []
        return [event for event in came if isinstance(event, ElementTree.Element)]

    def forget(self) -> None:
        """Pass over what has come."""
        self._read()
        self._inbox.clear()

    def received_bytes(self) -> bytes:
        """All that ever came, as it came."""
        return self.wire.written

    def by_turns(self) -> list[bytes]:
        """What comes from now on, by the turns of the reactor in which it was written: a connection sends that at
        once."""
        turns: list[bytes] = []
        written: list[bytes] = []
        write = self.wire.write

        def flush() -> None:
            turns.append(b"".join(written))
            written.clear()

        def note(data: bytes) -> None:
            if not written:
                self.world.clock.callLater(0, flush)
            written.append(data)
            write(data)

        self.wire.write = note  # type: ignore[method-assign]
        return turns

    def _read(self) -> None:
        new, self._seen = self.wire.written[self._seen :], len(self.wire.written)
        for event in self._parser.feed(new):
            if isinstance(event, StreamError):
                raise AssertionError(f"the server sent what cannot be read: {event} in {new!r}")
            if isinstance(event, StreamHeader | StreamEnd):
                self._inbox.append(event)
            else:
                event = to_client(event) if event.xmlns == ns.COMPONENT else event
                self._inbox.append(_parse(event.to_bytes().decode()))


class Player(Peer):
    """One client."""

    def authenticate(self, user: str, host: str, password: str) -> None:
        """Open a stream and log in by PLAIN."""
        self.opens(host)
        self.forget()
        initial = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.sends(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>")
        self.receives("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        self.opens(host)
        self.forget()

    def bind(self, resource: str = "") -> None:
        """Bind a resource, or let the server choose."""
        wanted = f"<resource>{resource}</resource>" if resource else ""
        bind = "urn:ietf:params:xml:ns:xmpp-bind"
        self.sends(f"<iq type='set' id='bind'><bind xmlns='{bind}'>{wanted}</bind></iq>")
        answer = self.takes()
        self.full = answer.findtext(f"{{{bind}}}bind/{{{bind}}}jid") or ""
        assert self.full, ElementTree.tostring(answer)
        self.bare = self.full.partition("/")[0]


class Component(Peer):
    """One external component; what it receives is shown as a client would see it."""

    def __init__(self, world: World) -> None:
        wire = Wire("127.0.0.1", False, {})
        super().__init__(world, wire, world.components.stream(wire))
        self.header = HEADER.replace("jabber:client", "jabber:component:accept")
        self.stream_id = ""

    def opens(self, host: str = "example.org") -> None:
        """Send a stream header, and take the answer."""
        super().opens(host)
        self.full = self.bare = host
        self.stream_id = self.receives_header().attributes["id"]

    def shakes_hands(self, secret: str) -> None:
        """Show the secret (XEP-0114 section 3)."""
        self.sends(f"<handshake>{hashlib.sha1(f'{self.stream_id}{secret}'.encode()).hexdigest()}</handshake>")

    def asked(self) -> ElementTree.Element:
        """The next that came is a request; it has to be answered with `answers`."""
        got = self.takes()
        assert got.tag == "{jabber:client}iq" and got.get("type") in ("get", "set"), _shown(got)
        return got

    def answers(self, request: ElementTree.Element, type: str = "result", inner: str = "", sender: str = "") -> None:
        """Answer an iq."""
        self.sends(
            f"<iq type='{type}' id='{request.get('id')}' from='{sender or request.get('to')}' "
            f"to='{request.get('from')}'>{inner}</iq>"
        )


def _parse(xml: str) -> ElementTree.Element:
    """An element as it would stand in a stream."""
    context = f"<x xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>{xml}</x>"
    return ElementTree.fromstring(context)[0]


def _shown(event: object) -> str:
    return ElementTree.tostring(event).decode() if isinstance(event, ElementTree.Element) else repr(event)


def _difference(wanted: ElementTree.Element, got: ElementTree.Element) -> str:
    """What differs, in words; ``""`` when nothing does. The id that an archive gave counts where one is wanted."""
    if wanted.tag != got.tag:
        return f"{got.tag} instead of {wanted.tag}"
    for name in wanted.attrib.keys() | got.attrib.keys():
        if wanted.get(name) != got.get(name) and (wanted.get(name) != "*" or got.get(name) is None):
            return f"{wanted.tag}: {name} is {got.get(name)!r} instead of {wanted.get(name)!r}"
    if (wanted.text or "") != "*" and (wanted.text or "") != (got.text or ""):
        return f"{wanted.tag}: text {got.text!r} instead of {wanted.text!r}"
    children = list(got) if wanted.find(STANZA_ID) is not None else [child for child in got if child.tag != STANZA_ID]
    if len(wanted) != len(children):
        return f"{wanted.tag} has {len(children)} children instead of {len(wanted)}"
    for one, other in zip(wanted, children, strict=True):
        difference = _difference(one, other)
        if difference or (one.tail or "") != (other.tail or ""):
            return difference or f"{one.tag}: text behind it differs"
    return ""
