"""The shape that all SASL mechanisms share: what they are given, what they answer, how they fail.

A mechanism is made for one attempt to log in. Each message of the client goes to ``respond``, one after the
other; a ``Challenge`` goes back to the client, a ``Success`` ends the exchange, and so does
``AuthenticationFailed``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from xmppd.auth.credentials import DEFAULT_ITERATIONS, Credentials, ScramKeys, made_up
from xmppd.auth.downgrade import Offer

# RFC 6120 section 6.5.
CONDITIONS = frozenset(
    {
        "aborted",
        "account-disabled",
        "credentials-expired",
        "encryption-required",
        "incorrect-encoding",
        "invalid-authzid",
        "invalid-mechanism",
        "malformed-request",
        "mechanism-too-weak",
        "not-authorized",
        "temporary-auth-failure",
    }
)


class AuthenticationFailed(Exception):
    """The client does not get in: becomes ``<failure/>`` with a condition of RFC 6120 section 6.5.

    ``text`` is shown to the client. It never says whether the account exists. ``application`` is a condition of
    another namespace, as bytes, for profiles that have a place for it.
    """

    def __init__(self, condition: str, text: str | None = None, application: bytes = b"") -> None:
        assert condition in CONDITIONS, condition
        super().__init__(condition, text)
        self.condition = condition
        self.text = text
        self.application = application


@dataclass(frozen=True, slots=True)
class Challenge:
    """The exchange goes on: ``data`` for the client, before base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Success:
    """The client is who it says.

    ``username`` is the localpart as the client wrote it, after SASLprep: not yet prepared as a part of a JID.
    ``data`` goes to the client with the success, before base64; None when the mechanism has nothing to add.
    """

    username: str
    data: bytes | None = None
    account: int = 0
    """The account whose keys or token they were, as whoever keeps them calls it: ``Credentials.account``."""
    grant: str | None = None
    """The id of the grant whose password it was; None where it was the account's own, or a token."""
    token: Token | None = None
    """The token, where that was what the client had."""
    password: bytes | None = field(default=None, repr=False, compare=False)
    """The password, prepared, where the mechanism shows it to the server."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that a client may log in with (XEP-0484). ``name`` tells whoever keeps it which one it is."""

    name: str
    secret: bytes = field(repr=False)
    expired: bool = False
    account: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a mechanism is given for one attempt to log in at one stream."""

    host: str
    """The domain that was addressed, prepared."""

    offered: Offer
    """What this stream announced."""

    lookup: Callable[[str], Awaitable[Credentials | None]]
    """Credentials for a user name after SASLprep, perhaps no valid localpart. None for an unknown user, in
    the time that a known one takes; AuthenticationFailed ``temporary-auth-failure`` when it cannot say."""

    derive: Callable[[bytes, bytes, int, str], Awaitable[bytes]]
    """``credentials.salted_password`` (password, salt, iterations, hash name), run off the main thread."""

    same_user: Callable[[str, str], bool]
    """Whether an authzid as the client wrote it is the bare JID of a user name at ``host``. Never raises."""

    tokens: Callable[[str], Awaitable[Sequence[Token]]]
    """The tokens that the client which asks may log in with to a user's account, by this mechanism; none for an unknown
    user or client, in the time that known ones take. AuthenticationFailed as ``lookup``."""

    nonce: Callable[[], str]
    """A new nonce: at least 128 random bits, printable ASCII without comma (RFC 5802 section 5.1)."""

    channel_binding: Callable[[str], bytes | None]
    """Channel-binding data of this connection for a type (RFC 5929, RFC 9266); None if it has none."""

    secret: bytes = field(repr=False)
    """The server's own, for ``credentials.made_up``."""

    iterations: int = DEFAULT_ITERATIONS
    """The count that new accounts get: what an unknown user is made to look like."""

    password_hashes: Sequence[str] = ("SHA-256", "SHA-1", "SHA-512")
    """By which hash a password that is shown is checked: the first one that the account has keys for. It begins with
    those that every account has, for an unknown user to take the same time."""

    downgrade_protection: bool = True
    """Whether SCRAM adds the hash of what was offered (XEP-0474)."""

    tls_version: str | None = None
    """Four lower-case hexadecimal digits for SCRAM to add, ``0304`` for TLS 1.3 (XEP-0515); None for none."""


class Mechanism(Protocol):
    """One attempt to log in with one SASL mechanism."""

    name: str

    async def respond(self, data: bytes | None) -> Challenge | Success:
        """Take the client's next message, after base64; None when ``<auth/>`` had no initial response.

        Raises AuthenticationFailed, after which the mechanism cannot be used any more. Not to be called again
        before it has answered.
        """


@dataclass(frozen=True, slots=True)
class Account:
    """The keys to check a client against, real or made up: one looks like the other until ``admit``."""

    hash_name: str
    keys: ScramKeys
    credentials: Credentials | None

    @property
    def id(self) -> int:
        """Which account it is; 0 for none."""
        return self.credentials.account[0] if self.credentials is not None else 0

    def admit(self, matches: Callable[[ScramKeys], bool]) -> tuple[ScramKeys, str | None]:
        """Return the keys that the client matches, the account's own or those of a grant, and the id of that grant.

        Raises unless there are such keys, and they belong to an account that may log in. Only somebody with the right
        password learns that an account is disabled.
        Source: RFC 6120 section 6.5.2.
        """
        found = (self.keys, None) if matches(self.keys) else self._grant(matches)
        if found is None or self.credentials is None:
            raise AuthenticationFailed("not-authorized")
        if not self.credentials.enabled:
            raise AuthenticationFailed("account-disabled")
        return found

    def _grant(self, matches: Callable[[ScramKeys], bool]) -> tuple[ScramKeys, str] | None:
        for grant in self.credentials.grants if self.credentials is not None else ():
            keys = grant.keys.get(self.hash_name)
            same = keys is not None and (keys.salt, keys.iterations) == (self.keys.salt, self.keys.iterations)
            if keys is not None and same and matches(keys):
                return keys, grant.id
        return None


async def find_account(exchange: Exchange, username: str, hash_names: Sequence[str]) -> Account:
    """Return the user's keys for the first hash there are keys for, else made-up keys for the first of all.

    Source: RFC 5802 section 9: unknown users must not be told from known ones.
    """
    # Made for known users as well, or the time would tell.
    decoy = made_up(exchange.secret, f"{username}@{exchange.host}", hash_names[0], exchange.iterations)
    credentials = await exchange.lookup(username)
    if credentials is not None:
        for name in hash_names:
            if name in credentials.keys:
                return Account(name, credentials.keys[name], credentials)
    return Account(hash_names[0], decoy, None)


def check_authzid(exchange: Exchange, authzid: str, username: str) -> None:
    """Refuse to let one user act as another; an empty authzid means the user itself.

    Source: RFC 6120 section 6.3.8 (what an authzid is) and section 6.5.6.
    """
    if authzid and not exchange.same_user(authzid, username):
        raise AuthenticationFailed("invalid-authzid")
