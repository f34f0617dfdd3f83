"""Stream management when the disk fails or the process dies: at each moment at which that can happen, and at random.

``XMPPD_SEEDS`` says how many schedules of the simulation are run, ``XMPPD_SEED`` names one alone.
"""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.faulty import Died
from tests.support.simulation import Scene, drawn_from, simulate

SEEDS = 40
PART = 10  # schedules in one test


def one() -> int | None:
    """The one seed that is asked for."""
    return int(os.environ["XMPPD_SEED"]) if "XMPPD_SEED" in os.environ else None


def parts() -> list[range]:
    """The seeds, a few for each test."""
    seed, count = one(), int(os.environ.get("XMPPD_SEEDS", SEEDS))
    if seed is not None:
        return [range(seed, seed + 1)]
    return [range(first, min(first + PART, count)) for first in range(0, count, PART)]


@pytest.mark.parametrize("seeds", parts(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_nothing_is_lost_nor_comes_twice_whatever_happens(seeds: range) -> None:
    for seed in seeds:
        simulate(seed)


# ---- at each commit

Step = Callable[[], object]


def steps(scene: Scene) -> list[Step]:
    """An hour in the life of everybody."""
    a, b, b2, c, d, e = scene.a, scene.b, scene.b2, scene.c, scene.d, scene.e
    roster = "<query xmlns='jabber:iq:roster'><item jid='{}' name='{}'/></query>"
    return [
        lambda: scene.arrive(a, b, b2),
        lambda: scene.arrive(c, d),
        lambda: [a.says(c.full), a.says(b.bare), b.says(d.full), d.says(a.bare)],
        lambda: [a.requests(), b.requests()],
        lambda: [a.says(e.bare), d.says(e.bare), a.tells(), a.says(e.bare), a.requests()],
        lambda: a.asks("roster", roster.format(e.bare, "E"), "set"),
        lambda: [c.acknowledges(), c.says(a.full), c.tells(), c.requests()],
        lambda: scene.wait(2),
        c.cut,
        lambda: [a.says(c.full), a.says(c.bare), b.says(c.full), d.says(c.full), c.says(d.bare), a.requests()],
        lambda: [c.says(b.full), a.says(b2.full)],
        lambda: scene.arrive(c),
        lambda: [c.says(a.bare), a.says(c.bare), c.requests()],
        lambda: setattr(b2, "silent", True),
        lambda: [a.says(b2.full), c.says(b2.full)],
        lambda: [b2.cut(), a.cut()],
        lambda: [c.says(b2.full), c.says(a.full), b.says(a.bare), d.says(a.full), a.says(c.full)],
        lambda: scene.wait(6),
        lambda: scene.arrive(a),
        lambda: [d.says(e.bare), b.says(e.bare), b.requests()],
        lambda: wait_long(scene),
        lambda: scene.arrive(b2),
        lambda: [a.says(b2.full), b2.says(a.full), b2.requests()],
        lambda: scene.wait(6),
    ]  # fmt: skip


def wait_long(scene: Scene) -> None:
    """Everybody who is not there is not waited for any more."""
    for message in scene.ledger.messages.values():
        message.moved = True
    for _ in range(7):
        scene.world.advance(100)
        scene.settle()


def play(scene: Scene, room_after: int = 0) -> None:
    """Take the steps; when the process dies the clients that were there come back, and the next step follows. There
    is room on the disk again so many steps after it was full."""
    full = 0
    for step in steps(scene):
        try:
            step()
            scene.settle()
        except Died:
            scene.dies()
            scene.arrive(*(client for client in scene.clients if client.previd or not client.managed))
        if scene.disk.full:
            full += 1
            if full > room_after:
                scene.disk.heal()
    scene.disk.heal()
    scene.played = scene.disk.commits
    scene.check()


def commits() -> int:
    """How many there are when nothing fails."""
    with drawn_from(0):
        scene = Scene()
        play(scene)
        assert not scene.ledger.twice and not scene.disk.failed
        assert not any(message.bounced or message.unsure for message in scene.ledger.messages.values())
        assert scene.c.resumptions == 1 and scene.a.resumptions == 1
        return scene.played


# And a few more than there are, which then fail nothing. A login is more than one: what it is checked with is read, for
# PLAIN once more behind it; that the client was seen is kept; and the clients are counted where it is a new one.
COMMITS = 75


def test_nothing_fails() -> None:
    """The number of commits in this file is about the true one."""
    assert COMMITS - 20 < commits() <= COMMITS


@pytest.mark.parametrize("first", range(1, COMMITS, 15))
@pytest.mark.parametrize("what", ["fails", "fills", "dies before", "dies after"])
def test_at_each_commit(what: str, first: int) -> None:
    """One commit fails; it and all later ones fail until there is room; the process dies before it, or after."""
    for number in range(first, min(first + 15, COMMITS + 1)):
        with drawn_from(0):
            scene = Scene()
            if what == "fails":
                scene.disk.fails = {number}
            elif what == "fills":
                scene.disk.fills = number
            elif what == "dies before":
                scene.disk.dies_before = number
            else:
                scene.disk.dies_after = number
            try:
                play(scene, room_after=2)
            except Exception as error:
                raise AssertionError(f"{what} at {number}: {error}\n" + "\n".join(scene.ledger.notes)) from error
            if what.startswith("dies"):
                assert scene.ledger.twice == [] or all("/street" in one for one in scene.ledger.twice)
