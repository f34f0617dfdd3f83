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
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")


def client_of(peer: str, headers: Mapping[str, list[str]], trusted: tuple[Network, ...]) -> str:
    """The address of who asks; that of the last proxy where that one does not tell it. Raises `ValueError` where what
    a trusted proxy says is no address, or its headers do not agree: then one of them was not written by the proxy."""
    if not is_trusted(peer, trusted):
        return peer
    found = {
        _walk(peer, read(lines), trusted)
        for name, read in (("forwarded", _forwarded), ("x-forwarded-for", _x_forwarded_for))
        if (lines := [line for line in headers.get(name, []) if line.strip(" \t")])
    }
    if len(found) > 1:
        raise ValueError("Forwarded and X-Forwarded-For do not agree; the proxy has to remove what it does not write")
    return found.pop() if found else peer


def says_https(headers: Mapping[str, list[str]]) -> bool:
    """Whether a trusted proxy, whose headers these are, says that the request came by https. Where several say how it
    came they have to agree: one of them may be the client."""
    said = [part.strip(" \t").lower() for line in headers.get("x-forwarded-proto", []) for part in line.split(",")]
    said += [pairs["proto"].lower() for line in headers.get("forwarded", []) for pairs in _elements(line)
             if "proto" in pairs]  # fmt: skip
    return bool(said) and all(scheme in ("https", "wss") for scheme in said)


def _walk(peer: str, hops: Iterator[str], trusted: tuple[Network, ...]) -> str:
    """The first address that is of no trusted proxy. `hops` are from the last on, ``""`` where one is not told; those
    behind the first address that counts are not even read, since anybody may have written them."""
    for hop in hops:
        if not hop:
            break
        peer = hop
        if not is_trusted(peer, trusted):
            break
    return peer


def _x_forwarded_for(lines: list[str]) -> Iterator[str]:
    for line in reversed(lines):
        for part in reversed(line.split(",")):
            yield _address(part.strip(" \t"))


def _forwarded(lines: list[str]) -> Iterator[str]:
    for line in reversed(lines):
        for pairs in reversed(_elements(line)):
            yield _address(pairs.get("for", ""))


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
