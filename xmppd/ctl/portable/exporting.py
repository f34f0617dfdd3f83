"""The server's side of an export (XEP-0227): a user, a piece after the other.

A piece is text of limited size that follows the one before; a position, which goes to xmppctl and comes back, says how
far it went. So the server keeps nothing between two pieces.
"""

from __future__ import annotations

import base64
from typing import Any

from xmppd.core.host import Host
from xmppd.core.roster import item_bytes
from xmppd.modules import blocklist, private, vcard
from xmppd.modules.mam import preferences
from xmppd.modules.mam.query import result_bytes
from xmppd.storage import Account, Range, ScramKeys, Store
from xmppd.wire import ns
from xmppd.wire.delay import delayed
from xmppd.wire.stored import in_own_namespace, read_stored
from xmppd.wire.xml import tag

PIECE = 64 * 1024  # bytes after which a piece ends: some milliseconds of work, between which others are served
MESSAGES = 50  # read from the store at once

Position = tuple[str, int, Any]
"""What comes next: ``offline`` or ``archive``, the id of the account, and after which message of these."""


async def piece(host: Host, local: str, position: Position | None) -> tuple[bytes, Position | None]:
    """The next piece of a user, and the position after it, None at the end. Of an account that goes meanwhile the rest
    is empty; where there is none, or one that nobody can use, so is the first piece."""
    found = await host.server.store.accounts.find_with_credentials(host.domain, local)
    if position is None:
        if found is None or not found.account.enabled:
            return b"", None
        part, account_id, after = "offline", found.account.id, None
        parts = [await _head(host, found)]
    else:
        part, account_id, after = position
        parts = []
    size = sum(map(len, parts))
    while size < PIECE:
        messages, last = await _messages(host, part, account_id, after)
        if messages and after is None:
            parts.append(_CONTAINERS[part])
        parts += messages
        size += sum(map(len, messages))
        after = last if messages else after
        if not messages:
            if after is not None:
                parts.append(b"</%b>\n" % _CONTAINERS[part][1:].split()[0].rstrip(b">"))
            if part == "archive":
                parts.append(b"</user>\n")
                return b"".join(parts), None
            part, after = "archive", None
    return b"".join(parts), (part, account_id, after)


_CONTAINERS = {"offline": b"<offline-messages>", "archive": tag("archive", {"xmlns": ns.PIE_MAM})[:-2] + b">"}


async def _messages(host: Host, part: str, account_id: int, after: Any) -> tuple[list[bytes], Any]:
    """The next messages of a part, and which is the last of them."""
    store = host.server.store
    if part == "offline":
        waiting = await store.offline.peek(account_id, after or 0, MESSAGES)
        stanzas = (delayed(read_stored(message.stanza), message.received, host.domain) for message in waiting)
        return [in_own_namespace(stanza.to_bytes()) for stanza in stanzas], waiting[-1].id if waiting else None
    range = Range(after=bytes.fromhex(after) if after is not None else None)
    found = await store.archive.page(account_id, range, MESSAGES, False, ())
    rows = found[0] if found is not None else []
    return [result_bytes(row) for row in rows], rows[-1].id.hex() if rows else None


# ---- everything but messages


async def _head(host: Host, found: Account) -> bytes:
    """The start tag of a user, and what is in it before the messages."""
    store, account_id = host.server.store, found.account.id
    parts = [tag("user", {"name": found.account.localpart})[:-2] + b">"]
    parts += [_credentials(name, keys) for name, keys in sorted(found.credentials.items())]
    roster = await store.roster.load(account_id)
    parts.append(tag("query", {"xmlns": ns.ROSTER}, *map(item_bytes, roster.items)))
    parts += [in_own_namespace(request.stanza) for request in roster.requests]
    parts += await _kept(store, account_id)
    return b"\n".join(parts) + b"\n"


async def _kept(store: Store, account_id: int) -> list[bytes]:
    """What modules keep for an account."""
    parts = []
    card = await store.data.get(account_id, vcard.KIND, "")
    if card is not None:
        parts.append(card)
    elements = await store.data.all(account_id, private.KIND)
    if elements:
        parts.append(tag("query", {"xmlns": ns.PRIVATE}, *elements.values()))
    blocked = await store.data.all(account_id, blocklist.KIND)
    if blocked:
        parts.append(_privacy([value.decode() for value in blocked.values()]))
    wishes = await store.data.get(account_id, preferences.KIND, preferences.KEY)
    if wishes is not None:
        parts.append(preferences.to_bytes(preferences.from_stored(wishes), ""))
    return parts


def _credentials(name: str, keys: ScramKeys) -> bytes:
    """Section 4.3."""
    return tag(
        "scram-credentials", {"xmlns": ns.PIE_SCRAM, "mechanism": f"SCRAM-{name}"},
        tag("iter-count", None, str(keys.iterations)),
        tag("salt", None, base64.b64encode(keys.salt).decode()),
        tag("server-key", None, base64.b64encode(keys.server_key).decode()),
        tag("stored-key", None, base64.b64encode(keys.stored_key).decode()),
    )  # fmt: skip


def _privacy(blocked: list[str]) -> bytes:
    """Section 4.8: the block list, as the privacy list that servers make of it which have both."""
    items = (
        tag("item", {"type": "jid", "value": jid, "action": "deny", "order": str(order)})
        for order, jid in enumerate(sorted(blocked), 1)
    )
    name = "blocklist"
    return tag("query", {"xmlns": ns.PRIVACY}, tag("default", {"name": name}), tag("list", {"name": name}, *items))
