"""A stream between two servers, in either direction: what holds for those that we open and for those that we answer.

`incoming` and `outgoing` negotiate; from then on a stream carries the stanzas of the pairs of domains that were proven
on it. `proven` are the pairs whose stanzas we take, as (theirs, ours); `carried` those that we may send, as (ours,
theirs). On a stream in one direction one of the two is empty (RFC 6120 section 4.5); XEP-0288 fills both.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from xmppd.config.errors import escaped
from xmppd.core.clock import Timer
from xmppd.core.iq import check_iq
from xmppd.net.features import limits_feature
from xmppd.net.pace import Pace
from xmppd.net.s2s.dialback import Dialback
from xmppd.net.s2s.options import BURST, RATE, is_blocked
from xmppd.net.s2s.sending import Sending
from xmppd.net.transport import ServerTransport
from xmppd.storage import StorageError
from xmppd.wire import ns, sm
from xmppd.wire.content import to_client
from xmppd.wire.errors import STREAM_CONDITIONS, StreamError
from xmppd.wire.jid import InvalidJID, parse
from xmppd.wire.parser import Event, Limits, StreamHeader, StreamParser
from xmppd.wire.sm import HandledCountTooHigh
from xmppd.wire.stanza import Stanza

if TYPE_CHECKING:
    from xmppd.net.s2s.federation import Federation
    from xmppd.net.s2s.link import Item

MAX_BACKLOG = 64  # elements of a peer that wait for one that takes long; beyond it the peer waits as well
END = b"</stream:stream>"
LINGER_SECONDS = 5.0  # how long a peer may take to close its half of a stream that we have closed


class ServerStream:
    """One stream; a `Receiver` for its connection. `id` names it in the log, `stream_id` is what dialback keys are made
    with: the id that the receiving server has given it."""

    incoming = False

    def __init__(self, federation: Federation, transport: ServerTransport, limits: Limits) -> None:
        self.federation = federation
        self.transport = transport
        self.id = federation.server.token()
        self.stream_id = ""
        self.local = ""  # the domains of its header
        self.remote = ""
        self.bidi = False
        self.closed = False
        self.proven: set[tuple[str, str]] = set()
        self.carried: set[tuple[str, str]] = set()
        self.how: dict[tuple[str, str], str] = {}  # how a pair was proven, by (theirs, ours) or (ours, theirs)
        self.log: Logger = federation.log
        self.dialback = Dialback(self)
        self.sending = Sending(transport, federation.clock, federation.server.now_ms)
        self.received = 0  # stanzas
        self.sent = 0
        self.began = self.active_at = federation.clock.seconds()
        self._parser = StreamParser(limits)
        self._events: deque[Event] = deque()
        self._busy = False
        self._sent_header = False
        self._ended = False  # whether we have closed our half
        self._linger: Timer | None = None  # until when the peer may close its own
        self._pace = Pace(federation.clock, federation.settings, RATE, BURST)
        self._lost = False
        self._takes_leave = False  # whether what the peer sends from now on is not read

    # ---- from the connection

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self.closed:
            return
        self._events.extend(self._parser.feed(data))
        self._go_on()
        wait = self._pace.sent(len(data))
        if self.closed:
            return
        if wait:
            self.transport.pause_reading()
            self.federation.clock.callLater(wait, self._let_read)
        elif len(self._events) > MAX_BACKLOG:
            self.transport.pause_reading()

    def secured(self) -> None:
        """The TLS handshake is done."""

    def connection_lost(self, reason: str) -> None:
        """The connection is gone, in order or not."""
        self._lost = True
        self._stop(reason)
        self.federation.gone(self)

    def _let_read(self) -> None:
        if self.closed or self._takes_leave:
            return
        if len(self._events) <= MAX_BACKLOG and not self._pace.is_too_fast():
            self.transport.resume_reading()

    def _routed(self, _: object) -> None:
        self._busy = False
        self._go_on()

    def _go_on(self) -> None:
        while self._events and not self._busy:
            try:
                self._handle(self._events.popleft())
            except StreamError as error:
                self._events.clear()
                self.end(error)
        if not self._busy and self.closed and self._lost:
            self._events.clear()
        self._let_read()

    def _handle(self, event: Event) -> None:
        if isinstance(event, StreamHeader) and not self.closed:
            self._open(event)
        elif not isinstance(event, Stanza):
            self._over(event)
        elif event.xmlns in (ns.SERVER, ns.CLIENT) and event.name in ("message", "presence", "iq"):
            self._take(event)
        elif self.closed:
            return  # what it has sent before the end counts, what it has asked for does not
        elif event.xmlns == ns.DIALBACK:
            self.dialback.handle(event)
        elif event.xmlns == ns.SM:
            self._manage(event)
        elif event.xmlns == ns.STREAM and event.name == "error":
            self.end(None, f"its stream error: {stream_error_of(event)}")
        else:
            self._negotiate(event)

    def _over(self, event: Event) -> None:
        """The end of the peer's stream, or an error in what it sends."""
        error = event if isinstance(event, StreamError) else None
        if self._ended:
            self._close(str(error) if error is not None else "both have closed it")
        elif error is None:
            self.federation.server.tasks.start(self.end_in_order("it has closed its stream"), "the end of a stream")
        else:
            self.end(error, "it has closed its stream")

    async def end_in_order(self, why: str) -> None:
        """End a stream on which nothing is under way. What the peer has sent is acknowledged, or else it would send it
        again."""
        if self.is_managed:
            await self.say_goodbye()
        self.end(None, why)

    def _open(self, header: StreamHeader) -> None:
        """The peer's header."""
        raise NotImplementedError

    def _negotiate(self, element: Stanza) -> None:
        """Anything that is not the same in both directions."""
        raise NotImplementedError

    def restart(self, limits: Limits) -> None:
        """A new stream begins, with a new parser: nothing of the old one goes on (RFC 6120 section 4.3.3)."""
        self._parser.close()
        self._events.clear()
        self._parser = StreamParser(limits)
        self._sent_header = False

    @property
    def nothing_follows(self) -> bool:
        """Whether nothing came behind what is being handled."""
        return not self._events and not self._parser.unfinished

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent."""
        return self.closed or self._ended

    @property
    def is_busy(self) -> bool:
        """Whether something is under way that has not come to an end."""
        handling = self._events or self._busy or self._takes_leave
        return bool(handling or self.sending.unconfirmed or self.dialback.is_busy)

    # ---- pairs

    def prove(self, remote: str, local: str, how: str) -> None:
        """The peer is the server of `remote`: its stanzas to `local` are taken."""
        self.proven.add((remote, local))
        self.how[remote, local] = how
        self._parser.limits = self.federation.stream_limits
        self.log.info(
            "{session}: {remote} is proven for {local}, by {how}, from {peer}, {tls}",
            session=self.id[:8], remote=remote, local=local, how=how, peer=self.transport.peer,
            tls=self.transport.tls_version or "no TLS",
        )  # fmt: skip

    def carry(self, local: str, remote: str, how: str) -> None:
        """Stanzas of ours may be sent for this pair."""
        if self.is_over or (local, remote) in self.carried:
            return
        self.carried.add((local, remote))
        self.how[local, remote] = how
        self.federation.carries(self, local, remote)

    # ---- stanzas of the peer

    def _take(self, element: Stanza) -> None:
        if not self.proven:
            raise StreamError("not-authorized", "nobody is proven on this stream yet")
        if element.xmlns != ns.SERVER:
            raise StreamError("invalid-namespace", "stanzas between servers are in jabber:server")
        stanza = self._addressed(to_client(element))
        assert stanza.sender is not None and stanza.to is not None
        if is_blocked(self.federation.settings_of(stanza.to.domain), stanza.sender.domain):
            raise StreamError("policy-violation", "that domain is not spoken to")
        if len(stanza.inner) > self._parser.limits.bytes:
            raise StreamError("policy-violation", "the stanza is too large in the namespace of clients")
        self.received += 1
        self.federation.received[stanza.name] += 1
        self.active_at = self.federation.clock.seconds()
        running = self.federation.server.tasks.start(self._route(stanza), "a stanza of another server")
        if running is None:
            self._is_handled()
        else:
            self._busy = True  # RFC 6120 section 10.1: what comes behind it stays behind it
            running.addBoth(lambda _: self._is_handled()).addBoth(self._routed)

    def _addressed(self, stanza: Stanza) -> Stanza:
        """The stanza with its addresses, both of which have to be proven on this stream (RFC 6120 section 8.1)."""
        try:
            sender, to = parse(stanza.attributes.pop("from")), parse(stanza.attributes.pop("to"))
        except (KeyError, InvalidJID):
            raise StreamError("improper-addressing", "a stanza needs two valid addresses") from None
        if (sender.domain, to.domain) not in self.proven:
            if all(sender.domain != remote for remote, _ in self.proven):
                raise StreamError("invalid-from", "the sender is of a domain that was not proven here")
            raise StreamError("improper-addressing", "the recipient is of a domain that was not asked for here")
        return stanza.addressed(sender=sender, to=to)

    async def _route(self, stanza: Stanza) -> None:
        server = self.federation.server
        await server.or_bounce(stanza, self._route_or_refuse(stanza))

    async def _route_or_refuse(self, stanza: Stanza) -> None:
        server = self.federation.server
        assert stanza.to is not None
        if stanza.name == "iq":
            check_iq(stanza)
        if stanza.name == "message":
            await server.meet(stanza.to)
        await server.route_or_refuse(stanza)

    def _is_handled(self) -> None:
        if self.sending.machine is not None:
            self.sending.machine.handled += 1

    # ---- stanzas of ours

    def send(self, item: Item) -> None:
        """Send a stanza of a pair that is carried here."""
        self.sent += 1
        self.federation.sent[item.stanza.name] += 1
        self.active_at = self.federation.clock.seconds()
        self.sending.send(item)

    # ---- stream management (XEP-0198)

    @property
    def is_managed(self) -> bool:
        """Whether stanzas are acknowledged."""
        return self.sending.machine is not None

    def _manage(self, element: Stanza) -> None:
        if element.name == "enable":
            self._enable()
        elif element.name == "r" and self.sending.machine is not None:
            self.federation.server.tasks.start(self._answer(self.sending.machine.h), "an acknowledgement")
        elif element.name == "a" and self.sending.machine is not None:
            try:
                self.sending.acknowledged(sm.parse_h(element.attributes.get("h")))
            except HandledCountTooHigh as wrong:
                raise wrong.stream_error() from None
            except ValueError as wrong:
                raise StreamError("invalid-xml", str(wrong)) from None
        elif element.name == "resume":
            self.write(sm.failed("item-not-found", "there is no such stream"))
        else:
            self._negotiate(element)

    def _enable(self) -> None:
        if not self.incoming or not self.proven or self.is_managed or not self.federation.uses_sm:
            self.write(sm.failed("unexpected-request", "not at this time"))
            return
        self.write(sm.enabled("", 0))
        self.sending.enable()

    async def _answer(self, h: int) -> None:
        """Acknowledge what was handled, once all that it has caused is on disk."""
        try:
            await self.federation.server.store.barrier()
        except StorageError:
            return  # the peer keeps what it has sent, and asks again
        if not self.closed:
            self.write(sm.answer(h))

    async def say_goodbye(self) -> None:
        """Acknowledge what was handled, unasked: the stream ends in order, and nothing more is taken."""
        self._takes_leave = True
        self.transport.pause_reading()
        said: int | None = None
        while (machine := self.sending.machine) is not None and not self.closed and machine.h != said:
            said = machine.h
            await self._answer(said)

    # ---- the end

    def write(self, data: bytes) -> None:
        """Send an element."""
        if not self.closed and not self._ended:
            self.transport.write(data)

    def header(self) -> bytes:
        """Our own stream header."""
        raise NotImplementedError

    def end(self, error: StreamError | None, why: str = "") -> None:
        """Close the stream, with an error if there is one (RFC 6120 sections 4.4 and 4.9). Without a reason it is
        closed for want of anything to do."""
        if self.closed or self._ended:
            return
        if not self._sent_header:
            self.transport.write(self.header())
        if error is not None:
            self.transport.write(error.to_bytes())
        self.transport.write(END)
        self._ended = True
        reason = str(error) if error is not None else why or "it is not needed any more"
        if error is None and self.proven and not self.is_managed and not why:
            # What is on its way from the peer would be lost. It ends its half when it has read the end of ours
            # (section 4.4); one that counts sends again what we have not acknowledged.
            self.federation.ended(self, self.sending.end())
            self._linger = self.federation.clock.callLater(LINGER_SECONDS, self._close, reason)
        else:
            self._close(reason)

    def _close(self, reason: str) -> None:
        self._stop(reason)
        self.transport.close()

    def _stop(self, reason: str) -> None:
        """Nothing that the peer sends counts any more; what it has sent before is still handled."""
        if self.closed:
            return
        self.closed = True
        managed = self.is_managed
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._parser.close()
        if managed or not self.proven:
            self._events.clear()  # a peer that counts sends again what it has no answer for
        self.log.info(
            "{session}: the stream {direction} {remote} is over: {reason}", session=self.id[:8],
            direction="from" if self.incoming else "to", remote=self.remote or self.transport.peer, reason=reason,
        )  # fmt: skip
        self.dialback.stop(reason)
        self._stopped(reason)
        self.federation.ended(self, self.sending.end())

    def _stopped(self, reason: str) -> None:
        """What else is to be done when the stream is over."""


def limits_element(federation: Federation, size: int) -> bytes:
    """What we tell of our limits (XEP-0478)."""
    return limits_feature(size, int(federation.idle_seconds))


def max_bytes_of(parent: Any) -> int:
    """The ``<max-bytes/>`` of the ``<limits/>`` in an element, 0 where it does not say."""
    for told in parent.elements(ns.STREAM_LIMITS, "limits"):
        for size in told.elements(ns.STREAM_LIMITS, "max-bytes"):
            text = str(size).strip()
            if text.isascii() and text.isdigit() and len(text) < 12:
                return int(text)
    return 0


def stream_error_of(element: Stanza) -> str:
    """The condition and the text of a peer's stream error."""
    children = [child for child in element.tree.elements() if child.uri == ns.STREAM_ERRORS]
    names = (str(child.name) for child in children)
    condition = next((name for name in names if name in STREAM_CONDITIONS), "undefined-condition")
    text = next((str(child) for child in children if child.name == "text"), "")
    return escaped(f"{condition}: {text[:200]}") if text else condition

