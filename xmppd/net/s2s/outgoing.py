"""Streams that we open to other servers: TLS, their certificate, then SASL EXTERNAL (XEP-0178) or dialback."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredLock
from twisted.words.xish import domish

from xmppd.config.errors import escaped
from xmppd.net.header import header_bytes
from xmppd.net.s2s.connecting import Endpoint
from xmppd.net.s2s.failed import Failed, unreachable
from xmppd.net.s2s.finding import literal
from xmppd.net.s2s.options import REQUIRE_ENCRYPTION, needs_certificate
from xmppd.net.s2s.stream import ServerStream, limits_element, max_bytes_of, stream_error_of
from xmppd.net.transport import ServerTransport
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import ascii_domain
from xmppd.wire.parser import Event, StreamHeader
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.net.s2s.federation import Federation

ALPN = b"xmpp-server"  # XEP-0368 section 2
# What a peer may announce at least (XEP-0478 section 3). Before authentication many announce just that, and behind
# dialback there are no other features that would take it back.
MIN_MAX_BYTES = 10_000
MAX_CAME = 8  # elements that come before they are waited for


class Secured:
    """TLS is there."""


class OutgoingStream(ServerStream):
    """A stream from the server of `local`, which is ours, to that of `remote`. `negotiate` brings it to where both know
    how they may speak, `authorize` then has it carry stanzas. `note` is told each step."""

    def __init__(
        self, federation: Federation, transport: ServerTransport, local: str, remote: str, endpoint: Endpoint,
        note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._limits = federation.stream_limits
        super().__init__(federation, transport, self._limits)
        self.local = local
        self.remote = remote
        self.endpoint = endpoint
        self.ready = False  # whether it was negotiated
        self.hangs = False  # whether something was not answered in time
        self._note = note
        self._features: domish.Element = domish.Element((ns.STREAM, "features"))
        self._has_dialback = False  # whether the header declares it, as it was done before there were features
        self._next: Deferred[Event | Secured | None] | None = None  # what the negotiation waits for
        self._came: list[Event | Secured] = []  # before it was waited for
        self._why = ""  # the stream is over
        self._one_at_a_time = DeferredLock()

    # ---- the negotiation waits for one element after the other

    def _open(self, header: StreamHeader) -> None:
        self._arrived(header)

    def _negotiate(self, element: Stanza) -> None:
        if self.ready and self._next is None:
            raise StreamError("unsupported-stanza-type", "nothing was asked for")
        self._arrived(element)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Stanza) and event.xmlns == ns.STREAM and event.name == "error" and not self.closed:
            self._why = stream_error_of(event)
        super()._handle(event)

    def _arrived(self, event: Event | Secured) -> None:
        if self._next is not None:
            waiting, self._next = self._next, None
            waiting.callback(event)
        elif len(self._came) < MAX_CAME:
            self._came.append(event)
        else:
            raise StreamError("policy-violation", "too much was sent that nobody asked for")

    @property
    def nothing_follows(self) -> bool:
        """See `ServerStream`."""
        return not self._came and super().nothing_follows

    async def _element(self) -> Event | Secured:
        """What comes next; raises `Failed` where the stream ends before."""
        if self._came:
            return self._came.pop(0)
        if not self.closed:
            self._next = Deferred()
            event = await self._next
            if event is not None:
                return event
        if self._why.startswith("host-unknown"):
            # DNS says that it is served there, so perhaps it is only starting.
            text = f"{self.remote} is not served there ({self.transport.peer}): {self._why}"
            raise Failed("remote-server-not-found", text)
        raise unreachable(f"the stream was closed: {self._why}")

    async def _stanza(self) -> Stanza:
        event = await self._element()
        if not isinstance(event, Stanza):
            raise self._broken("something else than an element")
        return event

    def _broken(self, what: str) -> Failed:
        return unreachable(f"its server at {self.transport.peer} does not follow the protocol: {what}")

    def _stopped(self, reason: str) -> None:
        self._why = self._why or reason
        if self._next is not None:
            waiting, self._next = self._next, None
            waiting.callback(None)

    # ---- from the connection

    def start(self) -> None:
        """Begin, with TLS where that comes first."""
        self.transport.start(self)
        if self.endpoint.target.direct_tls:
            self._start_tls(ALPN)

    def _start_tls(self, alpn: bytes = b"") -> None:
        name = ascii_domain(self.remote) if literal(self.remote) is None else ""  # RFC 6066 section 3: no addresses
        self.transport.start_tls(self.federation.context(self.local), name, alpn)

    def secured(self) -> None:
        """TLS is there: a new stream begins."""
        self._arrived(Secured())

    def header(self) -> bytes:
        """See `ServerStream`."""
        self._sent_header = True
        return header_bytes(self.local, self.remote, None, ns.SERVER)

    # ---- the steps (RFC 6120 section 4.3)

    async def negotiate(self) -> None:
        """Get to where domains can be proven; raises `Failed`."""
        settings = self.federation.settings_of(self.local)
        if self.endpoint.target.direct_tls:
            await self._secured()
        await self._open_stream()
        if not self.transport.secure:
            if self._offers(ns.TLS, "starttls"):
                self.write(tag("starttls", {"xmlns": ns.TLS}))
                answer = await self._stanza()
                if (answer.xmlns, answer.name) != (ns.TLS, "proceed"):
                    raise unreachable("it offers TLS and refuses to start it")
                if not self.nothing_follows:
                    raise self._broken("something follows <proceed/>")
                self.restart(self._limits)
                self._start_tls()
                await self._secured()
                await self._open_stream()
            elif settings[REQUIRE_ENCRYPTION]:
                raise unreachable("it offers no TLS, which s2s_require_encryption wants")
            else:
                self._note("no TLS")
        self._check_certificate()
        if self.federation.uses_bidi and self._offers(ns.BIDI_FEATURE, "bidi"):
            limits = limits_element(self.federation, self._limits.bytes)
            self.write(tag("bidi", {"xmlns": ns.BIDI}, limits))
            self.bidi = True
        self.ready = True

    async def _secured(self) -> None:
        if not isinstance(await self._element(), Secured):
            raise self._broken("an element before TLS")
        self._note(f"{self.endpoint}: {self.transport.tls_version}")

    async def _open_stream(self) -> None:
        self.write(self.header())
        header = await self._element()
        if not isinstance(header, StreamHeader):
            raise self._broken("no stream header")
        if header.namespaces.get("") != ns.SERVER:
            raise self._broken("the stream is not of jabber:server")
        if header.attributes.get("version", "0").partition(".")[0] != "1":
            raise unreachable("it does not speak XMPP 1.0")
        self.stream_id = header.attributes.get("id", "")
        self._has_dialback = ns.DIALBACK in header.namespaces.values()
        features = await self._stanza()
        if (features.xmlns, features.name) != (ns.STREAM, "features"):
            raise self._broken("no stream features")
        self._features = features.tree
        self.sending.max_bytes = max_bytes_of(self._features)
        names = escaped(", ".join(str(each.name) for each in self._features.elements()))
        self._note(f"{self.endpoint}: the stream has begun, with {names or 'no features'}")

    def _offers(self, xmlns: str, name: str) -> bool:
        return any(True for _ in self._features.elements(xmlns, name))

    def _check_certificate(self) -> None:
        if not self.transport.secure:
            return
        problem = self.federation.certificate_problem(self, self.remote)
        self._note(f"{self.endpoint}: certificate: {problem or f'valid for {self.remote}'}")
        if problem is not None and needs_certificate(self.federation.settings_of(self.local), self.remote):
            raise unreachable(f"{self.remote} needs a valid certificate: {problem}")

    # ---- who we are

    async def authorize(self, local: str) -> None:
        """Prove that we are the server of `local`, and carry its stanzas; raises `Failed`."""
        async with self._one_at_a_time:
            if (local, self.remote) not in self.carried:
                how = await self._authenticated(local)
                if self.bidi:
                    self.prove(self.remote, local, how)
                if not self.is_managed and self.federation.uses_sm and self._offers(ns.SM, "sm"):
                    await self._enable_management()
                if self.is_over:
                    raise unreachable(f"the stream was closed: {self._why}")
                self.carry(local, self.remote, how)

    async def test(self, local: str) -> None:
        """As `authorize`, but nothing is carried or taken; raises `Failed`."""
        async with self._one_at_a_time:
            await self._authenticated(local)

    async def ask(self, local: str, id: str, key: str) -> bool:
        """See `Dialback.ask`; not while a login is under way. Raises `Failed`."""
        async with self._one_at_a_time:
            asked = self.dialback.ask(local, self.remote, id, key)
        return await asked

    async def _authenticated(self, local: str) -> str:
        """Prove that we are the server of `local`; how that was done. Raises `Failed`."""
        how = ""
        if local == self.local and not self.carried and self._offers_external():
            how = "certificate" if await self._authenticate() else ""
        if not how:
            if not self._has_dialback and not self._offers(ns.DIALBACK_FEATURE, "dialback"):
                raise unreachable("it accepts neither our certificate nor dialback")
            await self.dialback.show(local, self.remote)
            how = "dialback"
            if self.sending.max_bytes <= MIN_MAX_BYTES:
                self.sending.max_bytes = 0
        self._note(f"{self.endpoint}: {local} is authenticated by {how}")
        return how

    @property
    def takes_more(self) -> bool:
        """Whether it may carry the stanzas of more of our domains (XEP-0220 section 2.5)."""
        has_dialback = self._has_dialback or self._offers(ns.DIALBACK_FEATURE, "dialback")
        return self.ready and not self.is_over and not self.hangs and has_dialback

    def _offers_external(self) -> bool:
        return any(
            str(mechanism) == "EXTERNAL"
            for mechanisms in self._features.elements(ns.SASL, "mechanisms")
            for mechanism in mechanisms.elements(ns.SASL, "mechanism")
        )

    async def _authenticate(self) -> bool:
        """SASL EXTERNAL; False where it is refused, and dialback is the next to try (XEP-0178 section 3)."""
        self.ready = False
        authzid = base64.b64encode(self.local.encode()).decode()
        self.write(tag("auth", {"xmlns": ns.SASL, "mechanism": "EXTERNAL"}, authzid))
        answer = await self._stanza()
        if (answer.xmlns, answer.name) != (ns.SASL, "success"):
            reasons = escaped(", ".join(str(each.name) for each in answer.tree.elements()))
            self._note(f"{self.endpoint}: our certificate is refused: {reasons}")
            self.ready = True
            return False
        if not self.nothing_follows:
            raise self._broken("something follows <success/>")
        self.restart(self._limits)
        await self._open_stream()
        self.ready = True
        return True

    async def _enable_management(self) -> None:
        self.write(tag("enable", {"xmlns": ns.SM}))
        answer = await self._stanza()
        if answer.name != "enabled":
            self._note(f"{self.endpoint}: no stream management")

    def _manage(self, element: Stanza) -> None:
        if element.name in ("enabled", "failed") and not self.is_managed and self._next is not None:
            if element.name == "enabled":
                self.sending.enable()
            self._arrived(element)
        else:
            super()._manage(element)
