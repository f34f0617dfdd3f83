"""Servers in memory that speak to each other, and other ends of their streams that tests play by hand.

    globe = Globe()
    here = globe.world("montague.example")
    there = globe.world("capulet.example")
    romeo = here.login("romeo@montague.example/orchard")
    romeo.sends("<message to='juliet@capulet.example'><body>hi</body></message>")

All have one clock. What one writes the other reads in the next turn. There is no TLS, only the two ends' word for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.task import Clock

from tests.support.world import ROOMY, STARTED, Peer, Wire, World
from xmppd.net.s2s.connecting import Endpoint, Unreachable
from xmppd.net.s2s.failed import not_found
from xmppd.net.s2s.federation import Federation
from xmppd.net.s2s.options import Target
from xmppd.storage import Store
from xmppd.wire.parser import StreamParser

S2S_HEADER = (
    "<?xml version='1.0'?><stream:stream from='{sender}' to='{host}' version='1.0' xmlns='jabber:server' "
    "xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams'>"
)


class Believer:
    """Stands for `Trust` where there is no TLS: certificates are the domains that they hold for."""

    def problem(self, chain: Sequence[Any], domain: str) -> str | None:
        return None if domain in chain else "it has shown no certificate for this"

    def reload(self, ca_file: Any) -> None:
        pass


class Pipe(Wire):
    """One end of a connection between two servers in memory."""

    def __init__(self, clock: Clock, peer: str, chain: list[str]) -> None:
        super().__init__(peer, False, {})
        self.tls_version = ""
        self.clock = clock
        self.chain = chain  # what the other end shows
        self.other: Pipe | None = None
        self.wants_tls = False
        self.lost = False

    @property
    def outstanding(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        if not self.closed:
            super().write(data)
            if self.other is not None:
                self.clock.callLater(0, self.other.arrives, data)

    def arrives(self, data: bytes) -> None:
        if not self.lost and self.receiver is not None:
            self.receiver.data_received(data)

    def start_tls(self, context: Any, to: str | None = None, alpn: bytes = b"") -> None:
        self.wants_tls = True
        if self.other is None:
            super().start_tls(context)
        elif self.other.wants_tls:
            for end in (self, self.other):
                end.secure, end.tls_version = True, "TLSv1.3"
                self.clock.callLater(0, end.receiver.secured)

    def close(self) -> None:
        if not self.closed:
            self.reads_again()  # what waits is sent first
            super().close()
            self.clock.callLater(0, self.breaks)

    def abort(self, reason: str) -> None:
        if not self.lost:
            super().abort(reason)
            self.clock.callLater(0, self.breaks)

    def breaks(self) -> None:
        """The connection is gone, for both."""
        for end in (self, self.other):
            if end is not None and not end.lost:
                end.closed = end.lost = True
                end.reads_again(lost=True)
                if end.receiver is not None:
                    end.receiver.connection_lost("the network broke")


class Dead:
    """The writer of a store whose process is no more."""

    def run(self, work: Any, done: Any) -> None:
        pass

    def stop(self) -> None:
        pass


class Streets:
    """The `Network` of one world."""

    def __init__(self, globe: Globe, world: World) -> None:
        self.globe = globe
        self.world = world

    async def find(self, domain: str, note: Any) -> list[list[Target]]:
        if domain not in self.globe.worlds and domain not in self.globe.played:
            raise not_found(f"{domain} does not exist")
        return [[Target(domain, 5269)]]

    async def connect(self, targets: Any, tried: frozenset[Endpoint], note: Any) -> tuple[Any, Endpoint]:
        endpoint = Endpoint(targets[0], "192.0.2.7")
        domain = targets[0].host
        self.globe.attempts.append(domain)
        if endpoint in tried or domain in self.globe.down:
            raise Unreachable(f"{endpoint}: Connection refused")
        own = Pipe(self.globe.clock, "192.0.2.7", self.globe.certificates.get(domain, []))
        if domain in self.globe.played:
            remote = Remote(self.world, own)
            self.globe.played[domain].append(remote)
            return own, endpoint
        shown = [name for name in (*self.world.server.hosts, *self.world.server.components)
                 for name in self.globe.certificates.get(name, [])]
        own.other = Pipe(self.globe.clock, "192.0.2.6", shown)
        own.other.other = own
        own.other.start(self.globe.federations[domain].stream(own.other))
        self.globe.pipes.append(own)
        return own, endpoint


class Globe:
    """Worlds that reach each other by their domains. `certificates`: for which domains the server of a domain has some;
    `down`: domains whose servers do not answer; `played`: domains whose servers are played by hand, with what was
    connected to them; `attempts`: the domains that were connected to, in order."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(STARTED)
        self.worlds: dict[str, World] = {}
        self.federations: dict[str, Federation] = {}
        self.certificates: dict[str, list[str]] = {}
        self.down: set[str] = set()
        self.played: dict[str, list[Remote]] = {}
        self.pipes: list[Pipe] = []
        self.attempts: list[str] = []
        self._configs: dict[str, str] = {}

    def world(self, *domains: str, config: str = "", sections: str = "", store: Store | None = None) -> World:
        """A server with these hosts."""
        hosts = "".join(f"[host:{domain}]\n" for domain in domains)
        world = World(config, hosts + sections, clock=self.clock, store=store)
        world.server.secret = f"the secret of {domains[0]}".encode()
        world.federation = Federation(  # type: ignore[attr-defined]
            world.server, world.service.certificates, Believer(), Streets(self, world), self.clock,  # type: ignore[arg-type]
            lambda: 0.5,
        )  # fmt: skip
        for domain in (*domains, *world.server.components):
            self.worlds[domain] = world
            self._configs[domain] = config
            self.federations[domain] = world.federation  # type: ignore[attr-defined]
        world.run(world.federation.start())  # type: ignore[attr-defined]
        return world

    def kill(self, domain: str) -> World:
        """The process of a domain dies, and is started again: it has what is on its disk, and nothing else. The others
        see that their connections have broken."""
        old, federation = self.worlds[domain], self.federations[domain]
        old.store._writer_thread = Dead()  # type: ignore[assignment]
        federation.stopping = True
        if federation._sweeping.running:
            federation._sweeping.stop()
        federation.network = Streets(Globe(), old)
        for stream in federation.streams:
            pipe: Any = stream.transport
            pipe.receiver = None
        self.cut()
        store = Store(self.clock, old.store._database, timeout=10.0, max_queue=100_000)
        return self.world(*old.server.hosts, config=self._configs[domain], store=store)

    def remote(self, domain: str) -> Remote:
        """The newest connection to a server that is played by hand."""
        return self.played[domain][-1]

    def cut(self) -> None:
        """Every connection between worlds breaks."""
        pipes, self.pipes = self.pipes, []
        for pipe in pipes:
            if not pipe.lost:
                pipe.breaks()


class ServerPeer(Peer):
    """Another server that has connected to ours."""

    def __init__(
        self, globe: Globe, world: World, sender: str, *, secure: bool = True, certificates: Sequence[str] = ()
    ) -> None:
        wire = Pipe(globe.clock, "192.0.2.9", list(certificates))
        if secure:
            wire.secure, wire.tls_version = True, "TLSv1.3"
        stream = world.federation.stream(wire)  # type: ignore[attr-defined]
        wire.start(stream)
        super().__init__(world, wire, stream)
        self.sender = sender
        self.header = S2S_HEADER.replace("{sender}", sender)
        self.id = ""

    def opens(self, host: str = "montague.example") -> None:
        """Send a header, and take the answer's."""
        super().opens(host)
        self.id = self.receives_header().attributes["id"]

    def features(self) -> Any:
        """The features that came next."""
        got = self.takes()
        assert got.tag == "{http://etherx.jabber.org/streams}features", got.tag
        return got

    def logs_in(self, host: str = "montague.example", bidi: bool = False) -> None:
        """Open a stream and authenticate by certificate."""
        self.opens(host)
        self.features()
        if bidi:
            self.sends("<bidi xmlns='urn:xmpp:bidi'/>")
        self.sends("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
        self.receives("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        self.opens(host)
        self.features()


class Remote(Peer):
    """Another server that ours has connected to."""

    def __init__(self, world: World, wire: Pipe) -> None:
        super().__init__(world, wire, None)

    def sends_only(self, xml: str | bytes) -> None:
        self.wire.receiver.data_received(xml.encode() if isinstance(xml, str) else xml)

    def answers_header(self, sender: str, id: str = "id1", features: str = "") -> None:
        """Take our header, and answer with one and features."""
        self.world.settle()
        self.receives_header()
        self.sends(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' "
            f"xmlns:db='jabber:server:dialback' version='1.0' id='{id}' from='{sender}'>"
            f"<stream:features>{features}</stream:features>"
        )

    def secures(self, sender: str, features: str = "", id: str = "id2") -> None:
        """Let TLS begin, and the stream after it."""
        self.answers_header(sender, features="<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.receives("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.sends("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.restarts()
        self.wire.receiver.secured()
        self.answers_header(sender, id, features)

    def restarts(self) -> None:
        """What comes next is a new stream."""
        self._parser = StreamParser(ROOMY)

    def accepts_key(self, sender: str, to: str) -> str:
        """Take a dialback key, and accept it; the key."""
        got = self.takes()
        assert got.tag == "{jabber:server:dialback}result" and got.get("type") is None, got.tag
        assert (got.get("from"), got.get("to")) == (to, sender)
        self.sends(f"<db:result from='{sender}' to='{to}' type='valid'/>")
        return got.text or ""
