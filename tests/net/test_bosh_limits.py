"""BOSH: what a client may send and leave waiting, TLS, and what browsers make of answers."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.net.support import CLEAR, plain
from tests.support.http import Answer, Connection, request
from tests.support.web import BOSH, BoshPlayer, answered, bosh_romeo, by_hand, web_world
from xmppd.net.bosh.body import terminate
from xmppd.net.c2s import UNSENT_PAUSE
from xmppd.wire.parser import BEFORE_LOGIN

PING = "<iq xmlns='jabber:client' type='get' id='{}'><ping xmlns='urn:xmpp:ping'/></iq>"
PROXY = "trusted_proxies = 198.51.100.7\n"
FORWARDED = {"X_Forwarded_For": "203.0.113.5", "X_Forwarded_Proto": "https"}


# ---- limits


def test_a_body_has_a_limit_before_the_login() -> None:
    player = BoshPlayer(web_world())
    player.opens()
    player.forget()
    player.asks("", plain() + "<iq xmlns='jabber:client' type='get' id='1'/>" * (BEFORE_LOGIN.bytes // 30))
    player.receives_end()
    assert player.condition == "policy-violation"


def test_who_sends_faster_than_it_may_is_answered_later() -> None:
    world = web_world("c2s_rate = 1000\nc2s_burst = 10\n")
    player = by_hand(world)
    world.advance(10)
    asked = 0
    while asked == len(player.answers):
        asked += 1
        player.asks("", PING.format(asked))
        player._read()
    assert asked < 20 and player.condition is None
    world.advance(30)
    player._read()
    assert [answer[0].get("id") for answer in player.answers] == [str(id + 1) for id in range(asked)]


def test_what_waits_for_a_client_has_a_limit() -> None:
    world = web_world("c2s_max_unsent = 64k\nc2s_rate = 10M\n")
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    for _ in range(10):
        tcp.sends(f"<message to='{player.full}' type='chat'><body>{'x' * 100_000}</body></message>")
    assert world.service.counts() == {"c2s": {"bound": 1}}
    assert answered(player.asks()).get("condition") == "item-not-found"


def test_who_is_not_read_from_since_much_waits_may_ask_for_that() -> None:
    world = web_world()
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    (stream,) = (stream for stream in world.service._streams if stream.kind == "bosh")
    for _ in range(5):
        tcp.sends(f"<message to='{player.full}' type='chat'><body>{'x' * 100_000}</body></message>")
    stream.slow_down(1)
    assert stream.transport.unsent > UNSENT_PAUSE
    assert len(answered(player.asks())) == 5
    assert answered(player.asks("", PING.format(1)))[0].get("id") == "1"


def test_an_address_has_so_many_that_are_not_authenticated() -> None:
    world = web_world(f"max_unauthenticated_per_address = 1\n{PROXY}")
    for options in ({}, {"peer": "198.51.100.7", "secure": False, "headers": FORWARDED}):
        first, second = (BoshPlayer(world, **options) for _ in range(2))  # type: ignore[arg-type]
        first.opens()
        first.receives_header()
        second.opens()
        second.receives_stream_error("policy-violation")


# ---- TLS, origins, and what an answer is


def test_nobody_logs_in_without_tls() -> None:
    world = web_world(PROXY)
    for options in ({"secure": False}, {"secure": False, "headers": FORWARDED},
                    {"secure": False, "peer": "198.51.100.7"}):  # fmt: skip
        player = BoshPlayer(world, **options)  # type: ignore[arg-type]
        player.opens()
        player.receives_stream_error("policy-violation")


def test_the_https_of_a_trusted_proxy_counts() -> None:
    assert bosh_romeo(web_world(PROXY), secure=False, peer="198.51.100.7", headers=FORWARDED).full


def test_without_tls_it_works_where_the_administrator_says_so() -> None:
    assert bosh_romeo(web_world(f"{CLEAR}\nallow_unencrypted_plain_auth = yes\n"), secure=False).full


def test_a_session_that_began_with_tls_goes_on_with_tls() -> None:
    world = web_world()
    player = by_hand(world)
    player.secure = False
    connection = player.asks("", "", player.rid)
    world.settle()
    assert Answer(connection.received()).status == 403
    player.secure = True
    assert answered(player.asks("", PING.format(1)))[0].get("id") == "1"


def test_pages_of_every_origin_may_use_it() -> None:
    world = web_world()
    connection = Connection(world, secure=True)
    connection.sends(request("OPTIONS", "/http-bind", Origin="https://chat.example",
                             Access_Control_Request_Method="POST"))  # fmt: skip
    answer = Answer(connection.received())
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "Content-Type"
    assert "access-control-allow-credentials" not in answer.headers
    for sent in (request("POST", "/http-bind", "x"), request("GET", "/http-bind")):
        connection = Connection(world, secure=True)
        connection.sends(sent)
        assert Answer(connection.received()).headers["access-control-allow-origin"] == "*"


def test_a_body_that_is_too_large_is_not_read() -> None:
    world = web_world("http_max_content_size = 2000\n")
    connection = Connection(world, secure=True)
    connection.sends(request("POST", "/http-bind", "x" * 3000))
    answer = Answer(connection.received())
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (413, "*")


@pytest.mark.parametrize(("wanted", "got"), [
    ("text/plain", "text/plain"), ("application/xml; charset=utf-8", "application/xml; charset=utf-8"),
    ("text/html", "text/xml; charset=utf-8"), ("", "text/xml; charset=utf-8"),
    ("image/svg+xml", "text/xml; charset=utf-8"), ("text/plain&#10;X: y", "text/xml; charset=utf-8"),
    ("text/plain; x&#13;&#10;X: y", "text/xml; charset=utf-8"),
])  # fmt: skip
def test_the_type_of_an_answer_is_none_that_a_browser_would_run(wanted: str, got: str) -> None:
    world = web_world()
    player = BoshPlayer(world, content=wanted)
    connection = player.asks(f"to='example.org' content='{wanted}'")
    world.settle()
    answer = Answer(connection.received())
    assert answer.status == 200
    assert answer.headers["content-type"] == got
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_an_answer_is_a_body() -> None:
    assert terminate("bad-request") == (
        b"<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='bad-request'/>"
    )
    assert ElementTree.fromstring(terminate()).tag == f"{BOSH}body"
