"""The content namespaces of streams (RFC 6120 section 4.8.2): inside of the server a stanza is in ``jabber:client``.

A stanza and what belongs to it, such as ``<body/>``, are in the namespace of the stream that it came by. Where that is
another one they are named anew here; going out they take that of the stream by themselves, since their tags do not say.
"""

from __future__ import annotations

from twisted.words.xish import domish

from xmppd.wire import ns
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import parse_tree, serialise_inner


def to_client(stanza: Stanza) -> Stanza:
    """The stanza as one of ``jabber:client``, whatever its own namespace is."""
    xmlns = stanza.xmlns
    if xmlns == ns.CLIENT:
        return stanza
    if _names(stanza, xmlns):
        return _renamed(stanza, xmlns, ns.CLIENT, forwarded=True)
    children = [(ns.CLIENT if uri == xmlns else uri, name, start, end) for uri, name, start, end in stanza.children]
    return Stanza(
        stanza.name, stanza.attributes, stanza.inner, children, to=stanza.to, sender=stanza.sender,
        prefixes=stanza.prefixes,
    )  # fmt: skip


def from_client(stanza: Stanza, xmlns: str) -> bytes:
    """The bytes of a stanza on a stream whose content namespace is `xmlns`; what is forwarded in it (XEP-0297) stays
    of ``jabber:client``."""
    if _names(stanza, ns.CLIENT):
        stanza = _renamed(stanza, ns.CLIENT, xmlns, forwarded=False)
    return stanza.to_bytes()


def _names(stanza: Stanza, xmlns: str) -> bool:
    """Whether a namespace is named inside of a stanza, and does not only hold there."""
    return xmlns.encode() in stanza.inner or any(uri == xmlns for _, uri in stanza.prefixes)


def _renamed(stanza: Stanza, old: str, new: str, *, forwarded: bool) -> Stanza:
    """The stanza with what is of the namespace `old` in `new`; where elements of other namespaces are around it only
    if what is `forwarded` is to be renamed as well."""
    tree = parse_tree(stanza.to_bytes(), old)
    todo = [tree]
    while todo:
        element = todo.pop()
        if element.uri == old:
            element.uri = element.defaultUri = new
        elif not forwarded:
            continue
        todo += [child for child in element.children if isinstance(child, domish.Element)]
    inner, children = serialise_inner(tree, new)
    return Stanza(stanza.name, stanza.attributes, inner, children, to=stanza.to, sender=stanza.sender)
