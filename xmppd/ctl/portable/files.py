"""The side of xmppctl in exports and imports: the files, and requests to whoever has the store."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from xml.parsers import expat

from xmppd.ctl.client import ConnectionLost
from xmppd.ctl.commands import Arguments, CommandError
from xmppd.ctl.portable.reader import LeftOut, Piece, Unreadable, User, read
from xmppd.wire import ns
from xmppd.wire.xml import tag

BATCH = 100  # elements that are sent in one request ...
BATCH_BYTES = 64 * 1024  # ... and after how many bytes no more are added

_HEAD = b"<?xml version='1.0' encoding='UTF-8'?>\n" + tag("server-data", {"xmlns": ns.PIE})[:-2] + b">\n"


class Connection(Protocol):
    """Something that carries out commands."""

    def call(self, name: str, arguments: Arguments) -> Any:
        """Carry out a command and return the result; raises `CommandError`."""


# ---- export


def export(connection: Connection, domains: Iterable[str], name: str, progress: Any) -> dict[str, Any]:
    """Write the users of hosts to a file, ``-`` for standard output. `progress` is `output.progress`. Raises
    `CommandError`; then there is no file, or the one that was there before."""
    users = {domain: connection.call("user list", {"domain": domain}) for domain in domains}
    written = 0
    with _destination(name) as file, progress("exporting accounts", sum(map(len, users.values()))) as advance:
        file.write(_HEAD)
        for domain, accounts in users.items():
            file.write(tag("host", {"jid": domain})[:-2] + b">\n")
            for account in accounts:
                written += _export_user(connection, account["jid"], file)
                advance(1)
            file.write(b"</host>\n")
        file.write(b"</server-data>\n")
    return {"accounts": written}


def _export_user(connection: Connection, jid: str, file: BinaryIO) -> bool:
    """Write all of a user; returns whether there was anything to write."""
    position: Any = None
    size = 0
    while True:
        piece = connection.call("export", {"jid": jid, "position": position})
        size += file.write(piece["xml"].encode())
        position = piece["position"]
        if position is None:
            return size > 0


@contextmanager
def _destination(name: str) -> Iterator[BinaryIO]:
    """A file for what nobody else may read (XEP-0227 section 6), in its place once it is whole and on disk."""
    if name == "-":
        yield from _standard_output()
        return
    path = Path(name)
    if path.is_symlink():
        path = path.resolve()
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as device:  # such as a pipe
                yield device
            return
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise CommandError(f"{name}: {getattr(error, 'strerror', None) or error}") from None


def _standard_output() -> Iterator[BinaryIO]:
    if sys.stdout is None:
        raise CommandError("standard output is closed")
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandError(f"standard output: {error.strerror or error}") from None


# ---- import


@dataclass
class Imported:
    """What came of an import: how many accounts were made, which were not, and what was left out of those that were:
    how often, and whose was the first."""

    created: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    without: Counter[str] = field(default_factory=Counter)  # accounts by a mechanism for which they have no keys
    error: str = ""  # why the import went no further

    def leave_out(self, what: str, jid: str, count: int = 1) -> None:
        """Something was not taken."""
        self.left_out[what] += count
        self.first.setdefault(what, jid)

    def fail(self, jid: str, error: str) -> None:
        """An account was not made."""
        self.failed.append({"jid": jid, "error": error})

    def result(self) -> dict[str, Any]:
        """As JSON has it."""
        left_out = [{"what": what, "count": n, "first": self.first[what]} for what, n in self.left_out.most_common()]
        return {
            "created": self.created, "failed": self.failed, "left_out": left_out, "without": dict(self.without),
            "error": self.error,
        }  # fmt: skip


def import_(connection: Connection, name: str, progress: Any) -> dict[str, Any]:
    """Make the accounts of a file, of each file of users in a folder, or with ``-`` of standard input. What cannot be
    used does not keep the rest from being imported. The result has an `error` where a file cannot be read on, or the
    server is gone; what came before is imported. Raises `CommandError` where there is nothing to read."""
    imported = Imported()
    sender = _Sender(connection, imported)
    with progress("importing", None) as advance:
        try:
            for path in _paths(name):
                with _source(path) as (file, size):
                    advance(0, size)
                    for piece in read(path, file, lambda more, done: advance(done, more)):
                        sender.take(piece)
                    sender.end()
        except (Unreadable, ConnectionLost) as error:
            imported.error = f"{error}; {imported.created} accounts were imported before"
    return imported.result()


class _Sender:
    """Sends what is read, in requests of limited size."""

    def __init__(self, connection: Connection, imported: Imported) -> None:
        self._connection = connection
        self._imported = imported
        self._user: User | None = None
        self._jid = ""
        self._begun = False
        self._account: int | None = None
        self._elements: list[list[str]] = []
        self._size = 0

    def take(self, piece: Piece) -> None:
        """The next piece of the file."""
        if isinstance(piece, User):
            self.end()
            self._user, self._jid, self._begun = piece, f"{piece.name}@{piece.host}", False
        elif isinstance(piece, LeftOut):
            self._imported.leave_out(piece.what, self._jid if piece.of_user else "")
        elif self._user is not None:
            self._elements.append([piece.xmlns, piece.name, piece.data.decode()])
            self._size += len(piece.data)
            if len(self._elements) >= BATCH or self._size >= BATCH_BYTES:
                self._send(False)

    def end(self) -> None:
        """The user that began last has ended."""
        if self._user is not None:
            self._send(True)
        self._user = None

    def _send(self, is_end: bool) -> None:
        assert self._user is not None
        arguments = {"jid": self._jid, "elements": self._elements, "begin": not self._begun, "end": is_end}
        if self._user.password is not None and not self._begun:
            arguments["password"] = self._user.password
        if self._begun:
            arguments["account"] = self._account
        self._begun, self._elements, self._size = True, [], 0
        try:
            result = self._connection.call("import", arguments)
        except ConnectionLost:
            raise
        except CommandError as error:
            self._imported.fail(self._jid, str(error))
            self._user = None
            return
        self._account = result["account"]
        for what, count in result["left_out"].items():
            self._imported.leave_out(what, self._jid, count)
        if is_end:
            self._imported.created += 1
            self._imported.without.update(result["without"])


def _paths(name: str) -> list[Path]:
    path = Path(name)
    try:
        if name == "-" or not path.is_dir():
            return [path]
        found = [file for file in sorted(path.rglob("*.xml")) if file.is_file() and _is_of_users(file)]
    except (OSError, ValueError) as error:
        raise CommandError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise CommandError(f"{name}: there is no file of users (XEP-0227) in this folder")
    return found


def _is_of_users(path: Path) -> bool:
    """Whether a file is for itself, and not a part that another one includes."""
    roots: list[str] = []
    parser = expat.ParserCreate(None, " ")
    parser.StartElementHandler = lambda name, attributes: roots.append(name)
    with path.open("rb") as file, contextlib.suppress(expat.ExpatError, LookupError, ValueError):
        while not roots and (data := file.read(4096)):
            parser.Parse(data, False)
    return roots[:1] == [f"{ns.PIE} server-data"]


@contextmanager
def _source(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file to read, and how long it is; 0 where that is not known."""
    if str(path) == "-":
        if sys.stdin is None:
            raise CommandError("standard input is closed")
        yield sys.stdin.buffer, 0
        return
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    with file:
        yield file, os.fstat(file.fileno()).st_size


