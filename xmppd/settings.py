"""The server's own options, and the list of all that are declared anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xmppd.config import (
    Addresses,
    BareJids,
    Choice,
    Config,
    Duration,
    Integer,
    Option,
    PathOf,
    Ports,
    Scope,
    Settings,
    Text,
    load,
    reference,
)
from xmppd.core import accounts, binding, grants, modules, requests, roster
from xmppd.core.http import HTTPS_PORTS
from xmppd.core.peers import TRUSTED_PROXIES
from xmppd.http import site, status
from xmppd.net import addresses, authentication, bosh, c2s, component, limits, pace, proxy_protocol, service
from xmppd.net.proxy_protocol import PROXY_PROTOCOL_PORTS
from xmppd.net.s2s import options as s2s
from xmppd.wire.jid import JID, parse, prepare_domain

SERVER = Scope.SERVER


def _bare_jid(text: str) -> JID:
    jid = parse(text)
    if not jid.local or not jid.is_bare:
        raise ValueError("is no bare JID")
    return jid


DATA_PATH = Option("data_path", PathOf(), "../var", "The folder in which state lives.", scope=SERVER, live=False)
STORAGE = Option(
    "storage", Text(), "sqlite",
    "Where data is kept: ``sqlite`` (a file in ``data_path``), ``sqlite:///PATH`` or ``postgresql://USER:PW@HOST/DB``.",
    scope=SERVER, live=False, secret=True,
)  # fmt: skip
STORAGE_TIMEOUT = Option(
    "storage_timeout", Duration(), "10s",
    "How long the store may take for one request; then whoever asked is told to try again later.",
    scope=SERVER, live=False,
)  # fmt: skip
STORAGE_SYNCHRONOUS = Option(
    "storage_synchronous", Choice("full", "normal"), "full",
    "``full``: what was acknowledged survives a loss of power. ``normal``: it survives a crash of the server, but a "
    "loss of power may take the last moments.",
    scope=SERVER, live=False,
)  # fmt: skip
STORAGE_QUEUE = Option(
    "storage_max_queue", Integer(minimum=100), "100000",
    "How many writes may wait for the store; beyond it they are refused.", scope=SERVER, live=False,
)  # fmt: skip
INTERFACES = Option(
    "interfaces", Addresses(), "127.0.0.1, ::1", "Addresses to listen on; ``*`` and ``::`` for all.",
    scope=SERVER, live=False,
)  # fmt: skip
C2S_PORTS = Option("c2s_ports", Ports(), "5222", "Ports for clients that start TLS.", scope=SERVER, live=False)
C2S_DIRECT_TLS_PORTS = Option(
    "c2s_direct_tls_ports", Ports(), "5223", "Ports for clients that connect with TLS.", scope=SERVER, live=False
)
ADMIN_SOCKET = Option(
    "admin_socket", Text(), "DATA_PATH/xmppd.sock",
    "The socket that ``xmppctl`` talks to; ``DATA_PATH`` stands for the value of ``data_path``.",
    scope=SERVER, live=False,
)  # fmt: skip
CERTIFICATES = Option(
    "certificates", PathOf(), "../certs",
    "The folder with ``DOMAIN.crt`` and ``DOMAIN.key``, or ``DOMAIN/fullchain.pem`` and ``DOMAIN/privkey.pem``.",
    scope=SERVER, live=False,
)  # fmt: skip


def _later(name: str, kind: Any, default: str, help: str, part: str, scope: Scope = SERVER) -> Option[Any]:
    return Option(name, kind, default, help, scope=scope, live=False, pending=part)


# Names that are fixed already, of parts that this version does not have: to give one a value gives a warning.
LATER = (
    _later("admins", BareJids(_bare_jid), "", "The bare JIDs of those who administer the server.",
           "administration over XMPP", Scope.HOST),
)

PROXIED = (C2S_PORTS, C2S_DIRECT_TLS_PORTS)  # where the PROXY protocol may be spoken

OPTIONS = (
    DATA_PATH, STORAGE, STORAGE_TIMEOUT, STORAGE_SYNCHRONOUS, STORAGE_QUEUE, INTERFACES,
    C2S_PORTS, C2S_DIRECT_TLS_PORTS, ADMIN_SOCKET, CERTIFICATES,
)  # fmt: skip


def declared() -> Mapping[str, tuple[Option[Any], ...]]:
    """All options, under the headings of the reference page."""
    groups: dict[str, tuple[Option[Any], ...]] = {
        "The server": OPTIONS,
        "Modules": modules.OPTIONS,
        "Accounts": (*accounts.OPTIONS, *grants.OPTIONS, *binding.OPTIONS, *roster.OPTIONS),
        "Requests of the server": requests.OPTIONS,
        "Clients": (*c2s.OPTIONS, *limits.OPTIONS, *pace.OPTIONS, *service.OPTIONS),
        "Logging in": (*authentication.OPTIONS, *addresses.OPTIONS),
        "BOSH": bosh.OPTIONS,
        "Components": component.OPTIONS,
        "Other servers": s2s.OPTIONS,
        "HTTP": (*site.OPTIONS, *status.OPTIONS),
        "Proxies": proxy_protocol.OPTIONS,
    }
    for name, options in modules.options(modules.available()).items():
        if options:
            groups[f"Module {name}"] = options
    groups["Not in this version"] = LATER
    return groups


def read(path: Path) -> Config:
    """The configuration in a file; raises `ConfigError`."""
    options = [option for group in declared().values() for option in group]
    config = load(path, options, normalise_domain=prepare_domain)
    check_proxied(config.server)
    return config


def check_proxied(settings: Settings) -> None:
    """Raises `ConfigError` where the PROXY protocol is to be spoken on ports that are none, or by nobody."""
    for port in settings[PROXY_PROTOCOL_PORTS]:
        if port == 0:
            raise settings.error(PROXY_PROTOCOL_PORTS, "a port has to be named; 0 is any")
        if not any(port in settings[option] for option in PROXIED):
            names = " or ".join(option.name for option in PROXIED)
            raise settings.error(PROXY_PROTOCOL_PORTS, f"{port} has to be in {names} as well")
        if not settings[TRUSTED_PROXIES]:
            raise settings.error(PROXY_PROTOCOL_PORTS, "trusted_proxies has to name those who connect there")


def listening(settings: Settings, with_components: bool) -> list[tuple[Option[Any], Option[Any]]]:
    """The options that name ports to listen on, each with the one that names their addresses. Without a section for a
    component there are none for those."""
    ports: list[tuple[Option[Any], Option[Any]]] = [(C2S_PORTS, INTERFACES), (C2S_DIRECT_TLS_PORTS, INTERFACES)]
    ports += [(s2s.S2S_PORTS, INTERFACES), (s2s.S2S_DIRECT_TLS_PORTS, INTERFACES)]
    interfaces = site.HTTP_INTERFACES if settings[site.HTTP_INTERFACES] else INTERFACES
    ports += [(site.HTTP_PORTS, interfaces), (HTTPS_PORTS, interfaces)]
    if with_components:
        ports.append((component.COMPONENT_PORTS, component.COMPONENT_INTERFACES))
    return ports


def storage_url(settings: Settings) -> str:
    """Where the store is, as `Store.open` wants it."""
    value = settings[STORAGE]
    return f"sqlite:///{settings[DATA_PATH] / 'xmppd.sqlite'}" if value == "sqlite" else value


def admin_socket(settings: Settings) -> Path:
    """Where the admin socket is."""
    return Path(settings[ADMIN_SOCKET].replace("DATA_PATH", str(settings[DATA_PATH])))


if __name__ == "__main__":  # python -m xmppd.settings > docs/options.rst
    print(reference(declared()), end="")
