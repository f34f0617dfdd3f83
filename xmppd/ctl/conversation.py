"""One connection to the admin socket: requests in, answers out, and a limit to everything."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xmppd.core.clock import Timer
from xmppd.core.server import Server
from xmppd.ctl import commands
from xmppd.ctl.commands import CommandError
from xmppd.net.service import ClientService

# A request with a million accounts, some 60 bytes each, fits; whoever has more sends them in several.
MAX_REQUEST = 64 * 1024 * 1024
REQUEST_SECONDS = 60.0  # for a request to arrive, and for an answer to be read
IDLE_SECONDS = 3600.0  # between requests: what is imported or exported may come and go slowly
COMMAND_SECONDS = 600.0  # for a command; most take milliseconds, only the creation of many accounts is long

_log = Logger(namespace="xmppd.admin")


async def answer(server: Server, clients: ClientService, line: bytes) -> dict[str, Any]:
    """Carry out the request in a line; whatever happens, return what is to be sent back."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):  # ValueError: also for what is not UTF-8
        return {"error": "the request is not JSON"}
    if not isinstance(request, dict):
        return {"error": "the request is no JSON object"}
    name, arguments = request.get("command"), request.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return {"error": "a request has a 'command' (a text), and may have 'arguments' (an object)"}
    try:
        return {"result": await commands.run(server, clients, name, arguments)}
    except CommandError as error:
        return {"error": str(error)}
    except CancelledError:
        return {"error": "the server is going down"}
    except Exception:
        _log.failure("the command {name} failed", name=name)
        return {"error": "internal error; the server's log has more"}


@implementer(IHalfCloseableProtocol)
class Conversation(Protocol):
    """A connection. It is in `conversations` until its last command has ended."""

    transport: Any

    def __init__(self, server: Server, clients: ClientService, conversations: set[Conversation]) -> None:
        self._server = server
        self._clients = clients
        self._conversations = conversations
        self._buffer = bytearray()
        self._more: Deferred[None] | None = None  # what the coroutine waits for, when it waits for bytes
        self._no_more = False  # the other side has sent all it wants to, or is gone
        self._busy = False  # with a command
        self._answered = False  # a request
        self._closing = False  # nothing is sent any more
        self._gone = False
        self._timer: Timer | None = None

    # ---- for the reactor

    def connectionMade(self) -> None:
        """Begin."""
        self._conversations.add(self)
        self._server.tasks.start(self._serve(), "a conversation on the admin socket")

    def dataReceived(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._answered and self._more is not None and not self._buffer:
            self._set_timer(REQUEST_SECONDS)
        self._buffer += data
        self._wake()

    def readConnectionLost(self) -> None:
        """The other side has closed its half, as `nc -N` and `socat` do; it may still read answers."""
        self._no_more = True
        self._wake()

    def writeConnectionLost(self) -> None:
        """Never called: this side does not close only its half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over; a command that is being carried out goes on all the same, for it may be half done."""
        self._gone = True
        self._no_more = True
        self._stop_timer()
        self._wake()

    # ---- the conversation

    def end(self) -> None:
        """Close the connection, after the answer to what is being carried out."""
        self._no_more = True
        self._buffer.clear()
        self._wake()

    async def _serve(self) -> None:
        try:
            while (line := await self._next_line()) is not None:
                self._busy = True
                self._set_timer(COMMAND_SECONDS)
                self._send(await answer(self._server, self._clients, line))
                self._busy = False
                self._answered = True
        finally:
            self._conversations.discard(self)
            self._close()

    async def _next_line(self) -> bytes | None:
        """The next request, without its line end; None when there is none."""
        self._set_timer(IDLE_SECONDS if self._answered and not self._buffer else REQUEST_SECONDS)
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_REQUEST:
                self._send({"error": f"a request is at most {MAX_REQUEST} bytes long"})
                return None
            if self._no_more:
                return None
            self._more = Deferred()
            self.transport.resumeProducing()
            await self._more
        # What comes while this one is carried out waits at the sender.
        self.transport.pauseProducing()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _wake(self) -> None:
        if self._more is not None:
            more, self._more = self._more, None
            more.callback(None)

    def _send(self, reply: dict[str, Any]) -> None:
        if self._closing:
            return
        self.transport.write(json.dumps(reply).encode() + b"\n")

    def _close(self) -> None:
        self._closing = True
        self._stop_timer()
        if not self._gone:
            self.transport.loseConnection()  # once the answer has been read ...
            self._set_timer(REQUEST_SECONDS)  # ... which does not take for ever

    # ---- time

    def _set_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._server.clock.callLater(seconds, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _timed_out(self) -> None:
        if self._busy:
            self._busy = False
            self._send(
                {"error": f"this takes longer than {COMMAND_SECONDS:.0f} seconds; it goes on in the server"}
            )
            self.end()
            self._close()
        else:
            self.transport.abortConnection()
