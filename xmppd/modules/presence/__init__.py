"""Presence (RFC 6121 sections 3 and 4): broadcast and probes in `broadcast`, subscriptions in `subscription`."""

from __future__ import annotations

from xmppd.core.bus import Stage
from xmppd.core.events import AccountRemoving, Arriving, Ended, HibernationEnded, Sent
from xmppd.core.host import Host, StreamFeature
from xmppd.core.routing import PRESENCE_TYPES, SUBSCRIPTION_TYPES
from xmppd.modules.presence import broadcast, subscription
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.xml import tag

OPTIONS = (*subscription.OPTIONS, *broadcast.OPTIONS)


def setup(host: Host) -> None:
    """Hook presence into a host."""
    host.bus.on(Sent, sent)
    host.bus.on(Arriving, arriving)
    host.bus.on(Arriving, broadcast.refuse_strangers, Stage.CHECK)
    host.bus.on(Ended, broadcast.ended)
    host.bus.on(AccountRemoving, subscription.end_all)
    host.bus.on(HibernationEnded, broadcast.resumed)
    host.session_state["presence_to"] = (broadcast.save_directed, broadcast.restore_directed)
    host.features.append(StreamFeature("pre-approval", True, lambda: tag("sub", {"xmlns": ns.PRE_APPROVAL})))


async def sent(event: Sent) -> bool | None:
    """A client sends presence."""
    stanza = event.stanza
    if stanza.name != "presence":
        return None
    type = stanza.type
    if type is not None and type not in PRESENCE_TYPES:
        raise StanzaError("bad-request", "there is no such type of presence")
    if stanza.to is None:
        if type is None:
            await broadcast.available(event.session, stanza)
        elif type == "unavailable":
            await broadcast.unavailable(event.session, stanza)
        elif type in SUBSCRIPTION_TYPES:
            raise StanzaError("bad-request", "a subscription stanza needs an address")
        return True
    if type in SUBSCRIPTION_TYPES:
        await subscription.sent(event.session.account, stanza)
        return True
    if type in (None, "unavailable"):
        broadcast.directed(event.session, stanza)
    return None


async def arriving(event: Arriving) -> bool | None:
    """Presence for an account: subscriptions and probes are answered here, the rest is delivered."""
    stanza = event.stanza
    if stanza.name != "presence":
        return None
    if stanza.type in SUBSCRIPTION_TYPES:
        await subscription.arriving(event.account, stanza)
        return True
    if stanza.type == "probe":
        await broadcast.probed(event.account, stanza)
        return True
    return None
