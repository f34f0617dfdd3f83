"""Kinds that hold several values: lists of any kind, and the ones that a server's options are made of."""

from __future__ import annotations

import copy
import ipaddress
import re
from collections import abc
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar, cast, overload

from xmppd.config.errors import shown
from xmppd.config.kinds import Integer, Kind

T = TypeVar("T")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SEPARATED = "separated by commas or new lines"


class ListOf(Kind[tuple[T, ...]], Generic[T]):
    """Values of one kind, separated by commas or new lines; an empty text is an empty tuple."""

    def __init__(self, kind: Kind[T], accepts: str = "") -> None:
        self._kind = kind
        self.accepts = accepts or f"a list, {_SEPARATED}, of: {kind.accepts}"

    def parse(self, text: str) -> tuple[T, ...]:
        """Return the values in the order written; a comma too many is no error."""
        items = (item.strip() for item in re.split("[,\n]", text))
        return tuple(self._kind.parse(item) for item in items if item)

    def within(self, folder: Path) -> ListOf[T]:
        """Return the kind whose relative paths start at `folder`."""
        located = copy.copy(self)
        located._kind = self._kind.within(folder)
        return located


class Mapping(Kind[abc.Mapping[str, T]], Generic[T]):
    """Lines of ``KEY = VALUE``, with values of one kind; the result cannot be changed."""

    def __init__(self, kind: Kind[T]) -> None:
        self._kind = kind
        self.accepts = f"indented lines of KEY = VALUE, each value {kind.accepts}"

    def parse(self, text: str) -> abc.Mapping[str, T]:
        """Return the values by their keys, in the order written."""
        values: dict[str, T] = {}
        for line in filter(None, map(str.strip, text.split("\n"))):
            key, equals, value = map(str.strip, line.partition("="))
            if not key or not equals:
                raise ValueError(f"{shown(line)} is not KEY = VALUE")
            if key in values:
                raise ValueError(f"{shown(key)} is there twice")
            values[key] = self._kind.parse(value)
        return MappingProxyType(values)

    def within(self, folder: Path) -> Mapping[T]:
        """Return the kind whose relative paths start at `folder`."""
        located = copy.copy(self)
        located._kind = self._kind.within(folder)
        return located


class Ports(ListOf[int]):
    """Port numbers; 0 is any free port, and may come more than once."""

    def __init__(self) -> None:
        super().__init__(Integer(0, 65535), f"ports from 0 (any free one) to 65535 {_SEPARATED}, or nothing")

    def parse(self, text: str) -> tuple[int, ...]:
        """Return the ports in the order written."""
        ports = super().parse(text)
        for port in ports:
            if port != 0 and ports.count(port) > 1:
                raise ValueError(f"port {port} is there twice")
        return ports


class Addresses(ListOf[str]):
    """IP addresses as written; ``*`` is every IPv4 address, as ``0.0.0.0`` is, and ``::`` every IPv6 one."""

    def __init__(self) -> None:
        super().__init__(_Address(), f"IP addresses {_SEPARATED}; * and :: for all")


class _Address(Kind[str]):
    accepts = "an IP address or *"

    def parse(self, text: str) -> str:
        try:
            if text != "*":
                ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is not an IP address") from None
        return text


class Networks(ListOf[Network]):
    """IP networks, as `ipaddress` has them; an address by itself is a network of one."""

    def __init__(self) -> None:
        super().__init__(_Network(), f"networks as 192.0.2.0/24 or 2001:db8::/32 {_SEPARATED}")


class _Network(Kind[Network]):
    accepts = "a network"

    def parse(self, text: str) -> Network:
        try:
            ipaddress.ip_interface(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is not a network") from None
        try:
            return ipaddress.ip_network(text)
        except ValueError:
            # 10.0.0.1/8: guessing which half was meant could trust 16 million addresses too many.
            raise ValueError(f"{shown(text)} has bits set beyond its prefix") from None


def bare_jid(text: str) -> str:
    """Return `text` if it looks like ``local@domain``, else raise ValueError. Nothing is normalised.

    It stands in where the real check, which belongs to the type of JIDs, was not given.
    """
    local, _, domain = text.partition("@")
    if not local or not domain or re.search(r"[\s/@]", local + domain):
        raise ValueError("it is not LOCAL@DOMAIN")
    return text


class BareJids(ListOf[T]):
    """Bare JIDs, each made by `validate`, which raises ValueError for a text that is none."""

    @overload
    def __init__(self: BareJids[str]) -> None: ...

    @overload
    def __init__(self, validate: Callable[[str], T]) -> None: ...

    def __init__(self, validate: Callable[[str], T] | Callable[[str], str] = bare_jid) -> None:
        kind = _BareJid(cast("Callable[[str], T]", validate))
        super().__init__(kind, f"bare JIDs as user@example.org {_SEPARATED}")


class _BareJid(Kind[T]):
    accepts = "a bare JID"

    def __init__(self, validate: Callable[[str], T]) -> None:
        self._validate = validate

    def parse(self, text: str) -> T:
        try:
            return self._validate(text)
        except ValueError as error:
            raise ValueError(f"{shown(text)} is not a bare JID: {error}") from None
