"""Service discovery (XEP-0030 2.5.0, XEP-0128 1.0.1): what the server and its accounts are and can do.

What is said comes from `host.disco`, to which every module adds its own. Of an account only its owner and the
contacts that may see its presence learn anything (XEP-0030 section 8).
"""

from __future__ import annotations

from functools import partial

from xmppd.core.disco import Entity, Identity
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.xml import tag


def setup(host: Host) -> None:
    """Hook service discovery into a host."""
    host.disco.server.identities.append(Identity("server", "im", "xmppd"))
    host.disco.account.identities.append(Identity("account", "registered"))
    for target, entity in ((Target.SERVER, host.disco.server), (Target.ACCOUNT, host.disco.account)):
        entity.features |= {ns.DISCO_INFO, ns.DISCO_ITEMS}
        host.iq.on(target, "get", ns.DISCO_INFO, "query", partial(info, entity))
        host.iq.on(target, "get", ns.DISCO_ITEMS, "query", partial(items, entity))


def info(entity: Entity, request: Request) -> bytes:
    """Section 3: identities, features and forms, always in the same order."""
    request.refuse_strangers()
    node = _node(request)
    found = _find(entity, node)
    identities = [_identity(identity) for identity in found.identities]
    features = [tag("feature", {"var": feature}) for feature in sorted(found.features)]
    forms = [form() for form in found.forms]
    return tag("query", {"xmlns": ns.DISCO_INFO, "node": node}, *identities, *features, *forms)


def _identity(identity: Identity) -> bytes:
    attributes = {
        "category": identity.category,
        "type": identity.type,
        "name": identity.name or None,
        "xml:lang": identity.lang or None,
    }
    return tag("identity", attributes)


def items(entity: Entity, request: Request) -> bytes:
    """Section 4: the addresses that belong to the entity; none is an answer, too."""
    request.refuse_strangers()
    node = _node(request)
    found = [tag("item", {"jid": jid.full, "name": name or None}) for jid, name in _find(entity, node).items]
    return tag("query", {"xmlns": ns.DISCO_ITEMS, "node": node}, *found)


def _node(request: Request) -> str | None:
    """The node that is asked about; the answer mirrors it (section 3.2)."""
    node = request.payload.getAttribute("node")
    return None if node is None else str(node)


def _find(entity: Entity, node: str | None) -> Entity:
    """What is at a node; the entity itself for none."""
    if not node:
        return entity
    for find in entity.nodes:
        found = find(node)
        if found is not None:
            return found
    raise StanzaError("item-not-found", "there is no such node")
