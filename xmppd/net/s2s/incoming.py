"""Streams that other servers open: TLS, then SASL EXTERNAL (XEP-0178 section 3) or dialback (XEP-0220)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from xmppd.net.addresses import TOO_MANY
from xmppd.net.admission import Admission
from xmppd.net.header import header_bytes
from xmppd.net.s2s import dialback
from xmppd.net.s2s.options import REQUIRE_ENCRYPTION, TIMEOUT, is_blocked, needs_certificate
from xmppd.net.s2s.stream import ServerStream, limits_element, max_bytes_of
from xmppd.net.transport import ServerTransport
from xmppd.wire import ns, sm
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import InvalidJID, parse, prepare_domain
from xmppd.wire.parser import BEFORE_LOGIN, StreamHeader
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.net.s2s.federation import Federation

MAX_ATTEMPTS = 3  # of SASL on one stream (RFC 6120 section 6.4.5)
_BIDI = tag("bidi", {"xmlns": ns.BIDI_FEATURE})
_EXTERNAL = tag("mechanisms", {"xmlns": ns.SASL}, tag("mechanism", None, "EXTERNAL"))


class IncomingStream(ServerStream):
    """A stream of another server, over TLS from the start (XEP-0368) or not."""

    incoming = True

    def __init__(self, federation: Federation, transport: ServerTransport) -> None:
        super().__init__(federation, transport, BEFORE_LOGIN)
        self._opened = False
        self._attempts = 0
        self._external = False  # whether the peer is proven by SASL
        self._admission = Admission(
            federation.addresses, transport.peer, federation.settings, federation.clock, self._too_late, TIMEOUT
        )

    @property
    def admitted(self) -> bool:
        """Whether its address may have one more stream that is not authenticated."""
        return self._admission.granted or bool(self.proven)

    # ---- the header

    def header(self) -> bytes:
        """See `ServerStream`."""
        self._sent_header = True
        self.stream_id = self.federation.server.token()
        local = self.local or next(iter(self.federation.server.hosts))
        return header_bytes(local, self.remote or None, self.stream_id, ns.SERVER)

    def _open(self, header: StreamHeader) -> None:
        if self._opened:
            raise StreamError("bad-format", "the stream is open already")
        self._opened = True
        local, remote = (_domain(header.attributes.get(name)) for name in ("to", "from"))
        if self.proven and (local, remote) != (self.local, self.remote):
            raise StreamError("invalid-from", "the stream was authenticated for other domains")
        known = self.federation.is_ours(local)
        self.local, self.remote = local if known else "", remote
        self.write(self.header())
        if header.namespaces.get("") != ns.SERVER:
            raise StreamError("invalid-namespace", f"the default namespace has to be {ns.SERVER}")
        if header.attributes.get("version", "0").partition(".")[0] != "1":
            raise StreamError("unsupported-version", "this server speaks XMPP 1.0")
        if not known:
            raise StreamError("host-unknown", "this server does not serve that domain")
        self._check_remote(local, remote)
        if not self.admitted:
            raise StreamError("policy-violation", TOO_MANY)
        self.write(self._features())
        if self._external and self.bidi:
            self.carry(local, remote, "certificate")

    def _check_remote(self, local: str, remote: str) -> None:
        federation = self.federation
        if not remote:
            return  # it says by dialback who it is
        if federation.is_ours(remote):
            raise StreamError("invalid-from", "that domain is served here")
        settings = federation.settings_of(local)
        if is_blocked(settings, remote):
            raise StreamError("policy-violation", "that domain is not spoken to")
        if self.transport.secure and needs_certificate(settings, remote):
            problem = federation.certificate_problem(self, remote)
            if problem is not None:
                raise StreamError("not-authorized", f"{remote} needs a valid certificate: {problem}")

    def _features(self) -> bytes:
        """What is announced in the present state (RFC 6120 section 4.3.2)."""
        federation = self.federation
        secure = self.transport.secure
        required = federation.settings_of(self.local)[REQUIRE_ENCRYPTION]
        features = []
        if not secure:
            features.append(tag("starttls", {"xmlns": ns.TLS}, *([tag("required")] if required else [])))
        if self._may_authenticate():
            if secure and not self._external and self._certificate_holds():
                features.append(_EXTERNAL)
            features.append(dialback.FEATURE)
            if federation.uses_sm:
                features.append(sm.FEATURE)
        if federation.uses_bidi and not self.proven:
            features.append(_BIDI)
        # Behind dialback there are no other features: what holds then is told before.
        limits = self.federation.stream_limits if self._may_authenticate() else self._parser.limits
        features.append(limits_element(federation, limits.bytes))
        return tag("stream:features", None, *features)

    def _may_authenticate(self) -> bool:
        return self.transport.secure or not self.federation.settings_of(self.local)[REQUIRE_ENCRYPTION]

    def _certificate_holds(self) -> bool:
        return bool(self.remote) and self.federation.certificate_problem(self, self.remote) is None

    # ---- elements

    def _negotiate(self, element: Stanza) -> None:
        if not self._opened:
            raise StreamError("bad-format", "the header of a stream comes first")
        if element.xmlns == ns.TLS and element.name == "starttls":
            self._start_tls()
        elif element.xmlns == ns.SASL and element.name == "auth":
            self._authenticate(element)
        elif element.xmlns == ns.BIDI and element.name == "bidi":
            self._enable_bidi(element)
        elif not self.proven:
            raise StreamError("not-authorized", "nobody is proven on this stream yet")
        else:
            raise StreamError("unsupported-stanza-type")

    def _start_tls(self) -> None:
        """RFC 6120 section 5.4.2.3. What came behind the request came in the clear, perhaps from somebody else."""
        if self.transport.secure or self.proven:
            self.write(tag("failure", {"xmlns": ns.TLS}))
            self.end(None, "it wants to start TLS at the wrong time")
            return
        if not self.nothing_follows or self.dialback.is_busy:
            raise StreamError("policy-violation", "nothing may be under way when TLS starts")
        self.write(tag("proceed", {"xmlns": ns.TLS}))
        self.restart(BEFORE_LOGIN)
        self._opened = self.bidi = False
        self.transport.start_tls(self.federation.context(self.local))

    def _authenticate(self, element: Stanza) -> None:
        """XEP-0178 section 3. A failure leaves the way to dialback open."""
        if not self._may_authenticate():
            self.write(tag("failure", {"xmlns": ns.SASL}, tag("encryption-required")))
            raise StreamError("policy-violation", "encryption is required before authentication")
        condition = self._external_failure(element)
        if condition is None:
            follows = not self.nothing_follows
            self.write(tag("success", {"xmlns": ns.SASL}))
            self._external = True
            self.prove(self.remote, self.local, "certificate")
            if follows:
                raise StreamError("not-authorized", "a new stream header has to follow")
            self.restart(self.federation.stream_limits)
            self._opened = False
            return
        self.write(tag("failure", {"xmlns": ns.SASL}, tag(condition)))
        self._attempts += 1
        if self._attempts >= MAX_ATTEMPTS:
            raise StreamError("policy-violation", "too many attempts to authenticate")

    def _external_failure(self, element: Stanza) -> str | None:
        """What is wrong with a request to authenticate, None where it is granted."""
        if element.attributes.get("mechanism") != "EXTERNAL" or not self.transport.secure:
            return "invalid-mechanism"
        if self.proven:
            return "not-authorized"
        if self.dialback.is_busy:
            return "temporary-auth-failure"
        text = element.text().strip()
        try:
            authzid = base64.b64decode("" if text == "=" else text, validate=True).decode()
        except (binascii.Error, ValueError):
            return "incorrect-encoding"
        if authzid and _domain(authzid) != self.remote:
            return "invalid-authzid"
        return None if self._certificate_holds() else "not-authorized"

    def _enable_bidi(self, element: Stanza) -> None:
        """XEP-0288 section 2: before authentication, and after TLS where there is to be TLS."""
        if not self.federation.uses_bidi or self.proven or not self._may_authenticate():
            raise StreamError("policy-violation", "a stream cannot become bidirectional now")
        self.bidi = True
        self.sending.max_bytes = max_bytes_of(element.tree)

    def prove(self, remote: str, local: str, how: str) -> None:
        """See `ServerStream`."""
        super().prove(remote, local, how)
        self._admission.leave_address()
        self._admission.cancel_deadline()

    # ---- the end

    def _stopped(self, reason: str) -> None:
        self._admission.cancel_deadline()
        self._admission.leave_address()

    def _too_late(self) -> None:
        self.end(StreamError("connection-timeout", "this took too long"))


def _domain(text: str | None) -> str:
    """A prepared domain, ``""`` where there is none."""
    try:
        return prepare_domain(text) if text and parse(text).bare == parse(text).domain else ""
    except InvalidJID:
        return ""
