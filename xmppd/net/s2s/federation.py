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
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from xmppd.config import Settings
from xmppd.core.server import Server
from xmppd.net.addresses import TOO_MANY, Addresses
from xmppd.net.certificates import Certificates
from xmppd.net.connection import Connection, Flusher
from xmppd.net.limits import after_login
from xmppd.net.s2s import options
from xmppd.net.s2s.connecting import Network, Unreachable
from xmppd.net.s2s.failed import Failed, unreachable
from xmppd.net.s2s.incoming import IncomingStream
from xmppd.net.s2s.link import Item, Link
from xmppd.net.s2s.outgoing import OutgoingStream
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
PAGE = 500  # stanzas that are read from the store at a time

Pair = tuple[str, str]


def silent(text: str) -> None:
    """Take note of nothing."""


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
        self.stopping = False
        self._reactor = reactor
        self._flusher = Flusher(reactor)
        self._carriers: dict[Pair, list[ServerStream]] = {}
        self._opening: dict[Pair, list[Deferred[OutgoingStream]]] = {}
        self._under_way: set[Deferred[Any]] = set()
        self._verifying = 0
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
        if options.is_blocked(self.settings_of(local), remote):
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
                last = row.id
                self._restore(row)
        self._sweeping.start(SWEEP_SECONDS, now=False)

    def _restore(self, row: OutgoingStanza) -> None:
        stanza = read_stored(row.stanza)
        self._last_id = max(self._last_id, row.id)
        try:
            assert stanza.sender is not None and stanza.to is not None
            if not self.is_ours(stanza.sender.domain):
                raise StanzaError("not-allowed", "it is not served here any more")
            link = self._link(stanza.sender.domain, stanza.to.domain)
        except StanzaError as error:
            self.log.error("a stanza on its way was given up: {error}", error=str(error))
            self.server.store.outbox.delete([row.id]).addErrback(lambda failure: None)
            return
        deadline = self.clock.seconds() + self.settings[options.RETRY_TIME]
        item = Item(link, stanza, row.id, row.received, deadline)
        item.tries = 1  # it may have been sent: it says that it is late
        link.add(item)

    # ---- streams that we open

    def connect(self, link: Link) -> None:
        """Get a stream for a link."""
        if not self.stopping:
            link.connecting = True
            self.server.tasks.start(self._connect(link), "a stream to another server")

    async def _connect(self, link: Link) -> None:
        failure: Failed | None = None
        try:
            await self._in_time(self._stream_for(link))
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

    async def _in_time(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What some work comes to within ``s2s_timeout``; raises `Failed`."""
        waiting: Deferred[Any] = Deferred.fromCoroutine(work)
        timer = self.clock.callLater(self.settings[options.TIMEOUT], waiting.cancel)
        self._under_way.add(waiting)
        try:
            return await waiting
        except CancelledError:
            raise unreachable("the server stops" if self.stopping else "this took too long") from None
        finally:
            self._under_way.discard(waiting)
            if timer.active():
                timer.cancel()

    async def _stream_for(self, link: Link) -> None:
        """Have a stream carry a link: one that is there (XEP-0220 section 2.5), or a new one. Raises `Failed`."""
        for stream in list(self._outgoing(link.remote)):
            if stream.takes_more and self._suits(stream, link.local):
                try:
                    await stream.authorize(link.local)
                except Failed:
                    continue  # it may be accepted on a stream of its own
                return
        stream = await self.negotiated(link.local, link.remote)
        try:
            await stream.authorize(link.local)
        except (Failed, CancelledError) as error:
            if not stream.carried:
                stream.end(None, str(error) or "this took too long")
            raise

    def _outgoing(self, remote: str) -> Iterator[OutgoingStream]:
        for stream in self.streams:
            if isinstance(stream, OutgoingStream) and stream.remote == remote and not stream.is_over:
                yield stream

    def _suits(self, stream: OutgoingStream, local: str) -> bool:
        """Whether a stream that was opened for another domain of ours is good enough for this one."""
        settings = self.settings_of(local)
        if len(stream.carried) >= self.settings[options.MAX_PAIRS]:
            return False
        if settings[options.REQUIRE_ENCRYPTION] and not stream.transport.secure:
            return False
        needed = options.needs_certificate(settings, stream.remote)
        return not needed or self.certificate_problem(stream, stream.remote) is None

    async def negotiated(self, local: str, remote: str) -> OutgoingStream:
        """A new stream between two domains, on which neither is proven yet; who asks while one is being opened gets the
        same. Raises `Failed`."""
        pair = local, remote
        if pair in self._opening:
            waiting = self._opening[pair]
            opened: Deferred[OutgoingStream] = Deferred(waiting.remove)
            waiting.append(opened)
            return await opened
        others = self._opening[pair] = []
        failure = unreachable("it was given up")
        stream: OutgoingStream | None = None
        try:
            stream = await self.open(local, remote, silent)
            return stream
        except Failed as failed:
            failure = failed
            raise
        finally:
            del self._opening[pair]
            for each in list(others):
                each.callback(stream) if stream is not None else each.errback(failure)

    async def open(self, local: str, remote: str, note: Callable[[str], None]) -> OutgoingStream:
        """A new stream between two domains, negotiated as far as TLS and features; `note` is told of each step. Raises
        `Failed`, which says what was wrong with the last address that answered."""
        failure: Failed | None = None
        for group in await self.network.find(remote, note):
            tried: frozenset[Any] = frozenset()
            while True:
                try:
                    transport, endpoint = await self.network.connect(group, tried, note)
                except Unreachable as error:
                    failure = failure or unreachable(f"no address answers: {error}")
                    break
                tried |= {endpoint}
                stream = OutgoingStream(self, transport, local, remote, endpoint, note)
                self.streams.add(stream)
                stream.start()
                try:
                    await self._negotiate(stream)
                except Failed as failed:
                    note(f"{endpoint}: {failed}")
                    failure = failed
                    stream.end(None, failed.text)
                else:
                    return stream
        raise failure or unreachable("it has no address")

    async def _negotiate(self, stream: OutgoingStream) -> None:
        """Negotiate in the time that one address has; whatever happens, a stream that is not negotiated is closed."""
        waiting: Deferred[None] = Deferred.fromCoroutine(stream.negotiate())
        timer = self.clock.callLater(self.settings[options.CONNECT_TIMEOUT], waiting.cancel)
        try:
            await waiting
        except CancelledError:
            stream.end(None, "this took too long")
            if timer.active():
                raise
            raise unreachable(f"{stream.endpoint} takes too long") from None
        finally:
            if timer.active():
                timer.cancel()

    async def verify(self, asking: ServerStream, remote: str, local: str, id: str, key: str) -> bool:
        """Ask the server of `remote` whether a dialback key is its own, on another stream than the `asking` one
        (XEP-0288 section 2). Raises `Failed`."""
        if self._verifying >= self.settings[options.MAX_VERIFYING]:
            raise unreachable("too many dialback keys are being verified")
        self._verifying += 1
        try:
            return bool(await self._in_time(self._verify(asking, remote, local, id, key)))
        finally:
            self._verifying -= 1

    async def _verify(self, asking: ServerStream, remote: str, local: str, id: str, key: str) -> bool:
        ready = (each for each in self._outgoing(remote) if each.ready and each is not asking)
        stream = next((each for each in ready if self._suits(each, local)), None)
        if stream is None:
            stream = await self.negotiated(local, remote)
        return await stream.dialback.ask(local, remote, id, key)

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
        stream = self.stream(connection)
        connection.start(stream)
        if not stream.admitted and direct_tls:
            connection.abort(TOO_MANY)
        elif not stream.admitted:
            stream.end(StreamError("policy-violation", TOO_MANY))
        elif direct_tls:
            connection.start_tls(self.context(next(iter(self.server.hosts))))

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
            owed = stream.sending.owed_since
            if owed is not None and now - owed >= acknowledging:
                stream.transport.abort("it has acknowledged nothing for too long")
            elif now - stream.active_at >= idle and not stream.is_busy:
                stream.end(None)

    # ---- the end

    def shut_down(self) -> None:
        """Open nothing new; what is kept and has not left waits for the next process."""
        self.stopping = True
        for waiting in list(self._under_way):
            waiting.cancel()

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

        timer = self.clock.callLater(seconds, give_up)
        for each in arriving:
            try:
                await each
            except CancelledError:
                continue
        if timer.active():
            timer.cancel()
        for stream in open_ones:
            await stream.say_goodbye()
            stream.end(StreamError("system-shutdown", "the server is going down"))
