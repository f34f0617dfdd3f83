"""Who asks by way of a proxy, and whether by https: ``Forwarded`` (RFC 7239), or ``X-Forwarded-For`` and
``X-Forwarded-Proto``, of ``trusted_proxies`` alone.

Every proxy puts the address that it was connected from at the end of what is there. So the last one is read first, and
only as long as who says it is a trusted proxy: whatever stands before was sent by somebody who may write anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from xmppd.core.peers import Network, address, is_trusted

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rf'[ \t]*(?:({_NAME})=({_NAME}|"(?:[^"\\]|\\.)*"))?[ \t]*([;,]|\Z)')
_HIDDEN = r"_[A-Za-z0-9._\-]+"
_NODE = re.compile(rf"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)|(unknown|{_HIDDEN}))(?::(?:[0-9]{{1,5}}|{_HIDDEN}))?", re.I)
_SECURE = frozenset({"https", "wss"})
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")


_Hop = tuple[str, str]  # who came to a proxy, and how: an address and a scheme, "" for what is not told


def origin_of(peer: str, headers: Mapping[str, list[str]], trusted: tuple[Network, ...]) -> tuple[str, bool]:
    """The address of who asks, and whether a trusted proxy says that it came by https. The address is that of the last
    proxy where that one does not tell it. Raises `ValueError` where what a trusted proxy says is no address, or its
    headers do not agree: then one of them was not written by the proxy."""
    if not is_trusted(peer, trusted):
        return peer, False
    found = {
        _walk(peer, read(lines), trusted)
        for name, read in (("forwarded", _forwarded), ("x-forwarded-for", _x_forwarded_for))
        if (lines := [line for line in headers.get(name, []) if line.strip(" \t")])
    }
    if len({client for client, _ in found}) > 1:
        raise ValueError("Forwarded and X-Forwarded-For do not agree; the proxy has to remove what it does not write")
    said = [scheme for _, scheme in found if scheme]
    said += [part.strip(" \t").lower() for line in headers.get("x-forwarded-proto", []) for part in line.split(",")]
    return next((client for client, _ in found), peer), bool(said) and all(scheme in _SECURE for scheme in said)


def _walk(peer: str, hops: Iterator[_Hop], trusted: tuple[Network, ...]) -> _Hop:
    """The first that is no trusted proxy, and how that one came. `hops` are from the last on; those behind the first
    address that counts are not even read, since anybody may have written them."""
    scheme = ""
    for hop, its_scheme in hops:
        scheme = its_scheme
        if not hop:
            break
        peer = hop
        if not is_trusted(peer, trusted):
            break
    return peer, scheme


def _x_forwarded_for(lines: list[str]) -> Iterator[_Hop]:
    for line in reversed(lines):
        for part in reversed(line.split(",")):
            yield _address(part.strip(" \t")), ""


def _forwarded(lines: list[str]) -> Iterator[_Hop]:
    for line in reversed(lines):
        for pairs in reversed(_elements(line)):
            yield _address(pairs.get("for", "")), pairs.get("proto", "").lower()


def _elements(line: str) -> list[dict[str, str]]:
    """RFC 7239 section 4: what each element says; elements are between commas, their pairs between semicolons."""
    elements: list[dict[str, str]] = []
    pairs: dict[str, str] = {}
    position, delimiter = 0, ","
    while delimiter:
        found = _PAIR.match(line, position)
        if found is None:
            raise ValueError("a Forwarded header is none")
        name, value, delimiter = (found[1] or "").lower(), found[2] or "", found[3]
        if name and name in pairs:
            raise ValueError(f"a Forwarded header says {name} twice of one proxy")
        pairs[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        position = found.end()
        if delimiter != ";":
            elements.append(pairs)
            pairs = {}
    return elements


def _address(node: str) -> str:
    """The address of a node (section 6), which may have a port; ``""`` for one that does not tell it."""
    if not node:
        return ""
    if _BARE_IPV6.fullmatch(node):
        return str(address(node))
    found = _NODE.fullmatch(node)
    if found is None:
        raise ValueError("a proxy names an address that is none")
    return "" if found[3] else str(address(found[1] or found[2]))
