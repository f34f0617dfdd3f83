"""vCards (XEP-0054 1.3): what a user says of himself, for everybody to read, also while he is offline.

Who asks for the vCard of somebody else is told the same when there is no such account as when it has no vCard
(section 3.3). The server itself has none.
"""

from __future__ import annotations

from xmppd.config import Option, Size
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.xml import serialise

VCARD_SIZE_LIMIT = Option("vcard_size_limit", Size(), "256k", "How many bytes a vCard may have, its picture included.")
OPTIONS = (VCARD_SIZE_LIMIT,)

KIND = "vcard"  # in the store, under the key ""


def setup(host: Host) -> None:
    """Hook vCards into a host."""
    host.disco.server.features.add(ns.VCARD)
    host.disco.account.features.add(ns.VCARD)
    # The own vCard is asked for in the same way as any other: a request that only the owner of an account may
    # make is refused in another way, which would tell an account without a vCard from none.
    host.iq.on(Target.ACCOUNT, "get", ns.VCARD, "vCard", get)
    host.iq.on(Target.OWN, "set", ns.VCARD, "vCard", change)


async def get(request: Request) -> bytes:
    """Sections 3.1 and 3.3: the vCard of an account."""
    account = request.account
    assert account is not None
    vcard = await account.host.server.store.data.get(account.id, KIND, "")
    if vcard is None:
        raise StanzaError("item-not-found" if request.is_own else "service-unavailable")
    return vcard


async def change(request: Request) -> None:
    """Section 3.2: a whole new vCard."""
    account = request.account
    assert account is not None
    vcard = serialise(request.payload)
    limit = account.host.settings[VCARD_SIZE_LIMIT]
    if len(vcard) > limit:
        raise StanzaError("policy-violation", f"a vCard may have {limit} bytes")
    await account.host.server.store.data.put(account.id, KIND, "", vcard)
