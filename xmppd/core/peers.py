"""Addresses of peers: as they are compared, as limits count them, and those of proxies that are believed."""

from __future__ import annotations

import ipaddress

from xmppd.config import Networks, Option, Scope

TRUSTED_PROXIES = Option(
    "trusted_proxies", Networks(), "",
    "Networks of proxies that are believed when they say who has connected and whether by https, by Forwarded, or "
    "X-Forwarded-For and X-Forwarded-Proto headers, or the PROXY protocol.", scope=Scope.SERVER,
)  # fmt: skip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address(text: str) -> Address:
    """An IP address without its zone; an IPv4 one that is written as IPv6 as what it is. Raises `ValueError`."""
    found = ipaddress.ip_address(text.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


def network(peer: str) -> str:
    """What is counted as one address: an IPv4 address, or the /64 network that an IPv6 customer has."""
    try:
        found = address(peer)
    except ValueError:
        return peer
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def is_trusted(peer: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of these networks."""
    try:
        found = address(peer)
    except ValueError:
        return False
    return any(found in each for each in networks)
