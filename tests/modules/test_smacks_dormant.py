"""Sessions of the last process: they are there when their account is, and all of them in the course of time."""

from __future__ import annotations

import pytest

from tests.modules.test_smacks import HELLO, managed
from tests.modules.test_smacks_disk import BALCONY, JULIET, ORCHARD, resumes, told
from tests.support.disk import crash
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
