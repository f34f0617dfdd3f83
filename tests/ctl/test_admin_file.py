"""The file of the admin socket: whose it is, and what happens to one that is there already."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from xmppd.ctl import admin as admin_module
from xmppd.ctl.admin import AdminSocket, AdminSocketError

from .conftest import World


def bind(world: World, path: Path) -> AdminSocket:
    return AdminSocket(world.server, world.clients, path, world.reactor)


def test_the_socket_is_for_its_owner_alone_from_its_first_moment(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    path = tmp_path / "s"

    class Watched(socket.socket):
        def listen(self, *args: Any) -> None:  # the first moment at which one can connect
            modes.append(stat.S_IMODE(path.stat().st_mode))
            super().listen(*args)

    monkeypatch.setattr(admin_module.socket, "socket", Watched)
    before = os.umask(0)
    try:
        admin = bind(world, path)
        admin.start()
        assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    admin.stop()


def test_stop_removes_the_file_and_may_come_twice_or_before_the_start(world: World, tmp_path: Path) -> None:
    admin = bind(world, tmp_path / "s")
    admin.stop()
    admin.stop()
    assert not (tmp_path / "s").exists()


def test_stop_leaves_what_another_server_has_put_there(world: World, tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = bind(world, path)
    path.rename(tmp_path / "moved")
    second = bind(world, path)
    first.stop()
    assert path.exists()
    second.stop()


def test_the_socket_of_a_dead_server_is_replaced(world: World, tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "s"))
    dead.listen()
    dead.close()
    admin = bind(world, tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "s"))
    admin.stop()


@pytest.mark.parametrize("started", [True, False])
def test_the_socket_of_a_living_server_is_left_alone(world: World, tmp_path: Path, started: bool) -> None:
    path = tmp_path / "s"
    living = bind(world, path)
    if started:
        living.start()
    with pytest.raises(AdminSocketError, match="another xmppd runs with this data_path"):
        bind(world, path)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
    living.stop()


def test_a_server_that_is_too_busy_to_answer_lives(world: World, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))  # its queue is full now
        with pytest.raises(AdminSocketError, match="another xmppd runs"):
            bind(world, path)


def test_a_file_that_is_no_socket_is_not_removed(world: World, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(AdminSocketError, match="no socket"):
        bind(world, tmp_path / "s")
    assert (tmp_path / "s").read_text() == "precious"


@pytest.mark.parametrize("name", ["no/such/folder/s", "s" * 200, "s\0s"])
def test_a_path_that_cannot_be_is_one_line(world: World, tmp_path: Path, name: str) -> None:
    with pytest.raises(AdminSocketError) as caught:
        bind(world, tmp_path / name)
    assert "cannot be bound: " in str(caught.value)
    assert "\n" not in str(caught.value)
