"""The admin socket, over real unix sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from xmppd.ctl import admin as admin_module
from xmppd.ctl import commands, conversation
from xmppd.ctl.admin import AdminSocket
from xmppd.ctl.commands import Command, Where

from .conftest import Peer, World

Connect = Callable[[], Peer]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[Deferred[Any]]:
    """Adds a command, ``slow``, that ends when the test fires the Deferred it has put here."""
    waiting: list[Deferred[Any]] = []

    async def run(server: Any, clients: Any, arguments: Any) -> Any:
        waiting.append(Deferred())
        return await waiting[-1]

    command = Command("slow", "Waits.", (), Where.SERVER, run)
    monkeypatch.setattr(commands, "COMMANDS", {**commands.COMMANDS, "slow": command})
    return waiting


# ---- requests and answers


def test_requests_are_answered_in_turn(connect: Connect) -> None:
    peer = connect()
    peer.ask("user create", jid="juliet@example.org", password="pw")
    peer.ask("user create", jid="juliet@example.org", password="pw")
    peer.ask("user list", domain="example.com")
    assert peer.answer() == {"result": {"jid": "juliet@example.org"}}
    assert peer.answer() == {"error": "the account juliet@example.org exists already"}
    assert peer.answer() == {"result": []}


def test_a_request_may_come_byte_by_byte(world: World, connect: Connect) -> None:
    peer = connect()
    for byte in b'{"command": "user list", "arguments": {"domain": "example.org"}}\n':
        peer.send(bytes([byte]))
        world.reactor.iterate(0)
    assert peer.answer() == {"result": []}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"xx",
        b"[]",
        b"5",
        b"\xff",
        b"{}",
        b'{"command": 5}',
        b'{"command": "status", "arguments": 5}',
        b'{"command": "no such"}',
        b"[" * 100000,
        b'{"command": "user list", "arguments": {"domain": {}}}',
    ],
)
def test_nonsense_is_answered_with_an_error_of_one_line_and_the_conversation_goes_on(
    connect: Connect, line: bytes
) -> None:
    peer = connect()
    peer.send(line + b"\n")
    answer = peer.answer()
    assert list(answer) == ["error"]
    assert "\n" not in answer["error"]
    peer.ask("user list", domain="example.org")
    assert peer.answer() == {"result": []}


def test_a_command_that_has_a_bug_is_answered_and_the_server_goes_on(
    world: World, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.server.store.accounts, "list", lambda *arguments: 1 / 0)
    peer = connect()
    peer.ask("user list", domain="example.org")
    assert peer.answer() == {"error": "internal error; the server's log has more"}
    monkeypatch.undo()
    peer.ask("user list", domain="example.org")
    assert peer.answer() == {"result": []}


def test_a_large_request_is_taken(connect: Connect) -> None:
    peer = connect()
    peer.ask("user create", users=[[n, f"u{n}@example.net", "pw" * 50] for n in range(10_000)])
    assert len(peer.answer()["result"]["failed"]) == 10_000


def test_a_request_that_is_too_long_ends_the_connection(
    world: World, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "MAX_REQUEST", 1000)
    peer = connect()
    peer.send(b"x" * 1001)
    assert peer.answer() == {"error": "a request is at most 1000 bytes long"}
    world.until(peer.is_closed)


def test_who_closes_his_half_still_gets_the_answers(world: World, connect: Connect, slow: list[Deferred[Any]]) -> None:
    peer = connect()
    peer.ask("slow")
    peer.ask("user list", domain="example.org")
    peer.socket.shutdown(socket.SHUT_WR)
    world.until(lambda: slow)
    slow[0].callback("done")
    assert peer.answer() == {"result": "done"}
    assert peer.answer() == {"result": []}
    world.until(peer.is_closed)


# ---- limits


def test_there_are_only_so_many_connections(
    world: World, admin: AdminSocket, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_module, "MAX_CONNECTIONS", 2)
    first, second = connect(), connect()
    world.until(lambda: len(admin.conversations) == 2)
    third = connect()
    assert third.answer() == {"error": "too many connections to the admin socket"}
    world.until(third.is_closed)
    first.socket.close()
    world.until(lambda: len(admin.conversations) == 1)
    fourth = connect()
    for peer in (second, fourth):
        peer.ask("user list", domain="example.org")
        assert peer.answer() == {"result": []}


def test_a_connection_on_which_no_request_arrives_is_closed(world: World, admin: AdminSocket, connect: Connect) -> None:
    peer = connect()
    peer.send(b'{"command": ')
    world.until(lambda: admin.conversations)
    world.clock.advance(conversation.REQUEST_SECONDS - 1)
    peer.send(b" ")  # to send a little now and then does not help
    world.reactor.iterate(0)
    assert not peer.is_closed()
    world.clock.advance(1)
    world.until(peer.is_closed)
    assert not admin.conversations


def test_each_request_has_its_own_time(world: World, connect: Connect) -> None:
    peer = connect()
    for _ in range(3):
        peer.ask("user list", domain="example.org")
        assert peer.answer() == {"result": []}
        world.clock.advance(conversation.REQUEST_SECONDS - 1)
    assert not peer.is_closed()


def test_a_command_that_takes_too_long_goes_on_but_nobody_waits_for_it(
    world: World, admin: AdminSocket, connect: Connect, slow: list[Deferred[Any]]
) -> None:
    peer = connect()
    peer.ask("slow")
    peer.ask("slow")
    world.until(lambda: slow)
    world.clock.advance(conversation.COMMAND_SECONDS - 1)
    world.reactor.iterate(0)
    assert not peer.is_closed()
    assert not peer.received
    world.clock.advance(1)
    assert "takes longer than" in peer.answer()["error"]
    world.until(peer.is_closed)
    assert len(admin.conversations) == 1, "it counts for as long as it goes on"
    slow[0].callback("done")
    world.until(lambda: not admin.conversations)
    assert len(slow) == 1, "what was asked behind it is not begun"
    world.until(lambda: not world.clock.getDelayedCalls())


def test_a_command_that_ends_just_after_its_time_is_answered_once(
    world: World, connect: Connect, slow: list[Deferred[Any]]
) -> None:
    peer = connect()
    peer.ask("slow")
    world.until(lambda: slow)
    world.clock.advance(conversation.COMMAND_SECONDS)
    slow[0].callback("done")
    assert "takes longer than" in peer.answer()["error"]
    world.until(lambda: peer.closed or peer.read())
    assert peer.received == b""


def test_a_command_is_carried_out_to_its_end_when_who_asked_is_gone(
    world: World, admin: AdminSocket, connect: Connect, slow: list[Deferred[Any]]
) -> None:
    peer = connect()
    peer.ask("slow")
    world.until(lambda: slow)
    peer.socket.close()
    for _ in range(3):
        world.reactor.iterate(0)
    assert not slow[0].called
    slow[0].callback("done")
    world.until(lambda: not admin.conversations)
    world.until(lambda: not world.clock.getDelayedCalls())


def test_nothing_is_left_of_a_conversation_that_has_ended(world: World, admin: AdminSocket, connect: Connect) -> None:
    peer = connect()
    peer.ask("user list", domain="example.org")
    peer.answer()
    peer.socket.close()
    world.until(lambda: not admin.conversations)
    world.until(lambda: not world.clock.getDelayedCalls())


def test_stop_closes_idle_connections_and_lets_a_command_end(
    world: World, admin: AdminSocket, connect: Connect, slow: list[Deferred[Any]]
) -> None:
    idle, busy = connect(), connect()
    busy.ask("slow")
    world.until(lambda: slow and len(admin.conversations) == 2)
    admin.stop()
    world.until(idle.is_closed)
    slow[0].callback("done")
    assert busy.answer() == {"result": "done"}
    world.until(busy.is_closed)
    assert not admin.conversations


def test_a_command_that_is_cancelled_at_shutdown_is_answered(
    world: World, connect: Connect, slow: list[Deferred[Any]]
) -> None:
    peer = connect()
    peer.ask("slow")
    world.until(lambda: slow)
    world.server.tasks.cancel()
    assert peer.answer() == {"error": "the server is going down"}


def test_without_descriptors_it_waits_and_tries_again(
    world: World, admin: AdminSocket, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        tries = 0

        def accept(self) -> Any:
            self.tries += 1
            raise OSError(24, "Too many open files")

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    real, failing = admin._socket, Failing()
    monkeypatch.setattr(admin, "_socket", failing)
    peer = connect()
    peer.ask("user list", domain="example.org")
    world.until(lambda: failing.tries)
    for _ in range(5):
        world.reactor.iterate(0)
    assert failing.tries == 1, "it does not spin"
    monkeypatch.undo()
    world.clock.advance(admin_module.OUT_OF_DESCRIPTORS_SECONDS)
    assert peer.answer() == {"result": []}
