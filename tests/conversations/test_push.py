"""Push notifications between real ends: slixmpp as a phone, and slixmpp's component client as its app server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conversations.appserver import AppServer, Bridge, Phone, bridged
from tests.conversations.people import Person
from tests.conversations.process import PATIENCE, RunningServer
from tests.conversations.resumable import Scene, SlixmppClient
from tests.support.ports import free_port
from tests.support.world import World
from xmppd.core.events import CloudNotifyPing

APP = "push.example.org"
SECTIONS = f"[host:example.org]\n[component:{APP}]\nsecret = secret\n"
ROMEO = "romeo@example.org"
CONFIG = "smacks_max_ack_delay = 10s\npush_notification_with_body = yes\npush_notification_with_sender = yes\n"
Play = Callable[[Bridge, AppServer, Phone, Phone], Coroutine[Any, Any, None]]


def act(play: Play, config: str = CONFIG) -> None:
    """Have a phone and juliet play with an app server."""

    async def scene() -> None:
        async with bridged(World(config, SECTIONS)) as bridge:
            app = await AppServer(APP, "secret", bridge.component_port).arrives()
            phone = await Phone(bridge, f"{ROMEO}/phone").arrives()
            juliet = await Phone(bridge, "juliet@example.org/balcony").arrives()
            await phone.wants_push(APP, "node")
            await play(bridge, app, phone, juliet)
            for each in (phone, juliet, app):
                each.abort()
            await bridge.quiet()

    asyncio.run(scene())


async def nothing(bridge: Bridge, app: AppServer) -> None:
    """No push comes."""
    await bridge.passes(3)
    assert app.pushed.empty(), app.pushed.get_nowait().fields


async def one(bridge: Bridge, app: AppServer) -> dict[str, str]:
    """One important push comes."""
    await bridge.passes(2)
    push = await app.push()
    assert push.important and app.pushed.empty()
    return push.fields


async def says(bridge: Bridge, sender: Phone, text: str, to: str = ROMEO) -> None:
    sender.send_message(to, text, mtype="chat")
    await bridge.quiet()


# ---- when


def test_a_phone_that_hibernates_is_told_and_has_each_message_once_when_it_is_back() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        await says(bridge, juliet, "one")
        await nothing(bridge, app)
        assert phone.heard == ["one"]
        await phone.vanishes()
        await nothing(bridge, app)
        await says(bridge, juliet, "two")
        fields = await one(bridge, app)
        assert (fields["last-message-body"], fields["message-count"]) == ("two", "1")
        assert fields["last-message-sender"] == "juliet@example.org/balcony"
        await says(bridge, juliet, "three")
        assert (await one(bridge, app))["last-message-body"] == "three"
        await phone.returns()
        assert phone.heard == ["one", "two", "three"]
        await says(bridge, juliet, "four")
        await nothing(bridge, app)
        assert phone.heard == ["one", "two", "three", "four"]

    act(play)


def test_a_phone_that_does_not_answer_is_told_after_a_while() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        phone.plugin["xep_0198"].send_ack = lambda: None  # it is frozen
        await says(bridge, juliet, "are you there?")
        await bridge.passes(9)
        assert app.pushed.empty()
        await bridge.passes(5)
        assert (await app.push()).fields["last-message-body"] == "are you there?"
        await says(bridge, juliet, "hello?")
        assert (await one(bridge, app))["last-message-body"] == "hello?"

    act(play)


def test_a_phone_that_is_offline_is_told_and_so_is_one_whose_user_is_elsewhere() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        gone = asyncio.ensure_future(phone.wait_until("disconnected", 10))
        await phone.disconnect()
        await gone
        await bridge.quiet()
        await says(bridge, juliet, "offline")
        assert (await one(bridge, app))["last-message-body"] == "offline"
        desktop = await Phone(bridge, f"{ROMEO}/desktop").arrives()
        await nothing(bridge, app)
        await says(bridge, juliet, "elsewhere")
        assert (await one(bridge, app))["last-message-body"] == "elsewhere"
        await says(bridge, desktop, "own", to="juliet@example.org")
        desktop.abort()
        await nothing(bridge, app)

    act(play)


def test_chat_states_and_what_client_state_holds_back_wake_nobody() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        phone.send_raw("<inactive xmlns='urn:xmpp:csi:0'/>")
        await bridge.quiet()
        phone.plugin["xep_0198"].send_ack()
        await phone.vanishes()
        juliet.send_raw(f"<message type='chat' to='{ROMEO}'>"
                        "<composing xmlns='http://jabber.org/protocol/chatstates'/></message>")  # fmt: skip
        juliet.send_raw(f"<presence to='{ROMEO}/phone'/>")
        await nothing(bridge, app)

    act(play)


def test_a_call_rings_at_once_also_where_somebody_is() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        juliet.send_raw(f"<message type='chat' to='{ROMEO}'>"
                        "<propose xmlns='urn:xmpp:jingle-message:0' id='c'/></message>")  # fmt: skip
        await bridge.quiet()
        assert (await app.push()).important
        await nothing(bridge, app)

    act(play)


def test_other_modules_can_wake_it() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        host = bridge.world.host
        account = bridge.world.run(host.accounts.load("romeo"))
        bridge.world.run(host.bus.fire(CloudNotifyPing(account)))
        await bridge.passes(2)
        push = await app.push()
        assert not push.important and push.node == "node"

    act(play)


def test_a_burst_is_two_pushes_and_the_first_important_one_ends_the_long_wait() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        await phone.vanishes()
        await bridge.passes(48 * 3600)
        for number in range(5):
            juliet.send_message(ROMEO, str(number), mtype="chat")
            juliet.send_raw(f"<message type='chat' to='{ROMEO}'>"
                            f"<received xmlns='urn:xmpp:receipts' id='{number}'/></message>")  # fmt: skip
        await bridge.quiet()
        await bridge.passes(2)
        first, second = await app.push(), await app.push()
        assert app.pushed.empty()
        assert sorted((push.important, push.fields["message-count"]) for push in (first, second)) == [
            (False, "5"), (True, "5"),
        ]  # fmt: skip
        assert len(bridge.world.server.sessions.of(ROMEO)) == 1
        await bridge.passes(700)
        assert bridge.world.server.sessions.of(ROMEO) == []
        await nothing(bridge, app)

    act(play)


# ---- errors


def test_permanent_errors_end_it_and_a_success_in_between_begins_anew() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        await phone.vanishes()
        for refused in (True, True, False, True, True, True):
            app.refusal = ("item-not-found", "cancel") if refused else None
            await says(bridge, juliet, "hi")
            await one(bridge, app)
        await says(bridge, juliet, "nobody is told")
        await nothing(bridge, app)

    act(play, CONFIG + "push_max_errors = 3\npush_max_hibernation_timeout = 72h\n")


@pytest.mark.parametrize("error", [("resource-constraint", "wait"), ("remote-server-not-found", "cancel"), None])
def test_errors_that_pass_and_silence_do_not_end_it(error: tuple[str, str] | None) -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        await phone.vanishes()
        app.refusal, app.silent = error, error is None
        await says(bridge, juliet, "hi")
        await bridge.passes(2)
        ids = {(await app.push()).iq["id"]}
        for _ in range(5):
            await bridge.passes(1200)
            while not app.pushed.empty():
                ids.add(app.pushed.get_nowait().iq["id"])
        assert len(ids) > 3
        app.refusal, app.silent = None, False
        await bridge.passes(3600)
        await app.push()
        await bridge.passes(7200)
        assert app.pushed.empty()
        await says(bridge, juliet, "again")
        assert (await one(bridge, app))["last-message-body"] == "again"

    act(play, CONFIG + "push_max_errors = 1\n")


def test_an_app_server_that_is_away_for_a_day_finds_what_waits() -> None:
    async def play(bridge: Bridge, app: AppServer, phone: Phone, juliet: Phone) -> None:
        await phone.vanishes()
        await app.leaves()
        await says(bridge, juliet, "yesterday")
        await bridge.passes(24 * 3600)
        back = await AppServer(APP, "secret", bridge.component_port).arrives()
        await bridge.passes(3600)
        assert (await back.push()).fields["last-message-body"] == "yesterday"
        await says(bridge, juliet, "today")
        assert (await one(bridge, back))["last-message-body"] == "today"
        back.abort()

    act(play, CONFIG + "push_max_errors = 1\n")


# ---- on a real server


def server_with_app(make_server: Callable[..., RunningServer]) -> tuple[RunningServer, int]:
    port = free_port()
    sections = "[host:localhost]\n[component:push.localhost]\nsecret = secret\n"
    nowhere = "s2s_hosts =\n    push.nowhere.example = 127.0.0.1:1\n"
    running = make_server(f"component_ports = {port}\n{nowhere}", sections).start()
    running.user("romeo", "juliet")
    return running, port


async def enable(person: Person, jid: str) -> None:
    """Ask for push notifications."""
    iq = person.make_iq_set()
    iq.set_payload(ElementTree.fromstring(f"<enable xmlns='urn:xmpp:push:0' jid='{jid}' node='n'/>"))
    await iq.send(timeout=PATIENCE)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_push_a_restart_and_each_message_once(make_server: Callable[..., RunningServer], end: str) -> None:
    server, port = server_with_app(make_server)

    async def play() -> None:
        async with Scene(server) as scene:
            app = await AppServer("push.localhost", "secret", port).arrives()
            romeo = await scene.enter(SlixmppClient, "romeo", "phone")
            juliet = await scene.enter(SlixmppClient, "juliet", "balcony")
            await enable(romeo.person, "push.localhost")  # type: ignore[attr-defined]
            await romeo.acknowledged()
            romeo.link.cut()
            await romeo.gone()
            await juliet.says("romeo@localhost", "one", "two")
            push = await app.push()
            assert push.important and push.fields["message-count"] == "2"
            app.abort()
            await asyncio.to_thread(server.stop if end == "stop" else server.kill)
            await juliet.gone()
            await asyncio.to_thread(server.start)
            app = await AppServer("push.localhost", "secret", port).arrives()
            await juliet.resumes()
            await juliet.says("romeo@localhost", "three")
            assert (await app.push()).fields["message-count"] == "1"
            romeo.link.mend()
            await romeo.resumes()
            assert [await romeo.hears() for _ in range(3)] == ["one", "two", "three"]
            await romeo.acknowledged()
            assert romeo.quiet() and app.pushed.empty()
            app.abort()

    asyncio.run(play())


def test_xmppctl_lists_tries_and_removes(make_server: Callable[..., RunningServer], tmp_path: Path) -> None:
    server, port = server_with_app(make_server)

    async def play() -> None:
        async with Scene(server) as scene:
            app = await AppServer("push.localhost", "secret", port).arrives()
            romeo = await scene.enter(SlixmppClient, "romeo", "phone")
            for jid in ("push.localhost", "push.nowhere.example"):
                await enable(romeo.person, jid)  # type: ignore[attr-defined]
            tried = await asyncio.to_thread(server.xmppctl, "push", "test", "romeo@localhost")
            assert (await app.push()).important
            assert "push.localhost: the app server has taken it" in tried
            assert "push.nowhere.example: remote-server-timeout" in tried
            listed = await asyncio.to_thread(server.xmppctl, "push", "list", "romeo@localhost")
            first, second = (line.split() for line in listed.splitlines())
            assert (first[1], second[1]) == ("push.localhost", "push.nowhere.example")
            await asyncio.to_thread(server.xmppctl, "push", "remove", "romeo@localhost", second[0])
            listed = await asyncio.to_thread(server.xmppctl, "push", "list", "romeo@localhost")
            assert len(listed.splitlines()) == 1
            app.abort()

    asyncio.run(play())
