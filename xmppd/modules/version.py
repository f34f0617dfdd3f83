"""Software version (XEP-0092 1.1): the server's name and version, and its operating system if so wanted."""

from __future__ import annotations

import platform
from functools import partial

from xmppd import __version__
from xmppd.config import Boolean, Option
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.wire import ns
from xmppd.wire.xml import tag

HIDE_OS_TYPE = Option(
    "hide_os_type", Boolean(), "yes",
    "Whether those who ask for the server's version do not learn its operating system.",
)  # fmt: skip
OPTIONS = (HIDE_OS_TYPE,)


def setup(host: Host) -> None:
    """Hook software version into a host."""
    host.disco.server.features.add(ns.VERSION)
    host.iq.on(Target.SERVER, "get", ns.VERSION, "query", partial(version, host))


def version(host: Host, request: Request) -> bytes:
    """Section 2. The operating system helps nobody but those who look for a weakness (section 5)."""
    content = [tag("name", None, "xmppd"), tag("version", None, __version__)]
    if not host.settings[HIDE_OS_TYPE]:
        content.append(tag("os", None, platform.system()))
    return tag("query", {"xmlns": ns.VERSION}, *content)
