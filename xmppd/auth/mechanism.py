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

    ``text`` is shown to the client. It never says whether the account exists.
    """

    def __init__(self, condition: str, text: str | None = None) -> None:
        assert condition in CONDITIONS, condition
        super().__init__(condition, text)
        self.condition = condition
        self.text = text


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

    nonce: Callable[[], str]
    """A new nonce: at least 128 random bits, printable ASCII without comma (RFC 5802 section 5.1)."""

    channel_binding: Callable[[str], bytes | None]
    """Channel-binding data of this connection for a type (RFC 5929, RFC 9266); None if it has none."""

    secret: bytes = field(repr=False)
    """The server's own, for ``credentials.made_up``."""

    iterations: int = DEFAULT_ITERATIONS
    """The count that new accounts get: what an unknown user is made to look like."""

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

    def admit(self, matches: bool) -> None:
        """Raise unless the client matches the keys, and the keys belong to an account that may log in.

        Only somebody with the right password learns that an account is disabled.
        Source: RFC 6120 section 6.5.2.
        """
        if not matches or self.credentials is None:
            raise AuthenticationFailed("not-authorized")
        if not self.credentials.enabled:
            raise AuthenticationFailed("account-disabled")


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
