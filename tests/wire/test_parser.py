"""The stream parser: the same stanzas however the bytes arrive, and every stanza as it was meant."""

from __future__ import annotations

import gc
import sys
import weakref
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.strategies import HEADER_PREFIXES, element, splits, stanzas
from tests.wire.support import HEADER, LIMITS, OPENING, RICH, condition, events, feed, infoset, plain, stanza
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.parser import Event, StreamEnd, StreamHeader, StreamParser
from xmppd.wire.stanza import Stanza

BIG = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def spans(one: Stanza) -> None:
    """Each child's span holds that child: it parses alone, and has the name that was said."""
    context = "".join(f" xmlns:{prefix}='{uri}'" for prefix, uri in one.prefixes)
    position = 0
    for child in one.children:
        xmlns, name, start, end = child
        assert position <= start < end <= len(one.inner)
        position = end
        data = one.child_bytes(child)
        assert data.startswith(b"<") and data.endswith(b">")
        root = ElementTree.fromstring(f"<x xmlns='{one.xmlns}'{context}>".encode() + data + b"</x>")
        assert len(root) == 1 and not root.text and not root[0].tail
        assert root[0].tag == (f"{{{xmlns}}}{name}" if xmlns else name)


# ---- the same, however it arrives


@BIG
@given(st.data())
def test_any_split_gives_the_same_events(data: st.DataObject) -> None:
    rich = data.draw(st.booleans())
    header = RICH if rich else HEADER
    prefixes = tuple(HEADER_PREFIXES) if rich else ()
    texts = data.draw(st.lists(stanzas(prefixes), min_size=1, max_size=3))
    between = data.draw(st.sampled_from(["", " ", "\n\t\r\n"]))
    stream = header + between.join(["", *texts, ""]).encode() + data.draw(st.sampled_from([b"", b"</stream:stream>"]))
    whole = StreamParser(LIMITS).feed(stream)
    assert not any(isinstance(event, StreamError) for event in whole), whole
    assert sum(isinstance(event, Stanza) for event in whole) == len(texts)
    pieces = feed(StreamParser(LIMITS), data.draw(splits(stream)))
    assert [plain(event) for event in pieces] == [plain(event) for event in whole]


@BIG
@given(st.data())
def test_to_rest_between_two_pieces_makes_no_difference(data: st.DataObject) -> None:
    rich = data.draw(st.booleans())
    header = RICH if rich else HEADER
    texts = data.draw(st.lists(stanzas(tuple(HEADER_PREFIXES) if rich else ()), min_size=1, max_size=3))
    stream = header + "".join(texts).encode() + data.draw(st.sampled_from([b"", b"</stream:stream>", b"x", b"<a"]))
    whole = StreamParser(LIMITS).feed(stream)
    parser, pieces = StreamParser(LIMITS), list[Event]()
    for piece in data.draw(splits(stream)):
        pieces += parser.feed(piece)
        parser.rest()
    assert [plain(event) for event in pieces] == [plain(event) for event in whole]


def test_a_parser_at_rest_takes_little() -> None:
    parser = StreamParser(LIMITS)
    parser.feed(HEADER + b"<message")
    parser.rest()
    assert parser._expat is not None  # something is unfinished
    parser.feed(b"/>")
    parser.rest()
    assert parser._expat is None
    assert [type(event) for event in parser.feed(b"<presence/><iq/>")] == [Stanza, Stanza]
    parser.rest()
    parser.close()
    assert parser.feed(b"<a/>") == []


@BIG
@given(st.data())
def test_a_stanza_is_what_was_sent(data: st.DataObject) -> None:
    rich = data.draw(st.booleans())
    header = RICH if rich else HEADER
    text = data.draw(stanzas(tuple(HEADER_PREFIXES) if rich else ())).encode()
    one = stanza(text, header)
    spans(one)
    # What goes out stands in a stream with the usual header, whatever the sender's was.
    assert infoset(one.to_bytes()) == infoset(text, header)
    again = stanza(one.to_bytes())
    assert again.to_bytes() == one.to_bytes()
    assert len(one.children) == len(ElementTree.fromstring(one.to_bytes()))


@settings(parent=BIG, max_examples=50)
@given(element(prefixes=tuple(HEADER_PREFIXES)), st.sampled_from(["c", "h", "own"]), st.booleans())
def test_a_stanza_with_a_prefix_of_its_own(inner: str, prefix: str, default: bool) -> None:
    declared = " xmlns:own='urn:own'" if prefix == "own" else ""
    if default:
        declared += " xmlns='urn:default'"
    text = f"<{prefix}:message id='1'{declared} {prefix}:z='1'>x{inner}y</{prefix}:message>".encode()
    one = stanza(text, RICH)
    assert one.xmlns == {"c": ns.CLIENT, "h": "urn:header", "own": "urn:own"}[prefix]
    spans(one)
    assert infoset(one.to_bytes()) == infoset(text, RICH)


@pytest.mark.parametrize(
    ("xml", "names"),
    [
        ("<message><body>use &lt;br/></body><a/></message>", ["body", "a"]),
        ("<message><body>/></body></message>", ["body"]),
        ("<message>/></message>", []),
        ("<message/>", []),
        ("<message />", []),
        ("<message></message>", []),
        ("<message></message >", []),
        ("<message to='a>b/>'></message>", []),
        ("<message to='/'></message>", []),
        ("<message to='/'/>", []),
        ("<message><a/></message>", ["a"]),
        ("<message><a/><b></b ></message>", ["a", "b"]),
        ("<message><a b='/>'></a><c/></message>", ["a", "c"]),
        ('<message><a b="x\'y>"/></message>', ["a"]),
        ("<message><a><b/></a></message>", ["a"]),
        ("<message><a><b/>/></a></message>", ["a"]),
        ("<message><![CDATA[<a/>]]></message>", []),
        ("<message><a><![CDATA[/>]]></a></message>", ["a"]),
        ("<message>&lt;a/><b/>]</message>", ["b"]),
    ],
)
def test_where_elements_end(xml: str, names: list[str]) -> None:
    for pieces in ([xml.encode()], [xml.encode()[i : i + 1] for i in range(len(xml))]):
        one, other = events(*pieces, b"<presence/>")
        assert isinstance(one, Stanza) and isinstance(other, Stanza)
        assert [child[1] for child in one.children] == names
        assert other.name == "presence"
        spans(one)
        assert infoset(one.to_bytes()) == infoset(xml.encode())


def test_prefixes_of_the_header_come_along() -> None:
    one = stanza("<message h:z='1'><h:x/><y xmlns='urn:y'>h:</y></message>", RICH)
    assert one.prefixes == (("h", "urn:header"),)
    assert one.to_bytes() == (b"<message xmlns:h='urn:header' h:z='1'><h:x/><y xmlns='urn:y'>h:</y></message>")
    assert [child[:2] for child in one.children] == [("urn:header", "x"), ("urn:y", "y")]
    assert not stanza("<message><x/></message>", RICH).prefixes


def test_a_prefix_that_the_stanza_declares_again_is_its_own() -> None:
    one = stanza("<message xmlns:h='urn:other'><h:x/></message>", RICH)
    assert one.prefixes == (("h", "urn:other"),)


def test_attributes_in_namespaces_never_share_a_prefix_that_means_something_else() -> None:
    one = stanza("<message xmlns:a0='foo' a0:x='1' xmlns:a1='bar' a1:x='2'/>")
    assert infoset(one.to_bytes()) == infoset(b"<message xmlns:b='foo' b:x='1' xmlns:c='bar' c:x='2'/>")
    added = Stanza("message", {"urn:new y": "1", "foo x": "2"}, prefixes=(("a0", "foo"), ("a1", "bar")))
    assert stanza(added.to_bytes()).attributes == added.attributes


def test_many_attributes_of_a_long_namespace_stay_small() -> None:
    uri = "u" * 250
    attributes = " ".join(f"p:a{number}=''" for number in range(200))
    text = f"<message xmlns:p='{uri}' {attributes}/>".encode()
    assert len(stanza(text).to_bytes()) < 2 * len(text)


def test_the_header() -> None:
    [header] = StreamParser(LIMITS).feed(RICH)
    assert isinstance(header, StreamHeader)
    assert header.attributes == {"to": "example.org", "version": "1.0"}
    assert header.namespaces == {
        "": "jabber:client", "stream": ns.STREAM, "h": "urn:header", "c": "jabber:client", "a0": "urn:a0",
    }  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        '<stream xmlns="http://etherx.jabber.org/streams">',
        "\n <s:stream xmlns:s='http://etherx.jabber.org/streams' to='a>b'\n>",
        "<?xml version='1.0' encoding='UTF-8' standalone='yes'?><s:stream xmlns:s='http://etherx.jabber.org/streams'>",
        "<?xml version=\"1.0\" encoding='utf-8'?>\n<s:stream xmlns:s='http://etherx.jabber.org/streams'>",
    ],
)
def test_headers_in_other_spellings(header: str) -> None:
    parser = StreamParser(LIMITS)
    got = feed(parser, [header.encode(), b"<x:y xmlns:x='urn:x'>z</x:y>"])
    assert isinstance(got[0], StreamHeader) and isinstance(got[1], Stanza)
    assert (got[1].xmlns, got[1].name, got[1].inner) == ("urn:x", "y", b"z")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"<stream:stream xmlns:stream='http://etherx.jabber.org/stream'>", "invalid-namespace"),
        (b"<stream xmlns='jabber:client'>", "invalid-namespace"),
        (b"<stream>", "invalid-namespace"),
        (b"<stream:streams xmlns:stream='http://etherx.jabber.org/streams'>", "bad-format"),
        (b"<message/>", "bad-format"),
        (b"<stream:stream>", "bad-namespace-prefix"),
        (b"GET / HTTP/1.1\r\n", "not-well-formed"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "not-well-formed"),
        (b"x<", "not-well-formed"),
        (b"</stream:stream>", "not-well-formed"),
    ],
)
def test_what_is_no_header(header: bytes, expected: str) -> None:
    [error] = StreamParser(LIMITS).feed(header)
    assert isinstance(error, StreamError) and error.condition == expected


def test_the_end_of_the_stream_is_the_last_event() -> None:
    for end in (b"</stream:stream>", b"</stream:stream >", b"</stream:stream>junk<", b"</stream:stream><!-- -->"):
        got = events(b"<message/>", end, b"<message/>", b"\0")
        assert [type(event) for event in got] == [Stanza, StreamEnd]
    [header, end_event] = StreamParser(LIMITS).feed(HEADER[:-1] + b"/>")
    assert isinstance(header, StreamHeader) and isinstance(end_event, StreamEnd)


def test_white_space_between_stanzas_leaves_nothing_behind() -> None:
    parser = StreamParser(LIMITS)
    parser.feed(HEADER)
    for _ in range(1000):
        assert parser.feed(b" \n\t\r" * 1000) == []
        assert not parser.unfinished
    size = sum(sys.getsizeof(getattr(parser, slot, None)) for slot in StreamParser.__slots__)
    assert size < 5000
    [one] = parser.feed(b" <message><a/></message> ")
    assert isinstance(one, Stanza)
    spans(one)


def test_what_is_unfinished_is_told() -> None:
    parser = StreamParser(LIMITS)
    assert not parser.unfinished
    parser.feed(HEADER[:5])
    assert parser.unfinished
    parser.feed(HEADER[5:])
    assert not parser.unfinished
    parser.feed(b"<message/> <")
    assert parser.unfinished


# ---- restricted XML


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"<!DOCTYPE x>", "restricted-xml"),
        (b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]>", "restricted-xml"),
        (b"<!DOCTYPE x SYSTEM 'file:///etc/passwd'>", "restricted-xml"),
        (b"<?xml version='1.0'?><!DOCTYPE x>", "restricted-xml"),
        (b"<!-- x -->", "restricted-xml"),
        (b"<?php x ?>", "restricted-xml"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?>", "unsupported-encoding"),
        (b"<?xml version='1.0' encoding='UTF-16'?>", "unsupported-encoding"),
        (b"<?xml version='1.0' encoding='UTF-7'?>", "unsupported-encoding"),
        (b"<?xml version='1.0' encoding='x-unknown'?>", "unsupported-encoding"),
        (b"\xef\xbb\xbf", "not-well-formed"),
        (b" <?xml version='1.0'?>", "not-well-formed"),
    ],
)  # fmt: skip
def test_restricted_xml_before_the_header(start: bytes, expected: str) -> None:
    stream = start + HEADER[HEADER.index(b"<stream:") :]
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        [error] = feed(StreamParser(LIMITS), pieces)
        assert isinstance(error, StreamError) and error.condition == expected


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("declaration", ["", "<?xml version='1.0'?>", "<?xml version='1.0' encoding='utf-16'?>", " "])
def test_other_encodings(codec: str, declaration: str) -> None:
    start = HEADER.decode()[HEADER.index(b"<stream:") :]
    stream = (declaration + start + "<message><body>\u6f22</body></message>").encode(codec)
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        [error] = feed(StreamParser(LIMITS), pieces)
        assert isinstance(error, StreamError) and error.condition == "unsupported-encoding"


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (b"<!DOCTYPE x>", "restricted-xml"),
        (b"<message><!DOCTYPE x></message>", "restricted-xml"),
        (b"<!-- x -->", "restricted-xml"),
        (b"<message><!-- x --></message>", "restricted-xml"),
        (b"<message><body>a<!---->b</body></message>", "restricted-xml"),
        (b"<?x y?>", "restricted-xml"),
        (b"<message><?x y?></message>", "restricted-xml"),
        (b"<?xml version='1.0'?>", "not-well-formed"),
        (b"<message><?xml version='1.0'?></message>", "not-well-formed"),
        (b"<message>&foo;</message>", "restricted-xml"),
        (b"<message a='&foo;'/>", "restricted-xml"),
        (b"&foo;", "restricted-xml"),
        (b"<message>&#0;</message>", "not-well-formed"),
        (b"<message>&#xD800;</message>", "not-well-formed"),
        (b"<message>&#xFFFE;</message>", "not-well-formed"),
        (b"<message>&#11;</message>", "not-well-formed"),
        (b"<message>\0</message>", "not-well-formed"),
        (b"<message>\x0b</message>", "not-well-formed"),
        (b"<message a='\x01'/>", "not-well-formed"),
        (b"<message>\xff</message>", "unsupported-encoding"),
        (b"<message>\xc0\x80</message>", "unsupported-encoding"),
        (b"<message>\xed\xa0\x80\xed\xb0\x80</message>", "unsupported-encoding"),
        (b"<message>\xf4\x90\x80\x80</message>", "unsupported-encoding"),
        (b"<message>\xe2\x28\xa1</message>", "unsupported-encoding"),
        (b"<message>caf\xe9</message>", "unsupported-encoding"),
        (b"<message>\xef\xbf\xbe</message>", "not-well-formed"),
        (b"<x:message/>", "bad-namespace-prefix"),
        (b"<message x:a='1'/>", "bad-namespace-prefix"),
        (b"<message><x:a/></message>", "bad-namespace-prefix"),
        (b"<message xmlns:xml='urn:x'/>", "bad-namespace-prefix"),
        (b"<message xmlns:xmlns='urn:x'/>", "bad-namespace-prefix"),
        (b"<message xmlns:x=''/>", "bad-namespace-prefix"),
        (b"<message xmlns='http://www.w3.org/XML/1998/namespace'/>", "bad-namespace-prefix"),
        (b"<message xmlns='http://www.w3.org/2000/xmlns/'/>", "bad-namespace-prefix"),
        (b"<message a='1' a='2'/>", "not-well-formed"),
        (b"<message xmlns:x='u' xmlns:y='u' x:a='1' y:a='2'/>", "not-well-formed"),
        (b"<message a='1'b='2'/>", "not-well-formed"),
        (b"<message a=1/>", "not-well-formed"),
        (b"<message a/>", "not-well-formed"),
        (b"<message a='<'/>", "not-well-formed"),
        (b"<message></presence>", "not-well-formed"),
        (b"<message><a></message></a>", "not-well-formed"),
        (b"<message>]]></message>", "not-well-formed"),
        (b"<message><1/></message>", "not-well-formed"),
        (b"< message/>", "not-well-formed"),
        (b"<a:b:c xmlns:a='u'/>", "not-well-formed"),
        (b"text", "bad-format"),
        (b"<message/>text<message/>", "bad-format"),
        (b"&#65;", "bad-format"),
        (b"<![CDATA[x]]>", "bad-format"),
        (b"\xc2\xa0", "bad-format"),
    ],
)  # fmt: skip
def test_restricted_xml_in_the_stream(xml: bytes, expected: str) -> None:
    assert condition(xml) == expected
    assert condition(*(xml[i : i + 1] for i in range(len(xml))), b" <") == expected


def test_predefined_entities_and_references_are_understood() -> None:
    assert stanza("<message>&lt;&gt;&amp;&apos;&quot;&#65;&#x42;</message>").text() == "<>&'\"AB"


def test_a_separator_inside_a_namespace_cannot_make_another_name() -> None:
    for xml in (b"<message xmlns='jabber:client iq'/>", b"<x:a xmlns:x='jabber:client b'/>"):
        got = events(xml)[0]
        assert isinstance(got, StreamError) or got.xmlns.count(" ") == 1  # type: ignore[union-attr]


def test_after_an_error_nothing_comes() -> None:
    parser = StreamParser(LIMITS)
    first = parser.feed(HEADER + b"<message/><!-- --><message/>")
    assert [type(event) for event in first] == [StreamHeader, Stanza, StreamError]
    assert parser.feed(b"<message/>") == [] and not parser.unfinished


# ---- nothing gets through that is not XML


@settings(parent=BIG, max_examples=100)
@given(st.data())
def test_mutated_streams_and_a_plain_parser_agree(data: st.DataObject) -> None:
    stream = bytearray(HEADER + data.draw(stanzas()).encode() + b"</stream:stream>")
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(stream) - 1))
        way = data.draw(st.integers(0, 3))
        if way == 0:
            stream[position] = data.draw(st.integers(0, 255))
        elif way == 1:
            del stream[position : position + data.draw(st.integers(1, 5))]
        elif way == 2:
            stream[position:position] = data.draw(
                st.sampled_from(
                    [
                        b"<",
                        b">",
                        b"/>",
                        b"&",
                        b"'",
                        b'"',
                        b"<a>",
                        b"</a>",
                        b"]]>",
                        b"<!--",
                        b"<?",
                        b"xmlns:",
                        b":",
                        b"\xff",
                        b"\0",
                    ]
                )
            )
        else:
            stream[position:position] = stream[: data.draw(st.integers(0, 30))]
        if not stream:
            return
    got = StreamParser(LIMITS).feed(bytes(stream))
    assert not any(isinstance(event, StreamError) for event in got[:-1])
    try:
        ElementTree.fromstring(bytes(stream))
        well_formed = True
    except (ElementTree.ParseError, ValueError, LookupError):
        well_formed = False
    accepted = bool(got) and isinstance(got[-1], StreamEnd)
    if accepted:
        # Behind the end nothing is looked at; up to there it has to be XML.
        assert well_formed or b"</stream:stream" in stream.rstrip()[:-1]
    for event in got:
        if isinstance(event, Stanza):
            ElementTree.fromstring(event.to_bytes())
            spans(event)


@settings(parent=BIG, max_examples=150)
@given(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([HEADER, b"<message>", b"</message>", b"<a/>"]))))
def test_bytes_of_any_kind(pieces: list[bytes]) -> None:
    got = feed(StreamParser(LIMITS), pieces)
    assert not any(isinstance(event, StreamError | StreamEnd) for event in got[:-1])


# ---- memory


def test_close_lets_go() -> None:
    gc.collect()
    gc.disable()
    try:
        for stream in (HEADER, HEADER + b"<message><a>", HEADER + b"<!--", b"", HEADER + b"</stream:stream>", b"\0"):
            parser = StreamParser(LIMITS)
            parser.feed(stream)
            expat = Watch.attach(parser)
            parser.close()
            del parser
            assert expat() is None
    finally:
        gc.enable()


class Watch:
    """Something that can be watched, kept by a parser and by nothing else."""

    @staticmethod
    def attach(parser: StreamParser) -> weakref.ref[Watch]:
        watch = Watch()
        parser._header_namespaces[watch] = ""  # type: ignore[index]
        return weakref.ref(watch)


def test_a_declaration_of_one_kind_of_quotes_or_the_other() -> None:
    assert OPENING.format(more=' xmlns:h="urn:header"')
    one = stanza('<message xmlns="jabber:client" id="1"/>')
    assert one.xmlns == ns.CLIENT and one.id == "1"
