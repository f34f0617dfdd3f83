"""BOSH (XEP-0124 1.11.2, XEP-0206 1.4): the same streams as over TCP, in the bodies of HTTP requests and answers.

A client asks; while there is nothing for it the answer waits, as long as the client allows. What it sends is handled in
the order of its ``rid``, however the requests arrive, and answers are kept for whoever did not get them. TLS is that of
HTTP, ended here or by a trusted proxy in front.

Sessions of several streams, and the HTTP status codes of before version 1.6, are not spoken.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xmppd.config import Duration, Option, Scope
from xmppd.core.http import BOSH_PATH, HttpRequest, HttpResponse
from xmppd.net.addresses import TOO_MANY
from xmppd.net.framing import Framing, on_its_own
from xmppd.net.header import addressed_host
from xmppd.net.service import ClientService
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.parser import BEFORE_LOGIN, Event, Limits, StreamEnd, StreamHeader, StreamParser, first_tag
from xmppd.wire.stanza import LANG, Stanza
from xmppd.wire.xml import tag

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

VERSION = (1, 11)
HOLD = 1  # requests that wait at once ...
REQUESTS = 2  # ... and that may be on their way (section 7.1)
MAX_BODY = 16 * 1024 * 1024  # beside ``http_max_content_size``
MAX_RID = 2**53 - 1
REQUEST_COST = 500  # bytes that a request counts beside its body

_BODY = (ns.BOSH, "body")
_RESTART = f"{ns.XBOSH} restart"
_VERSION = f"{ns.XBOSH} version"
_HARMLESS = re.compile(r"(?:text/xml|application/xml|text/plain)(?:; ?charset=utf-8)?", re.I)


class Bosh:
    """The sessions of BOSH clients, by their ``sid``."""

    def __init__(self, clients: ClientService) -> None:
        self.clients = clients
        self.server = clients.server
        self.sessions: dict[str, BoshSession] = {}
        self.log = Logger(namespace="xmppd.bosh")
        self.server.http.on("POST", BOSH_PATH, self._answer, max_body=MAX_BODY, cors=True)

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        attributes = _attributes(first_tag(request.body))
        rid = _number(attributes.get("rid"), MAX_RID)
        if not rid:
            return _response(terminate("bad-request"))
        if "sid" in attributes:
            session = self.sessions.get(attributes["sid"])
        elif not self.server.ready:
            return _response(terminate("system-shutdown"))
        elif addressed_host(self.server, attributes.get("to")) is None:
            return _response(terminate("host-unknown" if attributes.get("to") else "improper-addressing"))
        else:
            session = BoshSession(self, rid, attributes, request)
            self.sessions[session.sid] = session
        if session is None:
            return _response(terminate("item-not-found"))
        if session.secure and not request.secure:  # section 19.1; to end the session would help an attacker
            return HttpResponse(403, b"this session is for https\n")
        asked = _Asked(rid, attributes, request.body)
        request.lost = lambda: session.nobody_waits(asked)
        session.asked(asked)
        return _response(await asked.answer, session.type)


def _attributes(tag: bytes) -> dict[str, str]:
    """The attributes of a ``<body/>``, of which only the start tag is there; none where it is no such thing."""
    parser = StreamParser(BEFORE_LOGIN, _BODY)
    events = parser.feed(tag)
    parser.close()
    return events[0].attributes if events and isinstance(events[0], StreamHeader) else {}


def _number(text: str | None, most: int) -> int | None:
    """What an attribute says; None where it is no number from 0 to `most`."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 16:
        return None
    return int(text) if int(text) <= most else None


def _response(body: bytes, type: str = "text/xml; charset=utf-8") -> HttpResponse:
    return HttpResponse(200, body, type)


def terminate(condition: str | None = None, *elements: bytes) -> bytes:
    """A body that ends the session, because of a terminal binding condition where there is one (section 17.2)."""
    return tag("body", {"xmlns": ns.BOSH, "type": "terminate", "condition": condition}, *elements)


# ---- how a stream is framed


class BodyParser:
    """Reads what is in bodies, each of which comes whole."""

    unfinished = False

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def feed(self, data: bytes) -> list[Event]:
        """The elements in one body."""
        parser = StreamParser(self.limits, _BODY)
        events = parser.feed(data)
        parser.close()
        if not events or not isinstance(events[-1], StreamEnd | StreamError):
            events.append(StreamError("not-well-formed", "a body comes whole"))
        return [event for event in events if isinstance(event, Stanza | StreamError)]

    def close(self) -> None:
        """See `Parser`."""


def _nothing(domain: str, to: str | None, id: str) -> bytes:
    """A stream begins with the session, and each of its answers says so."""
    return b""


FRAMING = Framing("bosh", BodyParser, _nothing, b"")


# ---- the transport of a stream


class _Asked:
    """One request: what it says, and what it is answered, once that is known. `timer` ends its waiting."""

    __slots__ = ("answer", "attributes", "body", "rid", "timer")

    def __init__(self, rid: int, attributes: dict[str, str], body: bytes) -> None:
        self.rid = rid
        self.attributes = attributes
        self.body = body
        self.answer: Deferred[bytes] = Deferred()
        self.timer: Any = None


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
        wait = _number(attributes.get("wait"), MAX_RID)
        self._wait = min(settings[MAX_WAIT], float(wait) if wait is not None else settings[MAX_WAIT])
        self._hold = min(HOLD, _number(attributes.get("hold"), MAX_RID) or 0) if "hold" in attributes else HOLD
        self._acks = attributes.get("ack") == "1"
        # Section 7.1 lets the client choose; what a browser would run is not among what it may choose here.
        wanted = attributes.get("content", "")
        self.type = wanted if _HARMLESS.fullmatch(wanted) else "text/xml; charset=utf-8"
        self._next = rid  # what is handled next
        self._key: str | None = None
        self._early: dict[int, _Asked] = {}  # what came before what it follows, or faster than it may
        self._held: list[_Asked] = []  # handled and not answered, in order
        self._answers: dict[int, tuple[str | None, bytes]] = {}  # the last ones, each with the key that it takes
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

    def asked(self, asked: _Asked) -> None:
        """A request has come (section 14)."""
        if self._gone:
            asked.answer.callback(terminate("item-not-found"))
        elif asked.rid < self._next:
            self._ask_again(asked)
        elif asked.rid >= self._next + REQUESTS + _is_extra(asked):
            self._fail("item-not-found", asked)
        else:
            former = self._early.get(asked.rid)
            if former is not None:
                former.answer.callback(_RECOVERABLE)
            self._early[asked.rid] = asked
            self._go_on()

    def _ask_again(self, asked: _Asked) -> None:
        """Section 14.3: what came before, comes again."""
        key = asked.attributes.get("key")
        if asked.rid in self._answers:
            its_key, answer = self._answers[asked.rid]
            if its_key == key:
                asked.answer.callback(answer)
                return
        for position, former in enumerate(self._held):
            if former.rid == asked.rid and former.attributes.get("key") == key:
                asked.timer, former.timer = former.timer, None
                self._held[position] = asked
                former.answer.callback(_RECOVERABLE)
                return
        self._fail("item-not-found", asked)

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
        """Whatever a client may send, it may ask for what waits for it."""
        return not self._gone and (not self._paused or self._closing or bool(self._out and not self._held))

    def _handle(self, asked: _Asked) -> None:
        attributes = asked.attributes
        self._stop_idle()
        self._inactivity = self._settings[MAX_INACTIVITY]
        self._held.append(asked)
        asked.timer = self._clock.callLater(self._wait, self._waited, asked)
        if not self._is_key(attributes):
            self._fail("item-not-found")
        elif "pause" in attributes and not self._closing:  # section 10
            self._inactivity = max(1, min(_number(attributes["pause"], MAX_RID) or 0, self._settings[MAX_PAUSE]))
            self._answer_all()
        else:
            self._feed(asked)
            self.stream.slow_down(len(asked.body) + REQUEST_COST)
            while not self._gone and len(self._held) > (0 if self._closing else self._hold):
                self._answer()
            if self._out:
                self._say_soon()

    def _feed(self, asked: _Asked) -> None:
        """Give the stream what a body says."""
        attributes, stream = asked.attributes, self.stream
        is_first = "sid" not in attributes
        if is_first or attributes.get(_RESTART) in ("true", "1"):  # XEP-0206 sections 3 and 5
            header = {name: attributes[name] for name in ("to", "from", LANG) if name in attributes}
            header["version"] = attributes.get(_VERSION, "1.0")
            stream.take([StreamHeader(header, {"": ns.CLIENT})])
            if not stream.admitted:
                stream.end(StreamError("policy-violation", TOO_MANY))
        if stream.account_name is None and len(asked.body) > stream.limits.bytes:
            stream.end(StreamError("policy-violation", "a body is too large before the login"))
        if is_first or _RESTART not in attributes:
            stream.feed(asked.body)
        if attributes.get("type") == "terminate":  # section 13
            stream.take([StreamEnd()])

    def _is_key(self, attributes: dict[str, str]) -> bool:
        """Section 15: each request shows what the one before was made of."""
        key = attributes.get("key")
        if self._key is not None:
            digest = hashlib.sha1((key or "").encode(), usedforsecurity=False).hexdigest()
            if not hmac.compare_digest(digest, self._key):
                return False
        self._key = attributes.get("newkey") or (key if self._key is not None else None)
        return True

    def nobody_waits(self, asked: _Asked) -> None:
        """The connection of a request has gone before its answer: the client gets that when it asks again, and what
        comes from now on waits for the next request."""
        if asked in self._held:
            while self._held and self._held[0].rid <= asked.rid:
                self._answer_with(self._held.pop(0), [])

    def _waited(self, asked: _Asked) -> None:
        asked.timer = None
        while self._held and self._held[0].rid <= asked.rid:
            self._answer()

    # ---- answers

    def _answer(self) -> None:
        """Answer the oldest request that waits, with all that there is to say."""
        out, self._out, self.unsent = self._out, [], 0
        asked = self._held.pop(0)
        if self._closing:
            error = any(element.startswith(b"<stream:error") for element in out)
            self._finish(asked, terminate("remote-stream-error" if error else None, *out))
        else:
            self._answer_with(asked, out)
        drained, self._drained = self._drained, []
        for callback in drained:
            callback(True)

    def _answer_all(self) -> None:
        """Answer all requests that wait, with nothing."""
        while self._held:
            self._answer_with(self._held.pop(0), [])

    def _answer_with(self, asked: _Asked, elements: list[bytes]) -> None:
        attributes: dict[str, str | None] = {"xmlns": ns.BOSH}
        if not self._created:
            self._created = True
            attributes.update(self._creation(asked))
        elif self._acks and self._next - 1 > asked.rid:  # section 9.1
            attributes["ack"] = str(self._next - 1)
        self._keep_and_send(asked, tag("body", attributes, *elements))
        if not self._held:
            self._start_idle()

    def _keep_and_send(self, asked: _Asked, answer: bytes) -> None:
        self._answers[asked.rid] = asked.attributes.get("key"), answer
        while len(self._answers) > REQUESTS:
            del self._answers[next(iter(self._answers))]
        if asked.timer is not None:
            asked.timer.cancel()
            asked.timer = None
        asked.answer.callback(answer)

    def _creation(self, asked: _Asked) -> dict[str, str | None]:
        """Section 7.2, and XEP-0206 section 4."""
        host = self.stream.host
        return {
            "xmlns:xmpp": ns.XBOSH, "sid": self.sid, "wait": str(int(self._wait)), "hold": str(self._hold),
            "requests": str(REQUESTS), "inactivity": str(int(self._settings[MAX_INACTIVITY])),
            "maxpause": str(int(self._settings[MAX_PAUSE])), "ver": _version(asked.attributes.get("ver")),
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
        self._end("it has asked for nothing too long", terminate("item-not-found"))

    def _fail(self, condition: str, asked: _Asked | None = None) -> None:
        """The client has broken the rules: nothing more is said or heard."""
        if asked is not None:
            asked.answer.callback(terminate(condition))
        self._end(f"its requests are wrong: {condition}", terminate(condition))

    def _finish(self, asked: _Asked, last: bytes) -> None:
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
        if self.unsent > self._bosh.clients.max_unsent:
            self.abort("it does not ask for what it is sent")
        else:
            self._say_soon()

    def _say_soon(self) -> None:
        """Answer when all of this turn is there."""
        if self._flush is None:
            self._flush = self._clock.callLater(0, self._say)

    def _say(self) -> None:
        self._flush = None
        self._go_on()
        if (self._out or self._closing) and self._held:
            self._answer()

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
            self._go_on()

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


_RECOVERABLE = tag("body", {"xmlns": ns.BOSH, "type": "error"})


def _is_extra(asked: _Asked) -> bool:
    """Whether a request may come beyond what may be on its way (section 11)."""
    return "pause" in asked.attributes or asked.attributes.get("type") == "terminate"


def _version(wanted: str | None) -> str | None:
    """The version that is spoken: the lower of both (section 7.2)."""
    if wanted is None:
        return None
    major, _, minor = wanted.partition(".")
    theirs = _number(major, 1000), _number(minor, 1000)
    if theirs[0] is None or theirs[1] is None:
        return None
    return "{}.{}".format(*min(VERSION, (theirs[0], theirs[1])))
