"""The arguments of `xmppctl`, and what goes over the socket, within the test's own process."""

from __future__ import annotations

import getpass
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from xmppd.ctl import main as program
from xmppd.ctl.commands import CommandError
from xmppd.ctl.users import Entry, Failed, parse_users, read_users

Calls = list[tuple[str, dict[str, Any]]]


class Server:
    """Stands for a connection to a running server."""

    def __init__(self, result: Callable[[str, dict[str, Any]], Any]) -> None:
        self.calls: Calls = []
        self._result = result

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        self.calls.append((name, dict(arguments)))
        return self._result(name, arguments)


def result(name: str, arguments: dict[str, Any]) -> Any:
    if name == "user list":
        return []
    if "users" in arguments:
        return {"created": len(arguments["users"]), "failed": []}
    return {"jid": arguments["jid"]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, config_path: Path) -> Server:
    made = Server(result)
    monkeypatch.setattr(program, "_connect", lambda config, command: made)
    monkeypatch.setenv("XMPPD_CONFIG", str(config_path))
    return made


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> list[str]:
    """Somebody at a terminal who types these lines; returns the questions."""
    asked: list[str] = []
    answers = iter(lines)

    def ask(prompt: str) -> str:
        asked.append(prompt)
        line = next(answers)
        if isinstance(line, type):
            raise line
        return line

    monkeypatch.setattr(getpass, "getpass", ask)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    return asked


@pytest.mark.parametrize(
    ("argv", "call"),
    [
        (
            ["user", "create", "a@example.org", "--password", "pw"],
            ("user create", {"jid": "a@example.org", "password": "pw"}),
        ),
        (
            ["user", "password", "--password=-pw", "a@example.org"],
            ("user password", {"jid": "a@example.org", "password": "-pw"}),
        ),
        (
            ["user", "create", "a@example.org", "--password", ""],
            ("user create", {"jid": "a@example.org", "password": ""}),
        ),
        (["user", "delete", "a@example.org"], ("user delete", {"jid": "a@example.org"})),
        (["user", "list", "example.org"], ("user list", {"domain": "example.org"})),
    ],
)
def test_a_command_is_sent_with_its_arguments(server: Server, argv: Sequence[str], call: Any) -> None:
    assert program.main(argv) == 0
    assert server.calls == [call]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "required"),
        (["user"], "required"),
        (["nonsense"], "invalid choice"),
        (["user", "create"], "user create takes a JID, or --file FILE"),
        (["user", "password", "--password", "pw"], "required: JID"),
        (["user", "delete"], "required: JID"),
        (["user", "list"], "required: DOMAIN"),
        (["user", "list", "a", "b\x1b[2J"], "unrecognized arguments: b\\x1b[2J"),
        (["user", "create", "a@example.org", "--file", "f"], "--file takes the place of JID and --password"),
        (["user", "create", "--file", "f", "--password", "pw"], "--file takes the place"),
        (["user", "delete", "a@example.org", "--password", "pw"], "unrecognized arguments"),
        (["user", "create", "--file", "no/such/file"], "no/such/file: No such file or directory"),
        (["user", "create", "--file", "a\0b"], "a\\x00b: "),
        (["-c", "no/such/file", "status"], "no/such/file: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_status_1(
    server: Server, capsys: pytest.CaptureFixture[str], argv: Sequence[str], says: str
) -> None:
    assert program.main(argv) == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("xmppctl: ")
    assert written.err.count("\n") == 1
    assert says in written.err
    assert server.calls == []


@pytest.mark.parametrize(
    "argv",
    [["--json", "user", "list", "x"], ["user", "--json", "list", "x"], ["user", "list", "x", "--json"]],
)
def test_json_may_be_asked_for_anywhere(
    server: Server, capsys: pytest.CaptureFixture[str], argv: Sequence[str]
) -> None:
    assert program.main(argv) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_the_configuration_may_be_named_anywhere(
    server: Server, monkeypatch: pytest.MonkeyPatch, config_path: Path, place: int
) -> None:
    monkeypatch.setenv("XMPPD_CONFIG", "no/such/file")
    argv = ["user", "list", "x"]
    argv[place:place] = ["-c", str(config_path)]
    assert program.main(argv) == 0


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in (
        (["--help"], ["user", "check", "status"]),
        (["user", "-h"], ["create", "password", "delete", "list"]),
    ):
        with pytest.raises(SystemExit) as ended:
            program.main(argv)
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words)


def test_the_configuration_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = tmp_path / "near.cfg", tmp_path / "far.cfg"
    monkeypatch.setattr(program, "CONFIG_FILES", (str(near), str(far)))
    with pytest.raises(CommandError, match="there is no configuration"):
        program._config_file(None, {})
    far.touch()
    assert program._config_file(None, {}) == far
    near.touch()
    assert program._config_file(None, {}) == near
    assert program._config_file(None, {"XMPPD_CONFIG": ""}) == near
    assert program._config_file(None, {"XMPPD_CONFIG": "e"}) == Path("e")
    assert program._config_file("c", {"XMPPD_CONFIG": "e"}) == Path("c")


# ---- passwords that are asked for


@pytest.mark.parametrize("command", ["create", "password"])
def test_a_password_is_asked_for_twice(server: Server, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    asked = typed(monkeypatch, "r0m30", "r0m30")
    assert program.main(["user", command, "a\x1b@example.org"]) == 0
    assert asked == ["Password of a\\x1b@example.org: ", "The same again: "]
    assert server.calls == [(f"user {command}", {"jid": "a\x1b@example.org", "password": "r0m30"})]


@pytest.mark.parametrize(
    ("lines", "status", "says"),
    [
        (["one", "two"], 1, "xmppctl: these are two different passwords\n"),
        ([EOFError], 1, "xmppctl: no password was given\n"),
        (["one", KeyboardInterrupt], 130, ""),
    ],
)
def test_without_the_same_password_twice_nothing_is_done(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: list[Any],
    status: int,
    says: str,
) -> None:
    typed(monkeypatch, *lines)
    assert program.main(["user", "create", "a@example.org"]) == status
    assert capsys.readouterr().err == says
    assert server.calls == []


# ---- files of accounts


def test_a_file_is_sent_in_pieces_and_the_pieces_add_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "BATCH", 2)
    (tmp_path / "users").write_text("".join(f"u{n}@example.org p{n}\n" for n in range(5)))
    assert program.main(["user", "create", "--file", str(tmp_path / "users")]) == 0
    assert [len(arguments["users"]) for _, arguments in server.calls] == [2, 2, 1]
    assert server.calls[1] == (
        "user create",
        {"users": [[3, "u2@example.org", "p2"], [4, "u3@example.org", "p3"]]},
    )
    assert capsys.readouterr() == ("created 5 accounts\n", "")


def test_an_interruption_between_the_pieces_has_its_own_status(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str, arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "_result", interrupted)
    (tmp_path / "users").write_text("a@example.org pw\n")
    assert program.main(["user", "create", "--file", str(tmp_path / "users")]) == 130


def test_every_line_of_a_file_is_used_or_reported() -> None:
    lines = [
        b"a@example.org pw",
        b"",
        b"  b@example.org\t two  words \r",
        b"c@example.org",
        b" \t",
        b"\xff x",
        "d@ü ä".encode(),
    ]
    assert parse_users(lines) == [
        Entry(1, "a@example.org", "pw"),
        Entry(3, "b@example.org", "two  words"),
        Failed(4, "c@example.org: there is no password"),
        Failed(6, "this is not UTF-8"),
        Entry(7, "d@ü", "ä"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "users").write_bytes(b"\xef\xbb\xbfa@example.org pw\r\n")
    assert read_users(str(tmp_path / "users")) == [Entry(1, "a@example.org", "pw")]


def test_a_minus_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a@example.org pw")))
    assert read_users("-") == [Entry(1, "a@example.org", "pw")]
