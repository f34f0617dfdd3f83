"""A TCP connection, in the clear or under TLS, as lean as it gets: the reactor tells when the socket is ready,
OpenSSL reads and writes it by itself, and what one turn of the reactor has for it leaves in one write.

`Connection` moves bytes and knows nothing of XMPP; its `Protocol` decides.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
import termios
from collections.abc import Callable
from typing import Any, Protocol

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

READ_SIZE = 32 * 1024  # bytes of one turn: two TLS records, so that one stream cannot hold up the others
WRITE_SIZE = 64 * 1024  # bytes handed to OpenSSL or the kernel at once
LINGER_SECONDS = 5.0  # how long a closed connection waits for its peer, so that our last words arrive


class Receiver(Protocol):
    """Who gets what a connection receives."""

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived, decrypted where the connection is under TLS."""

    def secured(self) -> None:
        """The TLS handshake is done."""

    def connection_lost(self, reason: str) -> None:
        """The connection is gone; `reason` is for the log."""


class Flusher:
    """Lets every connection that was written to in this turn of the reactor send it all at the turn's end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: list[Connection] = []
        self.log = Logger(namespace="xmppd.net")

    def add(self, connection: Connection) -> None:
        """`connection` has something to send."""
        if not self._waiting:
            self._reactor.callLater(0, self._flush)
        self._waiting.append(connection)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            try:
                connection.flush()
            except Exception:  # a bug, and not the other connections' fault
                self.log.failure("a connection could not be written to")
                connection.abort("internal error")


@implementer(IReadWriteDescriptor)
class Connection:
    """One connected socket.

    `peer` is the address of the other end. `max_unsent` bounds what waits for a peer that does not read, in bytes;
    `write_timeout` how long, in seconds: beyond either the connection is dropped.
    """

    __slots__ = (
        "_closing", "_drained", "_flush_asked", "_handshaking", "_lost", "_out", "_paused", "_reactor", "_timer",
        "_tls", "_unsent", "flusher", "max_unsent", "peer", "receiver", "socket", "unsent", "write_timeout",
    )  # fmt: skip

    def __init__(
        self, reactor: Any, flusher: Flusher, sock: socket.socket, peer: str, max_unsent: int, write_timeout: float
    ) -> None:
        self._reactor = reactor
        self.flusher = flusher
        self.socket = sock
        self.peer = peer
        self.max_unsent = max_unsent
        self.write_timeout = write_timeout
        self.receiver: Receiver | None = None
        self.unsent = 0  # bytes that were written here and have not left yet
        self._tls: SSL.Connection | None = None
        self._handshaking = False
        self._out: list[bytes] = []  # written in this turn ...
        self._unsent = b""  # ... and what the socket did not take before
        self._flush_asked = False
        self._paused = False
        self._closing = False
        self._lost = False
        self._timer: Any = None
        self._drained: list[Callable[[bool], None]] | None = None

    def start(self, receiver: Receiver) -> None:
        """Begin to read, for `receiver`."""
        self.receiver = receiver
        self._reactor.addReader(self)

    # ---- TLS

    @property
    def secure(self) -> bool:
        """Whether the TLS handshake is done."""
        return self._tls is not None and not self._handshaking

    def start_tls(self, context: SSL.Context, to: str | None = None, alpn: bytes = b"") -> None:
        """Go on under TLS, as the server of the handshake; as its client where `to` is the name to ask for (SNI), and
        `alpn` the protocol. What was written before leaves in the clear first."""
        self.flush()
        self._tls = SSL.Connection(context, self.socket)
        self._handshaking = True
        if to is None:
            self._tls.set_accept_state()
            return
        self._tls.set_connect_state()
        if to:
            self._tls.set_tlsext_host_name(to.encode("ascii"))
        if alpn:
            self._tls.set_alpn_protos([alpn])
        self._reactor.addWriter(self)  # the client begins

    def _handshake(self) -> None:
        assert self._tls is not None and self.receiver is not None
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.WantWriteError:
            self._reactor.addWriter(self)
            return
        self._handshaking = False
        self.receiver.secured()

    def peer_chain(self) -> list[x509.Certificate]:
        """The certificates that the peer has shown, its own first; empty where it has shown none, or none that can be
        read."""
        tls = self._tls
        first = tls.get_peer_certificate() if tls is not None and self.secure else None
        if tls is None or first is None:
            return []
        chain = tls.get_peer_cert_chain() or []
        try:
            own = first.to_cryptography()
            # A client's chain has its own certificate in it or not, depending on the version of OpenSSL.
            return [own, *(other for each in chain if (other := each.to_cryptography()) != own)]
        except Exception:  # whatever the library says of certificates that OpenSSL reads and it does not
            return []

    @property
    def server_name(self) -> str:
        """The name that the client asked for by SNI, or ``""``."""
        name = self._tls.get_servername() if self._tls is not None else None
        return name.decode("ascii", "replace") if name else ""

    @property
    def tls_version(self) -> str:
        """``TLSv1.3``; ``""`` in the clear."""
        return self._tls.get_protocol_version_name() if self._tls is not None and self.secure else ""

    def channel_binding(self, type: str) -> bytes | None:
        """Channel binding data of this connection (RFC 9266, RFC 5929), None where the type cannot be had.

        tls-exporter is had under TLS 1.3 alone: with 1.2 it needs the extended master secret, of which the
        library does not tell.
        """
        if self._tls is None or not self.secure:
            return None
        if type == "tls-exporter" and self.tls_version == "TLSv1.3":
            return self._tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        if type == "tls-server-end-point":
            # Worked out once, with the certificate: see certificates.py.
            end_point: bytes | None = self._tls.get_context().get_app_data()
            return end_point
        if type == "tls-unique" and self.tls_version == "TLSv1.2":
            # The first Finished of a whole handshake (RFC 5929 section 3.1) is the client's.
            return self._tls.get_peer_finished()
        return None

    # ---- reading

    def fileno(self) -> int:
        """For the reactor."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "connection"

    def doRead(self) -> Exception | None:
        """The reactor: there is something to read."""
        try:
            if self._handshaking:
                self._handshake()
                return None
            data = self._receive()
            while data:
                if not self._closing and self.receiver is not None:
                    self.receiver.data_received(data)
                if self._tls is None or self._lost or self._paused or not self._tls.pending():
                    return None
                data = self._tls.recv(READ_SIZE)
        except (BlockingIOError, SSL.WantReadError, SSL.WantWriteError):
            return None
        except SSL.ZeroReturnError:
            return ConnectionDone()
        except (SSL.Error, OSError) as error:
            return ConnectionLost(_reason(error))
        return ConnectionDone()

    def _receive(self) -> bytes:
        return self.socket.recv(READ_SIZE) if self._tls is None else self._tls.recv(READ_SIZE)

    def pause_reading(self) -> None:
        """Leave what arrives to the kernel for a while; its buffers then slow the peer down."""
        if not self._paused:
            self._paused = True
            self._reactor.removeReader(self)

    def resume_reading(self) -> None:
        """Read again."""
        if self._paused and not self._lost:
            self._paused = False
            self._reactor.addReader(self)
            if self._tls is not None and self._tls.pending():
                # Already decrypted: no readiness of the socket will tell of it.
                self._reactor.callLater(0, self._read_pending)

    def _read_pending(self) -> None:
        if not self._lost and not self._paused:
            reason = self.doRead()
            if reason is not None:
                self._reactor.removeReader(self)
                self._reactor.removeWriter(self)
                self.connectionLost(Failure(reason))

    # ---- writing

    @property
    def outstanding(self) -> int:
        """How many bytes the peer's kernel has not acknowledged, those that have not left among them; about."""
        if self._lost or not hasattr(termios, "TIOCOUTQ"):
            return self.unsent
        try:
            answer = fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return self.unsent
        return self.unsent + int.from_bytes(answer, sys.byteorder)

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn of the reactor, behind what was written before."""
        if self._closing or self._lost:
            return
        self._out.append(data)
        self.unsent += len(data)
        if not self._flush_asked:
            self._flush_asked = True
            self.flusher.add(self)
        if self.unsent > self.max_unsent:
            self.flush()  # this turn may have brought much for a client that reads well
            if self.unsent > self.max_unsent:
                self.abort("it does not read what it is sent")

    def keep_alive(self) -> None:
        """Send a space, which means nothing between stanzas."""
        self.write(b" ")

    def flush(self) -> None:
        """Send what is waiting, as far as the socket takes it now."""
        self._flush_asked = False
        if self._lost or self._handshaking:
            return
        if self._out:
            self._unsent += b"".join(self._out)
            self._out.clear()
        try:
            self._send()
        except (SSL.Error, OSError) as error:
            self.abort(_reason(error))

    def _send(self) -> None:
        target = self._tls or self.socket
        try:
            while self._unsent:
                sent = target.send(self._unsent[:WRITE_SIZE] if len(self._unsent) > WRITE_SIZE else self._unsent)
                self.unsent -= sent
                self._unsent = self._unsent[sent:]
                self._cancel_timer()
        except (BlockingIOError, SSL.WantWriteError, SSL.WantReadError):
            self._reactor.addWriter(self)
            if self._timer is None:
                self._timer = self._reactor.callLater(self.write_timeout, self._too_slow)
            return
        self._tell_drained(True)
        if self._closing:
            self._finish()

    def doWrite(self) -> Exception | None:
        """The reactor: the socket takes more."""
        self._reactor.removeWriter(self)
        try:
            if self._handshaking:
                self._handshake()
            else:
                self.flush()
        except (SSL.Error, OSError) as error:
            return ConnectionLost(_reason(error))
        return None

    def writeSomeData(self, data: bytes) -> None:
        """Part of the reactor's interface; it is never called for a descriptor that writes by itself."""

    def when_drained(self, callback: Callable[[bool], None]) -> None:
        """Call back with True when all that was written has gone to the kernel, False if the connection goes first."""
        if self._lost:
            callback(False)
        elif not self.unsent:
            callback(True)
        else:
            if self._drained is None:
                self._drained = []
            self._drained.append(callback)

    def _tell_drained(self, gone: bool) -> None:
        if self._drained:
            waiting, self._drained = self._drained, None
            for callback in waiting:
                try:
                    callback(gone)
                except Exception:  # a bug, which must not keep the connection from its end
                    self.flusher.log.failure("what waited for a connection to drain has failed")

    # ---- the end

    def close(self) -> None:
        """Send what is waiting, say good-bye, and close."""
        if self._closing or self._lost:
            return
        self._closing = True
        if self._handshaking:
            self.abort("closed")
        elif not self._flush_asked:
            self.flush()

    def _finish(self) -> None:
        """Everything is sent: close our half, and give the peer a moment to read it and close the other."""
        with contextlib.suppress(SSL.Error, OSError):
            if self._tls is not None:
                self._tls.shutdown()
            self.socket.shutdown(socket.SHUT_WR)
        if self._paused:
            self._paused = False
            self._reactor.addReader(self)
        self._cancel_timer()
        self._timer = self._reactor.callLater(LINGER_SECONDS, self.abort, "closed")

    def _too_slow(self) -> None:
        self._timer = None
        self.abort("it has read nothing for too long")

    def abort(self, reason: str) -> None:
        """Drop the connection now."""
        if not self._lost:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self.connectionLost(Failure(ConnectionLost(reason)))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor: the connection is over."""
        if self._lost:
            return
        self._lost = True
        self._cancel_timer()
        self.socket.close()
        self._out.clear()
        self._unsent = b""
        self._tls = None
        self._tell_drained(False)
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            # Not from within a write: whoever is writing must not find the world changed when it returns.
            self._reactor.callLater(0, receiver.connection_lost, reason.getErrorMessage())

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None


def _reason(error: Exception) -> str:
    """An error of OpenSSL or the kernel in a few words."""
    if isinstance(error, SSL.SysCallError):
        return str(error.args[1]) if len(error.args) > 1 else "connection lost"
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return "; ".join(str(entry[-1]) for entry in error.args[0])
    return str(error) or type(error).__name__
