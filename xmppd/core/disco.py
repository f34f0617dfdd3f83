"""What a host and its accounts say of themselves: identities, features, items and extra forms (XEP-0030)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from xmppd.wire.jid import JID


@dataclass(frozen=True)
class Identity:
    """XEP-0030 section 3.1; categories and types are those of the registry."""

    category: str
    type: str
    name: str = ""
    lang: str = ""


@dataclass
class Entity:
    """One thing that is asked about.

    `forms` give data forms (XEP-0128), each as the bytes of its ``<x/>``, or ``b""`` while there is nothing
    to say. `items` are the addresses that belong to it, each with its name or ``""``. `nodes` find what one
    of its nodes says, each None for a node that it does not know.
    """

    identities: list[Identity] = field(default_factory=list)
    features: set[str] = field(default_factory=set)
    forms: list[Callable[[], bytes]] = field(default_factory=list)
    items: list[tuple[JID, str]] = field(default_factory=list)
    nodes: list[Callable[[str], Entity | None]] = field(default_factory=list)


class Disco:
    """Modules add what they bring: to the `server`, or to every `account`."""

    def __init__(self) -> None:
        self.server = Entity()
        self.account = Entity()
