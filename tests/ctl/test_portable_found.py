"""Exports and imports (XEP-0227): odd files, odd times, and two at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xmppd.auth.credentials import verify_password
from xmppd.ctl.admin import AdminSocket
from xmppd.ctl.commands import CommandError
from xmppd.ctl.portable import reader
from xmppd.ctl.portable.reader import User

from .conftest import World
from .program import command, environment, xmppctl
from .test_portable import (
    PIE,
    Direct,
    account_id,
    archive,
    archived,
    export_file,
    get,
    import_file,
    import_user,
    result,
    scram,
)
from .test_portable_reader import pieces, refusal, server_data, user

__all__ = ["import_user"]

VCARD = ["vcard-temp", "vCard", "<vCard xmlns='vcard-temp'><FN>J</FN></vCard>"]
NOTE = ["vcard-temp", "vCard", "<vCard xmlns='vcard-temp'><FN>K</FN></vCard>"]


# ---- the reader


def test_who_is_included_is_of_the_host_that_the_include_stands_in(tmp_path: Path) -> None:
    (tmp_path / "juliet.xml").write_text(f"<user xmlns='{PIE}' name='juliet'/>")
    text = server_data(
        "<host jid='capulet.example'><xi:include href='juliet.xml'/></host>"
        "<host jid='montague.example'><user name='romeo'/></host>"
    )
    assert pieces(text, tmp_path / "main.xml") == [
        User("capulet.example", "juliet", None),
        User("montague.example", "romeo", None),
    ]


@pytest.mark.parametrize("href", ["http://[", "//[a/b", "a%00b.xml", "%2Fetc%2Fhostname"])
def test_an_include_that_cannot_be_is_refused_in_a_line(href: str, tmp_path: Path) -> None:
    assert "only a relative file name" in refusal(user(f"<xi:include href='{href}'/>"), tmp_path / "main.xml")


def test_an_include_of_a_link_to_itself_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "loop.xml").symlink_to("loop.xml")
    refusal(user("<xi:include href='loop.xml'/>"), tmp_path / "main.xml")


@pytest.mark.parametrize("encoding", ["no-such", "utf-7", "GB2312", "Shift_JIS"])
def test_an_encoding_that_is_not_read_is_told_in_a_line(encoding: str) -> None:
    refusal(f"<?xml version='1.0' encoding='{encoding}'?>{user()}")


@pytest.mark.parametrize("encoding", ["no-such", "GB2312"])
def test_a_file_in_a_folder_that_is_of_something_else_does_not_keep_the_users_out(
    world: World, tmp_path: Path, encoding: str
) -> None:
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "a.xml").write_text(f"<?xml version='1.0' encoding='{encoding}'?><html/>")
    (folder / "b.xml").write_text(
        f"<server-data xmlns='{PIE}'><host jid='example.org'><user name='juliet'/></host></server-data>"
    )
    assert import_file(world, folder)["created"] == 1


def test_a_file_of_users_in_a_folder_may_begin_with_a_long_comment(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "users"
    folder.mkdir()
    for name, comment in (("a", ""), ("b", f"<!--{'x' * 5000}-->")):
        (folder / f"{name}.xml").write_text(
            f"{comment}<server-data xmlns='{PIE}'><host jid='example.org'><user name='{name}'/></host></server-data>"
        )
    assert import_file(world, folder)["created"] == 2


def test_the_size_of_an_element_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # In characters it would be six or twelve bytes for each in a request, which is then too long for the admin socket.
    monkeypatch.setattr(reader, "MAX_ELEMENT", 1000)
    found = pieces(user(f"<vCard xmlns='vcard-temp'><FN>{chr(0x1F339) * 700}</FN></vCard>"))
    assert [type(piece).__name__ for piece in found] == ["User", "LeftOut"]


def test_what_is_left_out_behind_an_account_is_not_of_that_account(world: World, tmp_path: Path) -> None:
    path = tmp_path / "users.xml"
    path.write_text(server_data("<host jid='example.org'><user name='a' password='pw'/></host><config xmlns='x'/>"))
    assert [left_out["first"] for left_out in import_file(world, path)["left_out"]] == [""]


# ---- two at once, and what is left of an import that did not end


def test_two_imports_at_once_do_not_open_an_account_of_which_a_part_is_missing(world: World) -> None:
    first, second = Direct(world), Direct(world)
    jid = "juliet@example.org"
    first.call("import", {"jid": jid, "elements": [VCARD], "begin": True})
    second.call("import", {"jid": jid, "elements": [], "begin": True})
    with pytest.raises(CommandError):  # what it has sent is gone
        first.call("import", {"jid": jid, "elements": [], "end": True})


def test_an_account_whose_import_did_not_end_can_be_deleted(world: World) -> None:
    Direct(world).call("import", {"jid": "juliet@example.org", "elements": [VCARD], "begin": True})
    assert [account["jid"] for account in Direct(world).call("user list", {"domain": "example.org"})]
    Direct(world).call("user delete", {"jid": "juliet@example.org"})
    Direct(world).call("user create", {"jid": "juliet@example.org", "password": "pw"})


def test_a_file_that_breaks_off_says_also_which_accounts_were_not_imported(world: World, tmp_path: Path) -> None:
    Direct(world).call("user create", {"jid": "a@example.org", "password": "pw"})
    path = tmp_path / "users.xml"
    path.write_text(f"<server-data xmlns='{PIE}'><host jid='example.org'><user name='a'/><user name='juliet'/><b>")
    imported = import_file(world, path)
    assert "no element found" in imported["error"]
    assert [failure["jid"] for failure in imported["failed"]] == ["a@example.org"]


# ---- messages


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_message_that_waits_since_a_time_that_cannot_be_written_is_no_trap(
    world: World, tmp_path: Path, import_user: Callable[..., Any], when: str
) -> None:
    import_user(
        "<offline-messages><message xmlns='jabber:client' from='romeo@example.net/o'><body>hi</body>"
        f"<delay xmlns='urn:xmpp:delay' stamp='{when}'/></message></offline-messages>",
        "name='juliet' password='pw'",
    )
    export_file(world, tmp_path / "out.xml")


SID = "<stanza-id xmlns='urn:xmpp:sid:0' by='{}' id='{}'/>"
OF_OURS = "018bcfe5-6800-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("by", "id"),
    [
        ("Juliet@Example.ORG", "42"), ("juliet@example.org/b", "42"), ("example.org", "42"),
        ("juliet@example.org", OF_OURS),
    ],
)  # fmt: skip
def test_no_message_of_an_archive_has_the_id_of_another_under_the_own_name(
    world: World, import_user: Callable[..., Any], by: str, id: str
) -> None:
    forged = SID.format(by, id)
    import_user(archive(result("x").replace("<body>", f"{forged}<body>")))
    assert [b"stanza-id" in row.stanza for row in archived(world, account_id(world))] == [False]


def test_what_waits_for_an_account_is_for_that_account(world: World, import_user: Callable[..., Any]) -> None:
    import_user(
        "<offline-messages><message xmlns='jabber:client' from='romeo@example.net/o' to='nurse@example.org/x'>"
        "<body>hi</body></message></offline-messages>",
        "name='juliet' password='pw'",
    )
    waiting = get(world, world.server.store.offline.peek(account_id(world)))
    assert not any(b"nurse" in message.stanza for message in waiting)


def test_no_message_has_waited_since_the_future(world: World, import_user: Callable[..., Any]) -> None:
    import_user(
        "<offline-messages><message xmlns='jabber:client' from='romeo@example.net/o'><body>hi</body>"
        "<delay xmlns='urn:xmpp:delay' stamp='2099-01-01T00:00:00Z'/></message></offline-messages>",
        "name='juliet' password='pw'",
    )
    waiting = get(world, world.server.store.offline.peek(account_id(world)))
    assert [message.received <= world.server.now_ms() for message in waiting] == [True]


# ---- standard output and names of files


def test_standard_output_that_is_full_is_told_in_a_line(world: World, config_path: Path, tmp_path: Path) -> None:
    for n in range(3):
        assert xmppctl(config_path, "user", "create", f"u{n}@example.org", "--password", "pw").status == 0
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(config_path, "export", "-"), stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_standard_input_that_is_closed_is_told_in_a_line(config_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command(config_path, "import", "-")],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_a_link_as_file_stays_a_link(world: World, tmp_path: Path) -> None:
    (tmp_path / "link.xml").symlink_to(tmp_path / "real.xml")
    (tmp_path / "real.xml").write_text("before")
    export_file(world, tmp_path / "link.xml")
    assert (tmp_path / "link.xml").is_symlink()  # such as /dev/stdout, which root would replace


# ---- what an account made here may have


def test_private_data_of_the_greatest_size_is_imported_again(world: World, config_path: Path, tmp_path: Path) -> None:
    Direct(world).call("user create", {"jid": "juliet@example.org", "password": "pw"})
    # Less than `private_data_limit`, and what one stanza may have at a time.
    kept = {f"a u:{n}": f"<a xmlns='u:{n}'>{'<b/>' * 9_000}</a>".encode() for n in range(20)}
    for key, value in kept.items():
        get(world, world.server.store.data.put(account_id(world), "private", key, value))
    export_file(world, tmp_path / "out.xml")
    other = World(config_path)
    assert import_file(other, tmp_path / "out.xml")["left_out"] == []
    assert get(other, other.server.store.data.all(account_id(other), "private")) == kept


def test_a_vcard_has_the_size_that_a_vcard_may_have(world: World, import_user: Callable[..., Any]) -> None:
    import_user(f"<vCard xmlns='vcard-temp'><FN>{'x' * 2_000_000}</FN></vCard>", "name='juliet' password='pw'")
    assert get(world, world.server.store.data.get(account_id(world), "vcard", "")) is None


# ---- passwords


def test_an_account_has_one_password(world: World, import_user: Callable[..., Any]) -> None:
    import_user(scram("SCRAM-SHA-1"), "name='juliet' password='pw'")
    found = world.run(world.server.hosts["example.org"].accounts.credentials("juliet"))
    results = {verify_password(keys, b"pw", name) for name, keys in found.keys.items()}
    assert len(results) == 1


def test_a_second_set_of_keys_for_a_mechanism_is_told(world: World, import_user: Callable[..., Any]) -> None:
    imported = import_user(scram("SCRAM-SHA-1") + scram("SCRAM-SHA-1", iterations="1", salt="QQ=="))
    assert [left_out["count"] for left_out in imported["left_out"]] == [1]
    found = world.run(world.server.hosts["example.org"].accounts.credentials("juliet"))
    assert found.keys["SHA-1"].iterations == 4096


def test_an_import_that_has_not_ended_does_not_weaken_what_others_are_offered(world: World) -> None:
    ns = "urn:xmpp:pie:0#scram"
    Direct(world).call("user create", {"jid": "romeo@example.org", "password": "pw"})
    elements = [[ns, "scram-credentials", scram("SCRAM-SHA-1")]]
    Direct(world).call("import", {"jid": "juliet@example.org", "elements": elements, "begin": True})
    accounts = world.server.hosts["example.org"].accounts
    world.run(accounts.look_at_hashes())
    assert accounts.hashes == {"SHA-1", "SHA-256", "SHA-512"}


# ---- with a server that runs


HEAD = f"<server-data xmlns='{PIE}'><host jid='example.org'>"


def test_a_file_that_comes_slowly_is_imported_to_its_end(world: World, admin: AdminSocket, config_path: Path) -> None:
    process = subprocess.Popen(
        command(config_path, "import", "-"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write((HEAD + "<user name='a'/><user name='b'/>" + " " * 70_000).encode())
    process.stdin.flush()
    find = world.server.store.accounts.find
    world.until(lambda: get(world, find("example.org", "a")) is not None)
    for _ in range(50):
        world.reactor.iterate(0.01)
    world.clock.advance(61)  # as when a backup is unpacked, or somebody types a passphrase
    process.stdin.write(b"<user name='c'/></host></server-data>")
    process.stdin.close()
    process.stdin = None
    world.until(lambda: process.poll() is not None)
    out, err = process.communicate()
    assert (out.splitlines()[-1], err) == (b"imported 3 accounts", b"")


def test_an_export_that_is_ended_from_outside_leaves_no_keys_behind(
    world: World, admin: AdminSocket, config_path: Path, tmp_path: Path
) -> None:
    Direct(world).call("user create", {"jid": "juliet@example.org", "password": "pw"})
    folder = tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(command(config_path, "export", str(folder / "users.xml")), env=environment())
    world.until(lambda: list(folder.iterdir()))
    process.terminate()
    process.wait()
    assert list(folder.iterdir()) == []
