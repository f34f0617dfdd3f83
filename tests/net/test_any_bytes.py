"""Whatever a client sends, in whatever state: no exception gets out, and after an error the stream is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.net.support import BIND, SASL, STARTTLS, STATES, auth, b64, every_state, plain, response
from tests.support.world import HEADER, World
from tests.wire.strategies import stanzas
from xmppd.net.c2s import State

PIECES = [
    piece.encode()
    for piece in (
        HEADER.format(host="example.org"), HEADER.format(host="example.com"), HEADER.format(host="")[21:], STARTTLS,
        plain(), plain(password="wrong"), auth("SCRAM-SHA-256", b64("n,,n=romeo,r=C")), auth("SCRAM-SHA-1"), auth("X"),
        response(""), response(b64("c=biws,r=C,p=AAAA")), f"<abort xmlns='{SASL}'/>",
        f"<iq type='set' id='1'><bind xmlns='{BIND}'/></iq>",
        f"<iq type='set'><bind xmlns='{BIND}'><resource>a</resource><resource/></bind></iq>",
        f"<iq type='set' id=''><bind xmlns='{BIND}'><resource>&#x10FFFF;</resource></bind></iq>",
        f"<iq type='set' id='1'><bind xmlns='{BIND}'><x/></bind><y/></iq>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>", "<iq type='get' id='1'/>", "<iq/>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='set' id='1'><query xmlns='jabber:iq:register'><username>a</username></query></iq>",
        "<message to='romeo@example.org'><body>x/></body></message>", "<message to='@'/>", "<message from='x@y'/>",
        "<presence/>", "<presence type='subscribe' to='x@example.org'/>", "<presence type='nonsense'/>",
        "<presence><priority>999</priority></presence>", "<x:y/>", "<!-- -->", "<!DOCTYPE x>", "<a>", "</a>", "&x;",
        "</stream:stream>", "<", ">", "'", " ", "\0", "<?xml version='1.0'?>", "<a xmlns='", "]]>", "<![CDATA[",
        "<message xmlns='jabber:server'/>", "<message xmlns:a0='urn:a' a0:b='c'/>", "<r xmlns='urn:xmpp:sm:3'/>",
        "<enable xmlns='urn:xmpp:sm:3' resume='1'/>", "<resume xmlns='urn:xmpp:sm:3' h='x' previd='y'/>",
        "<a h='-1' xmlns='urn:xmpp:sm:3'/>", "<inactive xmlns='urn:xmpp:csi:0'/>",
    )
] + [b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80"]  # fmt: skip

MANY = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def failures() -> Iterator[list[LogEvent]]:
    """What was logged as a failure of the server's own."""
    seen: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical or "log_failure" in event:
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Pieces of real conversations, some of them changed, in segments that do not care."""
    pieces = draw(st.lists(st.one_of(
        st.sampled_from(PIECES), st.sampled_from(PIECES), stanzas().map(str.encode), st.binary(max_size=20)
    ), min_size=1, max_size=6))  # fmt: skip
    data = bytearray(b"".join(pieces))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            position = draw(st.integers(0, len(data) - 1))
            data[position : position + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    return [bytes(data[one:other]) for one, other in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("state", STATES)
def test_any_conversation(state: str, failures: list[LogEvent]) -> None:
    @MANY
    @given(conversations())
    def converse(segments: list[bytes]) -> None:
        world = World()
        player = every_state(world)[state]
        stream = player.stream
        for segment in segments:
            player.sends(segment)
            if b"</stream:error>" in player.received_bytes():
                break
        world.advance(10)
        written = player.received_bytes()
        over = stream.state is State.CLOSED
        assert player.wire.closed == over
        assert written.count(b"<stream:error>") <= 1
        if b"<stream:error>" in written:
            assert over and written.endswith(b"</stream:error></stream:stream>")
        if over:
            assert written.endswith(b"</stream:stream>")
            player.sends(b"<message/>")
            assert player.received_bytes() == written
        elif stream.state is not State.BOUND:
            world.advance(31)
            assert stream.state is State.CLOSED and player.wire.closed
        player.disconnects()
        assert not failures, [event["log_failure"].getTraceback() for event in failures if "log_failure" in event]

    converse()
