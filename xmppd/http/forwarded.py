"""Who asks by way of a proxy: ``Forwarded`` (RFC 7239) and ``X-Forwarded-For``, of ``trusted_proxies`` alone.

Every proxy puts the address that it was connected from at the end of what is there. So the last one is read first, and
only as long as who says it is a trusted proxy: whatever stands before was sent by somebody who may write anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from xmppd.core.proxies import Network, address_of, is_trusted

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rf'\s*({_NAME})=({_NAME}|"(?:[^"\\]|\\.)*")\s*(?=[;,]|$)')
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")


def client_of(peer: str, headers: Mapping[str, list[str]], trusted: tuple[Network, ...]) -> str:
    """The address of who asks; that of the last proxy where that one does not tell it. Raises `ValueError` where the
    headers of a trusted proxy are none, or the two do not agree: then one of them was not written by the proxy."""
    if not is_trusted(peer, trusted):
        return peer
    found = {
        _walk(peer, hops, trusted)
        for name, read in (("forwarded", _forwarded), ("x-forwarded-for", _x_forwarded_for))
        if (hops := read(", ".join(headers.get(name, []))))
    }
    if len(found) > 1:
        raise ValueError("Forwarded and X-Forwarded-For do not agree; the proxy has to remove what it does not write")
    return found.pop() if found else peer


def _walk(peer: str, hops: list[str], trusted: tuple[Network, ...]) -> str:
    """The first address, from the end, that is of no trusted proxy. `hops` holds ``""`` where one is not told."""
    for hop in reversed(hops):
        if not hop:
            break
        peer = hop
        if not is_trusted(peer, trusted):
            break
    return peer


def _x_forwarded_for(value: str) -> list[str]:
    return [_address(part.strip()) for part in value.split(",")] if value.strip() else []


def _forwarded(value: str) -> list[str]:
    """RFC 7239 section 4: elements between commas, with pairs between semicolons."""
    hops: list[str] = []
    position, hop = 0, ""
    while position < len(value):
        pair = _PAIR.match(value, position)
        if pair is None:
            raise ValueError("a Forwarded header is none")
        name, text = pair[1].lower(), pair[2]
        if name == "for":
            hop = _address(re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text)
        position = pair.end() + 1
        if position > len(value) or value[pair.end()] == ",":
            hops.append(hop)
            hop = ""
    return hops


def _address(node: str) -> str:
    """The address of a node (section 6), which may have a port; ``""`` for one that does not tell it."""
    if node == "unknown" or re.fullmatch(r"_[A-Za-z0-9._\-]+", node):
        return ""
    if _BARE_IPV6.fullmatch(node):
        return address_of(node)
    found = _NODE.fullmatch(node)
    if found is None:
        raise ValueError("a proxy names an address that is none")
    return address_of(found[1] or found[2])
