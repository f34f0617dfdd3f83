"""Entity capabilities (XEP-0115 1.6.0) of the server: a hash of its disco#info, as a stream feature.

See its section 6.3. A client that knows the hash already need not ask what the server can do.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from xmppd.core.disco import Entity, Identity
from xmppd.core.host import Host, StreamFeature
from xmppd.wire import ns
from xmppd.wire.xml import parse_tree, tag

# A URI that names this software (section 4), the same for every version and server. It leads nowhere, on
# purpose: the project has no domain that it could promise to keep.
NODE = "urn:uuid:221fc8d9-0249-45f6-86e0-1d7ba8d875a0"

CACHED = 256  # hashes that are remembered; a host has one, and another one after each change

# A data form: its FORM_TYPE, and each field's name with its values.
Form = tuple[str, list[tuple[str, list[str]]]]


def setup(host: Host) -> None:
    """Hook entity capabilities into a host."""
    server = host.disco.server

    def feature() -> bytes:
        return tag("c", {"xmlns": ns.CAPS, "hash": "sha-1", "node": NODE, "ver": _current(server)})

    def node(name: str) -> Entity | None:
        return server if name == f"{NODE}#{_current(server)}" else None

    server.features.add(ns.CAPS)
    server.nodes.append(node)
    host.features.append(StreamFeature("caps", True, feature))


def _current(entity: Entity) -> str:
    """The verification string of what an entity says now; worked out again only when that has changed."""
    forms = tuple(form() for form in entity.forms)
    return verification_string(tuple(entity.identities), frozenset(entity.features), forms)


@lru_cache(maxsize=CACHED)
def verification_string(
    identities: tuple[Identity, ...], features: frozenset[str], forms: tuple[bytes, ...]
) -> str:
    """The ``ver`` of section 5.1 with SHA-1, the hash that everybody has to support.

    `forms` are the bytes of each ``<x/>``; those without a hidden FORM_TYPE do not count (section 5.4).
    """
    # Python orders text by code points, which is the order of its bytes in UTF-8 (i;octet).
    parts = [
        f"{one.category}/{one.type}/{one.lang}/{one.name}"
        for one in sorted(identities, key=lambda one: (one.category, one.type, one.lang))
    ]
    parts += sorted(features)
    for form_type, fields in sorted(filter(None, map(_read, forms))):
        parts.append(form_type)
        for name, values in fields:
            parts += [name, *values]
    text = "".join(f"{part}<" for part in parts)
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


def _read(data: bytes) -> Form | None:
    """The content of a form as section 5.1 sorts it; None for what does not count."""
    form_type: str | None = None
    fields: list[tuple[str, list[str]]] = []
    for field in parse_tree(data).elements(ns.DATA_FORMS, "field") if data else ():
        name = str(field.getAttribute("var") or "")
        values = [str(value) for value in field.elements(ns.DATA_FORMS, "value")]
        if name != "FORM_TYPE":
            fields.append((name, sorted(values)))
        elif field.getAttribute("type") == "hidden" and values:
            form_type = values[0]
    return None if form_type is None else (form_type, sorted(fields))
