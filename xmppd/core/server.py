"""The server: its hosts, its sessions, its store, and the way of a stanza between them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xmppd.config import Settings
from xmppd.core.clock import Clock
from xmppd.core.events import Leaving, Starting, Stopping
from xmppd.core.host import Host
from xmppd.core.http import Fetch, HttpRoutes, fetch_nothing
from xmppd.core.metrics import Metrics
from xmppd.core.sessions import Sessions
from xmppd.core.tasks import Tasks
from xmppd.storage import StorageError, Store
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID
from xmppd.wire.stanza import Stanza, error_reply

T = TypeVar("T")


class Destination(Protocol):
    """Who takes the stanzas for a domain that is no host of ours, such as an external component."""

    settings: Settings

    @property
    def connected(self) -> bool:
        """Whether somebody is there."""

    async def receive(self, stanza: Stanza) -> None:
        """Take a stanza whose `to` is of that domain; raises `StanzaError` to refuse it."""


class Nowhere:
    """The `Destination` of a server that reaches no other."""

    connected = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def receive(self, stanza: Stanza) -> None:
        """See `Destination`."""
        raise StanzaError("remote-server-not-found", "this server does not reach other servers")


class InThread(Protocol):
    """Runs a function that takes long off the reactor thread."""

    def __call__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]: ...


class Server:
    """What all hosts share. `clock` measures waits, `now` is the time of day in seconds since 1970 UTC,
    `secret` the server's own, which it keeps for ever."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        now: Callable[[], float],
        in_thread: InThread,
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.now = now
        self.in_thread = in_thread
        self.secret = b""  # from the store, once that may be asked
        self.token_key = secrets.token_bytes(32)  # which tokens are made with; the service has one that lasts
        self.started = now()
        self.stopping = False  # what cannot be done now is left to the next process
        self.hosts: dict[str, Host] = {}
        self.components: dict[str, Destination] = {}
        self.remote: Destination = Nowhere(settings)  # of all domains that are not served here
        self.sessions = Sessions()
        self.tasks = Tasks()
        self.metrics = Metrics()
        self.http = HttpRoutes()
        self.fetch: Fetch = fetch_nothing  # the service has one
        self.ready = False  # whether clients are let in
        self.log = Logger(namespace="xmppd")

    def now_ms(self) -> int:
        """The time of day in milliseconds since 1970 UTC."""
        return int(self.now() * 1000)

    @staticmethod
    def token() -> str:
        """A new identifier that nobody can guess, unique without asking anybody: 144 bits, URL-safe."""
        return secrets.token_urlsafe(18)

    async def start(self) -> None:
        """Let modules bring back what the last process left. Raises `StorageError`."""
        for host in self.hosts.values():
            await host.accounts.look_at_hashes()
            await host.bus.fire(Starting(host))

    def shut_down(self) -> None:
        """Begin nothing new, and wait for nobody's answers any more: that is left to the next process."""
        self.stopping = True
        for host in self.hosts.values():
            host.requests.give_up()

    async def stop(self) -> None:
        """Let modules write what the next process needs."""
        for host in self.hosts.values():
            try:
                await host.bus.fire(Stopping(host))
            except Exception:
                self.log.failure("something of {host} could not be written at the end", host=host.domain)

    async def route(self, stanza: Stanza) -> None:
        """Bring a stanza with both its addresses to where it is for. A refusal goes back to its sender."""
        await self.or_bounce(stanza, self.route_or_refuse(stanza))

    async def meet(self, jid: JID) -> None:
        """Have the account of an address in memory, where it is one of ours, for what follows not to wait."""
        host = self.hosts.get(jid.domain) if jid.local else None
        if host is not None and host.accounts.loaded(jid.local) is None:
            await host.accounts.load(jid.local)

    async def route_undelivered(self, stanza: Stanza) -> None:
        """Bring a stanza to whoever can have it now, after the session that it was for could not: by the same rules,
        but nothing that has happened to it at its arrival happens again."""
        assert stanza.to is not None
        await self.or_bounce(stanza, self.hosts[stanza.to.domain].deliver(stanza))

    async def or_bounce(self, stanza: Stanza, delivery: Coroutine[Any, Any, None]) -> None:
        """Wait for the delivery of a stanza; where it is refused or fails its sender is told."""
        try:
            await delivery
        except StanzaError as error:
            await self.bounce(stanza, error)
        except StorageError as error:
            self.log.error("a stanza was refused: the store failed: {error}", error=str(error))
            await self.bounce(stanza, StanzaError("resource-constraint", "the server cannot store this now"))
        except Exception:
            self.log.failure("a stanza could not be routed")
            await self.bounce(stanza, StanzaError("internal-server-error"))

    async def route_or_refuse(self, stanza: Stanza) -> None:
        """Bring a stanza with both its addresses to where it is for; raises `StanzaError` where it is refused."""
        sender = stanza.sender
        origin = self.hosts.get(sender.domain) if sender is not None and sender.local else None
        if sender is not None and origin is not None:
            account = origin.accounts.speaking(sender.local)
            if account is not None:
                event = Leaving(account, stanza)
                if await origin.bus.fire(event) is not None:
                    return
                stanza = event.stanza
        assert stanza.to is not None
        host = self.hosts.get(stanza.to.domain)
        if host is not None:
            await host.receive(stanza)
            return
        await self.components.get(stanza.to.domain, self.remote).receive(stanza)

    async def bounce(self, stanza: Stanza, error: StanzaError) -> None:
        """Tell the sender of a stanza why it was not delivered, where that may be told (RFC 6120 section 8.3.1)."""
        if stanza.type in ("error", "result") or stanza.sender is None:
            return
        if stanza.name == "presence" and stanza.type in ("probe", "unavailable", "unsubscribed", "unsubscribe"):
            return
        await self.route(error_reply(stanza, error))
