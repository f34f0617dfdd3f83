"""Last activity of accounts (XEP-0012 2.0 section 3): when somebody left, and what they said as they did.

It is kept in the store under `KIND`, as JSON of `at` (milliseconds since 1970 UTC) and `status`. Only the
account's owner and the contacts that may see its presence are told (section 8).
"""

from __future__ import annotations

import json

from xmppd.core.accounts import Account
from xmppd.core.events import Unavailable
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

KIND = "lastactivity"
MAX_STATUS = 1024  # characters that are kept: more than people write, and no way to fill the store


def setup(host: Host) -> None:
    """Hook last activity into a host."""
    host.disco.account.features.add(ns.LAST)
    host.bus.on(Unavailable, unavailable)
    host.iq.on(Target.ACCOUNT, "get", ns.LAST, "query", last)
    # Once more for the owner: it makes what strangers are told `forbidden`, as section 3 wants it, whether
    # there is such an account or not.
    host.iq.on(Target.OWN, "get", ns.LAST, "query", last)


def unavailable(event: Unavailable) -> None:
    """A resource is not available any more: remember when. The next one to leave takes its place."""
    account = event.session.account
    server = account.host.server
    value = json.dumps({"at": server.now_ms(), "status": _status(event.stanza)}).encode()
    server.tasks.start(_keep(account, value), "keeping a last activity")


async def _keep(account: Account, value: bytes) -> None:
    host = account.host
    if host.accounts.loaded(account.jid.local) is not account:
        return  # deleted: that is why its sessions end
    try:
        await host.server.store.data.put(account.id, KIND, "", value)
    except StorageError as error:
        host.log.error("a last activity was not kept: {error}", error=str(error))


async def last(request: Request) -> bytes:
    """0 seconds for who is available, else the time since the last resource left."""
    request.refuse_strangers()
    account = request.account
    assert account is not None
    if _is_available(account):
        return _answer(0)
    server = account.host.server
    value = await server.store.data.get(account.id, KIND, "")
    if value is None:
        raise StanzaError("item-not-found", "nothing is known of any activity")
    kept = json.loads(value)
    return _answer(max(0, server.now_ms() - kept["at"]) // 1000, kept["status"])


def _answer(seconds: int, status: str = "") -> bytes:
    text = [status] if status else []
    return tag("query", {"xmlns": ns.LAST, "seconds": str(seconds)}, *text)


def _is_available(account: Account) -> bool:
    return any(session.presence is not None for session in account.sessions)


def _status(stanza: Stanza) -> str:
    """The first status of a presence."""
    if not stanza.has(ns.CLIENT, "status"):
        return ""
    return next(str(status) for status in stanza.tree.elements(ns.CLIENT, "status"))[:MAX_STATUS]
