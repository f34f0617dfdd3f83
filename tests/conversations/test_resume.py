"""Sessions are resumed (XEP-0198): by real clients, after a cut of the connection and after the end of the server."""

from __future__ import annotations

import asyncio

import pytest

from tests.conversations.people import Person
from tests.conversations.process import RunningServer
from tests.conversations.resumable import Client, Make, Scene, SlixmppClient


async def hear(client: Client, count: int) -> list[str]:
    """The next messages."""
    return [await client.hears() for _ in range(count)]


async def cut_and_resume(romeo: Client, juliet: Client) -> None:
    """His connection is cut, twice: what was on its way in either direction comes once."""
    his, her = (client.jid.partition("/")[0] for client in (romeo, juliet))

    # What he says is lost on the way, and so are his acknowledgements.
    romeo.link.lose("up")
    await juliet.says(f"{his}/orchard", "1", "2")
    assert await hear(romeo, 2) == ["1", "2"]
    await romeo.says(f"{her}/balcony", "a", "b")
    romeo.link.cut()
    await romeo.gone()
    await juliet.says(f"{his}/orchard", "3")
    await juliet.says(his, "4")
    await juliet.acknowledged()
    romeo.link.mend()
    await romeo.resumes()
    assert await hear(romeo, 2) == ["3", "4"]
    assert await hear(juliet, 2) == ["a", "b"]

    # What he is told is lost on the way, also that what he says was handled.
    romeo.link.lose("down")
    await romeo.says(f"{her}/balcony", "c", "d")
    assert await hear(juliet, 2) == ["c", "d"]
    await juliet.says(f"{his}/orchard", "5", "6")
    await juliet.acknowledged()
    romeo.link.cut()
    await romeo.gone()
    await juliet.says(his, "7")
    await juliet.acknowledged()
    romeo.link.mend()
    await romeo.resumes()
    assert await hear(romeo, 3) == ["5", "6", "7"]

    await romeo.says(f"{her}/balcony", "e")
    assert await juliet.hears() == "e"
    await juliet.says(f"{his}/orchard", "8")
    assert await romeo.hears() == "8"
    await romeo.acknowledged()
    assert romeo.quiet() and juliet.quiet()


def test_a_cut_connection(lasting: RunningServer, couple: tuple[str, str], make: Make) -> None:
    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo = await scene.enter(make, couple[0], "orchard")
            await cut_and_resume(romeo, juliet)

    asyncio.run(play())


async def befriend(server: RunningServer) -> None:
    """Juliet may see when romeo is there."""
    romeo = await Person(server, "romeo", "street").arrives()
    juliet = await Person(server, "juliet", "street").arrives()
    juliet.send_presence_subscription("romeo@localhost")
    await romeo.sees("subscribe", "juliet@localhost")
    romeo.send_presence_subscription("juliet@localhost", ptype="subscribed")
    await juliet.sees("available", "romeo@localhost")
    await romeo.leaves()
    await juliet.leaves()


async def where_romeo_is(server: RunningServer) -> dict[str, tuple[int, str]]:
    """What juliet sees of his two resources when she comes: priority and status of each."""
    juliet = await Person(server, "juliet", "garden").arrives()
    seen = [await juliet.sees("available", "romeo@localhost") for _ in range(2)]
    await juliet.leaves()
    return {presence["from"].resource: (presence["priority"], presence["status"]) for presence in seen}


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_a_server_that_comes_back(make: Make, server: RunningServer, crash: bool) -> None:
    places = {"orchard": (5, "asleep"), "mantua": (-1, "banished")}

    async def play() -> None:
        await befriend(server)
        async with Scene(server) as scene:
            juliet = await scene.enter(SlixmppClient, "juliet", "balcony")
            away = await scene.enter(make, "romeo", "orchard", *places["orchard"])
            there = await scene.enter(make, "romeo", "mantua", *places["mantua"])
            assert await where_romeo_is(server) == places

            # Messages wait: for the one whose connection is gone, and for juliet, who is not told any more.
            away.link.cut()
            await away.gone()
            await juliet.says("romeo@localhost", "1")
            await juliet.says("romeo@localhost/orchard", "2")
            await juliet.says("romeo@localhost/mantua", "3")
            assert await there.hears() == "3"
            await juliet.acknowledged()
            juliet.link.lose("down")
            await there.says("juliet@localhost/balcony", "a", "b")
            await there.acknowledged()
            if crash:
                there.link.lose("up")
            await there.says("juliet@localhost/balcony", "c", "d")

            end = server.kill if crash else server.stop
            assert await asyncio.to_thread(end) in (None, 0)
            await asyncio.gather(juliet.gone(), there.gone())
            await asyncio.to_thread(server.start)

            juliet.link.mend()
            await juliet.resumes()
            await juliet.says("romeo@localhost", "4")
            await juliet.says("romeo@localhost/orchard", "5")
            await juliet.says("romeo@localhost/mantua", "6")
            assert await where_romeo_is(server) == places
            away.link.mend()
            there.link.mend()
            await asyncio.gather(away.resumes(), there.resumes())
            assert await hear(away, 4) == ["1", "2", "4", "5"]
            assert await there.hears() == "6"
            assert await hear(juliet, 4) == ["a", "b", "c", "d"]

            # They are where they were, and nothing comes twice.
            assert await where_romeo_is(server) == places
            await juliet.says("romeo@localhost", "7")
            await juliet.says("romeo@localhost/mantua", "8")
            assert await away.hears() == "7"
            assert await there.hears() == "8"
            await away.says("juliet@localhost/balcony", "e")
            assert await juliet.hears() == "e"
            await there.says("juliet@localhost/balcony", "f")
            assert await juliet.hears() == "f"
            await asyncio.gather(away.acknowledged(), there.acknowledged())
            assert away.quiet() and there.quiet() and juliet.quiet()

    asyncio.run(play())
