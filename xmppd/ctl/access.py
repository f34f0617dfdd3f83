"""The commands for what has access to an account: its clients, and application passwords."""

from __future__ import annotations

import secrets
from typing import Any

from xmppd.core import grants
from xmppd.core.accounts import Account
from xmppd.core.grants import MAX_GRANTS, Grant
from xmppd.modules import client_management
from xmppd.wire.delay import stamp

MAX_NAME = 100  # characters of what an application password is for


async def clients(account: Account) -> list[dict[str, Any]]:
    """What has access to an account, the one that was not seen for longest first."""
    found = [access.as_json() for access in await client_management.accesses(account)]
    for access in found:
        access["first_seen"], access["last_seen"] = stamp(access["first_seen"]), stamp(access["last_seen"])
        access["password"] = access["password"] is not None
    return found


async def revoke(account: Account, selector: str) -> dict[str, Any]:
    """End the access of a client; raises `StanzaError` where there is none of that name. A client that has used the
    password may know it, so that takes another password as well."""
    revoked = await client_management.revoke(account, selector)
    return {"jid": account.jid.bare, "revoked": selector, "password_reset_required": revoked.password}


async def grant(account: Account, name: str) -> dict[str, Any]:
    """Make an application password, which is shown once. Raises `ValueError` for a name that is none."""
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"a name has between 1 and {MAX_NAME} characters that can be shown")
    server = account.host.server
    credentials = await account.host.accounts.credentials(account.jid.local)
    if credentials is None or not credentials.keys:
        raise ValueError("the account has no password")
    most = account.host.settings[MAX_GRANTS]
    if len(credentials.grants) >= most:
        raise ValueError(f"an account has at most {most} application passwords ({MAX_GRANTS.name}); revoke one")
    password, id = grants.new_password(), secrets.token_urlsafe(9)
    keys = await server.in_thread(grants.make_keys, password, credentials)
    value = grants.to_stored(Grant(name, server.now_ms(), keys))
    await server.store.data.put(account.id, grants.KIND, id, value)
    return {"jid": account.jid.bare, "id": f"grant/{id}", "name": name, "password": password}
