"""XMPP over WebSockets (RFC 7395): the handshake, one element a message, and every way in which one ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.net.support import BINDINGS, CLEAR, plain
from tests.support.http import Answer, Connection, request
from tests.support.web import WebSocketPlayer, web_world
from tests.support.world import World

STREAMS = "{http://etherx.jabber.org/streams}"
SASL2 = "{urn:xmpp:sasl:2}"
PROXY = "trusted_proxies = 198.51.100.7\n"
HANDSHAKE = {
    "Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Protocol": "chat, xmpp",
}  # fmt: skip


def romeo(world: World, resource: str = "web", **options: object) -> WebSocketPlayer:
    world.account("romeo@example.org")
    player = WebSocketPlayer(world, **options)  # type: ignore[arg-type]
    player.authenticate("romeo", "example.org", "secret")
    player.bind(resource)
    return player


# ---- the handshake


def test_the_handshake_is_that_of_the_specification() -> None:
    connection = Connection(web_world(), secure=True)
    connection.sends(request("GET", "/xmpp-websocket", **HANDSHAKE))
    got = connection.received()
    assert got.startswith(b"HTTP/1.1 101 ")
    answer = Answer(got)
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
    assert answer.headers["sec-websocket-protocol"] == "xmpp"
    assert "sec-websocket-extensions" not in answer.headers


@pytest.mark.parametrize(("header", "value", "status"), [
    ("Connection", "keep-alive", 400), ("Upgrade", "h2c", 400), ("Sec_WebSocket_Version", "8", 426),
    ("Sec_WebSocket_Version", "", 400), ("Sec_WebSocket_Key", "", 400), ("Sec_WebSocket_Protocol", "chat", 400),
    ("Sec_WebSocket_Protocol", "", 400), ("Host", "", 400),
])  # fmt: skip
def test_what_is_no_handshake_is_refused(header: str, value: str, status: int) -> None:
    world = web_world()
    headers = {**HANDSHAKE, header: value}
    host = headers.pop("Host", "localhost")
    wanted = {name: value for name, value in headers.items() if value}
    connection = Connection(world, secure=True)
    connection.sends(request("GET", "/xmpp-websocket", host=host, **wanted))
    answer = Answer(connection.received())
    assert answer.status == status
    assert status != 426 or answer.headers["sec-websocket-version"] == "13"
    assert world.service.counts() == {}


def test_it_takes_http_1_1() -> None:
    connection = Connection(web_world(), secure=True)
    connection.sends(request("GET", "/xmpp-websocket", **HANDSHAKE).replace(b" HTTP/1.1", b" HTTP/1.0"))
    assert connection.received().startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
def test_it_takes_a_get(method: str) -> None:
    connection = Connection(web_world(), secure=True)
    connection.sends(request(method, "/xmpp-websocket", **HANDSHAKE))
    assert Answer(connection.received()).status == 405


def test_there_is_none_while_the_server_starts_or_stops() -> None:
    world = web_world()
    world.server.ready = False
    connection = Connection(world, secure=True)
    connection.sends(request("GET", "/xmpp-websocket", **HANDSHAKE))
    assert Answer(connection.received()).status == 503


def test_what_comes_with_the_request_is_not_lost() -> None:
    world = web_world()
    player = WebSocketPlayer(world)
    opening = player.frames.send(TextMessage(player.header.format(host="example.org")))
    eager = Connection(world, secure=True)
    eager.sends(request("GET", "/xmpp-websocket", **HANDSHAKE) + opening)
    assert b"<stream:features" in eager.received()


def test_an_open_websocket_is_no_http_connection_any_more() -> None:
    world = web_world("http_max_connections = 1\nhttp_idle_timeout = 60\n")
    player = romeo(world)
    other = WebSocketPlayer(world, site=player.connection.site)
    assert other.accepted
    world.advance(3600)
    player.sends("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
    player.receives("<iq type='result' id='1' to='romeo@example.org/web'/>")


# ---- the stream


def test_open_is_answered_by_open_and_features() -> None:
    player = WebSocketPlayer(web_world())
    player.sends("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' from='romeo@example.org' "
                 "version='1.0' xml:lang='de'/>")  # fmt: skip
    header = player.receives_header()
    assert header.attributes.pop("id")
    assert header.attributes == {
        "from": "example.org", "to": "romeo@example.org", "version": "1.0",
        "{http://www.w3.org/XML/1998/namespace}lang": "en",
    }  # fmt: skip
    features = player.takes()
    assert features.tag == f"{STREAMS}features"
    names = [child.tag for child in features]
    assert "{urn:ietf:params:xml:ns:xmpp-tls}starttls" not in names
    assert "{urn:ietf:params:xml:ns:xmpp-sasl}mechanisms" in names and f"{SASL2}authentication" in names


def test_the_stanzas_of_a_client_need_no_namespace_of_their_own() -> None:
    player = romeo(web_world())
    for declared in ("", " xmlns='jabber:client'"):
        player.sends(f"<iq{declared} type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
        player.receives("<iq type='result' id='1' to='romeo@example.org/web'/>")


def test_close_ends_the_session_and_the_websocket() -> None:
    world = web_world()
    player = romeo(world)
    player.sends("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
    player.receives_end()
    assert player.closed_with == 1000
    player.transmit(CloseConnection(1000))
    player.disconnects()
    assert world.service.counts() == {} and world.server.sessions.count == 0


def test_the_server_closes_in_order_when_it_stops() -> None:
    world = web_world()
    player = romeo(world)
    world.service.shut_down()
    world.settle()
    player.receives_stream_error("system-shutdown")
    assert player.closed_with == 1000


@pytest.mark.parametrize("code", [1000, 1001, None])
def test_a_websocket_that_closes_without_the_stream_leaves_a_session_to_resume(code: int | None) -> None:
    world = web_world()
    player = romeo(world)
    player.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    player.takes()
    player.transmit(CloseConnection(code or 1005))
    world.settle()
    player.receives_nothing()
    assert player.closed_with is not None and player.connection.closed
    (session,) = world.server.sessions
    assert session.keeper is not None and session.keeper.hibernates
    player.disconnects()
    assert world.service.counts() == {}


def test_keep_alive_is_a_ping_of_the_websocket() -> None:
    world = web_world()
    player = romeo(world)
    world.service.keep_alive()
    world.settle()
    player.receives_nothing()
    assert player.pings == 1


def test_pings_of_the_client_are_answered() -> None:
    player = romeo(web_world())
    player.transmit(Ping(b"there?"))
    player.receives_nothing()
    assert player.pongs == [b"there?"]


# ---- what is not right


@pytest.mark.parametrize(("message", "condition"), [
    ("<presence xmlns='jabber:client'/><presence xmlns='jabber:client'/>", "not-well-formed"),
    ("<presence/>x", "bad-format"), ("x<presence/>", "not-well-formed"), (" <presence/>", "not-well-formed"),
    ("", "not-well-formed"), (" ", "not-well-formed"), ("<presence>", "not-well-formed"),
    ("<presence", "not-well-formed"), ("</stream:stream>", "not-well-formed"),
    ("<presence/></stream:stream>", "not-well-formed"),
    ("<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>", "not-well-formed"),
    ("<?xml version='1.0'?><presence/>", "not-well-formed"), ("<!DOCTYPE presence><presence/>", "restricted-xml"),
    ("<!-- x --><presence/>", "restricted-xml"), ("<presence><?x y?></presence>", "restricted-xml"),
    ("<presence>&x;</presence>", "restricted-xml"), ("<a:presence/>", "bad-namespace-prefix"),
    ("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' version='1.0'/>", "bad-format"),
    ("<other xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", "unsupported-stanza-type"),
    ("<iq xmlns='jabber:server' type='get' id='1'/>", "invalid-namespace"),
])  # fmt: skip
def test_a_message_is_one_element_and_nothing_else(message: str, condition: str) -> None:
    world = web_world()
    player = romeo(world)
    player.forget()
    player.sends(message)
    player.receives_stream_error(condition)
    player.disconnects()
    assert world.service.counts() == {} and world.server.sessions.count == 0


def test_of_two_stanzas_in_one_message_neither_is_handled() -> None:
    world = web_world()
    web, tcp = romeo(world), world.online("juliet@example.org/balcony")
    stanza = f"<message xmlns='jabber:client' to='{tcp.full}'><body>x</body></message>"
    web.sends(stanza * 2)
    tcp.receives_nothing()


def test_an_element_is_not_carried_over_to_the_next_message() -> None:
    player = WebSocketPlayer(web_world())
    player.sends("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org'")
    player.receives_header()
    player.receives_stream_error("not-well-formed")


@pytest.mark.parametrize("first", ["<presence/>", plain(), "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"])
def test_nothing_comes_before_open(first: str) -> None:
    player = WebSocketPlayer(web_world())
    player.sends(first)
    player.receives_header()
    player.receives_stream_error("bad-format")


@pytest.mark.parametrize(("data", "code"), [
    (b"\x81\x05hello", 1002),  # not masked (RFC 6455 section 5.1)
    (b"\xc1\x80\0\0\0\0", 1002), (b"\x83\x80\0\0\0\0", 1002), (b"\x80\x80\0\0\0\0", 1002),  # reserved; no beginning
    (b"\x89\xfe\0\x80\0\0\0\0", 1002), (b"\x09\x80\0\0\0\0", 1002),  # a ping that is too long, or in pieces
    (b"\x81\x81\0\0\0\0\xff", 1007), (b"\x88\x81\0\0\0\0\x03", 1002),  # no UTF-8; half a code
])  # fmt: skip
def test_what_breaks_framing_closes_the_websocket(data: bytes, code: int) -> None:
    world = web_world()
    player = romeo(world)
    player.sends_raw(data)
    player.receives_nothing()
    assert player.closed_with == code and player.connection.closed
    assert world.server.sessions.count == 0


def test_messages_are_text() -> None:
    player = romeo(web_world())
    player.transmit(BytesMessage(b"<presence/>"))
    player.receives_nothing()
    assert player.closed_with == 1003


@given(st.binary(max_size=300))
def test_any_bytes_have_an_end(data: bytes) -> None:
    world = web_world()
    player = WebSocketPlayer(world)
    player.sends_raw(data)
    player.disconnects()
    assert world.service.counts() == {}


# ---- limits


def test_a_message_has_a_limit_before_the_login_and_after_it() -> None:
    world = web_world("stanza_size_limit = 20000\n")
    for player, size in ((WebSocketPlayer(world), 11_000), (romeo(world), 21_000)):
        player.forget()
        for _ in range(size // 100):
            if not player.connection.closed:
                player.transmit(TextMessage("x" * 100, message_finished=False))
        player.forget()
        assert b"policy-violation" in player.received_bytes() and player.connection.closed


def test_a_message_is_counted_in_bytes() -> None:
    player = WebSocketPlayer(web_world())
    player.opens()
    player.forget()
    player.sends("\N{ROSE}" * 3000)
    player.receives_stream_error("policy-violation")


def test_pieces_of_nothing_take_no_memory() -> None:
    player = romeo(web_world("c2s_rate = 1000000\n"))
    for _ in range(1000):
        player.transmit(TextMessage("", message_finished=False))
        player.world.advance(0.001)
    player.transmit(TextMessage("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"))
    player.receives("<iq type='result' id='1' to='romeo@example.org/web'/>")


def test_a_message_may_come_in_pieces() -> None:
    player = romeo(web_world())
    text = "<iq type='get' id='ä'><ping xmlns='urn:xmpp:ping'/></iq>"
    for letter in text[:-1]:
        player.transmit(TextMessage(letter, message_finished=False))
    player.sends(text[-1])
    player.receives("<iq type='result' id='ä' to='romeo@example.org/web'/>")


def test_pings_count_for_how_fast_a_client_may_send() -> None:
    world = web_world("c2s_rate = 1000\nc2s_burst = 2\n")
    player = romeo(world)
    world.advance(10)
    assert not player.wire.paused
    for payload in (b"x" * 100, b""):  # also where there is nothing in them
        for _ in range(30):
            player.transmit(Ping(payload))
        assert player.wire.paused
        world.advance(10)
        assert not player.wire.paused


def test_an_address_has_so_many_that_are_not_authenticated() -> None:
    world = web_world(f"max_unauthenticated_per_address = 1\n{PROXY}")
    first = WebSocketPlayer(world)
    second = WebSocketPlayer(world)
    second.receives_header()
    second.receives_stream_error("policy-violation")
    forwarded = {"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}
    third, fourth = (WebSocketPlayer(world, peer="198.51.100.7", secure=False, headers=forwarded) for _ in range(2))
    third.receives_nothing()
    fourth.receives_header()
    fourth.receives_stream_error("policy-violation")
    assert first.accepted


# ---- TLS, here or in front


def test_nobody_logs_in_without_tls() -> None:
    player = WebSocketPlayer(web_world(), secure=False)
    player.opens()
    player.receives_header()
    player.receives_stream_error("policy-violation")


def test_without_tls_a_password_gets_nobody_in() -> None:
    world = web_world()
    world.account("romeo@example.org")
    player = WebSocketPlayer(world, secure=False)
    player.sends_only(player.header.format(host="example.org"))
    player.sends_only(plain())
    world.settle()
    player.receives_header()
    player.receives_stream_error("policy-violation")


def test_without_tls_it_works_where_the_administrator_says_so() -> None:
    world = web_world(f"{CLEAR}\nallow_unencrypted_plain_auth = yes\n")
    player = romeo(world, secure=False)
    assert player.full == "romeo@example.org/web"


@pytest.mark.parametrize(("headers", "secure"), [
    ({"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}, True),
    ({"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "wss"}, True),
    ({"Forwarded": "for=203.0.113.5;proto=https"}, True),
    ({"Forwarded": 'for="[2001:db8::1]:4711";Proto=HTTPS'}, True),
    ({"X-Forwarded-For": "203.0.113.5"}, False),
    ({"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "http"}, False),
    ({"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https, http"}, False),
    ({"Forwarded": "proto=https, for=203.0.113.5;proto=http"}, False),
    ({"Forwarded": "for=203.0.113.5"}, False),
    ({}, False),
])  # fmt: skip
def test_the_https_of_a_trusted_proxy_counts(headers: dict[str, str], secure: bool) -> None:
    world = web_world(PROXY)
    for peer, counts in (("198.51.100.7", secure), ("198.51.100.8", False)):
        player = WebSocketPlayer(world, peer=peer, secure=False, headers=headers)
        player.opens()
        player.receives_header()
        assert (player.takes().tag == f"{STREAMS}features") is counts
        player.disconnects()


def bindings(player: WebSocketPlayer) -> bool:
    player.opens()
    player.receives_header()
    return player.takes().find("{urn:xmpp:sasl-cb:0}sasl-channel-binding") is not None


def test_the_tls_of_a_proxy_is_not_taken_for_that_of_the_client() -> None:
    world = web_world(PROXY)
    forwarded = {"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}
    for peer, version in (("192.0.2.1", "TLSv1.3"), ("198.51.100.7", "")):
        WebSocketPlayer(world, peer=peer, headers=forwarded if not version else {})
        assert version in [stream.transport.tls_version for stream in world.service._streams]


def test_channel_bindings_are_announced_where_tls_ends_here() -> None:
    world = web_world(PROXY)
    forwarded = {"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}
    assert bindings(WebSocketPlayer(world, bindings=BINDINGS))
    assert not bindings(WebSocketPlayer(world, peer="198.51.100.7", bindings=BINDINGS))
    assert not bindings(WebSocketPlayer(world, peer="198.51.100.7", secure=False, headers=forwarded))
    # Whoever says that it is a proxy, if it is trusted or not, has ended TLS and begun another.
    assert not bindings(WebSocketPlayer(world, bindings=BINDINGS, headers=forwarded))
