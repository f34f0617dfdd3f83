"""Addresses of peers, as limits count them."""

from __future__ import annotations

import ipaddress


def network(peer: str) -> str:
    """What is counted as one address: an IPv4 address, or the /64 network that an IPv6 customer has."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.version == 4:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
