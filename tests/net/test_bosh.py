"""BOSH (XEP-0124, XEP-0206): sessions, the order of requests, answers that got lost, keys, and every end."""

from __future__ import annotations

import hashlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.net.support import plain
from tests.support.http import Answer
from tests.support.web import BoshPlayer, answered, body, bosh_romeo, by_hand, is_ended, web_world

STREAMS = "{http://etherx.jabber.org/streams}"
XBOSH = "{urn:xmpp:xbosh}"
PING = "<iq xmlns='jabber:client' type='get' id='{}'><ping xmlns='urn:xmpp:ping'/></iq>"


# ---- a session


def test_a_session_begins_with_what_the_client_may_do_and_the_features() -> None:
    world = web_world("bosh_max_wait = 50\nbosh_max_pause = 90\nbosh_max_inactivity = 40\n")
    player = BoshPlayer(world, ack="1")
    player.opens()
    header = player.receives_header().attributes
    assert header.pop("sid")
    assert header == {
        "wait": "50", "hold": "1", "requests": "2", "inactivity": "40", "maxpause": "90", "ver": "1.6",
        "ack": "1573741820", "from": "example.org", f"{XBOSH}version": "1.0", f"{XBOSH}restartlogic": "true",
    }  # fmt: skip
    features = player.takes()
    assert features.tag == f"{STREAMS}features"
    names = [child.tag for child in features]
    assert "{urn:ietf:params:xml:ns:xmpp-tls}starttls" not in names
    assert "{urn:ietf:params:xml:ns:xmpp-sasl}mechanisms" in names and "{urn:xmpp:sasl:2}authentication" in names
    assert "{urn:xmpp:sasl-cb:0}sasl-channel-binding" not in names


@pytest.mark.parametrize(("asked", "got"), [
    ({"wait": "10", "hold": "3"}, {"wait": "10", "hold": "1"}),
    ({"wait": "0", "hold": "0"}, {"wait": "0", "hold": "0"}),
    ({"wait": "99999", "hold": "1"}, {"wait": "120", "hold": "1"}),
    ({"wait": "-1", "hold": "x"}, {"wait": "120", "hold": "0"}),
    ({"ver": "1.12"}, {"ver": "1.11"}), ({"ver": "1.10"}, {"ver": "1.10"}), ({"ver": "x"}, {"ver": None}),
])  # fmt: skip
def test_the_client_may_ask_for_less(asked: dict[str, str], got: dict[str, str | None]) -> None:
    player = BoshPlayer(web_world(), **asked)  # type: ignore[arg-type]
    player.polls = False
    player.opens()
    header = player.receives_header().attributes
    assert {name: header.get(name) for name in got} == got


def test_a_body_may_have_several_stanzas() -> None:
    player = by_hand(web_world())
    player.asks("", PING.format(1) + PING.format(2))
    player._read()
    assert [answer.get("id") for answer in player.all_that_came()] == ["1", "2"]


# ---- requests that wait


def test_a_request_waits_for_something_to_answer() -> None:
    world = web_world()
    player = by_hand(world, wait=30)
    tcp = world.online("juliet@example.org/balcony")
    waiting = player.asks()
    assert body(waiting) is None
    world.advance(29)
    assert body(waiting) is None
    tcp.sends(f"<message to='{player.full}' id='1'><body>Hi</body></message>")
    assert answered(waiting)[0].findtext("{jabber:client}body") == "Hi"


def test_a_request_waits_so_long_and_is_answered_with_nothing() -> None:
    world = web_world()
    player = by_hand(world, wait=30)
    waiting = player.asks()
    world.advance(31)
    answer = answered(waiting)
    assert len(answer) == 0 and answer.get("type") is None


def test_one_request_waits_at_a_time() -> None:
    player = by_hand(web_world())
    first = player.asks()
    second = player.asks()
    assert answered(first).get("type") is None and body(second) is None


def test_who_polls_waits_for_nothing() -> None:
    world = web_world()
    world.account("romeo@example.org")
    player = BoshPlayer(world, hold=0, wait=0)
    player.opens()
    player.receives_header()
    player.takes()
    first = player.asks("", plain())
    assert len(answered(first)) <= 1
    assert not player.condition


# ---- their order


def test_requests_are_handled_in_the_order_of_their_rid() -> None:
    world = web_world()
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    rid = player.rid
    message = f"<message xmlns='jabber:client' to='{tcp.full}' type='chat'><body>{{}}</body></message>"
    second = player.asks("", message.format(2), rid + 1)
    assert body(second) is None
    tcp.receives_nothing()
    first = player.asks("", message.format(1), rid)
    assert [tcp.takes().findtext("{jabber:client}body") for _ in range(2)] == ["1", "2"]
    assert answered(first).get("type") is None and body(second) is None


def test_a_request_far_ahead_ends_the_session() -> None:
    world = web_world()
    player = by_hand(world)
    waiting = player.asks()
    wrong = player.asks("", "", player.rid + 2)
    for connection in (waiting, wrong):
        answer = answered(connection)
        assert (answer.get("type"), answer.get("condition")) == ("terminate", "item-not-found")
    assert is_ended(world)
    after = answered(player.asks())
    assert (after.get("type"), after.get("condition")) == ("terminate", "item-not-found")


def test_what_comes_too_early_does_not_wait_for_ever() -> None:
    world = web_world()
    player = by_hand(world)
    early = player.asks("", "", player.rid + 1)
    world.advance(61)
    assert answered(early).get("type") == "terminate"
    assert is_ended(world)


def test_a_request_that_is_repeated_gets_its_answer_again_and_is_handled_once() -> None:
    world = web_world()
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    rid = player.rid
    message = f"<message xmlns='jabber:client' to='{tcp.full}' type='chat'><body>once</body></message>"
    first = player.asks("", message + PING.format("1"), rid)
    answer = answered(first)
    assert answer[0].get("id") == "1"
    for _ in range(3):
        again = answered(player.asks("", message + PING.format("1"), rid))
        assert ElementTree.tostring(again) == ElementTree.tostring(answer)
    assert tcp.takes().findtext("{jabber:client}body") == "once"
    tcp.receives_nothing()


def test_a_request_that_is_repeated_while_it_waits_takes_the_place_of_the_first() -> None:
    world = web_world()
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    rid = player.rid
    first, second = player.asks("", "", rid), player.asks("", "", rid)
    assert answered(first).get("type") == "error" and body(second) is None
    tcp.sends(f"<message to='{player.full}' id='1'><body>Hi</body></message>")
    assert answered(second)[0].findtext("{jabber:client}body") == "Hi"


def test_a_request_that_is_repeated_before_its_turn_takes_the_place_of_the_first() -> None:
    player = by_hand(web_world())
    rid = player.rid
    first, second = player.asks("", PING.format(1), rid + 1), player.asks("", PING.format(1), rid + 1)
    assert answered(first).get("type") == "error"
    assert answered(player.asks("", "", rid))[0].get("id") == "1"
    assert body(second) is None


def test_answers_of_long_ago_are_not_kept() -> None:
    world = web_world()
    player = by_hand(world)
    rid = player.rid
    for number in range(3):
        assert answered(player.asks("", PING.format(number)))[0].get("id") == str(number)
    answer = answered(player.asks("", PING.format(0), rid))
    assert (answer.get("type"), answer.get("condition")) == ("terminate", "item-not-found")
    assert is_ended(world)


def test_nothing_is_lost_with_the_connection_of_a_request_that_waits() -> None:
    world = web_world()
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    rid = player.rid
    player.asks("", "", rid).breaks()
    tcp.sends(f"<message to='{player.full}' id='1'><body>Hi</body></message>")
    assert len(answered(player.asks("", "", rid))) == 0  # it is repeated
    assert answered(player.asks("", "", rid + 1))[0].findtext("{jabber:client}body") == "Hi"


def test_acknowledgements_say_what_has_come() -> None:
    player = by_hand(web_world(), ack="1")
    rid = player.rid
    first = player.asks("", "", rid)
    player.asks("", "", rid + 1)
    assert answered(first).get("ack") == str(rid + 1)


# ---- keys (section 15)


def keys(number: int) -> list[str]:
    made = ["seed"]
    for _ in range(number):
        made.append(hashlib.sha1(made[-1].encode()).hexdigest())
    return made[1:]


def test_who_has_keys_shows_the_next_one_each_time() -> None:
    world = web_world()
    chain, other = keys(4), keys(6)
    player = BoshPlayer(world, newkey=chain[3])
    player.polls = False
    player.opens()
    player._read()
    assert answered(player.asks(f"key='{chain[2]}' pause='1'")).get("type") is None
    assert answered(player.asks(f"key='{chain[1]}' newkey='{other[5]}' pause='1'")).get("type") is None
    assert answered(player.asks(f"key='{other[4]}' pause='1'")).get("type") is None
    wrong = answered(player.asks(f"key='{other[2]}' pause='1'"))
    assert (wrong.get("type"), wrong.get("condition")) == ("terminate", "item-not-found")
    assert is_ended(world)


@pytest.mark.parametrize("attributes", ["", "key=''", "key='{}'"])
def test_without_the_key_nothing_is_obeyed(attributes: str) -> None:
    world = web_world()
    chain = keys(3)
    player = BoshPlayer(world, newkey=chain[2])
    player.polls = False
    player.opens()
    player._read()
    assert answered(player.asks(attributes.format(chain[2]), plain())).get("condition") == "item-not-found"
    assert is_ended(world)


@pytest.mark.parametrize("shown", ["{}", "x", ""])
def test_an_answer_is_repeated_for_whoever_has_its_key(shown: str) -> None:
    world = web_world()
    chain = keys(3)
    player = BoshPlayer(world, newkey=chain[2], wait="5")
    player.polls = False
    player.opens()
    player._read()
    rid = player.rid
    first = player.asks(f"key='{chain[1]}'", "", rid)
    world.advance(6)
    answer = answered(first)
    again = answered(player.asks(f"key='{shown.format(chain[1])}'", "", rid))
    assert (ElementTree.tostring(answer) == ElementTree.tostring(again)) is (shown == "{}")
    assert again.get("condition") == (None if shown == "{}" else "item-not-found")


# ---- silence


def test_a_client_that_asks_for_nothing_is_gone_after_a_while() -> None:
    world = web_world()
    player = by_hand(world, wait=10)
    player.asks()
    world.advance(11)
    world.advance(59)
    assert world.server.sessions.count == 1
    world.advance(2)
    assert is_ended(world)
    assert answered(player.asks()).get("condition") == "item-not-found"


@pytest.mark.parametrize(("pause", "lasts"), [("100", 100), ("5", 5), ("99999", 120), ("x", 1), ("0", 1), ("-1", 1)])
def test_a_client_may_say_that_it_pauses(pause: str, lasts: int) -> None:
    world = web_world()
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    waiting = player.asks()
    pausing = player.asks(f"pause='{pause}'")
    for connection in (waiting, pausing):
        assert len(answered(connection)) == 0
    tcp.sends(f"<message to='{player.full}' id='1'><body>Hi</body></message>")
    world.advance(lasts - 0.5)
    if lasts > 1:
        assert answered(player.asks())[0].findtext("{jabber:client}body") == "Hi"
        world.advance(59)
        assert world.server.sessions.count == 2
        world.advance(2)
    else:
        world.advance(1)
    assert world.server.sessions.count == 1


# ---- the end


def test_terminate_ends_the_session_with_what_comes_with_it() -> None:
    world = web_world()
    player = by_hand(world)
    tcp = world.online("juliet@example.org/balcony")
    waiting = player.asks()
    message = f"<message xmlns='jabber:client' to='{tcp.full}' type='chat'><body>Adieu</body></message>"
    last = player.asks("type='terminate'", message)
    assert tcp.takes().findtext("{jabber:client}body") == "Adieu"
    answer = answered(waiting)
    assert (answer.get("type"), answer.get("condition")) == ("terminate", None)
    assert answered(last).get("type") is None
    assert world.server.sessions.count == 1 and world.service.counts() == {"c2s": {"bound": 1}}


def test_a_stream_error_ends_the_session() -> None:
    world = web_world()
    player = bosh_romeo(world)
    player.sends("<other xmlns='jabber:client'/>")
    player.receives_stream_error("unsupported-stanza-type")
    assert player.condition == "remote-stream-error"
    assert is_ended(world)


def test_who_has_no_request_open_learns_of_the_end_with_the_next() -> None:
    world = web_world()
    player = by_hand(world)
    world.service.shut_down()
    world.settle()
    answer = answered(player.asks())
    assert (answer.get("type"), answer.get("condition")) == ("terminate", "remote-stream-error")
    assert answer[0].tag == f"{STREAMS}error"
    assert is_ended(world)


def test_none_begins_while_the_server_starts_or_stops() -> None:
    world = web_world()
    world.server.ready = False
    player = BoshPlayer(world)
    player.opens()
    assert player.answers == []
    player.receives_end()
    assert player.condition == "system-shutdown"


# ---- what is not right


@pytest.mark.parametrize(("attributes", "condition"), [
    ("to='example.net'", "host-unknown"), ("to=''", "improper-addressing"), ("", "improper-addressing"),
    ("to='@'", "host-unknown"), ("to='example.org' sid='x'", "item-not-found"), ("sid=''", "item-not-found"),
])  # fmt: skip
def test_who_asks_for_what_is_not_there_is_told(attributes: str, condition: str) -> None:
    world = web_world()
    player = BoshPlayer(world)
    answer = answered(player.asks(attributes))
    assert (answer.get("type"), answer.get("condition")) == ("terminate", condition)
    assert is_ended(world)


@pytest.mark.parametrize("data", [
    b"", b"x", b"<body", b"<body/>", b"<body xmlns='http://jabber.org/protocol/httpbind' to='example.org'/>",
    b"<body xmlns='urn:other' rid='1' to='example.org'/>", b"\xff\xfe<\0b\0", b"{}",
    b"<!DOCTYPE x><body xmlns='http://jabber.org/protocol/httpbind' rid='1' to='example.org'/>",
    *(f"<body xmlns='http://jabber.org/protocol/httpbind' to='example.org' rid='{rid}'/>".encode()
      for rid in ("0", "-1", "x", "9007199254740992", "1e3", "١", "1" * 100, "")),
])  # fmt: skip
def test_what_is_no_body_is_refused(data: bytes) -> None:
    world = web_world()
    answer = answered(BoshPlayer(world).posts(data))
    assert (answer.get("type"), answer.get("condition")) == ("terminate", "bad-request")
    assert is_ended(world)


@pytest.mark.parametrize(("inner", "condition"), [
    ("<presence xmlns='jabber:client'>", "not-well-formed"), ("text", "bad-format"),
    ("<!-- x -->", "restricted-xml"), ("<?x y?>", "restricted-xml"), ("&x;", "restricted-xml"),
    ("<presence xmlns='jabber:server'/>", "invalid-namespace"),
])  # fmt: skip
def test_what_is_wrong_within_a_body_ends_the_stream(inner: str, condition: str) -> None:
    world = web_world()
    player = bosh_romeo(world)
    player.asks("", inner)
    player.receives_stream_error(condition)
    assert is_ended(world)


def test_a_body_that_does_not_end_is_an_error() -> None:
    world = web_world()
    player = bosh_romeo(world)
    player.posts(f"<body xmlns='http://jabber.org/protocol/httpbind' rid='{player.rid}' sid='{player.sid}'>")
    player.receives_stream_error("not-well-formed")


def test_nothing_comes_before_the_restart() -> None:
    world = web_world()
    world.account("romeo@example.org")
    player = BoshPlayer(world)
    player.opens()
    player.forget()
    player.sends(plain())
    player.forget()
    player.sends("<presence/>")
    player.receives_stream_error("bad-format")


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    world = web_world()
    for sent in (data, b"<body xmlns='http://jabber.org/protocol/httpbind' to='example.org' rid='1'>" + data):
        connection = BoshPlayer(world).posts(sent)
        world.settle()
        assert Answer(connection.received()).status == 200
