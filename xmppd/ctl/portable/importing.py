"""The server's side of an import (XEP-0227): takes the elements of a user and keeps what they mean.

An account is closed while it is imported, so that nobody sees a part of it, and nothing in memory goes stale. What
cannot be used is left out and told; it does not keep the rest out.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.words.xish import domish

from xmppd.auth.credentials import HASHES, digest_size
from xmppd.core.host import Host
from xmppd.core.routing import message_type
from xmppd.modules import blocklist, private, vcard
from xmppd.modules.mam import preferences
from xmppd.modules.mam.ids import Ids, from_text, time_of
from xmppd.modules.presence.subscription import kept_request
from xmppd.storage import RosterItem, Store, SubscriptionRequest
from xmppd.wire import ns
from xmppd.wire.delay import parse_stamp
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Stanza
from xmppd.wire.stored import read_stored
from xmppd.wire.xml import parse_tree, serialise

MAX_ITERATIONS = 10_000_000  # of PBKDF2; who logs in with PLAIN has the server work that long
_ARCHIVED = "urn:xmpp:mam:tmp"  # which ejabberd still writes beside the ids of today
_HASH_OF_SIZE = {digest_size(name): name for name in HASHES}
_SUBSCRIPTIONS = frozenset({"none", "to", "from", "both"})


class Unusable(Exception):
    """An element cannot be used; a few words that say why."""


@dataclass
class Importing:
    """An account that is being imported: what is being written for it, and what was left out of it, by how often."""

    host: Host
    jid: JID
    id: int
    left_out: Counter[str] = field(default_factory=Counter)
    hashes: set[str] = field(default_factory=set)  # that there are keys for
    writes: list[Deferred[Any]] = field(default_factory=list)
    messages: list[tuple[int, bytes | None, Stanza]] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The server's store."""
        return self.host.server.store


async def begin(host: Host, jid: JID, password: str | None) -> int:
    """Make the closed account; returns its id, which later pieces have to name. Raises `AlreadyExists`, or `ValueError`
    for a password that cannot be one."""
    server = host.server
    keys = None if password is None else await host.accounts.make_keys(password)
    account_id = await server.store.accounts.begin_import(host.domain, jid.local)
    if keys is not None:
        await server.store.accounts.put_credentials(account_id, keys)
    return account_id


async def take(account: Importing, elements: Iterable[tuple[str, str, str]]) -> None:
    """Keep elements, each given as its namespace, its name and itself. All are on disk when this ends."""
    account.hashes.update(await account.store.accounts.credentials(account.id))
    for xmlns, name, data in elements:
        handler = _HANDLERS.get((xmlns, name))
        if handler is None:
            account.left_out[f"<{name} xmlns='{xmlns}'/>, which this server does not keep"] += 1
            continue
        try:
            handler(account, parse_tree(data.encode(), ""))
        except (Unusable, InvalidJID, ValueError, StanzaError) as error:
            account.left_out[f"<{name} xmlns='{xmlns}'/>: {error}"] += 1
    if account.messages:
        await _keep_messages(account)
    for well, outcome in await DeferredList(account.writes, consumeErrors=True):
        if not well:
            outcome.raiseException()


async def end(account: Importing) -> list[str]:
    """Open the account; returns the mechanisms for which it has no keys."""
    keys = await account.store.accounts.credentials(account.id)
    await account.store.accounts.end_import(account.id)
    if not keys:
        account.left_out["an account without credentials that can be used, so it needs a new password"] += 1
    account.host.accounts.lacks(keys.keys())
    return [f"SCRAM-{name}" for name in HASHES if keys and name not in keys]


# ---- credentials and contacts


def _credentials(account: Importing, element: domish.Element) -> None:
    """Section 4.3."""
    mechanism = element.getAttribute("mechanism", "")
    iterations = re.fullmatch(r"([1-9]\d{0,7})(?:\.0+)?", _text(element, "iter-count"), re.ASCII)
    if iterations is None or int(iterations[1]) > MAX_ITERATIONS:
        raise Unusable("the iteration count is no positive number, or too large")
    parts = [_decoded(_text(element, part)) for part in ("salt", "stored-key", "server-key")]
    if len(parts[1]) not in _HASH_OF_SIZE:
        parts = [_decoded(part.decode("ascii", "replace")) for part in parts]  # ejabberd 23 writes base64 of base64
    salt, stored, server = parts
    # By the keys, not by the word: Prosody's migrator calls every hash SCRAM-SHA-1.
    name = _HASH_OF_SIZE.get(len(stored))
    if name is None or len(server) != len(stored) or not salt:
        raise Unusable(f"the salt is empty, or the keys are none of {mechanism or 'a mechanism'}")
    if mechanism != f"SCRAM-{name}":
        account.left_out[f"the name {mechanism!r} of credentials whose keys are of SCRAM-{name}"] += 1
    if name in account.hashes:
        raise Unusable(f"there are keys for SCRAM-{name} already")
    account.hashes.add(name)
    keys = {name: (salt, int(iterations[1]), stored, server)}
    account.writes.append(account.store.accounts.put_credentials(account.id, keys))


def _text(element: domish.Element, name: str) -> str:
    found = next(element.elements(element.uri, name), None)
    return "" if found is None else str(found).strip()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise Unusable("the salt or a key is not in base64, or not of a known length") from None


def _roster(account: Importing, query: domish.Element) -> None:
    """Section 4.4."""
    items = {}
    for element in query.elements(ns.ROSTER, "item"):
        text = element.getAttribute("jid", "")
        try:
            item = _item(parse(text), element)
        except InvalidJID as error:
            account.left_out[f"the contact {text!r}: {error}"] += 1
            continue
        if item.jid != account.jid.bare:
            items[item.jid] = item
    # No client has a roster of this version, also if there was an account of this name before.
    version = account.host.server.now_ms() // 1000
    account.writes.append(account.store.roster.change(account.id, items.values(), [], version))


def _item(contact: JID, element: domish.Element) -> RosterItem:
    subscription = element.getAttribute("subscription", "none")
    groups = dict.fromkeys(str(group) for group in element.elements(ns.ROSTER, "group") if str(group))
    return RosterItem(
        contact.bare,
        name=element.getAttribute("name", ""),
        subscription=subscription if subscription in _SUBSCRIPTIONS else "none",
        ask="subscribe" if element.getAttribute("ask") == "subscribe" and subscription in ("none", "from") else "",
        approved=element.getAttribute("approved") in ("true", "1"),
        groups=tuple(groups),
    )


def _presence(account: Importing, element: domish.Element) -> None:
    """Section 4.9: somebody asked for a subscription, and has no answer yet."""
    if element.getAttribute("type") != "subscribe":
        raise Unusable("only subscription requests are kept")
    stanza = _stanza(element)
    if stanza.sender is None:
        raise Unusable("it is from nobody")
    contact = stanza.sender.to_bare()
    request = kept_request(stanza.addressed(sender=contact, to=account.jid))
    row = SubscriptionRequest(contact.bare, request, account.host.server.now_ms())
    account.writes.append(account.store.roster.put_request(account.id, row))


def _privacy(account: Importing, query: domish.Element) -> None:
    """Section 4.8: whom the default list denies everything is blocked; lists have no other meaning here."""
    default = next(query.elements(ns.PRIVACY, "default"), None)
    wanted = None if default is None else default.getAttribute("name")
    for each in query.elements(ns.PRIVACY, "list"):
        if each.getAttribute("name") != wanted:
            account.left_out["a privacy list that is not the default"] += 1
            continue
        for item in each.elements(ns.PRIVACY, "item"):
            _denied(account, item)


def _denied(account: Importing, item: domish.Element) -> None:
    kinds = {child.name for child in item.elements()}
    is_for_all = not kinds or kinds == {"message", "iq", "presence-in", "presence-out"}
    if item.getAttribute("action") == "deny" and item.getAttribute("type") == "jid" and is_for_all:
        jid = parse(item.getAttribute("value", ""))
        if jid.bare != account.jid.bare:
            key, value = blocklist.stored(jid)
            account.writes.append(account.store.data.put(account.id, blocklist.KIND, key, value))
    elif item.getAttribute("action") == "deny":
        account.left_out["a rule of a privacy list that is more than to block an address"] += 1


# ---- what clients keep


def _vcard(account: Importing, element: domish.Element) -> None:
    """Section 4.7."""
    limit = account.host.settings[vcard.VCARD_SIZE_LIMIT]
    if len(serialise(element)) > limit:
        raise Unusable(f"a vCard may have {limit} bytes")
    account.writes.append(account.store.data.put(account.id, vcard.KIND, "", serialise(element)))


def _private(account: Importing, query: domish.Element) -> None:
    """Section 4.6."""
    kept: dict[str, bytes] = {}
    for element in query.elements():
        if not element.uri or element.uri == ns.PRIVATE:
            account.left_out["private data without a namespace of its own"] += 1
            continue
        key = private.key_of(element)
        kept[key] = kept.get(key, b"") + serialise(element, ns.PRIVATE)
    for key, value in kept.items():
        account.writes.append(account.store.data.put(account.id, private.KIND, key, value))


def _preferences(account: Importing, element: domish.Element) -> None:
    """XEP-0441; XEP-0227 does not say where to put them, so here is where servers put them that have them."""
    record = preferences.read(element, account.host.settings[preferences.MAX_PREFERENCES])
    value = preferences.to_stored(record)
    account.writes.append(account.store.data.put(account.id, preferences.KIND, preferences.KEY, value))


# ---- messages


def _waiting(account: Importing, element: domish.Element) -> None:
    """Section 4.5: a message that waits for its recipient."""
    stanza = _stanza(element)
    if message_type(stanza) not in ("normal", "chat"):
        raise Unusable("only normal messages and chat wait")
    now = account.host.server.now_ms()
    stamped = _stamped(stanza, account.host.domain)
    received = now if stamped is None else min(max(stamped, 0), now)
    to = stanza.to if stanza.to is not None and stanza.to.bare == account.jid.bare else account.jid
    stanza = _without_foreign_ids(account, stanza, keep_own=True).addressed(sender=stanza.sender, to=to)
    account.writes.append(account.store.offline.append(account.id, received, stanza.to_bytes()))


def _stamped(stanza: Stanza, domain: str) -> int | None:
    """When a server got a message, by the delay that it wrote; the last one of its own, or else the first of all."""
    delays = [parse_tree(stanza.child_bytes(child)) for child in stanza.children if child[:2] == (ns.DELAY, "delay")]
    own = [delay for delay in delays if delay.getAttribute("from") == domain]
    chosen = own[-1] if own else delays[0] if delays else None
    return None if chosen is None else parse_stamp(chosen.getAttribute("stamp", "")) // 1000


def _result(account: Importing, result: domish.Element) -> None:
    """Section 4.11: a message of the archive; all of a request are given their ids together."""
    forwarded = next(result.elements(ns.FORWARD, "forwarded"), None)
    message = None if forwarded is None else next(forwarded.elements(ns.CLIENT, "message"), None)
    delay = None if forwarded is None else next(forwarded.elements(ns.DELAY, "delay"), None)
    if message is None or delay is None:
        raise Unusable("there is no message in it, or no time")
    when = parse_stamp(delay.getAttribute("stamp", "")) // 1000
    stanza = _without_foreign_ids(account, _stanza(message), keep_own=False)
    account.messages.append((when, _own_id(result.getAttribute("id", "")), stanza))


async def _keep_messages(account: Importing) -> None:
    """Archive messages in the order in which they are given: whatever the times say, ids go on behind the last one, and
    are not in the future, where they would push away what comes today."""
    ends = await account.store.archive.ends(account.id)
    last = None if ends is None else ends[1]
    now = account.host.server.now_ms()
    for when, id, stanza in account.messages:
        time = min(max(when, 0), now)
        if id is None or time_of(id) != time or (last is not None and id <= last):
            id = Ids(lambda time=time: time, secrets.randbits, last).make()  # type: ignore[misc]
        last = id
        sender, to = stanza.sender or account.jid, stanza.to or account.jid
        contact = to if sender.bare == account.jid.bare else sender
        data = stanza.addressed(sender=sender, to=stanza.to).to_bytes()
        account.writes.append(account.store.archive.append(account.id, id, contact.bare, contact.resource, data))


def _stanza(element: domish.Element) -> Stanza:
    """A stanza, of whatever namespace its writer took it to be: some forget to say it."""
    return read_stored(serialise(element, str(element.uri)))


def _own_id(text: str) -> bytes | None:
    """The id, if this server might have made it."""
    id = from_text(text)
    return id if id is not None and id[6] >> 4 == 7 else None


def _without_foreign_ids(account: Importing, stanza: Stanza, keep_own: bool) -> Stanza:
    """A message without ids in the name of the account or of its host: they are of another archive, or forged. With
    `keep_own` those stay that this server may have made."""

    def is_foreign(child: tuple[str, str, int, int]) -> bool:
        if child[:2] not in ((ns.STANZA_ID, "stanza-id"), (_ARCHIVED, "archived")):
            return False
        element = parse_tree(stanza.child_bytes(child))
        by = element.getAttribute("by", "")
        if keep_own and by == account.jid.bare and _own_id(element.getAttribute("id", "")) is not None:
            return False
        try:
            return parse(by).bare in (account.jid.bare, account.host.domain)
        except InvalidJID:
            return False

    return stanza.without(is_foreign)


_HANDLERS: Mapping[tuple[str, str], Callable[[Importing, domish.Element], None]] = {
    (ns.PIE_SCRAM, "scram-credentials"): _credentials,
    (ns.ROSTER, "query"): _roster,
    (ns.CLIENT, "presence"): _presence,
    (ns.PIE, "presence"): _presence,
    (ns.PRIVACY, "query"): _privacy,
    (ns.VCARD, "vCard"): _vcard,
    (ns.PRIVATE, "query"): _private,
    (ns.MAM, "prefs"): _preferences,
    (ns.CLIENT, "message"): _waiting,
    (ns.PIE, "message"): _waiting,
    (ns.MAM, "result"): _result,
}
