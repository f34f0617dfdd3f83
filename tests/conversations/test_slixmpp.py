"""Two people with slixmpp on a real server: they log in, add each other, talk, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.conversations.people import Person
from tests.conversations.process import RunningServer


@pytest.mark.parametrize("direct_tls", [False, True], ids=["starttls", "direct-tls"])
def test_two_people_add_each_other_and_talk(server: RunningServer, direct_tls: bool) -> None:
    async def play() -> None:
        romeo = await Person(server, "romeo", "orchard", direct_tls=direct_tls).arrives()
        juliet = await Person(server, "juliet", "balcony", direct_tls=direct_tls).arrives()

        romeo.send_presence_subscription("juliet@localhost")
        await juliet.sees("subscribe", "romeo@localhost")
        juliet.send_presence_subscription("romeo@localhost", ptype="subscribed")
        juliet.send_presence_subscription("romeo@localhost")
        await romeo.sees("available", "juliet@localhost")
        await romeo.sees("subscribe", "juliet@localhost")
        romeo.send_presence_subscription("juliet@localhost", ptype="subscribed")
        await juliet.sees("available", "romeo@localhost")

        romeo.send_message("juliet@localhost", "Art thou not Romeo, and a Montague?")
        heard = await juliet.hears()
        assert heard["body"] == "Art thou not Romeo, and a Montague?"
        assert heard["from"] == "romeo@localhost/orchard"
        juliet.send_message(heard["from"], "Neither, fair saint <&>\n\"'", mtype="chat")
        assert (await romeo.hears())["body"] == "Neither, fair saint <&>\n\"'"

        roster = romeo.client_roster["juliet@localhost"]
        assert roster["subscription"] == "both"
        assert await romeo.plugin["xep_0199"].ping("juliet@localhost/balcony", timeout=30)

        await juliet.leaves()
        await romeo.sees("unavailable", "juliet@localhost")
        await romeo.leaves()

    asyncio.run(play())


def test_who_was_away_finds_what_was_said(server: RunningServer) -> None:
    async def play() -> None:
        romeo = await Person(server, "romeo", "orchard").arrives()
        for number in range(20):
            romeo.send_message("juliet@localhost", f"line {number}", mtype="chat")
        assert await romeo.plugin["xep_0199"].ping("localhost", timeout=30)
        await romeo.leaves()
        juliet = await Person(server, "juliet", "balcony").arrives()
        for number in range(20):
            heard = await juliet.hears()
            assert heard["body"] == f"line {number}"
            assert heard.xml.find("{urn:xmpp:delay}delay") is not None
        await juliet.leaves()
        again = await Person(server, "juliet", "balcony").arrives()
        assert await again.plugin["xep_0199"].ping("localhost", timeout=30)
        assert again.heard.empty()
        await again.leaves()

    asyncio.run(play())


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_each_mechanism_gets_in(server: RunningServer, mechanism: str) -> None:
    async def play() -> None:
        romeo = await Person(server, "romeo", "orchard", mechanism=mechanism).arrives()
        await romeo.leaves()

    asyncio.run(play())
    assert f"has logged in by {mechanism}" in server.log()


def test_a_wrong_password_does_not(server: RunningServer) -> None:
    async def play() -> None:
        romeo = Person(server, "romeo", "orchard", password="wrong")
        refused = romeo.wait_until("failed_all_auth", 30)
        romeo.connect("127.0.0.1", romeo.port)
        await refused
        await romeo.disconnect()

    asyncio.run(play())
    log = server.log()
    assert "login refused" in log
    assert "wrong" not in log.replace("wrong_", "")
    assert "Traceback" not in log


def test_it_is_the_same_on_postgresql(make_server: Callable[..., RunningServer], postgresql: Callable[[], str]) -> None:
    server = make_server(f"storage = {postgresql()}\n").start()
    server.user("romeo", "juliet")

    async def play() -> None:
        romeo = await Person(server, "romeo", "orchard").arrives()
        romeo.send_message("juliet@localhost", "kept in another place", mtype="chat")
        assert await romeo.plugin["xep_0199"].ping("localhost", timeout=30)
        await romeo.leaves()
        assert server.stop() == 0
        server.start()
        juliet = await Person(server, "juliet", "balcony").arrives()
        assert (await juliet.hears())["body"] == "kept in another place"
        await juliet.leaves()

    asyncio.run(play())
    assert not (server.folder / "var" / "xmppd.sqlite").exists()
