"""Entity time (XEP-0202 2.0, in the formats of XEP-0082): the server's time of day and time zone."""

from __future__ import annotations

import datetime
from functools import partial

from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.wire import ns
from xmppd.wire.xml import tag


def setup(host: Host) -> None:
    """Hook entity time into a host."""
    host.disco.server.features.add(ns.TIME)
    host.iq.on(Target.SERVER, "get", ns.TIME, "time", partial(time, host))


def time(host: Host, request: Request) -> bytes:
    """Section 2."""
    utc = datetime.datetime.fromtimestamp(host.server.now(), datetime.timezone.utc)
    offset = utc.astimezone().strftime("%z")  # +0530
    return tag(
        "time",
        {"xmlns": ns.TIME},
        tag("tzo", None, f"{offset[:3]}:{offset[3:5]}"),
        tag("utc", None, utc.strftime("%Y-%m-%dT%H:%M:%SZ")),
    )
