"""Proxies in front of this server: whose word is taken for it that somebody else has connected."""

from __future__ import annotations

import ipaddress

from xmppd.config import Networks, Option, Scope

TRUSTED_PROXIES = Option(
    "trusted_proxies", Networks(), "",
    "Networks of proxies that are believed when they say who has connected, by Forwarded or X-Forwarded-For headers or "
    "the PROXY protocol.", scope=Scope.SERVER,
)  # fmt: skip

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(text: str) -> str:
    """An IP address as it is shown and compared, an IPv4 one that is written as IPv6 as what it is; `ValueError`."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_trusted(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of these networks."""
    try:
        found = ipaddress.ip_address(address_of(address))
    except ValueError:
        return False
    return any(found in network for network in networks)
