"""All that goes between this server and others: the links, the streams that carry them, and who may be spoken to.

It is the `Destination` of every stanza whose recipient is not served here. The listeners hand it connections of others
(`accepted`); connections of its own it gets from a `Network`.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from xmppd.config import Settings
from xmppd.core.server import Server
from xmppd.net.addresses import Addresses
from xmppd.net.admission import begin
from xmppd.net.certificates import Certificates
from xmppd.net.connection import Connection, Flusher
from xmppd.net.limits import after_login
from xmppd.net.s2s import options
from xmppd.net.s2s.connecting import Network
from xmppd.net.s2s.failed import Failed, unreachable
from xmppd.net.s2s.incoming import IncomingStream
from xmppd.net.s2s.link import Item, Link
from xmppd.net.s2s.opening import Opening
from xmppd.net.s2s.options import is_blocked
from xmppd.net.s2s.stream import ServerStream
from xmppd.net.s2s.trust import Trust
from xmppd.net.service import C2S_MAX_UNSENT, C2S_WRITE_TIMEOUT
from xmppd.net.transport import ServerTransport
from xmppd.storage import OutgoingStanza
from xmppd.wire.errors import StanzaError, StreamError
from xmppd.wire.parser import Limits
from xmppd.wire.stanza import Stanza
from xmppd.wire.stored import read_stored

SWEEP_SECONDS = 1.0
SETTLE_SECONDS = 0.1  # between two looks at what has arrived, while the server stops
PAGE = 500  # stanzas that are read from the store at a time

Pair = tuple[str, str]


class Federation:
    """The other servers. `reactor` is for the sockets of those that connect; `draw` gives a number from 0 to 1."""

    def __init__(
        self, server: Server, certificates: Certificates, trust: Trust, network: Network, reactor: Any,
        draw: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self.server = server
        self.settings = server.settings
        self.clock = server.clock
        self.certificates = certificates
        self.trust = trust
        self.network = network
        self.random = draw or random.SystemRandom().random
        self.addresses = Addresses(server.clock.seconds)
        self.log = Logger(namespace="xmppd.s2s")
        self.links: dict[Pair, Link] = {}
        self.streams: set[ServerStream] = set()
        self.received: Counter[str] = Counter()  # stanzas, by kind
        self.sent: Counter[str] = Counter()
        self.failures = 0  # of streams to others
        self.size = 0  # of what waits or is not acknowledged, of all links, in bytes; about
        self.stopping = False
        self._reactor = reactor
        self._flusher = Flusher(reactor)
        self._carriers: dict[Pair, list[ServerStream]] = {}
        self.opening = Opening(self)
        self._last_id = 0
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = server.clock  # type: ignore[assignment]
        server.remote = self

    # ---- what we are

    @property
    def connected(self) -> bool:
        """See `Destination`."""
        return True

    @property
    def dialback_secret(self) -> bytes:
        """What dialback keys are made with: for nothing else, and the same on every machine with this store."""
        return hmac.new(self.server.secret, b"dialback", hashlib.sha256).digest()

    @property
    def uses_bidi(self) -> bool:
        """Whether streams are used in both directions."""
        return self.settings[options.BIDI]

    @property
    def uses_sm(self) -> bool:
        """Whether stanzas are acknowledged."""
        return self.settings[options.SMACKS]

    @property
    def idle_seconds(self) -> float:
        """After how long without any stanza a stream is closed."""
        return self.settings[options.IDLE_TIMEOUT]

    @property
    def stream_limits(self) -> Limits:
        """What is read of a stream of another server that is authenticated, or that we have chosen to connect to."""
        return options.stanza_limits(self.settings, after_login(self.settings))

    def is_ours(self, domain: str) -> bool:
        """Whether a domain is served here."""
        return domain in self.server.hosts or domain in self.server.components

    def settings_of(self, domain: str) -> Settings:
        """The settings of a domain that is served here; those of the server for any other."""
        server = self.server
        served = server.hosts.get(domain) or server.components.get(domain)
        return served.settings if served is not None else self.settings

    def context(self, domain: str) -> Any:
        """The TLS context of a domain that is served here."""
        return self.certificates.context(domain)

    def certificate_problem(self, stream: ServerStream, domain: str) -> str | None:
        """What is wrong with the certificate that the peer has shown, if it is to be the server of `domain`."""
        return self.trust.problem(stream.transport.peer_chain(), domain)

    def next_id(self, milliseconds: int) -> int:
        """An id for the store, greater than those before; of several machines none has the same."""
        self._last_id = max(self._last_id + 1, (milliseconds << 20) + int(self.random() * (1 << 20)))
        return self._last_id

    # ---- stanzas

    async def receive(self, stanza: Stanza) -> None:
        """See `Destination`: a stanza for somebody elsewhere."""
        assert stanza.sender is not None and stanza.to is not None
        local, remote = stanza.sender.domain, stanza.to.domain
        if not self.is_ours(local):
            raise StanzaError("not-allowed", "this server does not speak for that sender")
        if is_blocked(self.settings_of(local), remote):
            raise StanzaError("not-allowed", f"this server does not speak to {remote}")
        self._link(local, remote).take(stanza)

    def _link(self, local: str, remote: str) -> Link:
        link = self.links.get((local, remote))
        if link is None:
            if len(self.links) >= self.settings[options.MAX_LINKS]:
                raise StanzaError("resource-constraint", "this server speaks to too many others")
            link = self.links[local, remote] = Link(self, local, remote)
            carriers = self._carriers.get((local, remote))
            if carriers:
                link.opened(carriers[0])
        return link

    async def start(self) -> None:
        """Go on with what the last process has not brought to where it was for. Raises `StorageError`."""
        last = 0
        while page := await self.server.store.outbox.page(last, PAGE):
            for row in page:
                last = self._last_id = row.id
                self._restore(row)
        self._sweeping.start(SWEEP_SECONDS, now=False)

    def _restore(self, row: OutgoingStanza) -> None:
        try:
            stanza = read_stored(row.stanza)
        except ValueError as error:
            self._give_up(row, str(error))
            return
        assert stanza.sender is not None and stanza.to is not None
        local, remote = stanza.sender.domain, stanza.to.domain
        if not self.is_ours(local):
            self._give_up(row, f"{local} is not served here any more")
            return
        link = self.links.get((local, remote))
        if link is None:  # however many there are: these stanzas were accepted
            link = self.links[local, remote] = Link(self, local, remote)
        deadline = self.clock.seconds() + self.settings[options.RETRY_TIME]
        item = Item(link, stanza, row.id, row.received, deadline)
        item.tries = 1  # it may have been sent: it says that it is late
        link.add(item)

    def _give_up(self, row: OutgoingStanza, why: str) -> None:
        self.log.error("a stanza on its way was given up: {why}", why=why)
        self.server.store.outbox.delete([row.id]).addErrback(lambda failure: None)

    # ---- streams that we open

    def connect(self, link: Link) -> None:
        """Get a stream for a link."""
        if not self.stopping:
            link.connecting = True
            self.server.tasks.start(self._connect(link), "a stream to another server")

    async def _connect(self, link: Link) -> None:
        failure: Failed | None = None
        try:
            await self.opening.for_link(link)
        except Failed as failed:
            failure = failed
        except Exception:
            self.log.failure("a stream to {remote} could not be opened", remote=link.remote)
            failure = unreachable("an internal error")
        link.connecting = False
        if link.stream is None and failure is not None and not self.stopping:
            self.failures += 1
            link.failed(failure)
        else:
            link.go_on()

    # ---- streams that others open

    def accepted(self, sock: socket.socket, peer: str) -> None:
        """A server has connected to an ordinary port."""
        self._accept(sock, peer, direct_tls=False)

    def accepted_direct_tls(self, sock: socket.socket, peer: str) -> None:
        """A server has connected to a port where TLS comes first (XEP-0368)."""
        self._accept(sock, peer, direct_tls=True)

    def _accept(self, sock: socket.socket, peer: str, direct_tls: bool) -> None:
        settings = self.settings
        connection = Connection(
            self._reactor, self._flusher, sock, peer, settings[C2S_MAX_UNSENT], settings[C2S_WRITE_TIMEOUT]
        )
        first = partial(self.context, next(iter(self.server.hosts)))
        begin(connection, self.stream(connection), first if direct_tls else None)

    def stream(self, transport: ServerTransport) -> IncomingStream:
        """A new stream of another server over `transport`."""
        stream = IncomingStream(self, transport)
        self.streams.add(stream)
        return stream

    # ---- what streams tell

    def carries(self, stream: ServerStream, local: str, remote: str) -> None:
        """A stream may carry a pair from now on."""
        self._carriers.setdefault((local, remote), []).append(stream)
        link = self.links.get((local, remote))
        if link is not None:
            link.opened(stream)

    def ended(self, stream: ServerStream, items: list[Item]) -> None:
        """A stream carries nothing any more. `items` may not have arrived."""
        for pair in stream.carried:
            carriers = self._carriers.get(pair, [])
            if stream not in carriers:
                continue
            carriers.remove(stream)
            if not carriers:
                del self._carriers[pair]
            link = self.links.get(pair)
            if link is not None:
                mine = [item for item in items if item.link is link]
                link.closed(stream, mine, carriers[0] if carriers else None)

    def gone(self, stream: ServerStream) -> None:
        """A stream has lost its connection."""
        self.streams.discard(stream)

    # ---- in the course of time

    def _sweep(self) -> None:
        now = self.clock.seconds()
        for pair, link in list(self.links.items()):
            if link.is_unused:
                del self.links[pair]
            elif link.stream is None and not link.connecting:
                if link.failure is not None:
                    link.give_back(link.failure)
                link.go_on()
        idle, acknowledging = self.settings[options.IDLE_TIMEOUT], self.settings[options.ACK_TIMEOUT]
        for stream in list(self.streams):
            stream.sending.settle()
            owed = stream.sending.owed_since
            if owed is not None and now - owed >= acknowledging:
                stream.transport.abort("it has acknowledged nothing for too long")
            elif now - stream.active_at >= idle and not stream.is_busy:
                self.server.tasks.start(stream.end_in_order(""), "the end of an idle stream")

    def reload(self) -> None:
        """Options have other values: streams and stanzas of domains that are not spoken to any more end here. Raises
        `OSError` where the authorities cannot be read."""
        for stream in list(self.streams):
            pairs = {(local, remote) for remote, local in stream.proven} | stream.carried
            if any(is_blocked(self.settings_of(local), remote) for local, remote in pairs):
                stream.end(StreamError("policy-violation", "that domain is not spoken to"))
        for link in self.links.values():
            if is_blocked(self.settings_of(link.local), link.remote):
                link.give_back(Failed("not-allowed", f"this server does not speak to {link.remote}", lasting=True))
        self.trust.reload(self.settings[options.CA_FILE])

    # ---- the end

    def shut_down(self) -> None:
        """Open nothing new; what is kept and has not left waits for the next process."""
        self.stopping = True
        self.opening.stop()

    async def close(self, seconds: float) -> None:
        """Close every stream, when what is under way has arrived and what has come is acknowledged, or after so many
        seconds."""
        if self._sweeping.running:
            self._sweeping.stop()
        open_ones = [stream for stream in self.streams if not stream.closed]
        arriving = [stream.sending.when_all_arrived() for stream in open_ones]

        def give_up() -> None:
            for each in arriving:
                each.cancel()

        def settle() -> None:
            for stream in open_ones:
                stream.sending.settle(0.0)  # who goes in order need not wait for others to do

        settling = LoopingCall(settle)
        settling.clock = self.clock  # type: ignore[assignment]
        settling.start(SETTLE_SECONDS)
        timer = self.clock.callLater(seconds, give_up)
        for each in arriving:
            try:
                await each
            except CancelledError:
                continue
        if timer.active():
            timer.cancel()
        settling.stop()
        await gatherResults([Deferred.fromCoroutine(self._close(stream)) for stream in open_ones])

    async def _close(self, stream: ServerStream) -> None:
        await stream.say_goodbye()
        stream.end(StreamError("system-shutdown", "the server is going down"))
