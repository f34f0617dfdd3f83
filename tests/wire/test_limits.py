"""The limits of the parser: what is too much is refused while it arrives, and costs little until then."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from tests.wire.support import HEADER, LIMITS, OPENING, condition, events, feed, stanza
from xmppd.wire.errors import StreamError
from xmppd.wire.parser import BEFORE_LOGIN, MAX_NAMESPACE, Limits, StreamHeader, StreamParser
from xmppd.wire.stanza import Stanza

SMALL = Limits(bytes=1000, depth=5, elements=10, attributes=4)


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 5000])
def test_bytes(size: int) -> None:
    for xml in (b"<message><a>%b</a></message>", b"<message a='%b'/>", b"<message>%b</message>"):
        room = 1000 - len(xml % b"")
        [one] = events(*pieces_of(xml % (b"x" * room), size), limits=SMALL)
        assert isinstance(one, Stanza)
        assert condition(*pieces_of(xml % (b"x" * (room + 1)), size), limits=SMALL) == "policy-violation"


@pytest.mark.parametrize("size", [1, 7, 1000, 5000])
def test_bytes_count_for_each_stanza_anew(size: int) -> None:
    xml = b"<message>" + b"x" * 900 + b"</message>\n"
    assert all(isinstance(event, Stanza) for event in events(*pieces_of(xml * 5, size), limits=SMALL))


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_the_header_is_bounded(size: int) -> None:
    empty = OPENING.format(more=" x=''").encode()
    for extra, good in ((1000 - len(empty), True), (1001 - len(empty), False)):
        header = OPENING.format(more=f" x='{'y' * extra}'").encode()
        last = feed(StreamParser(SMALL), pieces_of(header, size))[-1]
        assert isinstance(last, StreamHeader) if good else isinstance(last, StreamError), (size, last)
    [error] = feed(StreamParser(SMALL), [b" " * 100] * 20)
    assert isinstance(error, StreamError) and error.condition == "policy-violation"


def test_a_header_that_never_ends() -> None:
    for filler in (b" ", b"x", b"a='b' ", b"<"):
        parser = StreamParser(BEFORE_LOGIN)
        got = feed(parser, [HEADER[:-1] + b" "])
        for _ in range(10_100):
            got += parser.feed(filler)
            if got:
                break
        [error] = got
        assert isinstance(error, StreamError)


def test_depth() -> None:
    def nested(levels: int) -> bytes:
        return b"<a>" * levels + b"</a>" * levels

    assert isinstance(events(nested(4), limits=SMALL)[0], Stanza)  # and the stream around it
    assert condition(nested(5), limits=SMALL) == "policy-violation"
    assert condition(b"<a>" * 5, limits=SMALL) == "policy-violation"


def test_elements() -> None:
    assert isinstance(events(b"<a>" + b"<b/>" * 9 + b"</a>", limits=SMALL)[0], Stanza)
    assert condition(b"<a>" + b"<b/>" * 10, limits=SMALL) == "policy-violation"
    many = events(b"<a><b/><b/></a>" * 20, limits=SMALL)
    assert len(many) == 20 and all(isinstance(event, Stanza) for event in many)


def test_attributes() -> None:
    assert isinstance(events(b"<x a='' b='' c='' d=''/>", limits=SMALL)[0], Stanza)
    assert condition(b"<x a='' b='' c='' d='' e=''/>", limits=SMALL) == "policy-violation"
    assert condition(b"<x><y a='' b='' c='' d='' e=''/></x>", limits=SMALL) == "policy-violation"


def test_namespaces() -> None:
    assert stanza(f"<x xmlns='{'u' * MAX_NAMESPACE}'/>")
    for xml in ("<x xmlns='{}'/>", "<x xmlns:p='{}'/>", "<x><y xmlns:p='{}'/></x>"):
        assert condition(xml.format("u" * (MAX_NAMESPACE + 1)).encode()) == "policy-violation"
    prefixes = "".join(f" xmlns:p{number}='{'u' * 200}'" for number in range(6))
    [error] = StreamParser(LIMITS).feed(OPENING.format(more=prefixes).encode())
    assert isinstance(error, StreamError) and error.condition == "policy-violation"


def test_little_cannot_become_much() -> None:
    """Prefixes, of the header or not, are not multiplied by the elements and attributes that use them."""
    uri = "u" * 250
    header = OPENING.format(more=f" xmlns:p='{uri}'").encode()
    one = stanza(b"<message>" + b"<p:a/>" * 5000 + b"</message>", header)
    assert len(one.to_bytes()) < 32_000
    prefixed = b"<c:message xmlns:c='jabber:client' xmlns='%b'>" % uri.encode()
    rewritten = events(prefixed + b"<a/>" * 5000 + b"</c:message>")[0]
    assert isinstance(rewritten, StreamError) and rewritten.condition == "policy-violation"


@pytest.mark.parametrize("start", [b"<message a='", b"<message>", b"<message><![CDATA[", b"<mess", b"<message></"])
def test_one_byte_at_a_time_costs_a_bounded_time(start: bytes) -> None:
    parser = StreamParser(LIMITS)
    assert isinstance(parser.feed(HEADER)[0], StreamHeader)
    parser.feed(start)
    began = time.process_time()
    last: list[object] = []
    for _ in range(LIMITS.bytes + 1):
        last = list(parser.feed(b"x"))
        if last:
            break
    assert time.process_time() - began < 2.5
    [error] = last
    assert isinstance(error, StreamError) and error.condition == "policy-violation"


@pytest.mark.parametrize("size", [536, 1460, 16_384])
def test_the_largest_stanza_in_network_sized_pieces_is_no_attack(size: int) -> None:
    for form in (b"<message><body>%b</body></message>", b"<message><b z='%b'/></message>"):
        xml = form % (b"x" * (LIMITS.bytes - len(form % b"")))
        assert len(xml) == LIMITS.bytes
        got = events(*pieces_of(xml, size))
        assert len(got) == 1 and isinstance(got[0], Stanza), got


@pytest.mark.parametrize(
    "xml",
    [
        b"<message " + b" ".join(b"a%d=''" % n for n in range(20_000)) + b"/>",
        b"<message " + b" ".join(b"xmlns:a%d='u'" % n for n in range(14_000)) + b"/>",
        b"<message>" + b"<a/>" * 9_000 + b"</message>",
        b"<message>" + b"<a xmlns='u' b=''>/></a>" * 9_000 + b"</message>",
        b"<message>" + b"&#65;" * 50_000 + b"</message>",
        b"<message>" + b"<![CDATA[]]>" * 20_000 + b"</message>",
        b"<c:message xmlns:c='jabber:client'>" + b"<a/>x" * 9_000 + b"</c:message>",
        b"<message>" + b"<" * 200_000,
        b"<message a='" + b">" * 250_000 + b"'/>",
        b"<message a='" + b'"' * 250_000 + b"'/>",
        b" " * 250_000 + b"<![CDATA[ ]]>" * 20,
    ],
    ids=range(11),
)
def test_nothing_of_a_stanzas_size_takes_long(xml: bytes) -> None:
    began = time.process_time()
    events(*pieces_of(xml, 32_768))
    assert time.process_time() - began < 2.5


def test_white_space_and_empty_text_do_not_fill_the_memory() -> None:
    for filler in (b" " * 10_000, b"\n" * 10_000):
        parser = StreamParser(BEFORE_LOGIN)
        parser.feed(HEADER)
        tracemalloc.start()
        for _ in range(500):
            assert parser.feed(filler) == []
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 200_000


def test_references_and_cdata_between_stanzas_are_bounded() -> None:
    for filler in (b"&#32;", b"<![CDATA[ ]]>", b"<![CDATA[]]>"):
        parser = StreamParser(BEFORE_LOGIN)
        parser.feed(HEADER)
        got: list[object] = []
        for _ in range(5000):
            got += parser.feed(filler)
        [error] = got
        assert isinstance(error, StreamError)


def test_before_login_there_is_room_for_what_login_needs() -> None:
    assert BEFORE_LOGIN.bytes >= 10_000  # RFC 6120 section 13.12
    auth = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + b"A" * 9_000 + b"</auth>"
    assert isinstance(events(auth, limits=BEFORE_LOGIN)[0], Stanza)


def test_an_end_tag_in_two_pieces_is_not_kept_back() -> None:
    """expat 2.6 puts off what was unfinished before, unless it is told not to (CVE-2023-52425)."""
    name = b"m" * 3000
    got = events(b"<" + name + b"></" + name[:-1], b"m", b">")
    assert len(got) == 1 and isinstance(got[0], Stanza)
