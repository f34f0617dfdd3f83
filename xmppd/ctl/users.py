"""Files of accounts: lines of JID and password, separated by white space."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmppd.ctl.commands import CommandError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin a file in UTF-8 with it


@dataclass(frozen=True)
class Entry:
    """A line with an account."""

    line: int
    jid: str
    password: str


@dataclass(frozen=True)
class Failed:
    """A line that cannot be used."""

    line: int
    error: str


def read_users(name: str) -> list[Entry | Failed]:
    """The lines of a file, or of standard input for ``-``; raises `CommandError` when it cannot be read."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise CommandError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    return parse_users(data.removeprefix(BYTE_ORDER_MARK).split(b"\n"))


def parse_users(lines: Iterable[bytes]) -> list[Entry | Failed]:
    """The lines that are not empty. A password may have spaces in it, but not at its end."""
    found: list[Entry | Failed] = []
    for number, line in enumerate(lines, 1):
        try:
            words = line.decode().split(maxsplit=1)
        except UnicodeDecodeError:
            found.append(Failed(number, "this is not UTF-8"))
            continue
        if len(words) == 2:
            found.append(Entry(number, words[0], words[1].rstrip()))
        elif words:
            found.append(Failed(number, f"{words[0]}: there is no password"))
    return found
