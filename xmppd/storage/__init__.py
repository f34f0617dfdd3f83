"""What is kept: accounts, rosters, offline messages and what modules keep.

`Store.open` gives a store on SQLite, PostgreSQL or in memory; `store.py` tells how it works.
"""

from .accounts import Accounts
from .archive import Archive, Range
from .data import Data
from .errors import AccountGone, AlreadyExists, StorageError, StorageTimeout
from .offline import Offline
from .outbox import Outbox
from .roster import Rosters
from .rows import (
    Account,
    AccountRow,
    Archived,
    Credentials,
    NewAccount,
    OfflineMessage,
    OutgoingStanza,
    Roster,
    RosterItem,
    ScramKeys,
    SmSession,
    SmStanza,
    SubscriptionRequest,
)
from .sm import StreamManagement
from .store import Store

__all__ = [
    "Account",
    "AccountGone",
    "AccountRow",
    "Accounts",
    "AlreadyExists",
    "Archive",
    "Archived",
    "Credentials",
    "Data",
    "NewAccount",
    "Offline",
    "OfflineMessage",
    "Outbox",
    "OutgoingStanza",
    "Range",
    "Roster",
    "RosterItem",
    "Rosters",
    "ScramKeys",
    "SmSession",
    "SmStanza",
    "StorageError",
    "StorageTimeout",
    "Store",
    "StreamManagement",
    "SubscriptionRequest",
]
