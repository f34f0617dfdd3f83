"""An app server (XEP-0357) that is an external component (XEP-0114) of the server that is measured."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

from benchmarks.client import Target
from benchmarks.connection import Connection, Failed, attribute
from benchmarks.measure import until
from benchmarks.traffic import Count

NODE = re.compile(rb"<publish\b[^>]*\snode=['\"]([^'\"]+)")


class AppServer:
    """It answers each push with a result, and counts them by node."""

    def __init__(self, target: Target, domain: str, secret: str) -> None:
        self._target = target
        self._domain = domain
        self._secret = secret
        self._ready = False
        self.pushed: Counter[str] = Counter()
        self.count = Count(target.alarm, "pushes")
        self._connection = Connection(self._arrived, target.alarm.sound)

    async def connect(self, port: int) -> None:
        """Connect, and shake hands."""
        await self._connection.connect(self._target.host, port)
        self._connection.send(
            b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' to='%b' "
            b"xmlns:stream='http://etherx.jabber.org/streams'>" % self._domain.encode()
        )
        await until(lambda: self._connection.header != b"", "the component's stream")
        id = attribute(self._connection.header, "id").decode()
        digest = hashlib.sha1(f"{id}{self._secret}".encode()).hexdigest()  # noqa: S324 - XEP-0114 has it so
        self._connection.send(f"<handshake>{digest}</handshake>".encode())
        await until(lambda: self._ready, "the component's handshake")

    def close(self) -> None:
        """Go away."""
        self._connection.close()

    def _arrived(self, element: bytes) -> None:
        node = NODE.search(element)
        if element.startswith(b"<handshake"):
            self._ready = True
        elif element.startswith(b"<iq") and node is not None:
            back = tuple(attribute(element, name) for name in ("id", "from", "to"))
            self._connection.send(b"<iq type='result' id='%b' to='%b' from='%b'/>" % back)
            self.pushed[node[1].decode()] += 1
            self.count.one()
        elif element.startswith((b"<stream:error", b"</stream")):
            self._target.alarm.sound(Failed(f"the component's stream ended: {element.decode()}"))
