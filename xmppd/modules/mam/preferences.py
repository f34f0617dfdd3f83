"""Whose messages an account keeps (XEP-0441 0.2.0)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from twisted.words.xish import domish

from xmppd.config import Choice, Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.events import AccountLoading
from xmppd.core.iq import Request
from xmppd.core.roster import Roster
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.xml import tag

POLICIES = ("always", "never", "roster")

DEFAULT_POLICY = Option(
    "default_archive_policy", Choice(*POLICIES), "always",
    "Whose messages are archived for users who have not said otherwise: everybody's, nobody's, or the contacts'.",
)  # fmt: skip
MAX_PREFERENCES = Option(
    "max_archive_preferences", Integer(minimum=1), "1000", "How many addresses a user's archive preferences may name."
)
OPTIONS = (DEFAULT_POLICY, MAX_PREFERENCES)

KIND = "mam"  # in the store: the preferences as JSON
KEY = "preferences"


@dataclass(slots=True)
class Preferences:
    """Record of an account. `default` is None where the user has not chosen; addresses are text."""

    default: str | None = None
    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def load(event: AccountLoading) -> None:
    """They come into memory with their account."""
    stored = event.data[KIND].get(KEY)
    event.account.put(Preferences() if stored is None else from_stored(stored))


def from_stored(value: bytes) -> Preferences:
    """What is in the store, read back."""
    kept = json.loads(value)
    return Preferences(kept["default"], frozenset(kept["always"]), frozenset(kept["never"]))


def to_stored(record: Preferences) -> bytes:
    """What is kept in the store."""
    kept = {"default": record.default, "always": sorted(record.always), "never": sorted(record.never)}
    return json.dumps(kept).encode()


def wanted(account: Account, contact: JID) -> bool:
    """Whether the messages with somebody are kept; a bare address stands for all of its resources."""
    record = account.get(Preferences)
    if contact.full in record.never or contact.bare in record.never:
        return False
    if contact.full in record.always or contact.bare in record.always:
        return True
    policy = record.default or account.host.settings[DEFAULT_POLICY]
    if policy == "roster":
        return contact.bare in account.get(Roster).items or contact.bare == account.jid.bare
    return policy == "always"


def get(request: Request) -> bytes:
    """Section 2."""
    account = request.account
    assert account is not None
    return to_bytes(account.get(Preferences), account.host.settings[DEFAULT_POLICY])


async def change(request: Request) -> bytes:
    """Section 2: the preferences are replaced as a whole; the answer has what is kept now."""
    account = request.account
    assert account is not None
    record = account.get(Preferences)
    new = read(request.payload, account.host.settings[MAX_PREFERENCES])
    await account.host.server.store.data.put(account.id, KIND, KEY, to_stored(new))
    record.default, record.always, record.never = new.default, new.always, new.never
    return to_bytes(record, account.host.settings[DEFAULT_POLICY])


def read(prefs: domish.Element, limit: int) -> Preferences:
    """What an element says; raises `StanzaError` where it is wrong, or one of its lists is longer than `limit`."""
    default = prefs.getAttribute("default")
    if default not in POLICIES:
        raise StanzaError("bad-request", "default is always, never or roster")
    return Preferences(str(default), _addresses(prefs, "always", limit), _addresses(prefs, "never", limit))


def _addresses(prefs: domish.Element, name: str, limit: int) -> frozenset[str]:
    lists = prefs.elements(ns.MAM, name)
    texts = [str(jid).strip() for each in lists for jid in each.elements(ns.MAM, "jid")]
    if len(texts) > limit:
        raise StanzaError("policy-violation", "the preferences name too many addresses")
    try:
        return frozenset(parse(text).full for text in texts)
    except InvalidJID as error:
        raise StanzaError("jid-malformed", str(error)) from None


def to_bytes(record: Preferences, policy: str) -> bytes:
    """The element that says them; `policy` holds where the user has not chosen."""
    default = record.default or policy
    lists = (_list(name, values) for name, values in (("always", record.always), ("never", record.never)))
    return tag("prefs", {"xmlns": ns.MAM, "default": default}, *lists)


def _list(name: str, addresses: Iterable[str]) -> bytes:
    return tag(name, None, *(tag("jid", None, address) for address in sorted(addresses)))
