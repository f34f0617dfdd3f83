"""Priority of push notifications (Tigase's ``tigase:push:priority:0``): an app server is told what should not wait."""

from __future__ import annotations

from xmppd.core.events import Pushing
from xmppd.core.host import Host
from xmppd.wire import ns
from xmppd.wire.xml import tag

_HIGH = tag("priority", {"xmlns": ns.PUSH_PRIORITY}, "high")


def setup(host: Host) -> None:
    """Hook the priority into a host."""
    host.disco.account.features.add(ns.PUSH_PRIORITY)
    host.bus.on(Pushing, pushing)


def pushing(event: Pushing) -> None:
    """What is important is said to be so."""
    if event.important:
        event.payload[ns.PUSH_PRIORITY] = _HIGH
