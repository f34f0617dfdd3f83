"""The service for clients: what all client streams share, and the connections that become streams."""

from __future__ import annotations

import socket
from collections import Counter
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xmppd.config import Duration, Option, Scope, Settings, Size
from xmppd.core.accounts import Account
from xmppd.core.bus import Stage
from xmppd.core.events import AccountRemoved, ClientRevoked, PasswordChanged
from xmppd.core.server import Server
from xmppd.net.addresses import Addresses
from xmppd.net.admission import begin
from xmppd.net.c2s import ClientStream
from xmppd.net.certificates import Certificates
from xmppd.net.connection import Connection, Flusher
from xmppd.net.framing import TCP, TLS_FIRST, Framing
from xmppd.net.transport import Transport
from xmppd.wire.errors import StreamError

C2S_MAX_UNSENT = Option(
    "c2s_max_unsent", Size(minimum=65536), "4M",
    "How many bytes may wait for a client that does not read them; beyond it the connection is dropped.",
    scope=Scope.SERVER,
)  # fmt: skip
C2S_WRITE_TIMEOUT = Option(
    "c2s_write_timeout", Duration(), "60s", "How long a client may read nothing of what waits for it.",
    scope=Scope.SERVER,
)  # fmt: skip
OPTIONS = (C2S_MAX_UNSENT, C2S_WRITE_TIMEOUT)

ABORT_SECONDS = 1.0  # for streams to hear that they were aborted, which takes a turn
REST_SECONDS = 4.0  # after which a stream is at rest, or twice that: to read again takes 8 us more, once
KEEPALIVE_SECONDS = 300.0  # how often a space goes to every client: it finds dead ones, and keeps NAT tables warm


class ClientService:
    """All client streams of the server. `reactor` is for the sockets, `server.clock` for the waits."""

    def __init__(self, server: Server, certificates: Certificates, reactor: Any) -> None:
        self.server = server
        self.certificates = certificates
        self.addresses = Addresses(server.clock.seconds)
        self.log = Logger(namespace="xmppd.c2s")
        self._reactor = reactor
        self._flusher = Flusher(reactor)
        self._streams: set[ClientStream] = set()
        self.busy: set[ClientStream] = set()  # that something has come on since the last `rest` ...
        self._were_busy: set[ClientStream] = set()  # ... and between that and the one before
        self._empty: Deferred[None] | None = None
        for host in server.hosts.values():
            host.bus.on(AccountRemoved, lambda event: self._end_unbound(event.account, "the account was deleted"))
            host.bus.on(
                PasswordChanged, lambda event: self._end_unbound(event.account, "the password was changed"), Stage.CHECK
            )
            host.bus.on(ClientRevoked, self._revoked)

    @property
    def settings(self) -> Settings:
        """The server's own settings."""
        return self.server.settings

    @property
    def max_unsent(self) -> int:
        """How many bytes may wait for a client."""
        return self.settings[C2S_MAX_UNSENT]

    def accepted(self, sock: socket.socket, peer: str) -> None:
        """A client has connected to an ordinary port."""
        self._start(sock, peer, direct_tls=False)

    def accepted_direct_tls(self, sock: socket.socket, peer: str) -> None:
        """A client has connected to a port where TLS comes first (XEP-0368)."""
        self._start(sock, peer, direct_tls=True)

    def _start(self, sock: socket.socket, peer: str, direct_tls: bool) -> None:
        settings = self.settings
        connection = Connection(
            self._reactor, self._flusher, sock, peer, settings[C2S_MAX_UNSENT], settings[C2S_WRITE_TIMEOUT]
        )
        stream = self.stream(connection, TLS_FIRST if direct_tls else TCP)
        first = partial(self.certificates.context, next(iter(self.server.hosts)))
        begin(connection, stream, first if direct_tls else None)

    def stream(self, transport: Transport, framing: Framing) -> ClientStream:
        """A new stream over `transport`."""
        stream = ClientStream(self, transport, framing)
        self._streams.add(stream)
        return stream

    def gone(self, stream: ClientStream) -> None:
        """Called by a stream that has lost its connection."""
        for those in (self._streams, self.busy, self._were_busy):
            those.discard(stream)
        if not self._streams:
            self._is_empty()

    async def all_closed(self, seconds: float) -> None:
        """Return when the last connection has sent its last words, or after `seconds`."""
        if not self._streams:
            return
        self._empty = Deferred()
        timer = self.server.clock.callLater(seconds, self._give_up)
        await self._empty
        if timer.active():
            timer.cancel()

    def _give_up(self) -> None:
        for stream in list(self._streams):
            stream.transport.abort("the server is going down")
        self.server.clock.callLater(ABORT_SECONDS, self._is_empty)

    def _is_empty(self) -> None:
        if self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def _end_unbound(self, account: Account, why: str) -> None:
        """Whoever has logged in before, and is not bound yet, has done so in vain."""
        for stream in list(self._streams):
            its = stream.host is account.host and stream.account_name == account.jid.local
            if its and stream.session is None:
                stream.end(StreamError("not-authorized", why))

    def _revoked(self, event: ClientRevoked) -> None:
        """Also of what has logged in and not bound yet."""
        for stream in list(self._streams):
            login = stream.login
            if login is None or stream.session is not None or login.account != event.account.id:
                continue
            if login.key in event.keys or login.grant in event.grants:
                stream.end(StreamError("not-authorized", "this client's access was revoked"))

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after `seconds`."""
        slept: Deferred[None] = Deferred()
        self.server.clock.callLater(seconds, slept.callback, None)
        return slept

    def keep_alive(self) -> None:
        """See `ClientStream.keep_alive`, for every client."""
        for stream in list(self._streams):
            stream.keep_alive()

    def rest(self) -> None:
        """Have streams rest on which nothing has come since the last call, which is made every `REST_SECONDS`. Those
        that do so already cost nothing."""
        for stream in self._were_busy - self.busy:
            stream.rest()
        self._were_busy, self.busy = self.busy, set()

    def counts(self) -> dict[str, Counter[str]]:
        """How many streams there are of each kind, by state."""
        counts: dict[str, Counter[str]] = {}
        for stream in self._streams:
            counts.setdefault(stream.kind, Counter())[stream.state.name.lower()] += 1
        return counts

    def shut_down(self) -> None:
        """Close every stream with ``<system-shutdown/>``."""
        for stream in list(self._streams):
            stream.end(StreamError("system-shutdown", "the server is going down"), outlived=True)
