"""FAST (XEP-0484): tokens, what they are bound to, and how they end."""

from __future__ import annotations

import json

import pytest

from tests.support.disk import crash
from tests.support.sasl2 import (
    BIND,
    FAST,
    IDS,
    REQUEST_TOKEN,
    Arrived,
    agent,
    arrives,
    asks,
    authenticate,
    by_token,
    initiator,
    opens,
    plain,
)
from tests.support.world import World
from xmppd.modules import sasl2_fast

NONE = "HT-SHA-256-NONE"
BINDINGS = {"tls-exporter": b"exported" * 4, "tls-server-end-point": b"end point"}
DAY = 86400.0
LIST = "<iq type='get' id='1'><list xmlns='urn:xmpp:cam:0'/></iq>"


def request(mechanism: str = NONE) -> str:
    return REQUEST_TOKEN.format(mechanism)


def given(world: World, mechanism: str = NONE, id: str = IDS[0], user: str = "romeo") -> str:
    """A token of a client that logs in by its password."""
    world.account(f"{user}@example.org", "secret")
    return arrives(world, plain(agent(id), request(mechanism), user=user)).token


def kept(world: World, user: str = "romeo") -> list[dict[str, object]]:
    account = world.run(world.host.accounts.load(user))
    return [json.loads(value) for value in world.result(world.store.data.all(account.id, sasl2_fast.KIND)).values()]


def has_token(arrived: Arrived) -> bool:
    assert arrived.jid
    return arrived.find(f"{FAST}token") is not None


# ---- getting in


@pytest.mark.parametrize("hash_name", ["SHA-256", "SHA-512"])
@pytest.mark.parametrize("binding", ["NONE", "EXPR", "ENDP"])
def test_a_token_lets_its_client_in_and_the_server_shows_that_it_knows_it(hash_name: str, binding: str) -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    mechanism = f"HT-{hash_name}-{binding}"
    data = {"NONE": b"", "EXPR": BINDINGS["tls-exporter"], "ENDP": BINDINGS["tls-server-end-point"]}[binding]
    first = asks(opens(world, bindings=BINDINGS), plain(agent(), request(mechanism)))
    token = first.token
    player = opens(world, bindings=BINDINGS)
    arrived = asks(player, by_token(token, agent(), BIND.format(""), mechanism=mechanism, binding=data))
    assert arrived.jid.count("/") == 1
    assert not has_token(arrived)
    wrong = by_token(token, agent(), mechanism=mechanism, binding=data + b"x")
    assert asks(opens(world, bindings=BINDINGS), wrong).failure == "not-authorized"


def test_a_token_says_when_it_expires_and_lets_nobody_in_then() -> None:
    world = World("sasl2_fast_token_ttl = 2h")
    arrived = arrives(world, plain(agent(), request()))
    element = arrived.find(f"{FAST}token")
    assert element is not None and element.get("expiry") == "2023-11-15T00:13:20.000Z"
    world.advance(7199)
    assert arrives(world, by_token(arrived.token, agent())).jid
    world.advance(2)
    again = arrives(world, by_token(arrived.token, agent()))
    assert again.failure == "credentials-expired"
    assert asks(again.player, plain(agent())).jid


def test_no_token_is_in_the_store_in_the_log_or_said_twice() -> None:
    world = World()
    token = given(world)
    text = json.dumps(kept(world))
    assert token not in text and token[:12] not in text
    other = World(before=world)
    other.server.token_key = b"another key"
    assert arrives(other, by_token(token, agent())).failure == "not-authorized"


def test_a_token_without_a_client_id_is_not_given_and_that_is_said_once() -> None:
    world = World()
    assert not has_token(arrives(world, plain(request())))
    assert not has_token(arrives(world, plain(agent(""), request())))


def test_a_token_for_a_mechanism_that_there_is_not_is_not_given() -> None:
    assert not has_token(arrives(World(), plain(agent(), request("SCRAM-SHA-256"))))
    assert not has_token(arrives(World(), plain(agent(), "<request-token xmlns='urn:xmpp:fast:0'/>")))


# ---- what a token is bound to


@pytest.mark.parametrize(
    ("mechanism", "id", "user"),
    [
        pytest.param("HT-SHA-512-NONE", IDS[0], "romeo", id="another mechanism"),
        pytest.param(NONE, IDS[1], "romeo", id="another client"),
        pytest.param(NONE, IDS[0], "juliet", id="another account"),
        pytest.param(NONE, IDS[0], "nobody", id="nobody"),
        pytest.param(NONE, IDS[0], "a b", id="no name at all"),
    ],
)
def test_a_token_lets_in_only_what_it_is_for(mechanism: str, id: str, user: str) -> None:
    world = World()
    world.account("juliet@example.org", "secret")
    token = given(world)
    arrived = arrives(world, by_token(token, agent(id), mechanism=mechanism, user=user))
    assert arrived.failure == "not-authorized"
    assert len(arrived.answer) == 1  # the same for all
    assert arrives(world, by_token(token, agent())).jid


@pytest.mark.parametrize("shown", [b"", b"romeo", b"\0", b"romeo\0", b"\0x", b"romeo\0" + bytes(32), b"\xff\0x"])
def test_what_is_no_token_is_refused(shown: bytes) -> None:
    world = World()
    given(world)
    arrived = arrives(world, authenticate(NONE, shown, agent(), "<fast xmlns='urn:xmpp:fast:0'/>"))
    assert arrived.failure in ("not-authorized", "malformed-request")
    assert arrives(world, plain()).jid


def test_a_token_without_initial_response_or_client_id_is_refused() -> None:
    world = World()
    token = given(world)
    arrived = arrives(world, authenticate(NONE, None, agent(), "<fast xmlns='urn:xmpp:fast:0'/>"))
    assert arrived.failure == "malformed-request"
    assert arrives(world, by_token(token)).failure == "malformed-request"


def test_a_token_of_one_who_was_deleted_is_not_his_successors() -> None:
    world = World()
    token = given(world)
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.accounts.delete(account))
    assert arrives(world, by_token(token, agent())).failure == "not-authorized"


# ---- the count


def test_a_count_has_to_rise() -> None:
    world = World()
    token = given(world)
    for count, well in ((1, True), (1, False), (5, True), (3, False), (5, False), (6, True)):
        arrived = arrives(world, by_token(token, agent(), fast=f"count='{count}'"))
        assert (arrived.answer.tag.endswith("success")) is well, count
    assert arrives(world, by_token(token, agent())).jid  # it need not be sent


@pytest.mark.parametrize("count", ["-1", "x", "", "1e3", "9" * 50, " 7", "٣"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    world = World()
    token = given(world)
    assert arrives(world, by_token(token, agent(), fast=f"count='{count}'")).failure == "not-authorized"


# ---- rotation


def test_a_token_is_renewed_by_a_login_after_a_day_and_the_old_one_goes_when_the_new_one_is_used() -> None:
    world = World()
    first = given(world)
    assert not has_token(arrives(world, by_token(first, agent())))
    world.advance(DAY)
    second = arrives(world, by_token(first, agent())).token
    assert second != first
    assert arrives(world, by_token(first, agent())).jid  # the new one may have been lost on its way
    third = arrives(world, by_token(first, agent())).token
    assert arrives(world, by_token(second, agent())).failure == "not-authorized"  # never used, and replaced
    assert arrives(world, by_token(third, agent())).jid
    assert arrives(world, by_token(first, agent())).failure == "not-authorized"
    assert arrives(world, by_token(third, agent())).jid


def test_a_new_token_has_the_mechanism_of_the_old_one_or_the_one_that_is_asked_for() -> None:
    world = World()
    token = given(world, "HT-SHA-512-NONE")
    world.advance(DAY)
    renewed = arrives(world, by_token(token, agent(), mechanism="HT-SHA-512-NONE")).token
    other = arrives(world, by_token(renewed, agent(), request(), mechanism="HT-SHA-512-NONE")).token
    assert arrives(world, by_token(other, agent())).jid


def test_how_old_a_token_is_renewed_can_be_set() -> None:
    world = World("sasl2_fast_token_min_ttl = 1h")
    token = given(world)
    world.advance(3600)
    assert has_token(arrives(world, by_token(token, agent())))


# ---- the end


@pytest.mark.parametrize("value", ["true", "1"])
def test_a_client_may_invalidate_its_token(value: str) -> None:
    world = World()
    token = given(world)
    world.advance(DAY)
    assert not has_token(arrives(world, by_token(token, agent(), fast=f"invalidate='{value}'")))
    assert arrives(world, by_token(token, agent())).failure == "not-authorized"
    assert kept(world) == []


def test_who_invalidates_a_token_may_ask_for_another() -> None:
    world = World()
    token = given(world)
    fresh = arrives(world, by_token(token, agent(), request(), fast="invalidate='true'")).token
    assert arrives(world, by_token(token, agent())).failure == "not-authorized"
    assert arrives(world, by_token(fresh, agent())).jid


def test_another_password_ends_all_tokens() -> None:
    world = World()
    tokens = {id: given(world, id=id) for id in IDS[:3]}
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.accounts.set_password(account, "new"))
    world.settle()
    world.advance(1)
    for id, token in tokens.items():
        assert arrives(world, by_token(token, agent(id))).failure == "not-authorized"
    assert kept(world) == []


def test_a_token_outlives_a_crash_from_the_moment_on_at_which_it_was_told() -> None:
    world = World()
    token = given(world)
    world = crash(world)
    assert arrives(world, by_token(token, agent(), fast="count='1'")).jid
    world = crash(world)
    assert arrives(world, by_token(token, agent(), fast="count='1'")).failure == "not-authorized"
    assert arrives(world, by_token(token, agent(), fast="count='2'")).jid


def test_two_logins_with_one_count_at_once_let_one_in() -> None:
    world = World()
    token = given(world)
    one, other = opens(world), opens(world)
    one.sends_only(by_token(token, agent(), fast="count='1'"))
    other.sends_only(by_token(token, agent(), fast="count='1'"))
    world.settle()
    answers = sorted(Arrived(player).answer.tag.rpartition("}")[2] for player in (one, other))
    assert answers == ["failure", "success"]


def test_tokens_are_not_offered_where_the_module_is_disabled() -> None:
    world = World("modules_disabled = sasl2_fast")
    assert not has_token(arrives(world, plain(agent(), request())))
    shown = authenticate(NONE, initiator("x"), agent(), "<fast xmlns='urn:xmpp:fast:0'/>")
    assert arrives(world, shown).failure == "invalid-mechanism"


def test_a_client_with_a_token_is_listed_so() -> None:
    world = World()
    token = given(world)
    player = arrives(world, by_token(token, agent(), BIND.format(""))).player
    player.takes()
    player.sends(LIST)
    ways = [element.tag.rpartition("}")[2] for element in player.takes().iter() if "fast" in element.tag]
    assert ways == ["fast"]
