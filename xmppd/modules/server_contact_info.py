"""Contact addresses of the service (XEP-0157 1.1): whom to tell of abuse and the like.

They are a form of the server's disco#info, which is there when `contact_info` has any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from xmppd.config import Kind, Option
from xmppd.config import Mapping as MappingOf
from xmppd.config.errors import shown
from xmppd.core.host import Host
from xmppd.wire import ns
from xmppd.wire.xml import tag

# The fields of the registry, without the "-addresses" that each ends with.
ROLES = ("abuse", "admin", "feedback", "sales", "security", "status", "support")

_SEPARATOR = re.compile(r"[,\s]+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")


class Uris(Kind[tuple[str, ...]]):
    """One URI or more."""

    accepts = "URIs such as mailto:abuse@example.org, separated by commas or white space"

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the URIs in the order written."""
        uris = tuple(filter(None, _SEPARATOR.split(text)))
        if not uris:
            raise ValueError("there is no address")
        for uri in uris:
            if not _URI.fullmatch(uri):
                raise ValueError(f"{shown(uri)} is not a URI such as mailto:abuse@example.org")
        return uris


class ContactInfo(Kind[Mapping[str, tuple[str, ...]]]):
    """Addresses by role."""

    accepts = f"indented lines of ROLE = {Uris.accepts}; a role is one of {', '.join(ROLES)}"

    def parse(self, text: str) -> Mapping[str, tuple[str, ...]]:
        """Return the addresses of each role that has some."""
        addresses = MappingOf(Uris()).parse(text)
        for role in addresses:
            if role not in ROLES:
                raise ValueError(f"{shown(role)} is not one of {', '.join(ROLES)}")
        return addresses


CONTACT_INFO = Option(
    "contact_info", ContactInfo(), "",
    "Addresses of those who run the service, by what one might want from them.",
)  # fmt: skip
OPTIONS = (CONTACT_INFO,)


def setup(host: Host) -> None:
    """Hook the contact addresses into a host."""
    host.disco.server.forms.append(lambda: form(host.settings[CONTACT_INFO]))


def form(addresses: Mapping[str, tuple[str, ...]]) -> bytes:
    """The form of section 3; nothing when there is no address."""
    if not addresses:
        return b""
    fields = [_field(f"{role}-addresses", "list-multi", uris) for role, uris in sorted(addresses.items())]
    form_type = _field("FORM_TYPE", "hidden", (ns.SERVER_INFO,))
    return tag("x", {"xmlns": ns.DATA_FORMS, "type": "result"}, form_type, *fields)


def _field(name: str, kind: str, values: tuple[str, ...]) -> bytes:
    return tag("field", {"var": name, "type": kind}, *(tag("value", None, value) for value in values))
