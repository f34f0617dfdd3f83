"""The options of federation, and what follows from those that name domains."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xmppd.config import Boolean, Duration, Integer, Kind, ListOf, Option, PathOf, Ports, Scope, Settings, Size
from xmppd.config import Mapping as MappingOf
from xmppd.config.kinds import Maybe
from xmppd.wire.jid import prepare_domain
from xmppd.wire.parser import Limits

SERVER = Scope.SERVER


@dataclass(frozen=True)
class Target:
    """Where a server may be: a name or an IP address, a port, and whether TLS comes first there (XEP-0368)."""

    host: str
    port: int
    direct_tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{' (direct TLS)' if self.direct_tls else ''}"


class _Domain(Kind[str]):
    accepts = "a domain, or *.DOMAIN for all below it"

    def parse(self, text: str) -> str:
        wildcard = "*." if text.startswith("*.") else ""
        return wildcard + prepare_domain(text.removeprefix("*."))


class _Targets(Kind[tuple[Target, ...]]):
    accepts = "ADDRESS:PORT, or tls:ADDRESS:PORT where TLS comes first, several separated by spaces"

    def parse(self, text: str) -> tuple[Target, ...]:
        targets = tuple(map(_target, text.split()))
        if not targets:
            raise ValueError("there is no address")
        return targets


class _Server(Kind[tuple[str, int]]):
    accepts = "an IP address, or ADDRESS:PORT"

    def parse(self, text: str) -> tuple[str, int]:
        try:
            return str(ipaddress.ip_address(text)), 53
        except ValueError:
            target = _target(text)
        if target.direct_tls:
            raise ValueError(f"{text!r}: name servers are asked without TLS")
        return str(ipaddress.ip_address(target.host)), target.port


class _Domains(MappingOf[tuple[Target, ...]]):
    """Lines of ``DOMAIN = ADDRESS:PORT``, by the prepared domain."""

    def __init__(self) -> None:
        super().__init__(_Targets())
        self.accepts = f"indented lines of DOMAIN = {_Targets.accepts}"

    def parse(self, text: str) -> Mapping[str, tuple[Target, ...]]:
        return {prepare_domain(domain): targets for domain, targets in super().parse(text).items()}


def _target(text: str) -> Target:
    direct_tls = text.startswith("tls:")
    host, colon, port = text.removeprefix("tls:").rpartition(":")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host or host.startswith("[") or host.endswith("]"):
        raise ValueError(f"{text!r}: an IPv6 address with a port is written as [ADDRESS]:PORT")
    return Target(host, int(port), direct_tls)


S2S_PORTS = Option("s2s_ports", Ports(), "5269", "Ports for other servers that start TLS.", scope=SERVER, live=False)
S2S_DIRECT_TLS_PORTS = Option(
    "s2s_direct_tls_ports", Ports(), "5270", "Ports for other servers that connect with TLS.", scope=SERVER, live=False
)
REQUIRE_ENCRYPTION = Option(
    "s2s_require_encryption", Boolean(), "yes", "Whether nothing is said to other servers, nor heard, without TLS."
)
SECURE_AUTH = Option(
    "s2s_secure_auth", Boolean(), "no",
    "Whether other servers have to show a valid certificate; otherwise dialback will do, which trusts DNS.",
)  # fmt: skip
SECURE_DOMAINS = Option(
    "s2s_secure_domains", ListOf(_Domain()), "",
    "Domains whose servers have to show a valid certificate although ``s2s_secure_auth`` is off.",
)  # fmt: skip
INSECURE_DOMAINS = Option(
    "s2s_insecure_domains", ListOf(_Domain()), "",
    "Domains for whose servers dialback will do although ``s2s_secure_auth`` is on.",
)  # fmt: skip
BLACKLIST = Option(
    "s2s_blacklist", ListOf(_Domain()), "", "Domains that nothing is sent to and nothing is taken from."
)
WHITELIST = Option(
    "s2s_whitelist", ListOf(_Domain()), "", "The only domains that are spoken to, where there are any in this list."
)
HOSTS = Option(
    "s2s_hosts", _Domains(), "",
    "Where the servers of some domains are, in place of what DNS says: ``example.net = 192.0.2.1:5269``.",
    scope=SERVER,
)  # fmt: skip
DNS_SERVERS: Option[Any] = Option(
    "dns_servers", ListOf(_Server()), "",
    "Name servers to ask for other servers; where there are none, those of ``/etc/resolv.conf``.",
    scope=SERVER, live=False,
)  # fmt: skip
CA_FILE = Option(
    "s2s_ca_file", Maybe(PathOf()), "",
    "The certificates (PEM) of the authorities that are believed about other servers; otherwise those of the system.",
    scope=SERVER,
)  # fmt: skip
TIMEOUT = Option(
    "s2s_timeout", Duration(minimum=1), "30s",
    "How long it may take to reach another server and to be authenticated there, or for another server here.",
    scope=SERVER,
)  # fmt: skip
CONNECT_TIMEOUT = Option(
    "s2s_connect_timeout", Duration(minimum=0.1), "10s",
    "How long one address of another server may take to answer, and one question to DNS.", scope=SERVER,
)  # fmt: skip
RETRY_TIME = Option(
    "s2s_retry_time", Duration(), "60s",
    "How long a message waits for a server that cannot be reached, before it goes back to its sender.", scope=SERVER,
)  # fmt: skip
MAX_BACKOFF = Option(
    "s2s_max_backoff", Duration(minimum=1), "15s",
    "How long at most a server that cannot be reached is left alone before it is tried again.", scope=SERVER,
)  # fmt: skip
IDLE_TIMEOUT = Option(
    "s2s_idle_timeout", Duration(minimum=10), "10m", "After how long without any stanza a stream is closed.",
    scope=SERVER,
)  # fmt: skip
ACK_TIMEOUT = Option(
    "s2s_ack_timeout", Duration(minimum=1), "60s",
    "How long another server may owe an acknowledgement (XEP-0198) before the connection counts as dead.",
    scope=SERVER,
)  # fmt: skip
RATE = Option(
    "s2s_rate", Size(minimum=1000), "1M",
    "How many bytes a second one stream of another server may send; what is faster waits in the network.",
    scope=SERVER,
)  # fmt: skip
BURST = Option(
    "s2s_burst", Duration(), "4s", "For how long, at ``s2s_rate``, a stream that was quiet may send at once.",
    scope=SERVER,
)  # fmt: skip
STANZA_SIZE_LIMIT = Option(
    "s2s_stanza_size_limit", Size(minimum=10_000), "512k",
    "The largest stanza, in bytes, that another server may send; it is told (XEP-0478).", scope=SERVER,
)  # fmt: skip
MAX_QUEUE = Option(
    "s2s_max_queue", Size(minimum=65536), "4M",
    "How many bytes may wait, or be unacknowledged, from one domain to another; what comes then is refused.",
    scope=SERVER,
)  # fmt: skip
MAX_TOTAL_QUEUE = Option(
    "s2s_max_total_queue", Size(minimum=65536), "64M",
    "How many bytes may wait, or be unacknowledged, for all other servers together; what comes then is refused.",
    scope=SERVER,
)  # fmt: skip
MAX_CONNECTING = Option(
    "s2s_max_connecting", Integer(minimum=1), "100",
    "How many other servers may be looked up and connected to at once; what is for more of them waits.",
    scope=SERVER, live=False,
)  # fmt: skip
MAX_LINKS = Option(
    "s2s_max_domains", Integer(minimum=1), "10000",
    "How many pairs of domains, one here and one elsewhere, may be sent to or waited for at once.", scope=SERVER,
)  # fmt: skip
MAX_PAIRS = Option(
    "s2s_max_pairs", Integer(minimum=1), "100",
    "How many pairs of domains one stream may carry, those that are being verified included.", scope=SERVER,
)  # fmt: skip
MAX_VERIFYING = Option(
    "s2s_max_verifying", Integer(minimum=1), "100",
    "How many dialback keys of others may be verified at once; each may take a connection.", scope=SERVER,
)  # fmt: skip
BIDI = Option("s2s_bidi", Boolean(), "yes", "Whether one stream is used in both directions (XEP-0288).", scope=SERVER)
SMACKS = Option(
    "smacks_enabled_s2s", Boolean(), "yes",
    "Whether stanzas between servers are acknowledged (XEP-0198), so that none is lost with a connection.",
    scope=SERVER,
)  # fmt: skip
OPTIONS: tuple[Option[Any], ...] = (
    S2S_PORTS, S2S_DIRECT_TLS_PORTS, REQUIRE_ENCRYPTION, SECURE_AUTH, SECURE_DOMAINS, INSECURE_DOMAINS, BLACKLIST,
    WHITELIST, HOSTS, DNS_SERVERS, CA_FILE, TIMEOUT, CONNECT_TIMEOUT, RETRY_TIME, MAX_BACKOFF, IDLE_TIMEOUT,
    ACK_TIMEOUT, RATE, BURST, STANZA_SIZE_LIMIT, MAX_QUEUE, MAX_TOTAL_QUEUE, MAX_CONNECTING, MAX_LINKS, MAX_PAIRS,
    MAX_VERIFYING, BIDI, SMACKS,
)  # fmt: skip


def is_listed(domain: str, listed: tuple[str, ...]) -> bool:
    """Whether a domain is one of these, or below one that is written with ``*.``."""
    return any(domain == one or (one[0] == "*" and domain.endswith(one[1:])) for one in listed)


def is_blocked(settings: Settings, domain: str) -> bool:
    """Whether a domain is not spoken to."""
    allowed = settings[WHITELIST]
    return is_listed(domain, settings[BLACKLIST]) or (bool(allowed) and not is_listed(domain, allowed))


def needs_certificate(settings: Settings, domain: str) -> bool:
    """Whether the server of a domain has to show a valid certificate."""
    if settings[SECURE_AUTH]:
        return not is_listed(domain, settings[INSECURE_DOMAINS])
    return is_listed(domain, settings[SECURE_DOMAINS])


def stanza_limits(settings: Settings, others: Limits) -> Limits:
    """What another server may send once it is authenticated; all but the size is as for clients."""
    return Limits(settings[STANZA_SIZE_LIMIT], others.depth, others.elements, others.attributes)
