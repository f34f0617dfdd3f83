"""XML written and read back is what it was."""

from __future__ import annotations

import gc
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.words.xish import domish

from tests.wire.strategies import TEXT
from xmppd.wire import ns
from xmppd.wire.xml import escape, escape_attribute, parse_tree, serialise, tag

ANY_TEXT = st.one_of(TEXT, st.text(st.sampled_from("&<>'\"\r\n\t ]a;#1"), max_size=10))


@given(ANY_TEXT)
def test_text_comes_back(text: str) -> None:
    assert str(parse_tree(f"<a>{escape(text)}</a>".encode())) == text
    assert (ElementTree.fromstring(f"<a>{escape(text)}</a>").text or "") == text


@given(ANY_TEXT)
def test_attributes_come_back(value: str) -> None:
    for quote in "'\"":
        assert parse_tree(f"<a b={quote}{escape_attribute(value)}{quote}/>".encode())["b"] == value


def test_what_needs_no_escape_stays_the_same_object() -> None:
    text = "nothing special, 'quotes' aside"
    assert escape(text) is text
    assert escape("a\r\n<b>&") == "a&#13;\n&lt;b&gt;&amp;"
    assert escape("]]>") == "]]&gt;"
    assert escape_attribute("'\"\t\n\r<>&") == "&apos;&quot;&#9;&#10;&#13;&lt;&gt;&amp;"


def test_tag() -> None:
    assert tag("a") == b"<a/>"
    assert tag("a", None) == b"<a/>"
    assert tag("a", {"b": "c<'", "d": None, "e": ""}) == b"<a b='c&lt;&apos;' e=''/>"
    assert tag("a", {}, "x<", tag("b"), "y") == b"<a>x&lt;<b/>y</a>"
    assert tag("a", None, "é".encode(), "é") == "<a>éé</a>".encode()


URIS = st.sampled_from(["jabber:client", "urn:one", "urn:two&<'", "", "http://x/#"])
LOCAL = st.sampled_from(["a", "body", "x-1", "é"])


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> domish.Element:
    """A tree as the server's own code makes them."""
    attributes: dict[str | tuple[str, str], str] = {}
    for _ in range(draw(st.integers(0, 3))):
        uri = draw(st.sampled_from(["", "urn:one", "urn:two&<'", ns.XML]))
        name = "lang" if uri == ns.XML else draw(st.sampled_from(["b", "c", "d"]))
        attributes[(uri, name) if uri else name] = draw(ANY_TEXT)
    uri = draw(URIS)
    element = domish.Element((uri, draw(LOCAL)), uri, attributes)
    for _ in range(draw(st.integers(0, 3 if depth else 0))):
        if draw(st.booleans()):
            element.addChild(draw(trees(depth - 1)))
        else:
            element.addContent(draw(ANY_TEXT))
    return element


def shape(element: domish.Element) -> object:
    """A tree as a value to compare."""
    children: list[object] = []
    for child in element.children:
        if isinstance(child, domish.Element):
            children.append(shape(child))
        elif children and isinstance(children[-1], str):
            children[-1] += str(child)
        elif child:
            children.append(str(child))
    attributes = sorted(
        (key if isinstance(key, tuple) else ("", key), value) for key, value in element.attributes.items()
    )
    return str(element.uri), str(element.name), attributes, children


@settings(deadline=None)
@given(trees(), st.sampled_from(["jabber:client", "urn:one", ""]))
def test_trees_come_back(tree: domish.Element, around: str) -> None:
    data = serialise(tree, around)
    assert shape(parse_tree(data, around)) == shape(tree)
    # An independent parser reads the same.
    [element] = ElementTree.fromstring(b"<x xmlns='%b'>%b</x>" % (around.encode(), data))
    assert element.tag == (f"{{{tree.uri}}}{tree.name}" if tree.uri else tree.name)


@settings(deadline=None)
@given(trees())
def test_serialising_again_gives_the_same_bytes(tree: domish.Element) -> None:
    data = serialise(parse_tree(serialise(tree)))
    assert serialise(parse_tree(data)) == data


def test_namespaces_of_the_context() -> None:
    element = parse_tree(b"<p:a b='1' p:c='2'><d/></p:a>", {"": "urn:default", "p": "urn:p"})
    assert (element.uri, element.name) == ("urn:p", "a")
    assert element.attributes == {"b": "1", ("urn:p", "c"): "2"}
    assert [child.uri for child in element.elements()] == ["urn:default"]


def test_ready_made_xml_stays_as_it_is() -> None:
    element = domish.Element((ns.CLIENT, "a"))
    element.addRawXml("<b/>&lt;")
    assert serialise(element) == b"<a><b/>&lt;</a>"


@pytest.mark.parametrize(
    "data", [b"", b"<a>", b"<a/><b/>", b"text", b"<a/></context><context>", b"<x:a/>", b"<a>&foo;</a>", b"\xff"]
)
def test_what_is_not_one_element(data: bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_tree(data)


def test_depth_is_no_matter_of_recursion() -> None:
    depth = 100_000
    data = b"<a>" * depth + b"x" + b"</a>" * depth
    tree = parse_tree(data)
    assert serialise(tree) == data
    del tree
    gc.collect()


def test_much_text_in_many_pieces_takes_no_long_time() -> None:
    data = b"<a>" + b"&amp;x" * 40_000 + b"</a>"
    assert serialise(parse_tree(data)) == data
