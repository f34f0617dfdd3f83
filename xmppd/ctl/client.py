"""The side of `xmppctl` at the admin socket."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from xmppd.ctl.commands import Arguments, CommandError

CONNECT_SECONDS = 5.0  # the kernel accepts, however busy the server is, unless its queue is full
# Every command that xmppctl sends takes a second or so at most; storage gives up by itself much earlier.
ANSWER_SECONDS = 120.0


class NotRunning(Exception):
    """No server answers on the admin socket."""


class ConnectionLost(CommandError):
    """The running server did not answer, and nothing more can be asked on this connection."""


class Client:
    """A connection to the running server; raises `NotRunning`, or `CommandError` when there is a server that
    one may not talk to."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(CONNECT_SECONDS)
        try:
            self._socket.connect(os.fspath(path))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            self._socket.close()
            raise NotRunning from None
        except (OSError, ValueError) as error:
            self._socket.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise CommandError(f"the admin socket {path} cannot be used: {reason}") from None
        self._socket.settimeout(ANSWER_SECONDS)
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._answers.close()
        self._socket.close()

    def call(self, name: str, arguments: Arguments) -> Any:
        """Have the server carry out a command, and return the result; raises `CommandError`, which is a
        `ConnectionLost` when no more can be asked."""
        request = json.dumps({"command": name, "arguments": dict(arguments)})
        try:
            self._socket.sendall(request.encode() + b"\n")
            line = self._answers.readline()
        except TimeoutError:
            raise ConnectionLost(f"the server did not answer within {ANSWER_SECONDS:.0f} seconds") from None
        except OSError as error:
            raise ConnectionLost(f"the connection to the server was lost: {error.strerror or error}") from None
        if not line.endswith(b"\n"):
            raise ConnectionLost("the server closed the connection")
        reply = json.loads(line)
        if "error" in reply:
            raise CommandError(str(reply["error"]))
        return reply["result"]
