"""What is written: for people, for pipes, for programs."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from xmppd.config.errors import escaped
from xmppd.ctl import output

ACCOUNTS = [
    {"jid": "juliet@example.org", "created": "2023-11-14T22:13:20Z", "enabled": True},
    {"jid": "[red]:smile:@example.org", "created": "2023-11-14T22:13:20Z", "enabled": False},
]
STATUS = {
    "version": "1.2",
    "uptime_seconds": 93_784,
    "sessions": 7,
    "streams": {"c2s": {"bound": 7, "opened": 1}},
    "hosts": {"example.org": {"accounts": 12}, "example.com": {"accounts": None}},
    "store": {"groups": 3, "rows": 14, "last_commit_seconds": 0.00125},
    "components": {"push.example": True, "old.example": False},
    "s2s": {"incoming": 2, "waiting": 1},
    "counters": {"xmppd_pushes_total{host=example.org}": 5.0},
    "listening": [["127.0.0.1", 5222]],
}


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Have standard output be a terminal."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return terminal


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("juliet@example.org", "juliet@example.org"),
        ("Müller 名前", "Müller 名前"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202e\u200b\u2028\ud800", "\\u202e\\u200b\\u2028\\ud800"),
    ],
)
def test_what_would_move_a_cursor_is_spelled_out(text: str, written: str) -> None:
    assert escaped(text) == written


def test_a_terminal_that_knows_only_ascii_gets_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output.line("Müller", file)
    file.seek(0)
    assert file.read() == "M\\xfcller\n"


def test_an_error_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.error("there is\nno \x1b[31mway")
    assert capsys.readouterr() == ("", "xmppctl: there is\\nno \\x1b[31mway\n")


def test_a_pipe_gets_one_account_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.show("user list", ACCOUNTS)
    assert capsys.readouterr().out == "juliet@example.org\n[red]:smile:@example.org\n"


def test_a_terminal_gets_a_table_in_which_a_name_is_only_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    output.show("user list", ACCOUNTS)
    text = terminal.getvalue()
    assert "juliet@example.org" in text
    assert "[red]:smile:@example.org" in text
    assert "disabled" in text
    assert "account" in text


def test_a_pipe_gets_columns_without_colour_that_are_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    output.table(["name", "what"], [["short", "x" * 300], ["a longer one", "\x1b[31m"]])
    assert capsys.readouterr().out == f"short         {'x' * 300}\na longer one  \\x1b[31m\n"


def test_a_table_without_rows_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["name"], [])
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_nothing_that_moves_its_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    output.table(["name"], [["\x1b[2J"]])
    assert "\\x1b[2J" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


def test_status(capsys: pytest.CaptureFixture[str]) -> None:
    output.show("status", STATUS)
    rows = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    assert [(name, value.strip()) for name, value in rows] == [
        ("version", "1.2"),
        ("uptime", "1d 02:03:04"),
        ("sessions", "7"),
        ("streams c2s bound", "7"),
        ("streams c2s opened", "1"),
        ("accounts of example.org", "12"),
        ("accounts of example.com", "unknown: the store does not answer"),
        ("component old.example", "not connected"),
        ("component push.example", "connected"),
        ("other servers: incoming", "2"),
        ("other servers: waiting", "1"),
        ("xmppd_pushes_total{host=example.org}", "5"),
        ("store: commits", "3"),
        ("store: rows", "14"),
        ("store: last commit", "1.2 ms"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00"), (3599, "00:59:59"), (86_400, "1d 00:00:00"), (864_061, "10d 00:01:01")],
)
def test_durations(seconds: int, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("name", "result", "text"),
    [
        ("user create", {"jid": "juliet@example.org"}, "created juliet@example.org\n"),
        ("user create", {"created": 3, "failed": []}, "created 3 accounts\n"),
        ("user password", {"jid": "juliet@example.org"}, "juliet@example.org has a new password\n"),
        ("user delete", {"jid": "juliet@example.org"}, "deleted juliet@example.org\n"),
        ("check", [{"level": "ok", "text": "a"}, {"level": "error", "text": "b"}], "ok     a\nerror  b\n"),
    ],
)
def test_what_was_done_is_said(capsys: pytest.CaptureFixture[str], name: str, result: Any, text: str) -> None:
    output.show(name, result)
    assert capsys.readouterr().out == text


def test_json_is_one_line_of_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    output.as_json({"name": "Müller\x1b\n\x7f"})
    text = capsys.readouterr().out
    assert text == '{"name": "M\\u00fcller\\u001b\\n\\u007f"}\n'
    assert json.loads(text) == {"name": "Müller\x1b\n\x7f"}


def test_progress_is_shown_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with output.progress("creating", 2) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    with output.progress("creating", 2) as advance:
        advance(1)
    assert isinstance(sys.stderr, Terminal)
    assert "creating" in sys.stderr.getvalue()
