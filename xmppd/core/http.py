"""What the server answers by HTTP: modules and parts of the server put handlers here, for a method and a path each.

A handler is given a whole `HttpRequest` and returns an `HttpResponse`. Who may ask at all is said by `admit`, which is
called when the headers are there and nothing of the body was read.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from xmppd.config import Option, Ports, Scope
from xmppd.core.peers import address
from xmppd.wire.jid import InvalidJID, prepare_domain

HTTPS_PORTS = Option("https_ports", Ports(), "5281", "Ports for HTTPS.", scope=Scope.SERVER, live=False)

WEBSOCKET_PATH = "/xmpp-websocket"
BOSH_PATH = "/http-bind"


@dataclass(slots=True)
class HttpRequest:
    """A request. `path` is what stands before a question mark, as it came; `peer` is the address of the other end of
    the connection, `client` of who asks, which is somebody else where a trusted proxy says so; `secure`: it came by
    https, as far as this server or a trusted proxy knows; `proxied`: through a proxy, as far as anybody says; names of
    `headers` are in small letters; `body` is empty until it was admitted; `lost` is called when there is nobody left to
    answer."""

    method: str
    path: str
    peer: str
    client: str
    secure: bool
    headers: Mapping[str, list[str]]
    proxied: bool = False
    body: bytes = b""
    lost: Callable[[], None] | None = None

    def header(self, name: str) -> str | None:
        """The value of a header that is there once; None where it is not there, or several times."""
        values = self.headers.get(name, [])
        return values[0] if len(values) == 1 else None

    @property
    def is_forwarded(self) -> bool:
        """Whether a header says that somebody passes it on."""
        return any(name.startswith("x-forwarded-") or name in _FORWARDED for name in self.headers)

    @property
    def is_loopback(self) -> bool:
        """Whether the other end of the connection is on this machine, whatever headers say."""
        try:
            return address(self.peer).is_loopback
        except ValueError:
            return False


@dataclass(slots=True)
class HttpResponse:
    """An answer; `type` is that of the body. Where there is `takes_over`, nothing else of it counts: that is given the
    connection, answers by itself, and returns who receives what comes from now on."""

    status: int
    body: bytes = b""
    type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    takes_over: Callable[[Any], Any] | None = None


def json_response(status: int, value: Any) -> HttpResponse:
    """An answer in JSON."""
    return HttpResponse(status, json.dumps(value).encode() + b"\n", "application/json")


Admit = Callable[[HttpRequest], HttpResponse | None]
Handle = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


@dataclass(slots=True)
class Route:
    """Who answers a method of a path. `admit` may refuse; `max_body` is in bytes; `cors`: pages of every origin may
    read the answer."""

    handle: Handle
    admit: Admit
    max_body: int
    cors: bool


class HttpRoutes:
    """What is answered, by path and method."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Route]] = {}

    def on(
        self, method: str, path: str, handle: Handle, admit: Admit = lambda _: None, max_body: int = 0,
        *, cors: bool = False,
    ) -> None:  # fmt: skip
        """Let `handle` answer; `ValueError` where somebody does already. See `Route`."""
        routes = self._routes.setdefault(path, {})
        if method in routes:
            raise ValueError(f"{method} {path} is answered already")
        routes[method] = Route(handle, admit, max_body, cors)

    def find(self, path: str) -> dict[str, Route]:
        """Who answers a path, by method; nobody for one that is not there."""
        return self._routes.get(path, {})


def refuse_strangers(request: HttpRequest, domains: Collection[str], secret: str) -> HttpResponse | None:
    """Who may use what is for programs of the administrator alone; None for those who may.

    With a secret: whoever shows it, wherever they are. Without one: a program on this machine, that is one whose
    address is a loopback one, that does not speak for somebody else as a proxy does, and is no browser on a page of
    somebody else's, whatever name that page has made of this address (``Host``).
    """
    if secret:
        shown = request.header("authorization") or ""
        scheme, _, value = shown.partition(" ")
        known = hmac.compare_digest(value.strip().encode("latin-1"), secret.encode())
        if scheme.lower() == "bearer" and known:
            return None
        return HttpResponse(401, b"this takes the secret\n", headers={"WWW-Authenticate": "Bearer"})
    if not request.is_loopback:
        return HttpResponse(404, b"there is nothing here\n")
    from_page = "origin" in request.headers or any(
        site not in ("none", "same-origin") for site in request.headers.get("sec-fetch-site", [])
    )
    if request.is_forwarded or from_page or not _is_own_name(request.header("host"), domains):
        return HttpResponse(403, b"only programs on this machine may ask for this\n")
    return None


_FORWARDED = frozenset({"forwarded", "x-real-ip", "via"})


def host_name(host: str | None) -> str:
    """The name in a ``Host`` header, as hosts are named here and without a port."""
    host = (host or "").strip().lower()
    if host.startswith("["):
        name, bracket, _ = host[1:].partition("]")
        return name if bracket else host
    name = host.partition(":")[0]
    try:
        return prepare_domain(name)
    except InvalidJID:
        return name


def _is_own_name(host: str | None, domains: Collection[str]) -> bool:
    name = host_name(host)
    if name == "localhost" or name in domains:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class FetchError(Exception):
    """Something could not be fetched; one line that says why."""


class Fetch(Protocol):
    """Gets something by HTTP from another server."""

    async def __call__(self, url: str, accept: str, seconds: float, max_size: int) -> bytes:
        """The body of the answer, which has status 200; within so many `seconds` and bytes. Raises `FetchError`."""


async def fetch_nothing(url: str, accept: str, seconds: float, max_size: int) -> bytes:
    """The `Fetch` of a server that reaches nobody."""
    raise FetchError("this server does not reach other servers")
