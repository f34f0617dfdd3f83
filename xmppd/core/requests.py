"""Requests of a host: iqs that the server itself sends, and waits for the answer (RFC 6120 section 8.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail

from xmppd.config import Integer, Option
from xmppd.core.clock import Timer
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID
from xmppd.wire.stanza import Stanza

if TYPE_CHECKING:
    from xmppd.core.host import Host

MAX_REQUESTS = Option(
    "max_requests", Integer(minimum=1), "10000", "How many answers a host may wait for at once, to its own requests."
)
OPTIONS = (MAX_REQUESTS,)


@dataclass(slots=True)
class _Waiting:
    to: JID
    answer: Deferred[Stanza]
    timer: Timer


class Requests:
    """The requests of one host that are not answered yet."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: dict[str, _Waiting] = {}  # by the id, which nobody can guess

    def send(self, to: JID, type: str, payload: bytes, name: tuple[str, str], seconds: float) -> Deferred[Stanza]:
        """Send an iq of `type` from the host, with the element `payload`, whose namespace and `name` are given; fires
        with the result or the error that `to` answers.

        Fails with `StanzaError` where it has not answered: remote-server-timeout without an answer in so many
        `seconds`, resource-constraint where too many are awaited, or the server stops, and else why it was not reached.
        """
        server = self._host.server
        if server.stopping or len(self._waiting) >= self._host.settings[MAX_REQUESTS]:
            return fail(StanzaError("resource-constraint", "the server waits for too many answers, or stops"))
        id = server.token()
        answer: Deferred[Stanza] = Deferred()
        self._waiting[id] = _Waiting(to, answer, server.clock.callLater(seconds, self._too_late, id))
        children = [(*name, 0, len(payload))]
        iq = Stanza("iq", {"type": type, "id": id}, payload, children, sender=self._host.jid, to=to)
        server.tasks.start(self._route(id, iq), "a request of the server")
        return answer

    async def _route(self, id: str, iq: Stanza) -> None:
        try:
            await self._host.server.route_or_refuse(iq)
        except StanzaError as error:
            self._fail(id, error)
        except Exception:
            self._host.log.failure("a request of the server could not be routed")
            self._fail(id, StanzaError("internal-server-error"))

    def _fail(self, id: str, error: StanzaError) -> None:
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            waiting.timer.cancel()
            waiting.answer.errback(error)

    def answered(self, stanza: Stanza) -> None:
        """An iq of type result or error has come for the host. It counts if it is of whom that was asked."""
        waiting = self._waiting.get(stanza.id or "")
        if waiting is not None and stanza.sender == waiting.to:
            del self._waiting[stanza.id or ""]
            waiting.timer.cancel()
            waiting.answer.callback(stanza)

    def _too_late(self, id: str) -> None:
        waiting = self._waiting.pop(id)
        waiting.answer.errback(StanzaError("remote-server-timeout", "there was no answer in time"))

    def give_up(self) -> None:
        """The server stops."""
        while self._waiting:
            _, waiting = self._waiting.popitem()
            waiting.timer.cancel()
            waiting.answer.errback(StanzaError("resource-constraint", "the server stops"))
