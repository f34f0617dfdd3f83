"""What the store takes and gives. Times are milliseconds since 1970 in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "Account",
    "AccountRow",
    "Archived",
    "Credentials",
    "NewAccount",
    "OfflineMessage",
    "OutgoingStanza",
    "Roster",
    "RosterItem",
    "ScramKeys",
    "SmSession",
    "SmStanza",
    "SubscriptionRequest",
]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account: its id, which is never used again, and its names after preparation."""

    id: int
    host: str
    localpart: str
    created: int
    enabled: bool
    password_changed: int


class ScramKeys(NamedTuple):
    """What SCRAM needs to check a password (RFC 5802 section 3), for one hash. A plain tuple will do."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


# By the name of the hash: {"SHA-256": ScramKeys(...)}
Credentials = Mapping[str, tuple[bytes, int, bytes, bytes]]


class Account(NamedTuple):
    """An account with its credentials, and what was asked for of what is kept for it, by key."""

    account: AccountRow
    credentials: dict[str, ScramKeys]
    data: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to be made; a time of None is now."""

    localpart: str
    credentials: Credentials
    created: int | None = None


@dataclass(frozen=True, slots=True)
class RosterItem:
    """A contact (RFC 6121 section 2.1.2). `ask` and `name` are empty where there is none."""

    jid: str
    name: str = ""
    subscription: str = "none"
    ask: str = ""
    approved: bool = False
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """A subscription request that waits for an answer (RFC 6121 section 3.1.3): its whole stanza."""

    jid: str
    stanza: bytes
    received: int


class Roster(NamedTuple):
    """All of an account's contacts and waiting requests, sorted by JID. The version is 0 at first."""

    items: list[RosterItem]
    version: int
    requests: list[SubscriptionRequest]


@dataclass(frozen=True, slots=True)
class OfflineMessage:
    """A message that waits for its recipient."""

    id: int
    received: int
    stanza: bytes


class OutgoingStanza(NamedTuple):
    """A stanza that is on its way to another server."""

    id: int
    received: int
    stanza: bytes


@dataclass(frozen=True, slots=True)
class SmSession:
    """A session under stream management. `sm_id` is empty where it cannot be resumed; `hibernated` says since when it
    is without a client, None while it has one; `unsent_from` from which position on nothing was ever sent, None where
    positions are what its client counts. `state` is the module's own."""

    id: int
    account_id: int
    sm_id: str
    resource: str
    handled: int
    hibernated: int | None
    unsent_from: int | None
    state: bytes


class SmStanza(NamedTuple):
    """A stanza that a client has not acknowledged: its place in the session, and when it was first sent."""

    position: int
    sent: int
    stanza: bytes


class Archived(NamedTuple):
    """A message of an archive, with its id."""

    id: bytes
    stanza: bytes
