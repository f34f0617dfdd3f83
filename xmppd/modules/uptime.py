"""Uptime: how long the server runs (XEP-0012 2.0 section 5)."""

from __future__ import annotations

from functools import partial

from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.wire import ns
from xmppd.wire.xml import tag


def setup(host: Host) -> None:
    """Hook uptime into a host."""
    host.disco.server.features.add(ns.LAST)
    host.iq.on(Target.SERVER, "get", ns.LAST, "query", partial(uptime, host))


def uptime(host: Host, request: Request) -> bytes:
    """The seconds since the start; 0 where the time of day was put back to before it."""
    seconds = max(0, int(host.server.now() - host.server.started))
    return tag("query", {"xmlns": ns.LAST, "seconds": str(seconds)})
