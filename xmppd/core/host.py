"""A virtual host: its settings, its modules' hooks, its accounts, and what happens to a stanza that is for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.logger import Logger
from twisted.words.xish import domish

from xmppd.config import Settings
from xmppd.core.accounts import Account, Accounts
from xmppd.core.bus import Bus, Stage
from xmppd.core.cleaning import clean, clean_sent
from xmppd.core.clients import restore_login, save_login
from xmppd.core.disco import Disco
from xmppd.core.events import Arriving, Sent
from xmppd.core.http import HttpRoutes
from xmppd.core.iq import IQHandlers, Request, check_iq
from xmppd.core.login_task import LoginTasks
from xmppd.core.requests import Requests
from xmppd.core.routing import (
    PRESENCE_TYPES,
    SUBSCRIPTION_TYPES,
    deliver_message,
    deliver_presence,
    no_such_account,
)
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID
from xmppd.wire.stanza import Stanza, result

if TYPE_CHECKING:
    from xmppd.core.server import Server
    from xmppd.core.session import Carrier, Session

S = TypeVar("S")

# Takes an element of a stream that is no stanza, such as ``<enable/>`` of XEP-0198.
Nonza = Callable[["Carrier", Stanza], None]

# Answers an iq of a client that has not logged in, given the client's address (XEP-0077 alone needs that).
BeforeLogin = Callable[[Stanza, str], Awaitable[bytes | None]]


# How a module's record of a session is saved, as what JSON can hold or None where there is nothing to save, and put
# back into a session after a restart.
SessionState = tuple[Callable[["Session"], Any], Callable[["Session", Any], None]]


# Does what an element in a request to bind asks for; returns what ``<bound/>`` is to say of it.
BindHandler = Callable[["Session", domish.Element], "bytes | None"]

# Has a stream take up a session, by ``<resume/>``; returns what says why it cannot, or None where it has. Then the
# last argument was called, before anything else was sent, with what says so and with whose session it is.
InlineResume = Callable[["Carrier", domish.Element, Callable[[bytes, str], None]], Awaitable["bytes | None"]]


@dataclass(frozen=True)
class StreamFeature:
    """Something that a stream announces (RFC 6120 section 4.3.2).

    `xml` gives the bytes of the feature; `b""` announces nothing this time. `authenticated`: whether it belongs
    before or after authentication. It is never announced before TLS where TLS is required.
    """

    name: str
    authenticated: bool
    xml: Callable[[], bytes]


class Host:
    """One domain with accounts."""

    def __init__(self, server: Server, domain: str, settings: Settings) -> None:
        self.server = server
        self.domain = domain
        self.jid = JID("", domain)
        self.settings = settings
        self.log = Logger(namespace=f"xmppd.host.{domain}")
        self.bus = Bus()
        self.iq = IQHandlers()
        self.requests = Requests(self)
        self.http = HttpRoutes()
        self.stanzas: dict[tuple[str, str], int] = defaultdict(int)  # by kind, and "in" or "out": of clients
        self.disco = Disco()
        self.accounts = Accounts(self)
        self.features: list[StreamFeature] = []
        self.nonzas: dict[tuple[str, str], Nonza] = {}  # by namespace and name; for authenticated streams
        self.before_login: dict[tuple[str, str, str], BeforeLogin] = {}  # by type, namespace and name
        self.session_state: dict[str, SessionState] = {"client": (save_login, restore_login)}  # by the module's name
        self.modules: dict[str, Any] = {}
        self.login_tasks: list[LoginTasks] = []
        self.inline_resume: InlineResume | None = None  # takes up a session together with a login
        # What a session may begin with (XEP-0386): the feature of an element, and what does it, by namespace and name.
        self.bind_features: dict[tuple[str, str], str] = {}
        self.bind_handlers: dict[tuple[str, str], BindHandler] = {}
        self._services: dict[type[Any], Any] = {}
        self.bus.on(Arriving, clean, Stage.CLEAN)
        self.bus.on(Sent, clean_sent, Stage.CLEAN)

    # ---- services that modules offer to each other

    def provide(self, kind: type[S], service: S) -> None:
        """Offer `service` to whoever asks for `kind`; a later offer takes the place of an earlier one."""
        self._services[kind] = service

    def service(self, kind: type[S]) -> S:
        """The service of this kind; `KeyError` when no module offers one."""
        return self._services[kind]  # type: ignore[no-any-return]

    def find(self, kind: type[S]) -> S | None:
        """The service of this kind, or None."""
        return self._services.get(kind)

    def on_bind(self, feature: str, xmlns: str, name: str, handler: BindHandler) -> None:
        """Let a session begin with what `handler` does, when its client asks for ``{xmlns}name`` (XEP-0386). It is
        announced as `feature`."""
        self.bind_features[xmlns, name] = feature
        self.bind_handlers[xmlns, name] = handler

    # ---- stanzas for this host

    async def receive(self, stanza: Stanza) -> None:
        """Take a stanza whose `to` is of this host to where it belongs; raises `StanzaError` to refuse it."""
        to = stanza.to
        assert to is not None
        if not to.local:
            await self._receive_for_server(stanza)
            return
        nobody = not self.server.sessions.any_of(to.bare)
        if nobody and stanza.name == "presence" and stanza.type in (None, "unavailable"):
            return  # RFC 6121 sections 8.5.1 and 8.5.2.2.2: so nothing has to be loaded
        account = self.accounts.loaded(to.local) or await self.accounts.load(to.local)
        if account is None:
            await self._refuse_for_nobody(stanza)
            return
        event = Arriving(account, stanza)
        if await self.bus.fire(event) is not None:
            return
        await self._deliver(account, event.stanza)

    async def deliver(self, stanza: Stanza) -> None:
        """Deliver a stanza for an account of this host that has arrived before; raises `StanzaError`."""
        assert stanza.to is not None
        account = await self.accounts.load(stanza.to.local)
        if account is None:
            await self._refuse_for_nobody(stanza)
        else:
            await self._deliver(account, stanza)

    async def _refuse_for_nobody(self, stanza: Stanza) -> None:
        """RFC 6121 section 8.5.1: there is no such account. What is seen of that is what a stranger sees of one."""
        assert stanza.to is not None
        if stanza.name == "presence" and stanza.type == "probe" and stanza.sender is not None:
            sender, to = stanza.to.to_bare(), stanza.sender.to_bare()
            await self.server.route(Stanza("presence", {"type": "unsubscribed"}, sender=sender, to=to))
        elif stanza.name != "iq":
            no_such_account(stanza)
        elif stanza.type in ("get", "set"):
            check_iq(stanza)
            raise self.iq.refusal(stanza) if stanza.to.is_bare else StanzaError("service-unavailable")

    async def _deliver(self, account: Account, stanza: Stanza) -> None:
        if stanza.name == "message":
            await deliver_message(account, stanza)
        elif stanza.name == "presence":
            if stanza.type not in SUBSCRIPTION_TYPES and stanza.type != "probe":
                deliver_presence(account, stanza)
        else:
            await self._deliver_iq(account, stanza)

    async def _deliver_iq(self, account: Account, stanza: Stanza) -> None:
        """RFC 6121 sections 8.5.2.1.3 and 8.5.3.1: to the resource; for the bare JID the server answers."""
        to = stanza.to
        assert to is not None
        if not to.resource:
            await self.answer(stanza, account)
            return
        session = self.server.sessions.get(to)
        if session is not None:
            session.deliver(stanza)
        elif stanza.type in ("get", "set"):
            raise StanzaError("service-unavailable")

    async def _receive_for_server(self, stanza: Stanza) -> None:
        """RFC 6120 section 10.5.1: the host itself answers."""
        if stanza.name == "iq":
            await self.answer(stanza, None)
        elif stanza.name == "message" and stanza.type not in ("error", "headline"):
            raise StanzaError("service-unavailable")
        elif stanza.name == "presence" and stanza.type not in PRESENCE_TYPES and stanza.type is not None:
            raise StanzaError("bad-request", "there is no such type of presence")

    async def answer(self, stanza: Stanza, account: Account | None) -> None:
        """Answer an iq that is for the host (`account` None) or for an account; results and errors end here."""
        if stanza.type not in ("get", "set"):
            if account is None:
                self.requests.answered(stanza)
            return
        check_iq(stanza)
        assert stanza.sender is not None
        request = Request(stanza, stanza.sender, account, self.server.sessions.get(stanza.sender))
        payload = self.iq.find(request)(request)
        if isinstance(payload, Awaitable):
            payload = await payload
        await self.server.route(result(stanza, payload or b""))
