"""How a client stream is authenticated, whatever the profile: SASL (`sasl.py`) or SASL2 (`sasl2.py`).

The mechanisms themselves are in `xmppd.auth`; here is what they are given, and what a failure costs: at most
`MAX_TRIES` on a stream, and slower and slower answers for an address.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from xmppd.auth.credentials import HASHES, Credentials, derive, salted_password
from xmppd.auth.mechanism import AuthenticationFailed, Exchange, Success, Token
from xmppd.auth.offer import Offer, make_offer
from xmppd.config import Boolean, ListOf, Option, Text
from xmppd.core.grants import salt_for
from xmppd.core.host import Host
from xmppd.core.login_task import LoginTask
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
ENFORCE_CLIENT_IDS = Option(
    "enforce_client_ids", Boolean(), "no",
    "Whether only clients get in that log in by SASL2 and say which one they are, by the id of their user agent.",
)  # fmt: skip
OPTIONS = (ALLOW_UNENCRYPTED_PLAIN, DISABLED_MECHANISMS, ENFORCE_CLIENT_IDS)

MAX_TRIES = 5  # RFC 6120 section 6.4.5 wants between two and five
CHANNEL_BINDINGS = ("tls-exporter", "tls-server-end-point")
NEEDS_CLIENT_ID = "this server only lets clients in that log in by SASL2 with the id of a user agent"
_PASSWORD_HASHES = ("SHA-256", "SHA-1", "SHA-512")  # the cheaper ones are good enough for a password that is shown
_TLS_VERSIONS = {"TLSv1.2": "0303", "TLSv1.3": "0304"}
_FAILURES_THAT_COUNT = frozenset({"not-authorized", "invalid-authzid", "account-disabled", "credentials-expired"})


class Profile(Protocol):
    """One of the two ways in which SASL is spoken."""

    def features(self) -> bytes:
        """What announces it; ``b""`` where it is not offered."""

    async def step(self, element: Stanza) -> None:
        """Take an element of it, and answer. Raises `AuthenticationFailed`, or `StreamError`."""

    def failed(self, failure: AuthenticationFailed) -> bytes:
        """The exchange is over, and this is what says so."""


class Authentication:
    """The authentication of one stream: what is offered on it, and how often it was tried."""

    __slots__ = ("_began", "_profiles", "_tries", "active", "host", "offer", "stream", "token_mechanisms")

    def __init__(self, stream: ClientStream, host: Host) -> None:
        self.stream = stream
        self.host = host
        self.active: Profile | None = None  # in which an exchange is under way
        self.token_mechanisms: tuple[str, ...] = ()  # that are announced (XEP-0484)
        self._tries = 0
        self._began = 0  # how often the access to accounts had changed then
        self._profiles: dict[str, Profile] = {}
        transport = stream.transport
        disabled = host.settings[DISABLED_MECHANISMS]
        self.offer = make_offer(
            transport.secure,
            [type for type in CHANNEL_BINDINGS if transport.secure and transport.channel_binding(type)],
            allow_plain=host.settings[ALLOW_UNENCRYPTED_PLAIN],
            disabled=disabled,
            allow_insecure=True,  # whether a stream in the clear gets this far is c2s_require_encryption's to say
            hashes=host.accounts.hashes,
        )

    def add(self, xmlns: str, profile: Profile) -> None:
        """Speak a profile whose elements are of this namespace."""
        self._profiles[xmlns] = profile

    def features(self) -> bytes:
        """The stream features: the profiles, and beside them the channel-binding types (XEP-0440 section 3)."""
        if not self.offer.mechanisms:
            return b""
        features = b"".join(profile.features() for profile in self._profiles.values())
        if self.offer.channel_bindings:
            types = [tag("channel-binding", {"type": type}) for type in self.offer.channel_bindings]
            features += tag("sasl-channel-binding", {"xmlns": ns.CHANNEL_BINDING}, *types)
        return features

    def knows(self, xmlns: str) -> bool:
        """Whether elements of a namespace are for a profile that is spoken here."""
        return xmlns in self._profiles

    def speaks(self, xmlns: str) -> bool:
        """Whether a profile is announced here."""
        return bool(self.offer.mechanisms) and xmlns in self._profiles

    def forbids(self, data: bytes) -> bool:
        """Whether nothing may be sent that is only white space (XEP-0388 section 2.4)."""
        return data.isspace() and self.active is not None and self.active is self._profiles.get(ns.SASL2)

    def handle(self, element: Stanza) -> None:
        """Take an element of a profile; the stream waits until it is answered."""
        profile = self._profiles[element.xmlns]
        if self.active not in (None, profile):
            raise StreamError("not-authorized", "an authentication is under way")
        self.stream.wait_for(self._answer(profile, element))

    async def _answer(self, profile: Profile, element: Stanza) -> None:
        try:
            await profile.step(element)
        except AuthenticationFailed as failure:
            await self._fail(profile, failure)

    async def _fail(self, profile: Profile, failure: AuthenticationFailed) -> None:
        """Say so, later where the address has failed often; too many failures end the stream."""
        stream = self.stream
        self.active = None
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
        stream.write(profile.failed(failure))
        self._tries += not failure.application  # what another namespace has a word for was no try
        if self._tries >= MAX_TRIES:
            raise StreamError("policy-violation", "too many failed attempts to log in")

    async def begin(self, profile: Profile) -> None:
        """An exchange begins, a little later where the address has failed often."""
        stream = self.stream
        wait = stream.service.addresses.wait(stream.transport.peer)
        if wait:
            await stream.service.sleep(wait)
        self.active = profile
        self._began = self.host.accounts.changes
        stream.exchanging(True)

    def local_part(self, success: Success) -> str:
        """The prepared name of who has logged in, whose password was not changed meanwhile."""
        try:
            local = prepare_local(success.username)
        except InvalidJID:
            raise AuthenticationFailed("not-authorized") from None
        if self.host.accounts.changed_since(local, self._began):
            raise AuthenticationFailed("not-authorized")
        return local

    async def tasks(self, success: Success) -> list[LoginTask]:
        """What a user has to do beside showing the password."""
        local = self.local_part(success)
        return [task for wanted in self.host.login_tasks for task in await wanted(local)]

    def learned(self, local: str, success: Success) -> None:
        """The password was shown: make keys of it for the hashes that the account has none for."""
        some_lack_keys = len(self.host.accounts.hashes) < len(HASHES)
        if success.password is not None and success.grant is None and some_lack_keys:
            work = self._make_keys(local, success)
            self.host.server.tasks.start(work, "making keys for more mechanisms")

    async def _make_keys(self, local: str, success: Success) -> None:
        accounts, server, password = self.host.accounts, self.host.server, success.password
        assert password is not None
        try:
            credentials = await accounts.credentials(local)
            if credentials is None or credentials.account[0] != success.account:  # another account has the name now
                return
            for name in HASHES.keys() - credentials.keys.keys():
                salt, iterations = salt_for(credentials, name)
                keys = await server.in_thread(derive, password.decode(), name, salt, iterations)
                await accounts.add_keys(credentials, name, keys)
        except StorageError:
            pass  # at the next login

    # ---- what the mechanisms are given

    def exchange(
        self,
        offer: Offer,
        same_user: Callable[[str, str], bool],
        tokens: Callable[[str], Awaitable[Sequence[Token]]] | None = None,
    ) -> Exchange:
        """What a mechanism is given for one attempt."""
        server = self.host.server
        return Exchange(
            host=self.host.domain,
            offered=offer,
            lookup=self.look_up,
            derive=self._derive,
            same_user=same_user,
            tokens=tokens or _no_tokens,
            nonce=server.token,
            channel_binding=self.stream.transport.channel_binding,
            secret=server.secret,
            password_hashes=sorted(_PASSWORD_HASHES, key=lambda name: name not in self.host.accounts.hashes),
            tls_version=_TLS_VERSIONS.get(self.stream.transport.tls_version),
        )

    async def look_up(self, username: str) -> Credentials | None:
        """See `Exchange.lookup`."""
        try:
            local = prepare_local(username)
        except InvalidJID:
            local = "\x00"  # no account has this name, and looking for it takes the same time
        try:
            return await self.host.accounts.credentials(local)
        except StorageError:
            raise AuthenticationFailed("temporary-auth-failure") from None

    async def _derive(self, password: bytes, salt: bytes, iterations: int, hash_name: str) -> bytes:
        return await self.host.server.in_thread(salted_password, password, salt, iterations, hash_name)

    def same_user(self, authzid: str, username: str) -> bool:
        """See `Exchange.same_user`."""
        try:
            jid = parse(authzid)
            return jid.is_bare and jid.domain == self.host.domain and jid.local == prepare_local(username)
        except InvalidJID:
            return False


async def _no_tokens(username: str) -> Sequence[Token]:
    return ()


def decode(text: str) -> bytes:
    """Base64, spelt strictly (RFC 6120 section 6.4.2, XEP-0388 section 2.2)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise AuthenticationFailed("incorrect-encoding") from None
    if base64.b64encode(data).decode() != text:  # Python overlooks wrong bits and signs behind the padding
        raise AuthenticationFailed("incorrect-encoding")
    return data


def encode(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()
