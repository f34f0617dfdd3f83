"""XML text in both directions: elements written as bytes, and trees for those who look inside a stanza.

Everything that is written can be read back as exactly what it was: carriage returns, and tabs and line ends
in attributes, are written as references, because a parser would change them otherwise (XML 1.0 sections 2.11
and 3.3.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from xml.parsers import expat

from twisted.words.xish import domish

from xmppd.wire import ns

_UNSAFE_TEXT = re.compile(r"[&<>\r]")
_UNSAFE_ATTRIBUTE = re.compile(r"[&<>'\"\r\n\t]")
_REFERENCES = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;",
}  # fmt: skip


def _reference(match: re.Match[str]) -> str:
    return _REFERENCES[match[0]]


def escape(text: str) -> str:
    """`text` as character data."""
    return _UNSAFE_TEXT.sub(_reference, text) if _UNSAFE_TEXT.search(text) else text


def escape_attribute(value: str) -> str:
    """`value` as it stands between the quotes of an attribute."""
    return _UNSAFE_ATTRIBUTE.sub(_reference, value) if _UNSAFE_ATTRIBUTE.search(value) else value


def tag(name: str, attributes: Mapping[str, str | None] | None = None, *content: bytes | str) -> bytes:
    """An element as bytes: ``tag("query", {"xmlns": ns.ROSTER, "ver": None}, tag("item", …), "text")``.

    Attributes that are None are left out. `bytes` in `content` are elements made before and stay as they are;
    `str` is character data.
    """
    head = f"<{name}"
    if attributes:
        for key, value in attributes.items():
            if value is not None:
                head += f" {key}='{escape_attribute(value)}'"
    if not content:
        return f"{head}/>".encode()
    inner = b"".join(part if isinstance(part, bytes) else escape(part).encode() for part in content)
    return b"%b>%b</%b>" % (head.encode(), inner, name.encode())


class TreeBuilder:
    """Makes a tree of what expat reports, with names as ``"URI local"``."""

    def __init__(self) -> None:
        self._open: list[domish.Element] = []

    @property
    def depth(self) -> int:
        """How many elements are open."""
        return len(self._open)

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """A start tag."""
        uri, _, local = name.rpartition(" ")
        attribs = {_attribute_key(key): value for key, value in attributes.items()}
        element = domish.Element((uri, local), uri, attribs)
        if self._open:
            self._open[-1].addChild(element)
        self._open.append(element)

    def end(self) -> domish.Element:
        """An end tag; returns the element that it ends."""
        return self._open.pop()

    def characters(self, text: str) -> None:
        """Character data inside of an element."""
        self._open[-1].addContent(text)


def parse_tree(data: bytes, around: Mapping[str, str] | str = ns.CLIENT) -> domish.Element:
    """The tree of one element that a stream parser has let through, or that this server wrote.

    `data` is the element's own bytes; `around` the namespaces by prefix that hold where it stands (the default
    one is that of ``""``), or only the default one. Raises `ValueError` when it is not well-formed.
    """
    namespaces = {"": around} if isinstance(around, str) else around
    parser = expat.ParserCreate("UTF-8", " ")
    builder = TreeBuilder()
    ended: list[domish.Element] = []
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = lambda name: ended.append(builder.end())
    parser.CharacterDataHandler = builder.characters
    parser.buffer_text = True
    declarations = {f"xmlns:{prefix}" if prefix else "xmlns": uri for prefix, uri in namespaces.items()}
    wrapper = tag("context", declarations)[:-2]
    try:
        parser.Parse(b"%b>%b</context>" % (wrapper, data), True)
    except expat.ExpatError as error:
        raise ValueError(f"not well-formed: {error}") from None
    roots = list(ended[-1].elements())
    if len(roots) != 1:
        raise ValueError("not one element")
    root: domish.Element = roots[0]
    return root


def _attribute_key(name: str) -> str | tuple[str, str]:
    uri, _, local = name.rpartition(" ")
    return (uri, local) if uri else local


def serialise(element: domish.Element, default_ns: str = ns.CLIENT) -> bytes:
    """The bytes of a tree, to stand where names without a prefix are of `default_ns`. Without recursion."""
    parts: list[str] = []
    # What is still to be written, last first: an element with the default namespace around it, or text.
    todo: list[tuple[domish.Element, str] | str] = [(element, default_ns)]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        node, around = item
        uri = str(node.uri) if node.uri is not None else around
        head = f"<{node.name}"
        if uri != around:
            head += f" xmlns='{escape_attribute(uri)}'"
        head += "".join(_attributes(node.attributes.items()))
        if not node.children:
            parts.append(head + "/>")
            continue
        parts.append(head + ">")
        todo.append(f"</{node.name}>")
        for child in reversed(node.children):
            if isinstance(child, domish.Element):
                todo.append((child, uri))
            else:
                todo.append(str(child) if isinstance(child, domish.SerializedXML) else escape(str(child)))
    return "".join(parts).encode()


def serialise_inner(tree: domish.Element, default_ns: str) -> tuple[bytes, list[tuple[str, str, int, int]]]:
    """What is inside of a tree, as `serialise` writes it, and its direct children: the namespace and the name of each,
    and where it starts and ends."""
    parts: list[bytes] = []
    children: list[tuple[str, str, int, int]] = []
    position = 0
    for node in tree.children:
        is_element = isinstance(node, domish.Element)
        part = serialise(node, default_ns) if is_element else escape(str(node)).encode()
        parts.append(part)
        if is_element:
            children.append((str(node.uri), str(node.name), position, position + len(part)))
        position += len(part)
    return b"".join(parts), children


def _attributes(items: Iterable[tuple[object, object]]) -> Iterable[str]:
    """The attributes of a start tag; those in a namespace of their own get a prefix made up for them."""
    for number, (key, value) in enumerate(items):
        text = escape_attribute(str(value))
        if not isinstance(key, tuple):
            yield f" {key}='{text}'"
        elif key[0] == ns.XML:
            yield f" xml:{key[1]}='{text}'"
        else:
            yield f" xmlns:a{number}='{escape_attribute(str(key[0]))}' a{number}:{key[1]}='{text}'"
