"""Streams over WebSockets and BOSH are those over TCP: SASL2 with all that comes with it, resumption, limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.net.support import BINDINGS, failure
from tests.net.support import plain as plain_sasl
from tests.support.sasl2 import (
    BIND,
    BIND2,
    FAST,
    IDS,
    REQUEST_TOKEN,
    SASL2,
    SM,
    SM_ENABLE,
    agent,
    by_token,
    plain,
)  # fmt: skip
from tests.support.web import BoshPlayer, WebSocketPlayer, web_world
from tests.support.world import Player, World

MakePlayer = Callable[[World], Player]
STREAMS = "{http://etherx.jabber.org/streams}"
RESUME = "<resume xmlns='urn:xmpp:sm:3' previd='{}' h='0'/>"


def bosh(world: World) -> Player:
    return BoshPlayer(world)


def over_websocket(world: World) -> Player:
    return WebSocketPlayer(world, bindings=BINDINGS)


@pytest.fixture(params=[over_websocket, bosh])
def make(request: pytest.FixtureRequest) -> MakePlayer:
    kind: MakePlayer = request.param
    return kind


def opened(world: World, make: MakePlayer) -> Player:
    world.account("romeo@example.org")
    player = make(world)
    player.opens()
    player.receives_header()
    assert player.takes().tag == f"{STREAMS}features"
    return player


def online(world: World, make: MakePlayer, resource: str = "web") -> Player:
    world.account("romeo@example.org")
    player = make(world)
    player.authenticate("romeo", "example.org", "secret")
    player.bind(resource)
    return player


def test_sessions_talk_to_each_other_whatever_carries_them(make: MakePlayer) -> None:
    world = web_world()
    web, tcp = online(world, make), world.online("juliet@example.org/balcony")
    web.sends(f"<message to='{tcp.full}' type='chat' id='1'><body>By yonder blessed moon</body></message>")
    assert tcp.takes().findtext("{jabber:client}body") == "By yonder blessed moon"
    tcp.sends(f"<message to='{web.full}' type='chat' id='2'><body>O, swear not by the moon</body></message>")
    got = web.takes()
    assert (got.tag, got.findtext("{jabber:client}body")) == ("{jabber:client}message", "O, swear not by the moon")


def test_a_session_is_resumed_with_what_it_was_sent(make: MakePlayer) -> None:
    world = web_world()
    web, tcp = online(world, make), world.online("juliet@example.org/balcony")
    web.sends(SM_ENABLE)
    id = web.takes().get("id")
    web.disconnects()
    world.advance(61)
    tcp.sends(f"<message to='{web.full}' type='chat' id='1'><body>Art thou gone so?</body></message>")
    again = make(world)
    again.authenticate("romeo", "example.org", "secret")
    again.sends(RESUME.format(id))
    assert again.takes().tag == f"{SM}resumed"
    assert again.takes().findtext("{jabber:client}body") == "Art thou gone so?"


def test_a_client_has_so_long_to_log_in(make: MakePlayer) -> None:
    world = web_world()
    player = opened(world, make)
    world.advance(31)
    player.receives_stream_error("connection-timeout")


def test_the_stream_cannot_be_begun_anew_to_try_more_passwords(make: MakePlayer) -> None:
    player = opened(web_world(), make)
    player.sends(plain_sasl(password="wrong"))
    player.receives(failure("not-authorized"))
    player.opens()
    player.receives_stream_error("bad-format")


def test_all_in_one_request_and_a_token_that_resumes(make: MakePlayer) -> None:
    world = web_world()
    juliet = world.online("juliet@example.org/balcony")
    player = opened(world, make)
    player.sends(plain(agent(IDS[0]), BIND.format(SM_ENABLE), REQUEST_TOKEN.format("HT-SHA-256-NONE")))
    success = player.takes()
    assert success.tag == f"{SASL2}success"
    player.full = success.findtext(f"{SASL2}authorization-identifier") or ""
    token = success.find(f"{FAST}token")
    enabled = success.find(f"{BIND2}bound/{SM}enabled")
    assert token is not None and enabled is not None
    assert player.takes().tag == f"{STREAMS}features"
    player.sends("<presence/>")
    player.disconnects()
    world.advance(61)
    juliet.sends(f"<message to='{player.full}' type='chat' id='1'><body>Art thou gone so?</body></message>")

    again = opened(world, make)
    again.sends(by_token(token.get("token") or "", agent(IDS[0]), RESUME.format(enabled.get("id"))))
    success = again.takes()
    assert success.find(f"{SM}resumed") is not None
    assert success.findtext(f"{SASL2}authorization-identifier") == player.full
    said = [element.findtext("{jabber:client}body") for element in again.all_that_came()]
    assert "Art thou gone so?" in said


def test_a_login_may_be_tried_so_often(make: MakePlayer) -> None:
    world = web_world("limit_auth_max = 100\n")
    player = opened(world, make)
    for _ in range(5):
        player.sends(plain_sasl(password="wrong"))
        player.receives(failure("not-authorized"))
    player.receives_stream_error("policy-violation")


def test_answers_to_an_address_become_slow(make: MakePlayer) -> None:
    world = web_world("limit_auth_max = 1\n")
    player = opened(world, make)
    player.sends(plain_sasl(password="wrong"))
    player.receives(failure("not-authorized"))
    player.sends(plain_sasl(password="wrong"))
    player.receives_nothing()
    world.advance(1)
    player.receives(failure("not-authorized"))


def test_a_new_password_ends_the_session(make: MakePlayer) -> None:
    world = web_world()
    player = opened(world, make)
    player.sends(plain(agent(IDS[0]), BIND.format("")))
    player.forget()
    session = next(iter(world.server.sessions))
    session.close("not-authorized", "the password was changed")
    world.settle()
    player.receives_stream_error("not-authorized")


def test_they_are_counted_by_kind(make: MakePlayer) -> None:
    world = web_world()
    player = opened(world, make)
    kind = "bosh" if isinstance(player, BoshPlayer) else "websocket"
    assert world.service.counts() == {kind: {"open": 1}}
    player.sends(plain(agent(IDS[0]), BIND.format("")))
    player.forget()
    assert world.service.counts() == {kind: {"bound": 1}}
