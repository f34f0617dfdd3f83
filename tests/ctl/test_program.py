"""`xmppctl` as a process of its own: with the server stopped, and with one that answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

from xmppd.ctl.admin import AdminSocket

from .conftest import World
from .program import beside, command, environment, xmppctl

# ---- accounts, without a server


def test_the_life_of_an_account(config_path: Path) -> None:
    before = os.umask(0)  # what is made is private all the same
    try:
        created = xmppctl(config_path, "user", "create", "Juliet@example.org", "--password", "pw")
    finally:
        os.umask(before)
    assert (created.status, created.out, created.err) == (0, "created juliet@example.org\n", "")
    data_path = config_path.parent / "var"
    assert stat.S_IMODE(data_path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in data_path.iterdir()} == {0o600}

    again = xmppctl(config_path, "user", "create", "juliet@example.org", "--password", "pw")
    assert (again.status, again.out) == (1, "")
    assert again.err == "xmppctl: the account juliet@example.org exists already\n"

    changed = xmppctl(config_path, "user", "password", "juliet@example.org", "--password", "new")
    assert (changed.status, changed.out) == (0, "juliet@example.org has a new password\n")

    listed = xmppctl(config_path, "user", "list", "example.org")
    assert (listed.status, listed.out) == (0, "juliet@example.org\n")
    assert (
        json.loads(xmppctl(config_path, "user", "list", "example.org", "--json").out)[0]["jid"] == "juliet@example.org"
    )

    deleted = xmppctl(config_path, "user", "delete", "juliet@example.org")
    assert (deleted.status, deleted.out) == (0, "deleted juliet@example.org\n")
    gone = xmppctl(config_path, "user", "delete", "juliet@example.org")
    assert (gone.status, gone.err) == (1, "xmppctl: there is no account juliet@example.org\n")
    assert xmppctl(config_path, "user", "list", "example.org").out == ""


def test_a_thousand_accounts_of_a_file(config_path: Path) -> None:
    lines = [f"u{n:04}@example.org pass word {n}" for n in range(1000)]
    lines[10] = "romeo@example.net pw"
    lines[500] = "nobody@example.org"
    lines[999] = "U0000@example.org pw"
    done = xmppctl(config_path, "user", "create", "--file", "-", text="\n".join(lines))
    assert done.status == 1
    assert done.out == "created 997 accounts\n"
    assert done.err.splitlines() == [
        "xmppctl: line 11: example.net is not a host of this server",
        "xmppctl: line 501: nobody@example.org: there is no password",
        "xmppctl: line 1000: the account u0000@example.org exists already",
    ]
    assert len(xmppctl(config_path, "user", "list", "example.org").out.splitlines()) == 997


def test_the_result_of_a_file_as_json(config_path: Path) -> None:
    done = xmppctl(config_path, "user", "create", "--file", "-", "--json", text="a@example.org pw\nb@example.org\n")
    assert done.status == 1
    assert json.loads(done.out) == {
        "created": 1,
        "failed": [{"line": 2, "error": "b@example.org: there is no password"}],
    }


def test_without_password_and_terminal_nothing_is_done(config_path: Path) -> None:
    done = xmppctl(config_path, "user", "create", "a@example.org")
    assert done.status == 1
    assert done.err == "xmppctl: no password is given, and there is no terminal to ask for it; use --password\n"
    assert not (config_path.parent / "var").exists()


def test_a_store_that_cannot_be_opened_is_one_line(config_path: Path) -> None:
    data_path = config_path.parent / "var"
    data_path.mkdir()
    (data_path / "xmppd.sqlite").write_text("this is no database, but a text that somebody has put here" * 100)
    done = xmppctl(config_path, "user", "list", "example.org")
    assert done.status == 1
    assert done.err.startswith("xmppctl: storage ")
    assert done.err.count("\n") == 1


def test_status_needs_the_server(config_path: Path) -> None:
    done = xmppctl(config_path, "status")
    assert (done.status, done.out, done.err) == (1, "", "xmppctl: the server is not running\n")
    assert not (config_path.parent / "var").exists()


def test_a_reader_that_has_seen_enough_is_no_error_with_a_traceback(config_path: Path) -> None:
    xmppctl(config_path, "user", "create", "a@example.org", "--password", "pw")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command(config_path, "user", "list", "example.org"),
        stdout=writing, stderr=subprocess.PIPE, text=True, env=environment(), timeout=120,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_ends_it_without_a_traceback(config_path: Path) -> None:
    # A socket that accepts and never answers: xmppctl waits for its answer.
    data_path = config_path.parent / "var"
    data_path.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(data_path / "xmppd.sock"))
        server.listen()
        server.settimeout(60)
        process = subprocess.Popen(command(config_path, "status"), stderr=subprocess.PIPE, text=True, env=environment())
        accepted, _ = server.accept()
        accepted.recv(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        accepted.close()
    assert (process.returncode, err) == (130, "")


# ---- with a server


def test_with_the_server_running_it_is_the_server_that_acts(
    world: World, admin: AdminSocket, config_path: Path
) -> None:
    done = beside(world, config_path, "user", "create", "juliet@example.org", "--password", "pw")
    assert (done.status, done.out, done.err) == (0, "created juliet@example.org\n", "")
    assert beside(world, config_path, "user", "list", "example.org").out == "juliet@example.org\n"
    assert beside(world, config_path, "user", "delete", "romeo@example.org").status == 1
    status = beside(world, config_path, "status", "--json")
    assert json.loads(status.out)["hosts"]["example.org"] == {"accounts": 1}
    assert not (admin.path.parent / "xmppd.sqlite").exists(), "it has not opened the store by itself"


# ---- files of users

USERS = Path(__file__).parent / "exports" / "ejabberd" / "plain"


def test_users_go_from_one_server_to_another_with_and_without_a_server_running(
    world: World, admin: AdminSocket, config_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.cfg"
    text = config_path.read_text().replace(str(tmp_path / "var"), str(tmp_path / "other"))
    other.write_text(text.replace("[host:example.com]", "[host:localhost]"))
    imported = xmppctl(other, "import", str(USERS))
    assert (imported.status, imported.out, imported.err) == (0, "imported 6 accounts\n", "")
    exported = xmppctl(other, "export", "-")
    assert (exported.status, exported.err) == (0, "exported 6 accounts\n")

    file = tmp_path / "users.xml"
    file.write_text(exported.out.replace("<host jid='localhost'>", "<host jid='example.com'>"))
    imported = beside(world, config_path, "import", str(file))
    assert (imported.status, imported.out, imported.err) == (0, "imported 6 accounts\n", "")
    exported = beside(world, config_path, "export", "--json", str(tmp_path / "again.xml"))
    assert json.loads(exported.out) == {"accounts": 6}
    assert "<user name='juliet'>" in (tmp_path / "again.xml").read_text()

    again = beside(world, config_path, "import", "--json", str(file))
    assert again.status == 1
    assert json.loads(again.out)["failed"][2] == {
        "jid": "juliet@example.com", "error": "the account juliet@example.com exists already"
    }  # fmt: skip


def test_a_file_of_users_that_is_none_is_one_line(config_path: Path, tmp_path: Path) -> None:
    for text, says in (("<html/>", "this is no file of users"), ("", "no element found")):
        done = xmppctl(config_path, "import", "-", text=text)
        assert (done.status, done.out) == (1, "")
        assert len(done.err.splitlines()) == 1
        assert says in done.err
    done = xmppctl(config_path, "import", str(tmp_path / "missing.xml"))
    assert (done.status, done.err) == (1, f"xmppctl: {tmp_path / 'missing.xml'}: No such file or directory\n")
