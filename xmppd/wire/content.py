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
    inner, children = stanza.inner, stanza.children
    if xmlns.encode() in inner or any(uri == xmlns for _, uri in stanza.prefixes):
        return _rewritten(stanza)
    children = [(ns.CLIENT if uri == xmlns else uri, name, start, end) for uri, name, start, end in children]
    return Stanza(
        stanza.name, stanza.attributes, inner, children, to=stanza.to, sender=stanza.sender, prefixes=stanza.prefixes
    )


def _rewritten(stanza: Stanza) -> Stanza:
    """The same of one that names its namespace inside, by way of its tree."""
    tree = parse_tree(stanza.to_bytes(), stanza.xmlns)
    todo = [tree]
    while todo:
        element = todo.pop()
        if element.uri == stanza.xmlns:
            element.uri = element.defaultUri = ns.CLIENT
        todo += [child for child in element.children if isinstance(child, domish.Element)]
    inner, children = serialise_inner(tree, ns.CLIENT)
    return Stanza(stanza.name, stanza.attributes, inner, children, to=stanza.to, sender=stanza.sender)
