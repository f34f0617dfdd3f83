"""Sessions of the last process: they are there when their account is, and all of them in the course of time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import fail

from tests.modules.test_smacks import HELLO, SM, back, managed
from tests.modules.test_smacks_disk import BALCONY, JULIET, ORCHARD, resumes, told
from tests.support.disk import broken, crash
from tests.support.world import World


def slept(config: str = "") -> tuple[World, str]:
    """A new process on the disk of one in which romeo and juliet, friends, were connected; the id of her session."""
    world = World(config)
    romeo, _ = managed(world, ORCHARD)
    juliet, id = managed(world, BALCONY)
    world.befriend(romeo, juliet)
    romeo.sends(HELLO.format("one"))
    world.advance(2)
    return crash(world), id


def test_nobody_is_loaded_at_the_start_and_everybody_a_while_later() -> None:
    world, _ = slept()
    assert world.server.sessions.count == 0 and JULIET in world.server.sessions.dormant
    world.advance(1)
    world.settle()
    assert world.server.sessions.count == 2 and not world.server.sessions.dormant


def test_who_comes_back_before_that_finds_the_session() -> None:
    world, id = slept()
    assert told(resumes(world, "juliet", id, 0)) == ["resumed 0", "one", "presence"]  # of romeo, who waits as well
    world.advance(1)
    world.settle()
    assert len(world.server.sessions.of(JULIET)) == 1


def test_a_message_waits_for_a_session_that_was_not_there_yet() -> None:
    world, id = slept()
    world.account("tybalt@example.org")
    tybalt = world.login("tybalt@example.org/street")
    tybalt.sends(HELLO.format("two"))
    assert told(resumes(world, "juliet", id, 0)) == ["resumed 0", "one", "two", "presence"]


@pytest.mark.parametrize("after", [0, 2])
def test_a_contact_who_logs_in_sees_who_waits(after: int) -> None:
    world, _ = slept()
    if after:
        world.advance(after)
    romeo = world.login(f"{ORCHARD}2")
    romeo.sends("<presence/>")
    seen = [presence.get("from") for presence in romeo.all_that_came() if presence.get("type") is None]
    assert BALCONY in seen


def test_presence_reaches_who_waits() -> None:
    world, id = slept()
    romeo = world.login(f"{ORCHARD}2")
    romeo.sends("<presence/>")
    came = told(resumes(world, "juliet", id, 1))
    assert "presence" in came


def test_a_disabled_account_is_left_alone() -> None:
    world, _ = slept()
    account = world.result(world.store.accounts.find("example.org", "juliet"))
    world.result(world.store.accounts.set_enabled(account.id, False))
    world.advance(1)
    world.settle()
    assert not world.server.sessions.of(JULIET) and not world.server.sessions.dormant
    assert world.result(world.store.sm.sessions(account.id))


def test_a_store_that_fails_is_asked_again() -> None:
    world, _ = slept()
    with broken(world):
        world.advance(1)
        world.settle()
        assert not world.server.sessions.of(JULIET)
    world.advance(5)
    world.settle()
    assert world.server.sessions.of(JULIET) and not world.server.sessions.dormant


def test_an_account_that_cannot_be_loaded_is_no_reason_to_do_without_the_others() -> None:
    world, _ = slept()
    find = world.store.accounts.find_with_data

    def fails(host: str, local: str, kinds: Any) -> Any:
        return fail(RuntimeError("this is a test")) if local == "juliet" else find(host, local, kinds)

    world.store.accounts.find_with_data = fails  # type: ignore[method-assign]
    world.advance(1)
    world.settle()
    assert [session.jid.local for session in world.server.sessions] == ["romeo"]


def test_a_client_is_told_to_come_again_where_its_session_cannot_be_found_now() -> None:
    world, id = slept()
    player = back(world)
    with broken(world):
        player.sends(f"<resume {SM} previd='{id}' h='0'/>")
    player.receives_stream_error("resource-constraint")
    assert "resumed 0" in told(resumes(world, "juliet", id, 0))


def test_who_blocks_is_not_seen_though_the_account_is_not_there_yet() -> None:
    world = World()
    romeo, _ = managed(world, ORCHARD)
    juliet, _ = managed(world, BALCONY)
    world.befriend(romeo, juliet)
    juliet.sends(f"<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{romeo.bare}'/></block></iq>")
    world.advance(2)
    world = crash(world)
    romeo = world.login(f"{ORCHARD}2")
    romeo.sends("<presence/>")
    said = [presence.get("type") for presence in romeo.all_that_came() if presence.get("from") == JULIET]
    assert said == ["unavailable"]
