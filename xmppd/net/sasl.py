"""SASL on a client stream (RFC 6120 section 6), with the channel-binding types of XEP-0440.

The mechanisms themselves are in `xmppd.auth`; here is what goes around them on the wire, and what a failure
costs: at most `MAX_TRIES` on a stream, and slower and slower answers for an address.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from xmppd.auth.credentials import Credentials, salted_password
from xmppd.auth.mechanism import AuthenticationFailed, Challenge, Exchange, Mechanism
from xmppd.auth.offer import create, make_offer
from xmppd.config import Boolean, ListOf, Option, Text
from xmppd.core.host import Host
from xmppd.net.addresses import LIMIT_AUTH_MAX, LIMIT_AUTH_PERIOD
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import InvalidJID, parse, prepare_local
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.net.c2s import ClientStream

ALLOW_UNENCRYPTED_PLAIN = Option(
    "allow_unencrypted_plain_auth", Boolean(), "no",
    "Whether passwords may be sent in the clear where ``c2s_require_encryption`` is off.",
)  # fmt: skip
DISABLED_MECHANISMS = Option(
    "disable_sasl_mechanisms", ListOf(Text()), "", "SASL mechanisms that are not offered, such as ``PLAIN``."
)
OPTIONS = (ALLOW_UNENCRYPTED_PLAIN, DISABLED_MECHANISMS)

MAX_TRIES = 5  # RFC 6120 section 6.4.5 wants between two and five
CHANNEL_BINDINGS = ("tls-exporter", "tls-server-end-point")
_TLS_VERSIONS = {"TLSv1.2": "0303", "TLSv1.3": "0304"}
_FAILURES_THAT_COUNT = frozenset({"not-authorized", "invalid-authzid", "account-disabled", "credentials-expired"})


class Authentication:
    """The authentication of one stream: what is offered on it, and the exchange that is under way."""

    __slots__ = ("_host", "_mechanism", "_stream", "_tries", "offer")

    def __init__(self, stream: ClientStream, host: Host) -> None:
        self._stream = stream
        self._host = host
        self._mechanism: Mechanism | None = None
        self._tries = 0
        transport = stream.transport
        disabled = host.settings[DISABLED_MECHANISMS]
        self.offer = make_offer(
            transport.secure,
            [type for type in CHANNEL_BINDINGS if transport.secure and transport.channel_binding(type)],
            allow_plain=host.settings[ALLOW_UNENCRYPTED_PLAIN],
            disabled=disabled,
            allow_insecure=True,  # whether a stream in the clear gets this far is c2s_require_encryption's to say
        )

    def features(self) -> bytes:
        """The stream features: the mechanisms, and beside them the channel-binding types (XEP-0440 section 3)."""
        if not self.offer.mechanisms:
            return b""
        mechanisms = [tag("mechanism", None, name) for name in self.offer.mechanisms]
        features = tag("mechanisms", {"xmlns": ns.SASL}, *mechanisms)
        if self.offer.channel_bindings:
            types = [tag("channel-binding", {"type": type}) for type in self.offer.channel_bindings]
            features += tag("sasl-channel-binding", {"xmlns": ns.CHANNEL_BINDING}, *types)
        return features

    def handle(self, element: Stanza) -> None:
        """Take ``<auth/>``, ``<response/>`` or ``<abort/>``; the stream waits until it is answered."""
        self._stream.wait_for(self._answer(element))

    async def _answer(self, element: Stanza) -> None:
        try:
            await self._step(element)
        except AuthenticationFailed as failure:
            await self._fail(failure)

    async def _step(self, element: Stanza) -> None:
        stream = self._stream
        if element.name == "auth" and self._mechanism is None:
            mechanism = create(element.attributes.get("mechanism", ""), self._exchange())
            wait = stream.service.addresses.wait(stream.transport.peer)
            if wait:
                await stream.service.sleep(wait)
        elif element.name == "response" and self._mechanism is not None:
            mechanism = self._mechanism
        elif element.name == "abort":
            raise AuthenticationFailed("aborted")
        else:
            raise AuthenticationFailed("malformed-request", f"<{element.name}/> is not expected here")
        stream.exchanging(True)
        self._mechanism = mechanism
        answer = await mechanism.respond(_decode(element))
        if isinstance(answer, Challenge):
            stream.transport.write(tag("challenge", {"xmlns": ns.SASL}, _encode(answer.data)))
            return
        self._mechanism = None
        try:
            local = prepare_local(answer.username)
        except InvalidJID:
            raise AuthenticationFailed("not-authorized") from None
        content = [_encode(answer.data)] if answer.data is not None else []
        stream.transport.write(tag("success", {"xmlns": ns.SASL}, *content))
        stream.log.info("{session}: {user} has logged in by {mechanism}", session=stream.id[:8],
                        user=f"{local}@{self._host.domain}", mechanism=mechanism.name)  # fmt: skip
        stream.authenticated(local)

    async def _fail(self, failure: AuthenticationFailed) -> None:
        """Say so, later where the address has failed often; too many failures end the stream."""
        stream = self._stream
        self._mechanism = None
        stream.exchanging(False)
        if failure.condition in _FAILURES_THAT_COUNT:
            settings = stream.service.settings
            delay = stream.service.addresses.failed(
                stream.transport.peer, settings[LIMIT_AUTH_MAX], settings[LIMIT_AUTH_PERIOD]
            )
            stream.log.info("{session}: login refused, from {peer}: {condition}", session=stream.id[:8],
                            peer=stream.transport.peer, condition=failure.condition)  # fmt: skip
            if delay:
                await stream.service.sleep(delay)
        text = [tag("text", {"xmlns": ns.SASL, "xml:lang": "en"}, failure.text)] if failure.text else []
        stream.transport.write(tag("failure", {"xmlns": ns.SASL}, tag(failure.condition), *text))
        self._tries += 1
        if self._tries >= MAX_TRIES:
            raise StreamError("policy-violation", "too many failed attempts to log in")

    # ---- what the mechanisms are given

    def _exchange(self) -> Exchange:
        server = self._host.server
        return Exchange(
            host=self._host.domain,
            offered=self.offer,
            lookup=self._look_up,
            derive=self._derive,
            same_user=self._same_user,
            nonce=server.token,
            channel_binding=self._stream.transport.channel_binding,
            secret=server.secret,
            tls_version=_TLS_VERSIONS.get(self._stream.transport.tls_version),
        )

    async def _look_up(self, username: str) -> Credentials | None:
        try:
            local = prepare_local(username)
        except InvalidJID:
            local = "\x00"  # no account has this name, and looking for it takes the same time
        try:
            return await self._host.accounts.credentials(local)
        except StorageError:
            raise AuthenticationFailed("temporary-auth-failure") from None

    async def _derive(self, password: bytes, salt: bytes, iterations: int, hash_name: str) -> bytes:
        return await self._host.server.in_thread(salted_password, password, salt, iterations, hash_name)

    def _same_user(self, authzid: str, username: str) -> bool:
        try:
            jid = parse(authzid)
            return jid.is_bare and jid.domain == self._host.domain and jid.local == prepare_local(username)
        except InvalidJID:
            return False


def _decode(element: Stanza) -> bytes | None:
    """What an element carries (RFC 6120 section 6.4.2): nothing, ``=`` for empty data, or base64, spelt strictly."""
    text = element.text()
    if not text:
        return None if element.name == "auth" else b""
    if text == "=":
        return b""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise AuthenticationFailed("incorrect-encoding") from None
    if base64.b64encode(data).decode() != text:  # Python overlooks wrong bits and signs behind the padding
        raise AuthenticationFailed("incorrect-encoding")
    return data


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode() or "="
