"""XMPP ping (XEP-0199 2.0.1): the server answers for itself and for its accounts.

For an account only those who may see its presence get an answer, because that says that the account exists.
"""

from __future__ import annotations

from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.wire import ns


def setup(host: Host) -> None:
    """Hook ping into a host."""
    host.disco.server.features.add(ns.PING)
    host.disco.account.features.add(ns.PING)
    host.iq.on(Target.SERVER, "get", ns.PING, "ping", pong)
    host.iq.on(Target.ACCOUNT, "get", ns.PING, "ping", pong)


def pong(request: Request) -> None:
    """Section 4.2: an empty result."""
    request.refuse_strangers()
