"""Sessions outlive connections and servers: clients under load while connections are cut and the server is killed.

`XMPPD_KILLS` says how often; the long form is ``XMPPD_KILLS=50 python -m pytest tests/conversations/test_kill.py``.
Each test prints the `XMPPD_SEED` that its moments come from.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable

from tests.conversations.load import SERVER, Load, Tally
from tests.conversations.process import RunningServer

Make = Callable[..., RunningServer]

KILLS = int(os.environ.get("XMPPD_KILLS", "5"))
NAMES = ("romeo", "juliet", "nurse", "mercutio", "benvolio", "tybalt")
# Six clients that send as fast as they can, and log in again all at once.
OPTIONS = "c2s_rate = 100M\nmax_unauthenticated_per_address = 1000\n"


def seeded() -> random.Random:
    """Where the random moments of a test come from."""
    seed = os.environ.get("XMPPD_SEED") or str(random.randrange(2**32))
    print(f"XMPPD_SEED={seed}")
    return random.Random(seed)


def started(make_server: Make, extra: str = "", names: tuple[str, ...] = NAMES) -> RunningServer:
    """A server that runs, with accounts."""
    server = make_server(OPTIONS + extra).start()
    server.user(*names)
    return server


async def some_moment(load: Load) -> None:
    """Any moment under load; one in four comes at once, while sessions are being resumed."""
    chance = load.chance
    await load.more(0 if chance.random() < 0.25 else chance.randint(20, 200))
    if chance.random() < 0.5:
        load.deafen()  # so that more is on the way, and lost there
    # No wait for anything: the point is to interrupt the server wherever it happens to be.
    await asyncio.sleep(chance.uniform(0, 0.05))


async def kill_and_start(load: Load) -> None:
    """The server crashes, and starts again."""
    load.tally.crashed = True
    await asyncio.to_thread(load.server.kill)
    load.cut_the_deaf()
    await start_again(load.server)


async def start_again(server: RunningServer) -> None:
    """It has ended, and starts again."""
    assert "Traceback" not in server.log()
    await asyncio.to_thread(server.start)


async def assert_settled(load: Load) -> None:
    """All arrived once and in order, and nothing came back."""
    problems = await load.settle()
    assert not problems and not load.tally.came_back(), load.tally.report()
    assert "Traceback" not in load.server.log()
    print(load.tally.report())


# ---- under load


def test_cuts_under_load(make_server: Make) -> None:
    server = started(make_server)

    async def play() -> None:
        async with Load(server, seeded()) as load:
            await load.arrive(*NAMES)
            load.talk()
            for number in range(1, KILLS + 1):
                await some_moment(load)
                load.tally.round = f"after cut {number}"
                load.cut()
            await assert_settled(load)

    asyncio.run(play())


def test_kill_at_random_moments(make_server: Make) -> None:
    server = started(make_server)

    async def play() -> None:
        async with Load(server, seeded()) as load:
            await load.arrive(*NAMES)
            load.talk()
            for number in range(1, KILLS + 1):
                await some_moment(load)
                load.tally.round = f"after kill {number}"
                await kill_and_start(load)
            await assert_settled(load)

    asyncio.run(play())


def test_sigterm_under_load(make_server: Make) -> None:
    server = started(make_server)

    async def play() -> None:
        async with Load(server, seeded()) as load:
            await load.arrive(*NAMES)
            load.talk()
            for number in range(1, 3):
                await load.all_online()
                await load.more(load.chance.randint(20, 200))
                load.tally.round = f"after end {number}"
                assert await asyncio.to_thread(server.stop) == 0
                await start_again(server)
            await assert_settled(load)
            for client in load.clients[: len(NAMES)]:  # the last connection of each was ended by its client
                assert client.endings == ["system-shutdown", "system-shutdown", ""], client.name

    asyncio.run(play())


# ---- somebody is away


def test_kill_with_somebody_away(make_server: Make) -> None:
    server = started(make_server, names=("romeo", "juliet"))

    async def play() -> None:
        async with Load(server, seeded()) as load:
            romeo, juliet = await load.arrive("romeo", "juliet")
            for number in range(20):
                romeo.say(juliet, bare=number % 2 == 0)
            await load.more(20)
            juliet.cut(stay_away=True)
            await asyncio.to_thread(server.wait_for, "hibernates")
            load.tally.round = "while she is away"
            while_away = [romeo.say(juliet, bare=number % 2 == 0) for number in range(40)]
            await load.acknowledged(romeo)
            load.tally.round = "after the kill"
            await kill_and_start(load)
            juliet.come_back()
            await assert_settled(load)
            fates = load.tally.fates
            assert [str(key) for key in while_away if not fates[key].delayed] == []

    asyncio.run(play())


def test_kill_with_somebody_who_never_comes_back(make_server: Make) -> None:
    server = started(make_server, "smacks_hibernation_time = 2s\n", names=("romeo", "juliet"))

    async def play() -> None:
        async with Load(server, seeded()) as load:
            romeo, juliet = await load.arrive("romeo", "juliet")
            juliet.cut(stay_away=True)
            for number in range(40):
                romeo.say(juliet, bare=number % 2 == 0)
            await load.acknowledged(romeo)
            # He need not be back within two seconds of the kill: he leaves before.
            await load.leave(romeo)
            load.clients.remove(juliet)
            load.tally.round = "after the kill"
            await kill_and_start(load)
            (romeo,) = await load.arrive("romeo")
            # As long as her session waits for her, this waits with it; it comes back when nobody waits any more.
            asked = romeo.ping(juliet.jid)
            await load.until("her session is over", lambda: bool(load.tally.fates[asked].returned))
            load.tally.round = "at her next login"
            await load.arrive("juliet", resource="there")
            problems = await load.settle()
            assert not problems, load.tally.report()

    asyncio.run(play())


# ---- the tally sees what is wrong


def tally_of(*arrivals: int) -> Tally:
    """Romeo has sent five messages; these of them arrive."""
    tally = Tally()
    keys = [tally.sent("romeo", "juliet") for _ in range(5)]
    tally.round = "after kill 1"
    for key in keys:
        tally.acknowledged(key)
    for number in arrivals:
        tally.arrived(keys[number])
    return tally


def test_the_tally_is_content_when_all_is_well() -> None:
    tally = tally_of(0, 1, 2, 3, 4)
    assert tally.complete and tally.problems() == [] and tally.came_back() == []


def test_the_tally_reports_what_is_lost() -> None:
    tally = tally_of(0, 1, 3, 4)
    assert not tally.complete
    assert tally.problems() == [
        "romeo to juliet, number 2: missing; sent at first, acknowledged after kill 1",
    ]


def test_the_tally_reports_what_came_twice() -> None:
    tally = tally_of(0, 1, 2, 3, 4, 2)
    assert tally.complete
    assert tally.problems() == [
        "romeo to juliet, number 2: 2 times: after kill 1; after kill 1; sent at first, acknowledged after kill 1",
    ]


def test_the_tally_takes_a_second_answer_to_what_was_asked_again_after_a_crash() -> None:
    tally = Tally()
    ping = tally.sent("romeo", SERVER)
    tally.arrived(ping)
    tally.resent(ping)
    tally.arrived(ping)
    assert len(tally.problems()) == 1
    tally.crashed = True
    assert tally.problems() == []
    tally.arrived(ping)
    assert len(tally.problems()) == 1


def test_the_tally_reports_what_was_swapped() -> None:
    tally = tally_of(0, 2, 1, 3, 4)
    assert tally.complete
    assert tally.problems() == [
        "romeo to juliet, number 1: after number 2, after kill 1; sent at first, acknowledged after kill 1",
    ]


def test_the_tally_reports_what_came_back_and_what_nobody_sent() -> None:
    tally = tally_of(0, 1, 2, 3)
    last = list(tally.fates)[-1]
    tally.returned(last, "service-unavailable")
    assert tally.complete and tally.problems() == []
    assert tally.came_back() == ["romeo to juliet, number 4: came back after kill 1 (service-unavailable)"]
    tally.arrived(last)
    tally.arrived(last._replace(number=5))
    assert tally.problems() == [
        "romeo to juliet, number 5: arrived after kill 1, but nobody sent it",
        "romeo to juliet, number 4: 2 times: after kill 1; back after kill 1 (service-unavailable); "
        "sent at first, acknowledged after kill 1",
    ]
