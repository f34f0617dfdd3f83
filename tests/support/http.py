"""HTTP with a `World`: what programs ask it, and a backend that it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred

from tests.support.world import Wire, World
from xmppd.core.http import FetchError
from xmppd.http.site import Site


class Answer:
    """An answer to a request."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), raw
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Connection:
    """A program that is connected to the site."""

    def __init__(
        self, world: World, peer: str = "127.0.0.1", site: Site | None = None, *, secure: bool = False,
        bindings: dict[str, bytes] | None = None,
    ) -> None:  # fmt: skip
        self.world = world
        self.site = site or Site(world.server)
        self.wire = Wire(peer, secure, bindings or {})
        self.channel = self.site.connect(self.wire)  # type: ignore[arg-type]
        self._seen = 0

    def sends(self, data: bytes) -> None:
        """Send bytes, and let the server do what it does with them."""
        self.sends_only(data)
        self.world.settle()

    def sends_only(self, data: bytes) -> None:
        """As `sends`; what waits for its turn goes on waiting."""
        if not self.wire.closed:
            self.wire.receiver.data_received(data)

    def breaks(self) -> None:
        """The connection is gone."""
        self.wire.closed = True
        self.wire.receiver.connection_lost("the network broke")
        self.world.settle()

    def received(self) -> bytes:
        """What has come since the last look."""
        data = self.wire.written[self._seen :]
        self._seen += len(data)
        return data

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.wire.closed


def request(
    method: str = "POST", path: str = "/roster_admin/refresh", body: bytes | str = b"", host: str = "localhost",
    **headers: str,
) -> bytes:  # fmt: skip
    """A request. Names of headers are written with ``_`` in place of ``-``."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"Host: {host}"] if host else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if data or method == "POST":
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


def ask(world: World, data: bytes, peer: str = "127.0.0.1") -> Answer:
    """The answer to a request."""
    connection = Connection(world, peer)
    connection.sends(data)
    return Answer(connection.received())


class Backend:
    """What a backend says, by user: a roster as JSON can hold it, the bytes of an answer, an error, or nothing yet
    (a `Deferred`). `asked` are the users that it was asked for."""

    def __init__(self, world: World, url: str = "http://localhost/") -> None:
        self.rosters: dict[str, Any] = {}
        self.asked: list[str] = []
        self._url = url
        world.server.fetch = self

    async def __call__(self, url: str, accept: str, seconds: float, max_size: int) -> bytes:
        """See `xmppd.core.http.Fetch`."""
        assert url.startswith(self._url) and accept == "application/json", url
        name = unquote(url.removeprefix(self._url))
        self.asked.append(name)
        found = self.rosters.get(name, {})
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, str):
            raise FetchError(found)
        return found if isinstance(found, bytes) else json.dumps(found).encode()

    def was_asked(self) -> list[str]:
        """The users that it was asked for since the last look."""
        asked, self.asked = self.asked, []
        return asked


Make = Callable[..., World]
