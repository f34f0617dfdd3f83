"""The commands for push notifications: who is notified where, and whether that works."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from xmppd.core.accounts import Account
from xmppd.modules.cloud_notify import registrations
from xmppd.modules.cloud_notify.outbox import Outbox
from xmppd.modules.cloud_notify.registrations import Registration, Registrations
from xmppd.wire import ns
from xmppd.wire.delay import stamp
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

TEXT = "This is a test of push notifications."


async def listed(account: Account) -> list[dict[str, Any]]:
    """The registrations of an account, the oldest first. What clients keep secret is not among it."""
    outbox = account.host.service(Outbox)
    return [
        {
            "id": entry.id, "jid": entry.jid, "node": entry.node,
            "client": f"client/{registrations.key_of(entry.client)}",
            "resource": entry.resource, "enabled": stamp(entry.enabled), "errors": entry.errors,
            "suspended": entry.suspended, "waiting": outbox.waits(account, entry), "extensions": sorted(entry.kept),
        }
        for entry in _entries(account)
    ]  # fmt: skip


async def remove(account: Account, id: str) -> dict[str, Any]:
    """End a registration; raises `KeyError` where there is none of that id."""
    entry = account.get(Registrations).known[id]
    await registrations.remove(account, [entry], "the administrator wants it so")
    return {"jid": account.jid.bare, "removed": id, "from": entry.jid}


async def test(account: Account) -> list[dict[str, Any]]:
    """Send a push to each registration, and wait for the answers. They count for nothing."""
    return await gatherResults([Deferred.fromCoroutine(_test(account, entry)) for entry in _entries(account)])


async def _test(account: Account, entry: Registration) -> dict[str, Any]:
    host = account.host
    message = Stanza("message", {"type": "chat"}, sender=host.jid, to=account.jid)
    message = message.extended(ns.CLIENT, "body", tag("body", None, TEXT))
    error, _ = await host.service(Outbox).publish(account, entry, message, True, 1)
    return {
        "id": entry.id, "jid": entry.jid, "node": entry.node, "error": None if error is None else str(error),
    }  # fmt: skip


def _entries(account: Account) -> list[Registration]:
    return sorted(account.get(Registrations).known.values(), key=lambda entry: entry.enabled)
