"""Makes ``twistd xmppd`` known to Twisted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from twisted.python import usage
from zope.interface import implementer


class Options(usage.Options):
    """What ``twistd xmppd`` takes."""

    optParameters = [["config", "c", "etc/xmppd.cfg", "The configuration file."]]  # noqa: RUF012


@implementer(IServiceMaker, IPlugin)
class XmppdMaker:
    """The plugin."""

    tapname = "xmppd"
    description = "An XMPP server."
    options = Options

    def makeService(self, options: Any) -> IService:
        """The server; ends with one line on standard error and status 1 when it cannot start."""
        # Here and not above: twistd imports every plugin to list them.
        from twisted.internet import reactor

        from xmppd.service import CannotStart, Xmppd

        os.umask(0o077)
        try:
            return Xmppd(Path(options["config"]).absolute(), reactor)  # type: ignore[return-value]
        except CannotStart as error:
            raise SystemExit(f"xmppd: {error}") from None


xmppd = XmppdMaker()
