"""JIDs: addresses by RFC 7622, prepared and compared as its profiles say.

Only this file splits an address on ``@`` and ``/``. Whatever holds a `JID` holds one whose parts were
prepared: two JIDs are the same address exactly when they are equal.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import idna
from precis_i18n import get_profile

MAX_PART_BYTES = 1023  # RFC 7622 section 3.1: each part, after preparation
MAX_TEXT = 3 * MAX_PART_BYTES + 2  # no well-formed address is longer, whatever its script
CACHED = 16_384  # addresses whose preparation is remembered; a busy server meets the same ones again
CACHED_TEXT = 256  # characters of those: longer ones would only fill the memory

# What needs no preparation, as almost every address does not: the ASCII part of RFC 8264's IdentifierClass
# without upper case and without the characters that RFC 7622 section 3.3.1 takes out of it ...
_PLAIN_LOCAL = re.compile(r"[a-z0-9!#$%()*+,\-.;=?\[\\\]^_`{|}~]+")
# ... letters, digits and inner hyphens in labels of at most 63 ...
_PLAIN_DOMAIN = re.compile(r"(?!.{254})[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
# ... and the printable part of ASCII.
_PLAIN_RESOURCE = re.compile(r"[ -~]+")
_DOTS = (".", "\u3002", "\uff0e", "\uff61")  # what ends a label (RFC 3490 section 3.1)
_FORBIDDEN_IN_LOCAL = frozenset("\"&'/:<>@")

_username = get_profile("UsernameCaseMapped")
_opaque = get_profile("OpaqueString")


class InvalidJID(ValueError):
    """The text is no address by RFC 7622; the message says which part and why."""


class JID:
    """A prepared address: ``localpart@domainpart/resourcepart``, of which only the domainpart is always there.

    `local` and `resource` are ``""`` where the address has none; `bare` and `full` are the address as text
    without and with its resourcepart. Treat it as frozen.
    """

    __slots__ = ("_hash", "bare", "domain", "full", "local", "resource")

    def __init__(self, local: str, domain: str, resource: str = "") -> None:
        """Of parts that are prepared already; text from outside goes through `parse`."""
        self.local = local
        self.domain = domain
        self.resource = resource
        self.bare = f"{local}@{domain}" if local else domain
        self.full = f"{self.bare}/{resource}" if resource else self.bare
        self._hash = hash(self.full)

    @property
    def is_bare(self) -> bool:
        """Whether there is no resourcepart."""
        return not self.resource

    def to_bare(self) -> JID:
        """The same address without its resourcepart."""
        return JID(self.local, self.domain) if self.resource else self

    def with_resource(self, resource: str) -> JID:
        """The same account at another resource, which is prepared here; raises `InvalidJID`."""
        return JID(self.local, self.domain, prepare_resource(resource))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JID) and self.full == other.full

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.full

    def __repr__(self) -> str:
        return f"JID({self.full!r})"


def parse(text: str) -> JID:
    """The address that `text` spells (RFC 7622 section 3); raises `InvalidJID`."""
    if len(text) <= CACHED_TEXT:
        return _parse_cached(text)
    if len(text) > MAX_TEXT:
        raise InvalidJID("the address is too long")
    return _parse(text)


def _parse(text: str) -> JID:
    rest, slash, resource = text.partition("/")
    local, at, domain = rest.partition("@")
    if not at:
        local, domain = "", rest
    elif not local:
        raise InvalidJID("the localpart is empty")
    if slash and not resource:
        raise InvalidJID("the resourcepart is empty")
    return JID(
        prepare_local(local) if at else "",
        prepare_domain(domain),
        prepare_resource(resource) if slash else "",
    )


_parse_cached = lru_cache(maxsize=CACHED)(_parse)


def prepare_local(text: str) -> str:
    """A localpart by the UsernameCaseMapped profile (RFC 7622 section 3.3, RFC 8265 section 3.3)."""
    if _PLAIN_LOCAL.fullmatch(text):
        return _bounded(text, "localpart")
    prepared = _enforce(_username, text, "localpart")
    if not _FORBIDDEN_IN_LOCAL.isdisjoint(prepared):
        raise InvalidJID("the localpart has one of the characters \" & ' / : < > @")
    return _bounded(prepared, "localpart")


def prepare_resource(text: str) -> str:
    """A resourcepart by the OpaqueString profile (RFC 7622 section 3.4, RFC 8265 section 4.2)."""
    if _PLAIN_RESOURCE.fullmatch(text):
        return _bounded(text, "resourcepart")
    return _bounded(_enforce(_opaque, text, "resourcepart"), "resourcepart")


def ascii_domain(domain: str) -> str:
    """A prepared domainpart as other protocols write it, in A-labels (RFC 5890 section 2.3.2.1)."""
    return domain if domain.isascii() else idna.encode(domain, uts46=True).decode()


def prepare_domain(text: str) -> str:
    """A domainpart: host name with U-labels in lower case, or an IP literal (RFC 7622 section 3.2)."""
    if text.isascii():
        text = text.lower()
    if text.endswith(_DOTS):
        text = text[:-1]
    if _PLAIN_DOMAIN.fullmatch(text) and "xn--" not in text:
        return text
    if text.startswith("[") and text.endswith("]") and "%" not in text:  # a zone means nothing to others
        try:
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
        except ValueError:
            raise InvalidJID("the domainpart is no IPv6 address") from None
    try:
        # To A-labels first: that checks every label, and maps width and case as RFC 5895 has it.
        prepared = idna.decode(idna.encode(text, uts46=True, std3_rules=True))
    except (idna.IDNAError, UnicodeError):
        raise InvalidJID("the domainpart is no host name") from None
    if prepared.endswith("."):
        raise InvalidJID("the domainpart ends with an empty label")
    return _bounded(prepared, "domainpart")


def _enforce(profile: object, text: str, part: str) -> str:
    try:
        return str(profile.enforce(text))  # type: ignore[attr-defined]
    except (UnicodeError, ValueError):
        raise InvalidJID(f"the {part} has a character that is not allowed, or is empty") from None


def _bounded(text: str, part: str) -> str:
    if not text or len(text) > MAX_PART_BYTES or len(text.encode("utf-8", "replace")) > MAX_PART_BYTES:
        raise InvalidJID(f"the {part} is empty or longer than {MAX_PART_BYTES} bytes")
    return text
