"""Every device of a user has all that was said, each message once, in order, and under one id: what it hears, what
its archive has (XEP-0313), copies of what other devices say and hear (XEP-0280), and what waited while it was away."""

from __future__ import annotations

import asyncio

import pytest

from tests.conversations.people import Person
from tests.conversations.process import RunningServer
from tests.conversations.resumable import Client, Make, Scene, SlixmppClient
from tests.conversations.talk import Talk, all_of, catch_up, hear, hear_rest, hear_up_to, lines, merged


async def enter_with_copies(scene: Scene, make: Make, name: str, *resources: str) -> list[Client]:
    """Devices of a user that have copies."""
    clients = [await scene.enter(make, name, resource) for resource in resources]
    for client in clients:
        await client.wants_copies()
        await client.acknowledged()
    return clients


async def cut(*clients: Client) -> None:
    """Cut the connections of clients."""
    for client in clients:
        client.link.cut()
        await client.gone()


def conversation(hers: Client, his: Client, other: Client) -> Talk:
    """She talks with one of his devices and with all; one that only listens is the other."""
    return Talk(
        (hers, his.account), (his, hers.account), (hers, other.jid), (his, hers.jid), (hers, his.jid), (his, hers.jid)
    )


def test_a_new_device_reads_everything(lasting: RunningServer, couple: tuple[str, str], make: Make) -> None:
    async def play() -> None:
        async with Scene(lasting) as scene:
            (juliet,) = await enter_with_copies(scene, SlixmppClient, couple[1], "balcony")
            romeo, other = await enter_with_copies(scene, make, couple[0], "orchard", "mantua")
            talk = conversation(juliet, romeo, other)
            await talk.go_on(24)
            await talk.blurt(romeo, romeo.account, 1)  # a note to himself
            heard = await hear(other, 25)
            assert lines(heard) == talk.said

            new = await scene.enter(make, couple[0], "cell")
            forwards = [page async for page in new.pages(7)]
            backwards = [page async for page in new.pages(7, backwards=True)]
            assert [len(page) for page in forwards if page] == [len(page) for page in backwards if page] == [7, 7, 7, 4]
            assert [message for page in forwards for message in page] == heard
            assert [message for page in reversed(backwards) for message in page] == heard
            assert await all_of(new.pages(7, after=heard[9].id)) == heard[10:]

            # Hers is another archive, with ids of its own.
            archive = await all_of(juliet.pages(50))
            assert lines(archive) == talk.said[:-1]
            assert [message for message in archive if message.sender != juliet.jid] == await hear(juliet, 12)
            assert {message.id for message in archive}.isdisjoint(message.id for message in heard)
            assert [await hear_rest(client) for client in (new, other, juliet)] == [[], [], []]

    asyncio.run(play())


def test_each_device_hears_what_the_others_say_and_hear(
    lasting: RunningServer, couple: tuple[str, str], make: Make
) -> None:
    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo, other = await enter_with_copies(scene, make, couple[0], "orchard", "mantua")
            talk = conversation(juliet, romeo, other)
            await talk.go_on(12)
            came = [await other.gets() for _ in range(12)]
            assert [way for way, _ in came] == ["direct", "sent", "direct", "sent", "received", "sent"] * 2
            at_other = [message for _, message in came]
            assert lines(at_other) == talk.said

            came = [await romeo.gets() for _ in range(6)]
            assert [way for way, _ in came] == ["direct", "received", "direct"] * 2
            at_romeo = [message for _, message in came]
            assert at_romeo == [message for message in at_other if message.sender == juliet.jid]
            assert await all_of(romeo.pages(50)) == await all_of(other.pages(50)) == at_other
            assert [await hear_rest(client) for client in (romeo, other)] == [[], []]

    asyncio.run(play())


def test_a_device_that_was_away_catches_up(lasting: RunningServer, couple: tuple[str, str], make: Make) -> None:
    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo, other = await enter_with_copies(scene, make, couple[0], "orchard", "mantua")
            talk = conversation(juliet, romeo, other)
            await talk.go_on(5)
            has = await hear(other, 4)
            way, last = await other.gets()
            assert way == "received"
            has.append(last)
            await other.leaves()
            await talk.go_on(8)

            # It comes back, and while it reads what it has missed they go on.
            back, _ = await asyncio.gather(scene.enter(make, couple[0], "mantua"), talk.go_on(3))
            await asyncio.gather(back.wants_copies(), talk.go_on(2))
            caught_up = await catch_up(back, last, talk, 6)
            await talk.blurt(juliet, romeo.account, 1)
            has += merged(caught_up, await hear_up_to(back, talk.said[-1]))
            assert lines(has) == talk.said
            assert has == await all_of(back.pages(50))
            assert await hear_rest(back) == []

            # Nobody is there: what waited for him comes by itself, and is in the archive as well.
            await asyncio.gather(romeo.leaves(), back.leaves())
            talk.turns = ((juliet, romeo.account),)
            await talk.go_on(5)
            (back,) = await enter_with_copies(scene, make, couple[0], "mantua")
            caught_up = await catch_up(back, has[-1], talk, 3)
            assert lines(caught_up[:5]) == talk.said[-8:-3]
            heard = await hear(back, 8)
            assert caught_up == heard[: len(caught_up)]
            assert lines(has + merged(caught_up, heard)) == talk.said
            assert await hear_rest(back) == []

    asyncio.run(play())


def test_what_a_resumption_brings_is_what_the_archive_has(
    lasting: RunningServer, couple: tuple[str, str], make: Make
) -> None:
    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo, away = await enter_with_copies(scene, make, couple[0], "orchard", "mantua")
            talk = conversation(juliet, romeo, away)
            await talk.go_on(6)
            has = await hear(away, 6)

            # Lost on the way, then nobody to send it to; what the device itself says is not acknowledged to it.
            away.link.lose("down")
            await talk.go_on(4)
            await talk.blurt(away, juliet.jid, 2)
            own = await hear_up_to(romeo, talk.said[-1])
            await cut(away)
            await talk.go_on(6)
            away.link.mend()
            await away.resumes()
            brought = await hear(away, 10)

            caught_up = await catch_up(away, has[-1], talk, 6)
            heard = await hear(away, 6)
            assert [message for message in caught_up if message.sender == away.jid] == own[-2:]
            of_others = [message for message in caught_up if message.sender != away.jid]
            assert of_others[:10] == brought
            assert of_others == (brought + heard)[: len(of_others)]
            has += merged(caught_up, brought + heard)
            assert lines(has) == talk.said
            assert has == await all_of(away.pages(50))
            assert await hear_rest(away) == []

    asyncio.run(play())


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_nothing_is_missing_after_a_restart(
    lasting: RunningServer, couple: tuple[str, str], make: Make, crash: bool
) -> None:
    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo, away, lost = await enter_with_copies(scene, make, couple[0], "orchard", "mantua", "cell")
            talk = conversation(juliet, romeo, away)
            await talk.go_on(6)
            at_away, at_lost = await hear(away, 6), await hear(lost, 6)
            at_romeo = await hear(romeo, 3)
            await cut(away, lost)
            await talk.go_on(6)
            at_romeo += await hear(romeo, 3)
            # Another one takes the place of a session, which is over with that.
            await (await Person(lasting, couple[0], "cell").arrives(presence=False)).leaves()

            # The server ends while something is being said.
            await talk.blurt(juliet, romeo.account, 20)
            at_romeo += await hear(romeo, 1)
            await asyncio.to_thread(lasting.kill if crash else lasting.stop)
            await asyncio.gather(juliet.gone(), romeo.gone())
            await asyncio.to_thread(lasting.start)
            await asyncio.gather(juliet.resumes(), romeo.resumes())
            await juliet.acknowledged()
            await talk.go_on(7)

            # One resumes its session, the other cannot.
            away.link.mend()
            await away.resumes()
            brought = await hear(away, 33)
            assert await all_of(away.pages(5, after=at_away[-1].id)) == brought
            at_away += brought
            lost.link.mend()
            await asyncio.gather(lost.starts_anew(), talk.go_on(2))
            await asyncio.gather(lost.wants_copies(), talk.go_on(2))
            caught_up = await catch_up(lost, at_lost[-1], talk, 4)
            await talk.blurt(juliet, romeo.account, 1)
            at_lost += merged(caught_up, await hear_up_to(lost, talk.said[-1]))
            at_away += await hear_up_to(away, talk.said[-1])
            at_romeo += await hear_up_to(romeo, talk.said[-1])
            archive = await all_of(away.pages(50))
            assert lines(archive) == talk.said
            assert at_away == at_lost == archive
            assert at_romeo == [message for message in archive if message.sender == juliet.jid]
            assert [await hear_rest(client) for client in (romeo, away, lost)] == [[], [], []]

    asyncio.run(play())


def test_copies_outlive_a_crash_once_they_are_promised(lasting: RunningServer, couple: tuple[str, str]) -> None:
    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo, away = [await scene.enter(SlixmppClient, couple[0], place) for place in ("orchard", "mantua")]
            await away.wants_copies()
            away.link.cut()
            await asyncio.to_thread(lasting.kill)
            await asyncio.gather(juliet.gone(), romeo.gone(), away.gone())
            await asyncio.to_thread(lasting.start)
            await asyncio.gather(juliet.resumes(), romeo.resumes())
            talk = conversation(juliet, romeo, away)
            await talk.go_on(6)
            away.link.mend()
            await away.resumes()
            assert lines(await hear_rest(away)) == talk.said

    asyncio.run(play())
