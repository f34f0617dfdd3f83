"""Client state indication (XEP-0352 1.0.0): a client that nobody looks at is left to sleep.

While a client is inactive, presence and chat states wait, merged to the newest of each sender, until something
important comes, which they precede, or the client is active again. When the connection breaks they go to whoever keeps
the session (XEP-0198), so nothing is lost; a resumed session is active (section 5.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twisted.words.xish import domish

from xmppd.config import Integer, Option
from xmppd.core.client_state import ClientState
from xmppd.core.events import Hibernated, Resumed
from xmppd.core.host import Host, StreamFeature
from xmppd.core.routing import is_of_the_moment
from xmppd.core.session import Carrier, Session
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

QUEUE_SIZE = Option(
    "csi_queue_size", Integer(minimum=1), "256",
    "How many stanzas wait for an inactive client; one more, and all are sent.",
)  # fmt: skip
OPTIONS = (QUEUE_SIZE,)

MAX_BYTES = 4096  # of a stanza that waits


def setup(host: Host) -> None:
    """Hook client states into a host."""
    host.features.append(StreamFeature("csi", True, lambda: tag("csi", {"xmlns": ns.CSI})))
    host.nonzas[ns.CSI, "active"] = active
    host.nonzas[ns.CSI, "inactive"] = inactive
    host.on_bind(ns.CSI, ns.CSI, "active", lambda session, element: None)
    host.on_bind(ns.CSI, ns.CSI, "inactive", begin_inactive)
    host.provide(ClientState, States())
    host.session_state["csi"] = (_is_inactive, lambda session, inactive: session.put(Said(inactive)))
    host.bus.on(Hibernated, lambda event: event.session.open_gate())
    host.bus.on(Resumed, lambda event: event.session.put(Said(inactive=False)))


@dataclass(slots=True)
class Said:
    """Record of a session: what its client has said last of whether somebody looks at it."""

    inactive: bool


class States(ClientState):
    """See `ClientState`."""

    def holds_back(self, session: Session, stanza: Stanza) -> bool:
        """See `ClientState`."""
        return bool(_is_inactive(session)) and may_wait(session, stanza)


def _is_inactive(session: Session) -> bool | None:
    said = session.find(Said)
    return True if said is not None and said.inactive else None


class Inactive:
    """The `Gate` of a session whose client is inactive."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[tuple[str, str], Stanza] = {}
        self._copies = 0

    def holds(self, stanza: Stanza) -> bool:
        """See `Gate`."""
        if stanza.sender is None or not may_wait(self._session, stanza):
            self.flush()
            return False
        key = stanza.name, stanza.sender.full
        if stanza.sender == self._session.account.jid:  # copies, of messages from and to anybody
            self._copies += 1
            key = "copy", str(self._copies)
        self._waiting.pop(key, None)  # the newest goes to the end: what came before it still does
        self._waiting[key] = stanza
        if len(self._waiting) > self._session.host.settings[QUEUE_SIZE]:
            self.flush()
        return True

    def flush(self) -> None:
        """Send everything that waits, in the order in which it came."""
        waiting, self._waiting = self._waiting, {}
        for stanza in waiting.values():
            self._session.pass_on(stanza)


def may_wait(session: Session, stanza: Stanza) -> bool:
    """Whether a stanza is of no use to somebody who does not look: presence, and messages with nothing but chat
    states, also the server's copies of such (XEP-0280). Requests for a subscription, errors and iqs are of use; what is
    large does not wait in memory."""
    if len(stanza.inner) > MAX_BYTES:
        return False
    if stanza.name == "presence":
        return stanza.type in (None, "unavailable")
    if stanza.name != "message" or stanza.type == "error" or not stanza.children:
        return False
    if stanza.sender == session.account.jid and stanza.children[0][0] == ns.CARBONS:
        copied = next(_messages(stanza.tree), None)
        return copied is not None and is_of_the_moment((child.uri, child.name) for child in copied.elements())
    return is_of_the_moment(child[:2] for child in stanza.children)


def _messages(copy: domish.Element) -> Iterator[domish.Element]:
    for wrapper in copy.elements():
        for forwarded in wrapper.elements(ns.FORWARD, "forwarded"):
            yield from forwarded.elements(ns.CLIENT, "message")


# ---- elements of the client


def active(stream: Carrier, element: Stanza) -> None:
    """Section 4: what waits is sent before anything that follows is answered (section 5.1)."""
    session = _session(stream)

    async def turn() -> None:
        session.put(Said(inactive=False))
        session.open_gate()

    session.in_turn(turn)


def inactive(stream: Carrier, element: Stanza) -> None:
    """Section 4."""
    session = _session(stream)

    async def turn() -> None:
        session.put(Said(inactive=True))
        if session.gate is None and session.carrier is stream:  # else it has lost the stream meanwhile
            session.gate = Inactive(session)

    session.in_turn(turn)


def begin_inactive(session: Session, element: domish.Element) -> None:
    """XEP-0386 section 3.2, XEP-0352 section 4.2: a session that begins so."""
    session.put(Said(inactive=True))
    session.gate = Inactive(session)


def _session(stream: Carrier) -> Session:
    if stream.session is None:
        raise StreamError("not-authorized", "bind a resource first")
    return stream.session
