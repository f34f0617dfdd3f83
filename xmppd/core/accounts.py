"""Accounts of a host: loaded when they are needed, kept while they are in use.

Everything that is needed to serve an account without asking the store (roster, block list …) is a *record* in
its `Account`: a module puts it there while the account is loaded, and is its only owner. An account with a
session stays in memory; of the others the last few do.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from xmppd.auth.credentials import HASHES, Credentials, ScramKeys
from xmppd.auth.credentials import make as make_credentials
from xmppd.config import Integer, Option, Scope
from xmppd.core import grants
from xmppd.core.clock import Timer
from xmppd.core.events import AccountLoading, AccountRemoved, AccountRemoving, PasswordChanged
from xmppd.wire.jid import JID

if TYPE_CHECKING:
    from xmppd.core.host import Host
    from xmppd.core.session import Session

R = TypeVar("R")

ACCOUNT_CACHE = Option(
    "account_cache", Integer(minimum=0), "1000", "How many accounts without a session are kept in memory.",
    scope=Scope.SERVER,
)  # fmt: skip
OPTIONS = (ACCOUNT_CACHE,)

CHANGES = 10_000  # of the access to accounts that are remembered: more than there are while somebody logs in
LOOK_SECONDS = 60.0  # after which a change of keys may change which mechanisms are offered


class Account:
    """One account: its address, its row in the store, its sessions, and what modules know of it."""

    __slots__ = ("__weakref__", "_records", "going", "host", "id", "jid")

    def __init__(self, host: Host, jid: JID, id: int) -> None:
        self.host = host
        self.jid = jid
        self.id = id
        self.going = False  # it is being deleted: nothing is done for it any more
        self._records: dict[type[Any], Any] = {}

    @property
    def sessions(self) -> list[Session]:
        """The account's sessions, as the registry has them now."""
        return self.host.server.sessions.of(self.jid.bare)

    def put(self, record: object) -> None:
        """Keep a module's record, under its class."""
        self._records[type(record)] = record

    def get(self, kind: type[R]) -> R:
        """The record of this class; `KeyError` when no module has put one."""
        return self._records[kind]  # type: ignore[no-any-return]

    def find(self, kind: type[R]) -> R | None:
        """The record of this class, or None."""
        return self._records.get(kind)


class Accounts:
    """The accounts of one host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.kinds: list[str] = []  # of data in the store that modules want at `AccountLoading`
        # Every Account object that somebody holds, so that there is never a second one of the same account ...
        self._alive: weakref.WeakValueDictionary[str, Account] = weakref.WeakValueDictionary()
        # ... and the ones used last, held here so that they need not be loaded again.
        self._recent: OrderedDict[str, Account] = OrderedDict()
        self._loading: dict[str, list[Deferred[Account | None]]] = {}
        self.hashes = frozenset(HASHES)  # of SCRAM, that can be offered
        self._looking: Timer | None = None
        self.changes = 0  # of the access to accounts, so far ...
        self._changed: dict[str, int] = {}  # ... and which was the last one of an account, of the newest

    def loaded(self, local: str) -> Account | None:
        """The account, if it is in memory and not `going`."""
        account = self._alive.get(local)
        return None if account is not None and account.going else account

    def speaking(self, local: str) -> Account | None:
        """The account, if it is in memory, also while it says good-bye."""
        return self._alive.get(local)

    async def load(self, local: str) -> Account | None:
        """The account, from memory or from the store; None when there is no such account.

        Raises `StorageError` when the store does not answer.
        """
        account = self._alive.get(local)
        if account is not None and account.going:
            return None
        if account is None:
            waiting = self._loading.get(local)
            if waiting is not None:
                turn: Deferred[Account | None] = Deferred()
                waiting.append(turn)
                return await turn
            account = await self._load_once(local)
        if account is not None:
            self._remember(account)
        return account

    async def _load_once(self, local: str) -> Account | None:
        waiting = self._loading[local] = []
        account: Account | None = None
        try:
            found = await self.host.server.store.accounts.find_with_data(self.host.domain, local, self.kinds)
            if found is not None and found[0].enabled:
                account = Account(self.host, JID(local, self.host.domain), found[0].id)
                await self.host.bus.fire(AccountLoading(account, found[1]))
                self._alive[local] = account
        except BaseException as error:
            del self._loading[local]
            for turn in waiting:
                turn.errback(error)
            raise
        del self._loading[local]
        for turn in waiting:
            turn.callback(account)
        return account

    def _remember(self, account: Account) -> None:
        recent = self._recent
        recent[account.jid.local] = account
        recent.move_to_end(account.jid.local)
        while len(recent) > self.host.server.settings[ACCOUNT_CACHE]:
            recent.popitem(last=False)

    async def credentials(self, local: str) -> Credentials | None:
        """What proves the password of an account, from the store; None for an unknown or closed account."""
        found = await self.host.server.store.accounts.find_with_credentials(self.host.domain, local, grants.KIND)
        if found is None or not found.account.enabled:
            return None
        keys = {name: ScramKeys(*keys) for name, keys in found.credentials.items()}
        row = found.account
        return Credentials(
            keys, grants=grants.usable(found.data, row.password_changed), account=(row.id, row.password_changed)
        )

    async def look_at_hashes(self) -> None:
        """Find out which hashes there are keys for in every account, for these can be offered to all: a client takes
        the best that it is offered, and cannot take it back. Where there is no such hash, all that somebody has are."""
        counts, accounts = await self.host.server.store.accounts.hashes(self.host.domain)
        everywhere = {name for name in HASHES if counts.get(name, 0) == accounts}
        self.hashes = frozenset(everywhere or HASHES.keys() & counts.keys())

    async def add_keys(self, credentials: Credentials, hash_name: str, keys: ScramKeys) -> None:
        """Give the account of these credentials keys for one more hash, of the same password; raises `StorageError`."""
        row = (keys.salt, keys.iterations, keys.stored_key, keys.server_key)
        await self.host.server.store.accounts.add_credentials(*credentials.account, hash_name, row)
        self._hashes_changed()

    def lacks(self, hash_names: Collection[str]) -> None:
        """There is an account now that has keys for no other hashes than these; what is offered follows at once."""
        if hash_names and not self.hashes <= set(hash_names):
            self.hashes = (self.hashes & set(hash_names)) or self.hashes
            self._hashes_changed()

    def _hashes_changed(self) -> None:
        """Look at the hashes again, in a while: others may change as well."""
        if self._looking is None and len(self.hashes) < len(HASHES):
            self._looking = self.host.server.clock.callLater(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = None
        self.host.server.tasks.start(self.look_at_hashes(), "looking at the hashes of passwords")

    async def create(self, local: str, password: str) -> None:
        """Make an account; `local` is prepared. Raises `storage.AlreadyExists`, or `ValueError` for a password
        that cannot be one."""
        keys = await self.make_keys(password)
        await self.host.server.store.accounts.create(self.host.domain, local, keys)

    async def set_password(self, account: Account, password: str, by: Session | None = None) -> None:
        """Give an account another password; raises `ValueError` for one that cannot be one."""
        keys = await self.make_keys(password)
        await self.host.server.store.accounts.set_credentials(account.id, keys, self.host.server.now_ms())
        self._hashes_changed()
        self.access_changed(account.jid.local)
        await self.host.bus.fire(PasswordChanged(account, by))

    def access_changed(self, local: str) -> None:
        """An account has another password, or something has no access to it any more."""
        self.changes += 1
        self._changed.pop(local, None)
        self._changed[local] = self.changes
        if len(self._changed) > CHANGES:
            del self._changed[next(iter(self._changed))]

    def changed_since(self, local: str, changes: int) -> bool:
        """Whether the access to an account has changed when there had been so many changes already: whoever began to
        log in then may have shown what is void, and has to begin again."""
        return self._changed.get(local, 0) > changes

    async def make_keys(self, password: str) -> dict[str, tuple[bytes, int, bytes, bytes]]:
        """The keys of a password for each hash, as the store keeps them (RFC 5802 section 3): salt, iterations,
        StoredKey and ServerKey. Raises `ValueError` for a password that cannot be one."""
        credentials = await self.host.server.in_thread(make_credentials, password)
        return {
            name: (keys.salt, keys.iterations, keys.stored_key, keys.server_key)
            for name, keys in credentials.keys.items()
        }

    async def delete(self, account: Account) -> None:
        """Delete an account with all that the store holds of it, and end its sessions.

        From the first moment on it is to others like one that never was. Raises `StorageError`: then it is still
        there, but its contacts have been told."""
        account.going = True
        try:
            await self.host.bus.fire(AccountRemoving(account))
            await self.host.server.store.accounts.delete(account.id)
        except BaseException:
            account.going = False
            raise
        self._alive.pop(account.jid.local, None)
        self._recent.pop(account.jid.local, None)
        self._hashes_changed()
        await self.host.bus.fire(AccountRemoved(account))
        for session in account.sessions:
            session.close("not-authorized", "the account was deleted")
