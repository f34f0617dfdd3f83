"""The admin socket: a unix socket for the owner of the server, which carries out the commands of `xmppctl`.

Each request is a line of JSON, ``{"command": "user create", "arguments": {"jid": …, "password": …}}``, and so
is its answer: ``{"result": …}`` or ``{"error": "one line"}``. Requests of one connection are carried out one
after the other. Who may connect is decided by the socket's mode, 0600, and by nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from xmppd.core.clock import Timer
from xmppd.core.server import Server
from xmppd.ctl.conversation import Conversation
from xmppd.net.service import ClientService

BACKLOG = 16
MAX_CONNECTIONS = 32  # an administrator, some scripts and a monitoring program; each is the server's own user
PROBE_SECONDS = 1.0  # how long another server may take to accept; its kernel does that, however busy it is
OUT_OF_DESCRIPTORS_SECONDS = 1.0  # until the next try to accept, when there are no descriptors


class AdminSocketError(Exception):
    """The admin socket cannot be bound; one line for the administrator."""


@implementer(IReadDescriptor)
class AdminSocket:
    """The socket at `path`. It is bound here, so that a failure shows before anything runs; the process may
    fork between here and `start`. Raises `AdminSocketError`."""

    # Not with `reactor.adoptStreamPort`: for a unix socket that changes the mode to 0666.

    def __init__(self, server: Server, clients: ClientService, path: Path, reactor: Any) -> None:
        self.server = server
        self.clients = clients
        self.path = path
        self.log = Logger(namespace="xmppd.admin")
        self.conversations: set[Conversation] = set()
        self._reactor = reactor
        self._retry: Timer | None = None
        self._stopped = False
        self._socket = _bind(path)
        self._inode = path.lstat().st_ino

    def start(self) -> None:
        """Begin to accept."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Close the socket and remove its file. A command that is being carried out goes on, and is answered
        if the reactor runs long enough."""
        if self._stopped:
            return
        self._stopped = True
        self._reactor.removeReader(self)
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._socket.close()
        with contextlib.suppress(OSError):
            # Somebody may have removed ours, and another server have put its own there.
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        for conversation in list(self.conversations):
            conversation.end()

    # ---- for the reactor

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "admin socket"

    def connectionLost(self, reason: object) -> None:
        """For the reactor: it shuts down, or the socket is broken."""
        if not self._stopped:
            self.log.error("the admin socket was lost")

    def doRead(self) -> None:
        """The reactor: somebody connects."""
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            # Mostly: out of descriptors. Who connects waits, and the reactor is not woken for that meanwhile.
            self.log.error("the admin socket cannot accept: {error}", error=str(error))
            self._reactor.removeReader(self)
            self._retry = self.server.clock.callLater(OUT_OF_DESCRIPTORS_SECONDS, self.start)
            return
        with accepted:
            accepted.setblocking(False)
            if len(self.conversations) >= MAX_CONNECTIONS:
                with contextlib.suppress(OSError):
                    accepted.send(b'{"error": "too many connections to the admin socket"}\n')
                return
            # It makes a copy of the descriptor.
            self._reactor.adoptStreamConnection(accepted.fileno(), socket.AF_UNIX, _Factory(self))


class _Factory(Factory):
    """Makes the one protocol of a connection."""

    noisy = False

    def __init__(self, admin: AdminSocket) -> None:
        self._admin = admin

    def buildProtocol(self, addr: object) -> Conversation:
        """For the reactor."""
        return Conversation(self._admin.server, self._admin.clients, self._admin.conversations)


def _bind(path: Path) -> socket.socket:
    """A listening socket at `path` for this user alone; that of a dead server is removed before."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(path)
        # The mode that the file has from its first moment on. Nothing runs beside this that makes files.
        before = os.umask(0o177)
        try:
            listening.bind(os.fspath(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except AdminSocketError:
        listening.close()
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        listening.close()
        # Only the error of a path that is too long (about 100 bytes) has no strerror.
        reason = getattr(error, "strerror", None) or str(error)
        raise AdminSocketError(f"the admin socket {path} cannot be bound: {reason}") from None
    return listening


def _make_way(path: Path) -> None:
    """Remove the socket of a dead server; raises `AdminSocketError` when it lives, or is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AdminSocketError(f"the admin socket {path} cannot be bound: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except PermissionError:
            raise AdminSocketError(f"the admin socket {path} belongs to another user") from None
        except OSError:
            pass  # its queue is full: it lives, and is busy
    raise AdminSocketError(f"another xmppd runs with this data_path (it answers on {path})")
