"""How a module says which options it has."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from xmppd.config.kinds import Kind

T = TypeVar("T")

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Scope(enum.Enum):
    """The sections in which an option may stand; the value names them for the administrator."""

    SERVER = "[xmppd]"
    """Only there."""

    HOST = "[xmppd], [host:DOMAIN] or [component:DOMAIN]"
    """``[xmppd]`` gives the default of all hosts and components, each of which may have its own value."""

    COMPONENT = "[component:DOMAIN]"
    """Only there."""


@dataclass(frozen=True)
class Option(Generic[T]):
    """One option of the configuration, declared once, beside the code that uses it.

    It is the key under which `Settings` has the value. ValueError for a declaration that cannot be right,
    such as a default that its own kind refuses.
    """

    name: str
    """As in the file: small letters, digits and underscores."""

    kind: Kind[T]
    """What may be written, and the type of the value."""

    default: str
    """The value where the file has none, as one would write it there."""

    help: str
    """One sentence for the reference page, in reStructuredText."""

    scope: Scope = Scope.HOST
    """Where it may stand."""

    live: bool = True
    """Whether a new value counts from the next SIGHUP on; False if it takes a restart."""

    pending: str = ""
    """What of a later version it belongs to, such as federation: accepted, and to set it gives a warning."""

    secret: bool = False
    """Whether the value must not be shown in errors and logs: passwords, or addresses that hold one."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"option {self.name!r}: not a name of small letters, digits and underscores")
        if not self.help or "\n" in self.help:
            raise ValueError(f"option {self.name}: the help must be one sentence on one line")
        try:
            self.kind.parse(self.default)
        except ValueError as error:
            raise ValueError(f"option {self.name}: the default is no value of its kind: {error}") from error
