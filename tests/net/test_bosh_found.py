"""BOSH: what a reading of it has found, each as it could be seen from outside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from tests.support.http import Answer, Connection, request
from tests.support.web import BOSH, BoshPlayer, answered, body, by_hand, is_ended, web_world
from tests.support.world import World
from xmppd.core.session import Session
from xmppd.net.bosh.session import MAX_REPEATS, BoshSession

MESSAGE = "<message xmlns='jabber:client' to='juliet@example.org/balcony' type='chat'><body>{}</body></message>"
BODY = "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' to='example.org'>{}</body>"


def session_of(world: World) -> Session:
    (session,) = world.server.sessions
    return session


def transport(world: World) -> BoshSession:
    (stream,) = (stream for stream in world.service._streams if stream.kind == "bosh")
    assert isinstance(stream.transport, BoshSession)
    return stream.transport


def sends(world: World, text: str = "w") -> None:
    """The server has something for the one client."""
    session_of(world).carrier.send(f"<message id='{text}'/>".encode())


# ---- order, repetitions, and what is lost


def test_a_request_that_was_repeated_waits_as_long_as_any() -> None:
    world = web_world()
    player = by_hand(world, wait=10)
    rid = player.rid
    first, second = player.asks("", "", rid), player.asks("", "", rid)
    assert answered(first).get("type") == "error" and body(second) is None
    world.advance(11)
    assert answered(second).get("type") is None
    world.advance(61)
    assert is_ended(world)


def test_an_answer_is_repeated_so_often() -> None:
    world = web_world()
    player = by_hand(world)
    rid = player.rid
    player.asks("", "", rid)
    sends(world)
    world.settle()
    for _ in range(MAX_REPEATS):
        assert answered(player.asks("", "", rid))[0].get("id") == "w"
    assert answered(player.asks("", "", rid)).get("type") == "terminate"
    assert is_ended(world)


def test_the_answer_to_a_pause_takes_no_place_among_those_that_are_kept() -> None:
    world = web_world()
    player = by_hand(world)
    rid = player.rid
    player.asks("", "", rid)
    sends(world)
    player.asks("", "", rid + 1)
    player.asks("pause='60'", "", rid + 2)
    assert answered(player.asks("", "", rid))[0].get("id") == "w"


def test_what_comes_with_a_pause_is_handled() -> None:
    world = web_world()
    player = by_hand(world)
    juliet = world.online("juliet@example.org/balcony")
    player.asks("pause='60'", MESSAGE.format("Anon!"))
    assert juliet.takes().findtext("{jabber:client}body") == "Anon!"
    assert answered(player.asks("pause='60' type='terminate'")).get("type") == "terminate"
    assert world.server.sessions.count == 1


def test_only_a_restart_has_no_payload() -> None:
    world = web_world()
    player = by_hand(world)
    juliet = world.online("juliet@example.org/balcony")
    player.asks("xmlns:xmpp='urn:xmpp:xbosh' xmpp:restart='false'", MESSAGE.format("Anon!"))
    assert juliet.takes().findtext("{jabber:client}body") == "Anon!"


def test_stanzas_need_no_namespace_of_their_own() -> None:
    world = web_world()
    player = by_hand(world)
    juliet = world.online("juliet@example.org/balcony")
    player.asks("", MESSAGE.format("Anon!").replace(" xmlns='jabber:client'", ""))
    assert juliet.takes().findtext("{jabber:client}body") == "Anon!"


def test_what_is_asked_while_an_answer_is_written_is_not_told_too_early() -> None:
    """The next request of a connection may stand behind the one that is answered."""
    world = web_world()
    player = by_hand(world)
    told: list[bool] = []
    sid = player.sid

    def asking(rid: int, inner: str = "") -> bytes:
        body = f"<body xmlns='http://jabber.org/protocol/httpbind' rid='{rid}' sid='{sid}'>{inner}</body>"
        return request("POST", "/http-bind", body)

    connection = Connection(world, player.peer, player.site, secure=True)
    connection.sends(asking(player.rid) + asking(player.rid + 1))
    sends(world, "first")
    session_of(world).carrier.when_sent(told.append)
    assert told == []
    world.settle()
    assert told == [True] and b"first" in connection.received()
    sends(world, "second")
    session_of(world).carrier.when_sent(told.append)
    world.settle()
    assert told == [True, True] and b"second" in connection.received()


def test_a_burst_beyond_the_limit_reaches_a_client_that_has_asked() -> None:
    world = web_world("c2s_max_unsent = 64k\n")
    player = by_hand(world)
    waiting = player.asks()
    for number in range(8):
        sends(world, f"{number}{'x' * 100_000}")
    assert len(answered(waiting)) == 6
    assert len(answered(player.asks())) == 2


def test_features_and_errors_are_announced_by_the_body() -> None:
    world = web_world()
    for inner in ("", "<iq/>"):
        connection = BoshPlayer(world).posts(BODY.format(inner))
        world.settle()
        raw = Answer(connection.received()).body
        assert b" xmlns:stream='http://etherx.jabber.org/streams'" in raw[: raw.index(b">")]


# ---- keys


@pytest.mark.parametrize("shown", [str.upper, str.lower])
def test_keys_are_the_same_in_upper_case(shown: Callable[[str], str]) -> None:
    world = web_world()
    made = ["seed"]
    for _ in range(3):
        made.append(shown(hashlib.sha1(made[-1].encode()).hexdigest()))
    player = BoshPlayer(world, newkey=made[3])
    player.polls = False
    player.opens()
    player._read()
    for key in (made[2], made[1]):
        assert answered(player.asks(f"key='{key}' pause='1'")).get("type") is None


def test_a_key_that_is_none_is_refused_and_no_bug() -> None:
    world = web_world()
    player = BoshPlayer(world, newkey="\xe9")
    player.polls = False
    player.opens()
    player._read()
    assert answered(player.asks("key='\xe9'")).get("condition") == "item-not-found"


# ---- the end


def test_a_request_that_came_too_early_does_not_hold_up_the_end_of_the_server() -> None:
    world = web_world()
    player = by_hand(world)
    early = player.asks("", "", player.rid + 1)
    world.server.shut_down()
    world.service.shut_down()
    world.settle()
    assert answered(early).get("type") == "terminate"
    assert not world.server.tasks.busy and is_ended(world)


def test_a_request_whose_connection_has_gone_before_its_turn_is_forgotten() -> None:
    world = web_world()
    player = by_hand(world)
    player.asks("", MESSAGE.format("x" * 1000), player.rid + 1).breaks()
    assert not transport(world)._early and not world.server.tasks.busy
    juliet = world.online("juliet@example.org/balcony")
    player.asks()
    player.asks("", MESSAGE.format("again"))
    assert juliet.takes().findtext("{jabber:client}body") == "again"


def test_who_has_not_logged_in_does_not_outlive_the_time_for_that() -> None:
    world = web_world("max_unauthenticated_per_address = 1\n")
    player = BoshPlayer(world)
    player.polls = False
    player.opens()
    player._read()
    player.asks("pause='120'")
    world.advance(31)
    assert is_ended(world)


def test_the_end_does_not_wait_for_a_connection_that_hears_of_nothing() -> None:
    world = web_world()
    player = by_hand(world)
    player.asks()
    ended: list[None] = []
    transport(world).abort = lambda reason: None  # type: ignore[method-assign]
    Deferred.fromCoroutine(world.service.all_closed(2.0)).addCallback(ended.append)
    world.advance(2)
    world.advance(1)
    assert ended == [None]


# ---- what it costs


def test_before_the_login_no_large_body_is_parsed_or_kept() -> None:
    world = web_world()
    answer = answered(BoshPlayer(world).posts(BODY.format("<a/>" * 50_000)))
    assert (answer.get("type"), answer.get("condition")) == ("terminate", "policy-violation")
    player = BoshPlayer(world)
    player.polls = False
    player.opens()
    player._read()
    early = player.asks("", "x" * 50_000, player.rid + 1)
    assert answered(early).get("condition") == "policy-violation"
    assert is_ended(world)


def test_after_the_login_a_body_is_not_larger_than_a_stanza_may_be() -> None:
    world = web_world("stanza_size_limit = 20k\n")
    player = by_hand(world)
    assert answered(player.asks("", MESSAGE.format("x" * 22_000))).get("condition") == "policy-violation"
    assert is_ended(world)


def test_who_is_too_fast_is_not_heard_because_something_waits_for_it() -> None:
    world = web_world("c2s_rate = 1000\nc2s_burst = 10\n")
    player = by_hand(world)
    sent = 0
    for _ in range(20):
        sends(world)
        if body(player.asks("", MESSAGE.format("x" * 9000))) is None:
            break
        sent += 9000
    assert sent < 30_000


def test_who_is_too_fast_is_not_gone() -> None:
    world = web_world("c2s_rate = 1000\nc2s_burst = 10\nbosh_max_inactivity = 5\n")
    player = by_hand(world)
    for _ in range(2):
        player.asks("", f"<iq xmlns='jabber:client' type='result' id='1'><x xmlns='x'>{'x' * 15_000}</x></iq>")
        sends(world)
        world.settle()
    world.advance(8)
    assert world.server.sessions.count == 1
    world.advance(30)
    assert player.condition is None


def test_a_connection_keeps_nothing_of_a_request_that_was_answered() -> None:
    world = web_world()
    connection = Connection(world, secure=True)
    connection.sends(request("POST", "/http-bind", BODY.format("x" * 9000).replace("rid", "sid='x' rid")))
    assert Answer(connection.received()).status == 200
    assert connection.channel.asked is not None and connection.channel.asked[1].body == b""


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain"])
def test_the_type_of_a_request_is_of_no_interest(kind: str) -> None:
    world = web_world()
    failures: list[LogEvent] = []
    globalLogPublisher.addObserver(failures.append)
    try:
        connection = Connection(world, secure=True)
        connection.sends(request("POST", "/http-bind", BODY.format(""), Content_Type=kind))
        assert f"{BOSH}body" and b"<stream:features" in connection.received()
    finally:
        globalLogPublisher.removeObserver(failures.append)
    assert not [event for event in failures if event.get("log_failure")]
