"""One client's BOSH session: the order of its requests, what they are answered, and how it ends; the `Transport` of its
stream."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from xmppd.config import Duration, Option, Scope
from xmppd.core.http import HttpRequest
from xmppd.net.addresses import TOO_MANY
from xmppd.net.bosh.body import FRAMING, MAX_RID, number, stream_prefix, terminate, version
from xmppd.net.c2s import UNSENT_PAUSE
from xmppd.net.framing import on_its_own
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.parser import StreamEnd, StreamHeader
from xmppd.wire.stanza import LANG
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.net.bosh import Bosh

MAX_INACTIVITY = Option(
    "bosh_max_inactivity", Duration(minimum=1), "60s",
    "How long a BOSH client may have no request open before it counts as gone.", scope=Scope.SERVER,
)  # fmt: skip
MAX_WAIT = Option(
    "bosh_max_wait", Duration(minimum=1), "120s", "How long a request of a BOSH client waits for something to answer.",
    scope=Scope.SERVER,
)  # fmt: skip
MAX_PAUSE = Option(
    "bosh_max_pause", Duration(), "120s", "For how long a BOSH client may announce that it asks nothing.",
    scope=Scope.SERVER,
)  # fmt: skip
OPTIONS = (MAX_INACTIVITY, MAX_WAIT, MAX_PAUSE)

HOLD = 1  # requests that wait at once ...
REQUESTS = 2  # ... and that may be on their way (section 7.1)
BODY_COST = 1000  # bytes that a request counts beside what is in its body
MAX_REPEATS = 10  # of one answer
LEAST_UNSENT = 2 * UNSENT_PAUSE  # that may always wait: nothing leaves within a turn, as it does from a socket

_RESTART = f"{ns.XBOSH} restart"
_VERSION = f"{ns.XBOSH} version"
_RECOVERABLE = tag("body", {"xmlns": ns.BOSH, "type": "error"})
_HARMLESS = re.compile(r"(?:text/xml|application/xml|text/plain)(?:; ?charset=utf-8)?", re.I)


class Asked:
    """One request: what it says, and what it is answered, once that is known. `timer` ends its waiting."""

    __slots__ = ("answer", "attributes", "body", "is_pause", "rid", "timer")

    def __init__(self, rid: int, attributes: dict[str, str], body: bytes) -> None:
        self.rid = rid
        self.attributes = attributes
        self.body = body
        self.is_pause = "pause" in attributes
        self.answer: Deferred[bytes] = Deferred()
        self.timer: Any = None

    def respond(self, answer: bytes) -> None:
        """It is answered, and waits no longer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.answer.callback(answer)


@dataclass(slots=True)
class _Answer:
    """An answer that is kept, for who shows the `key` of its request; `repeats`: how often that was done."""

    key: str | None
    answer: bytes
    repeats: int = 0


class BoshSession:
    """One client's requests: the `Transport` of its stream."""

    tls_version = ""  # each request may have another connection

    def __init__(self, bosh: Bosh, rid: int, attributes: dict[str, str], request: HttpRequest) -> None:
        self._bosh = bosh
        self._clock = bosh.server.clock
        settings = self._settings = bosh.server.settings
        self.sid = bosh.server.token()
        self.peer = request.client
        self.secure = request.secure
        self.unsent = 0
        wait = number(attributes.get("wait"), MAX_RID)
        self._wait = min(settings[MAX_WAIT], float(wait) if wait is not None else settings[MAX_WAIT])
        self._hold = min(HOLD, number(attributes.get("hold"), MAX_RID) or 0) if "hold" in attributes else HOLD
        self._acks = attributes.get("ack") == "1"
        # Section 7.1 lets the client choose; what a browser would run is not among what it may choose here.
        wanted = attributes.get("content", "")
        self.type = wanted if _HARMLESS.fullmatch(wanted) else "text/xml; charset=utf-8"
        self._next = rid  # what is handled next
        self._key: str | None = None
        self._early: dict[int, Asked] = {}  # what came before what it follows, or faster than it may
        self._held: list[Asked] = []  # handled and not answered, in order
        self._answers: dict[int, _Answer] = {}  # the last ones
        self._out: list[bytes] = []
        self._flush: Any = None
        self._drained: list[Callable[[bool], None]] = []
        self._paused = self._handling = False
        self._closing = self._gone = False
        self._created = False
        self._idle: Any = None
        self._inactivity: float = settings[MAX_INACTIVITY]
        self.stream = bosh.clients.stream(self, FRAMING)

    # ---- requests

    def asked(self, asked: Asked) -> None:
        """A request has come (section 14). It is handled in a turn of its own: it may have come while another is
        answered."""
        if self._gone:
            asked.respond(terminate("item-not-found"))
        elif asked.rid < self._next:
            self._ask_again(asked)
        elif asked.rid >= self._next + REQUESTS + _is_extra(asked):
            self._fail("item-not-found", asked)
        elif len(asked.body) > self.stream.limits.bytes + BODY_COST:
            self._fail("policy-violation", asked)
        else:
            former = self._early.get(asked.rid)
            if former is not None:
                former.respond(_RECOVERABLE)
            self._early[asked.rid] = asked
            self._say_soon()

    def _ask_again(self, asked: Asked) -> None:
        """Section 14.3: what came before, comes again."""
        key = asked.attributes.get("key")
        kept = self._answers.get(asked.rid)
        held = next((position for position, each in enumerate(self._held) if each.rid == asked.rid), None)
        self.stream.slow_down(BODY_COST)
        if kept is not None and kept.key == key and kept.repeats < MAX_REPEATS:
            kept.repeats += 1
            asked.respond(kept.answer)
        elif held is not None and self._held[held].attributes.get("key") == key:
            former, self._held[held] = self._held[held], asked
            former.respond(_RECOVERABLE)
            self._let_wait(asked)
        else:
            self._fail("item-not-found", asked)

    def _let_wait(self, asked: Asked) -> None:
        asked.timer = self._clock.callLater(self._wait, self._waited, asked)

    def _go_on(self) -> None:
        """Handle what is there in its order, unless the client sends faster than it may."""
        if self._handling:
            return
        self._handling = True
        try:
            while self._may_go_on() and (asked := self._early.pop(self._next, None)) is not None:
                self._next += 1
                self._handle(asked)
        finally:
            self._handling = False

    def _may_go_on(self) -> bool:
        """Who is not read from, because much waits for it, may still ask for that."""
        return not self._gone and (not self._paused or self._closing or self.unsent > UNSENT_PAUSE)

    def _handle(self, asked: Asked) -> None:
        self._stop_idle()
        self._inactivity = self._settings[MAX_INACTIVITY]
        self._held.append(asked)
        self._let_wait(asked)
        if not self._is_key(asked.attributes):
            self._fail("item-not-found")
            return
        self._feed(asked)
        self.stream.slow_down(len(asked.body) + BODY_COST)
        asked.body = b""
        if asked.is_pause and not self._closing:  # section 10
            pause = number(asked.attributes["pause"], MAX_RID) or 0
            self._inactivity = max(1, min(pause, self._settings[MAX_PAUSE]))
            while self._held:
                self._answer_with(self._held.pop(0), [])
        while not self._gone and len(self._held) > (0 if self._closing else self._hold):
            self._answer()

    def _feed(self, asked: Asked) -> None:
        """Give the stream what a body says."""
        attributes, stream = asked.attributes, self.stream
        restarts = attributes.get(_RESTART) in ("true", "1")
        if restarts or "sid" not in attributes:  # XEP-0206 sections 3 and 5
            header = {name: attributes[name] for name in ("to", "from", LANG) if name in attributes}
            header["version"] = attributes.get(_VERSION, "1.0")
            stream.take([StreamHeader(header, {"": ns.CLIENT})])
            if not stream.admitted:
                stream.end(StreamError("policy-violation", TOO_MANY))
        if not restarts and not stream.closed:
            stream.feed(asked.body)
        if attributes.get("type") == "terminate":  # section 13
            stream.take([StreamEnd()])

    def _is_key(self, attributes: dict[str, str]) -> bool:
        """Section 15: each request shows what the one before was made of."""
        key = attributes.get("key", "")
        if self._key is not None:
            digest = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
            if not hmac.compare_digest(digest.encode(), self._key.lower().encode()):
                return False
            self._key = key
        self._key = attributes.get("newkey", self._key)
        return True

    def nobody_waits(self, asked: Asked) -> None:
        """The connection of a request has gone before its answer: the client gets that when it asks again, and what
        comes from now on waits for the next request."""
        if self._early.get(asked.rid) is asked:
            del self._early[asked.rid]
            asked.respond(b"")
        elif asked in self._held:
            while self._held and self._held[0].rid <= asked.rid:
                self._answer_with(self._held.pop(0), [])

    def _waited(self, asked: Asked) -> None:
        asked.timer = None
        while self._held and self._held[0].rid <= asked.rid:
            self._answer()

    # ---- answers

    def _answer(self) -> None:
        """Answer the oldest request that waits, with all that there is to say."""
        out, self._out, self.unsent = self._out, [], 0
        drained, self._drained = self._drained, []
        asked = self._held.pop(0)
        if self._closing:
            error = any(element.startswith(b"<stream:error") for element in out)
            self._finish(asked, terminate("remote-stream-error" if error else None, *out))
        else:
            self._answer_with(asked, out)
        for callback in drained:
            callback(True)

    def _answer_with(self, asked: Asked, elements: list[bytes]) -> None:
        attributes: dict[str, str | None] = {"xmlns": ns.BOSH, "xmlns:stream": stream_prefix(elements)}
        if not self._created:
            self._created = True
            attributes.update(self._creation(asked))
        elif self._acks and self._next - 1 > asked.rid:  # section 9.1
            attributes["ack"] = str(self._next - 1)
        self._keep_and_send(asked, tag("body", attributes, *elements))
        if not self._held:
            self._start_idle()

    def _keep_and_send(self, asked: Asked, answer: bytes) -> None:
        if not asked.is_pause:
            self._answers[asked.rid] = _Answer(asked.attributes.get("key"), answer)
            while len(self._answers) > REQUESTS:
                del self._answers[next(iter(self._answers))]
        asked.respond(answer)

    def _creation(self, asked: Asked) -> dict[str, str | None]:
        """Section 7.2, and XEP-0206 section 4."""
        host = self.stream.host
        return {
            "xmlns:xmpp": ns.XBOSH, "sid": self.sid, "wait": str(int(self._wait)), "hold": str(self._hold),
            "requests": str(REQUESTS), "inactivity": str(int(self._settings[MAX_INACTIVITY])),
            "maxpause": str(int(self._settings[MAX_PAUSE])), "ver": version(asked.attributes.get("ver")),
            "ack": str(asked.rid) if self._acks else None, "from": host.domain if host is not None else None,
            "xmpp:version": "1.0", "xmpp:restartlogic": "true",
        }  # fmt: skip

    # ---- the end

    def _start_idle(self) -> None:
        if self._idle is None and not self._gone:
            self._idle = self._clock.callLater(self._inactivity, self._is_idle)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _is_idle(self) -> None:
        self._idle = None
        if self._paused and self._next in self._early:
            self._start_idle()
        else:
            self._end("it has asked for nothing too long", terminate("item-not-found"))

    def _fail(self, condition: str, asked: Asked | None = None) -> None:
        """The client has broken the rules: nothing more is said or heard."""
        if asked is not None:
            asked.respond(terminate(condition))
        self._end(f"its requests are wrong: {condition}", terminate(condition))

    def _finish(self, asked: Asked, last: bytes) -> None:
        """The stream is closed, and this is the last that is said; the other requests are answered with nothing."""
        self._keep_and_send(asked, last)
        self._end("closed", tag("body", {"xmlns": ns.BOSH}))

    def _end(self, reason: str, answer: bytes) -> None:
        """There is no such session any more; `answer` is what requests get that wait."""
        if self._gone:
            return
        self._gone = self._closing = True
        self._stop_idle()
        requests = [*self._held, *self._early.values()]
        self._held, self._early = [], {}
        for asked in requests:
            self._keep_and_send(asked, answer)
        del self._bosh.sessions[self.sid]
        drained, self._drained = self._drained, []
        for callback in drained:
            callback(False)
        # Not from within a write: whoever is writing must not find the world changed when it returns.
        self._clock.callLater(0, self.stream.connection_lost, reason)

    # ---- for the stream; see `Transport`

    def write(self, data: bytes) -> None:
        """Send an element with the next answer."""
        if self._closing or not data:
            return
        element = on_its_own(data)
        self._out.append(element)
        self.unsent += len(element)
        self._say_soon()
        if self.unsent > max(self._bosh.clients.max_unsent, LEAST_UNSENT):
            if self._held:
                self._answer()
            else:
                self.abort("it does not ask for what it is sent")

    def _say_soon(self) -> None:
        """Answer when all of this turn is there."""
        if self._flush is None:
            self._flush = self._clock.callLater(0, self._say)

    def _say(self) -> None:
        self._flush = None
        self._go_on()
        if self._closing and not self._gone:
            self._close()
        elif self._out and self._held:
            self._answer()

    def _close(self) -> None:
        """The stream is closed: say so to who asks, or will ask if it has logged in."""
        if not self._held and self._early:
            self._held.append(self._early.pop(min(self._early)))
        if self._held:
            self._answer()
        elif self.stream.account_name is None:
            self._end("closed", terminate())

    def keep_alive(self) -> None:
        """Whoever asks is there."""

    def start_tls(self, context: object) -> None:
        """Never: XEP-0206 section 4."""
        raise RuntimeError("TLS does not begin within BOSH")

    def channel_binding(self, type: str) -> bytes | None:
        """None: each request may have another connection."""
        return None

    def pause_reading(self) -> None:
        """Handle no more requests for a while; there are never more than a few."""
        self._paused = True

    def resume_reading(self) -> None:
        """Go on with what has come meanwhile."""
        if self._paused:
            self._paused = False
            self._say_soon()

    def when_drained(self, callback: Callable[[bool], None]) -> None:
        """Call back when all that was written was given in answers, or never will be."""
        if self._gone:
            callback(False)
        elif not self._out:
            callback(True)
        else:
            self._drained.append(callback)

    def close(self) -> None:
        """End with the next answer, which has to be asked for in time."""
        if self._closing:
            return
        self._closing = True
        self._say_soon()

    def abort(self, reason: str) -> None:
        """End now."""
        self._end(reason, terminate("policy-violation"))


def _is_extra(asked: Asked) -> bool:
    """Whether a request may come beyond what may be on its way (section 11)."""
    return asked.is_pause or asked.attributes.get("type") == "terminate"
