"""A connection that carries a stream of XML, and takes as little of the processor as it can.

Whoever measures a server on the same machine must not be busier than the server. So nothing is parsed: one regular
expression finds the tags, their depth says where an element ends, and whoever gets it looks for what it has to find.
The socket is read and written by the event loop's own callbacks, as ``asyncio.start_tls`` costs a multiple of that.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, TypeVar

PATIENCE = 60.0  # seconds until something that should come at once counts as missing
READ_SIZE = 65_536
STREAM_END = b"</stream:stream>"
T = TypeVar("T")


class Failed(Exception):
    """The server did not do the work that is measured, or did it wrong."""


class Alarm:
    """What goes wrong in a callback is told here, and to whoever waits for the work of it."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._awaited: set[asyncio.Future[Any]] = set()

    def sound(self, error: Exception) -> None:
        """Something went wrong. The first thing counts; others follow from it."""
        if self._error is None:
            self._error = error
        for future in self._awaited:
            if not future.done():
                future.set_exception(self._error)

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._error is not None:
            raise self._error

    async def wait(self, future: asyncio.Future[T], what: str, seconds: float = PATIENCE) -> T:
        """The result of a future; `Failed` when it does not come in time or something else went wrong."""
        self.check()
        self._awaited.add(future)
        try:
            return await asyncio.wait_for(future, seconds)
        except asyncio.TimeoutError:
            raise Failed(f"{what} did not come within {seconds:g} seconds") from None
        finally:
            self._awaited.discard(future)


class Splitter:
    """Cuts what arrives into the elements right below the stream's root.

    A ``>`` inside of an attribute would confuse it. XML allows that, but all the servers write ``&gt;``.
    """

    _TAG = re.compile(rb"<([/?]?)[^>]*?(/?)>")

    def __init__(self) -> None:
        self._buffer = b""
        self._scanned = 0  # up to where tags have been counted
        self._depth = 0  # how many elements are open there, the stream's root among them
        self._start = 0  # of the element that is open
        self.header = b""  # the tag that opens the stream

    def feed(self, data: bytes) -> list[bytes]:
        """The elements that are complete with this; the end of the stream is one of its own, its beginning is none."""
        self._buffer += data
        found = []
        for tag in self._TAG.finditer(self._buffer, self._scanned):
            mark, empty = tag.groups()
            self._scanned = tag.end()
            if mark == b"?":
                continue
            if self._depth == 0:
                self.header = tag[0]
            elif self._depth == 1:
                self._start = tag.start()
            if mark:
                self._depth -= 1
            elif not empty:
                self._depth += 1
            if self._depth == 0 or (self._depth == 1 and (mark or empty)):
                found.append(self._buffer[self._start : self._scanned])
        if self._depth <= 1:
            self._buffer, self._scanned, self._start = self._buffer[self._scanned :], 0, 0
        return found


@functools.cache
def _attribute_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"<[^>]*?\s%b\s*=\s*(?:'([^']*)'|\"([^\"]*)\")" % name.encode())


def attribute(element: bytes, name: str) -> bytes:
    """An attribute of the element itself; nothing where it has none."""
    found = _attribute_pattern(name).match(element)
    return (found[1] or found[2] or b"") if found else b""


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Connection:
    """A TCP connection, which becomes one under TLS. `on_element` gets each element, `on_lost` why it ended."""

    def __init__(self, on_element: Callable[[bytes], None], on_lost: Callable[[Exception], None]) -> None:
        self._on_element = on_element
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._splitter = Splitter()
        self._socket: socket.socket | None = None
        self._unsent = bytearray()
        self._flushing = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    @property
    def header(self) -> bytes:
        """The tag by which the other side opened the stream; nothing as long as it has not."""
        return self._splitter.header

    async def connect(self, host: str, port: int) -> None:
        """Connect by TCP."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        # Answers of a few bytes are not to wait for the server's acknowledgement of the ones before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        await self._loop.sock_connect(sock, (host, port))
        self._loop.add_reader(sock, self._readable)

    async def start_tls(self, context: ssl.SSLContext, domain: str) -> str:
        """Put TLS over it; its version and cipher suite."""
        assert self._socket is not None
        self._loop.remove_reader(self._socket)
        tls = context.wrap_socket(self._socket, do_handshake_on_connect=False, server_hostname=domain)
        self._socket = tls
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._wait_readable(tls)
        self.restart()
        self._loop.add_reader(tls, self._readable)
        cipher = tls.cipher()
        return f"{tls.version()} {cipher[0] if cipher else ''}"

    async def _wait_readable(self, sock: socket.socket) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock, _wake, ready)
        try:
            await asyncio.wait_for(ready, PATIENCE)
        except asyncio.TimeoutError:
            raise Failed("the TLS handshake stands still") from None
        finally:
            self._loop.remove_reader(sock)

    def restart(self) -> None:
        """A new stream begins on the same connection."""
        self._splitter = Splitter()

    def _readable(self) -> None:
        try:
            while self._socket is not None:
                data = self._socket.recv(READ_SIZE)
                if not data:
                    raise ConnectionError("the server closed the connection")
                for element in self._splitter.feed(data):
                    self._on_element(element)
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        except OSError as error:
            self._lose(error)

    def send(self, data: bytes) -> None:
        """Send, together with all else that is sent in this turn of the event loop."""
        self._unsent += data
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._socket is None or not self._unsent:
            return
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except (ssl.SSLWantWriteError, BlockingIOError):
            pass
        except OSError as error:
            self._lose(error)
            return
        if self._unsent:
            self._flushing = True
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
        self._flush()

    def _lose(self, error: Exception) -> None:
        self.close()
        self._on_lost(error)

    def close(self) -> None:
        """Close it, without a word."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self._unsent.clear()

    def reset(self) -> None:
        """Cut it by a TCP reset, as networks do."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
