"""Clients that do what XEP-0198 wants of them, and the ledger that knows what became of every message."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tests.support.world import Player

if TYPE_CHECKING:
    from tests.support.world import World

CLIENT, SM, SASL = "{jabber:client}", "{urn:xmpp:sm:3}", "{urn:ietf:params:xml:ns:xmpp-sasl}"
STREAM, STREAMS = "{http://etherx.jabber.org/streams}", "{urn:ietf:params:xml:ns:xmpp-streams}"
STANZAS, CARBONS = "{urn:ietf:params:xml:ns:xmpp-stanzas}", "{urn:xmpp:carbons:2}"
DOMAIN = "example.org"
STREAM_ERRORS = ("system-shutdown", "conflict", "connection-timeout", "resource-constraint")


@dataclass(slots=True)
class Message:
    """One message, and what is known of it.

    `acked`: its sender was told that it is handled, `resumed` at a resumption, where an error can only follow.
    `unsure`: its sender was left without a word and does not send it again, so that it may be lost. `moved`: a session
    of its recipient has ended since, so that it may have been brought to another. `got`: the full JIDs that have had
    it, `copied` those that have had a copy, `again` those whose sessions have ended before they could say that they
    have it, and `over` how often the server had died when the sessions of those ended that had it.
    """

    id: str
    number: int
    sender: Client
    to: str
    acked: bool = False
    resumed: bool = False
    bounced: int = 0
    unsure: bool = False
    moved: bool = False
    got: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    again: set[str] = field(default_factory=set)
    over: dict[str, int] = field(default_factory=dict)

    def sent_again(self) -> None:
        """Its sender sends it again; that it was refused the first time is not known to the server any more."""
        if self.bounced:
            self.bounced = 0
            self.copied.clear()


class Ledger:
    """What became of every message. A rule that is broken is an `AssertionError` at once, or at `check`.

    `notes`: what happened, in words. `twice`: what clients without stream management got more than once, which nobody
    can help when the process dies or the disk fails between their getting it and its being noted. `shared`: accounts
    with several clients, of which one may get what another one did not acknowledge. `died`: how often the process has.
    """

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.twice: list[str] = []
        self.notes: list[str] = []
        self.shared: set[str] = set()
        self.died = 0
        self.failing: Callable[[], bool] = lambda: False  # whether the disk has failed since the beginning
        self._last: dict[tuple[str, str, str], int] = {}

    def new(self, sender: Client, to: str) -> Message:
        """One more message, from `sender` to a bare or full JID."""
        number = len(self.messages) + 1
        message = self.messages[f"m{number}"] = Message(f"m{number}", number, sender, to)
        return message

    def came(self, client: Client, element: ElementTree.Element) -> None:
        """A client was sent a message, an error, or a copy."""
        for kind in ("received", "sent"):
            copy = element.find(f"{CARBONS}{kind}")
            if copy is not None:
                inner = next(copy.iter(f"{CLIENT}message"))
                self.notes.append(f"{client.full} gets a copy of {inner.get('id')} {inner.get('type')}")
                if inner.get("type") != "error":
                    self._copied(client, self.messages[inner.get("id", "")])
                return
        message = self.messages[element.get("id", "")]
        self.notes.append(f"{client.full} gets {message.id} {element.get('type')}, number {client.handled}")
        if element.get("type") == "error":
            self._refused(client, message, element)
        else:
            late = element.find("{urn:xmpp:delay}delay") is not None
            self._delivered(client, message, late and self.failing())

    def _copied(self, client: Client, message: Message) -> None:
        assert client.full not in message.copied, f"{client.full} got a copy of {message.id} twice"
        message.copied.append(client.full)

    def _delivered(self, client: Client, message: Message, left: bool) -> None:
        """`left`: it may have been left in the store when the disk failed, until somebody asked again."""
        if client.full in message.got:
            shared = message.moved and message.to in self.shared
            again = shared or client.full in message.again or self._was_left(message, client)
            assert again or not client.managed, f"{client.full} got {message.id} twice"
            if not client.managed:
                self.twice.append(f"{message.id} to {client.full}")
            return
        excused = message.moved or message.to in self.shared
        assert excused or not message.bounced, f"{message.id} was refused, and came to {client.full} all the same"
        message.got.append(client.full)
        client.got(message)
        key = message.sender.full, message.to, client.full
        last = self._last.get(key, 0)
        if left or not client.available:
            return  # what is for its full JID comes at once, what has waited for it with its presence
        shared = message.moved and client.bare in self.shared
        assert shared or last < message.number, f"{client.full} got {message.id} after m{last}"
        self._last[key] = max(last, message.number)

    def _was_left(self, message: Message, client: Client) -> bool:
        """Whether the disk may still have had a message when the session that had got it was over: what a client has
        acknowledged is deleted when that is convenient, and that can fail."""
        died = message.over.get(client.full)
        return died is not None and (self.died > died or self.failing())

    def _refused(self, client: Client, message: Message, element: ElementTree.Element) -> None:
        assert client.bare == message.sender.bare, f"{client.full} got the error for {message.id}"
        error = element.find(f"{CLIENT}error")
        assert error is not None
        found = error[0].tag, error.get("type")
        assert found == (f"{STANZAS}resource-constraint", "wait"), f"{message.id} was refused with {found}"
        assert message.moved or message.resumed or not message.acked, f"{message.id} was acknowledged, and then refused"
        excused = message.moved or message.to in self.shared
        assert excused or not message.got, f"{message.id} came to {message.got}, and then was refused"
        message.bounced += 1
        assert message.bounced == 1 or message.to in self.shared, f"{message.id} was refused twice"

    def session_over(self, client: Client) -> None:
        """A session of a client has ended, with what waited for the client in it."""
        for message in self.messages.values():
            if message.to.partition("/")[0] == client.bare:
                message.moved = True
            if message.sender is client and self.failing():
                message.unsure = True  # an error for it may have ended with the session

    def check(self) -> None:
        """Now that everybody is there and nothing is under way: every message is somewhere, once."""
        for message in self.messages.values():
            to = message.to.partition("/")[0]
            assert all(full.partition("/")[0] == to for full in message.got), f"{message.id} came to {message.got}"
            if message.bounced or message.unsure:
                continue
            assert message.acked or not message.sender.managed, f"{message.id} was never acknowledged"
            assert message.got, f"{message.id} from {message.sender.full} to {message.to} is lost"


class Client:
    """One resource of a person. It does nothing but by `reads`, `connects`, `says` and so on, and none of these lets
    the server's clock go on.

    `managed`: with stream management, which it resumes. `carbons`: it wants copies. `silent`: it does not answer
    ``<r/>``. `mute`: what it sends is lost on the way, which it does not know. `requested`: for how many ``<r/>``
    there was no ``<a/>`` yet.
    """

    def __init__(self, ledger: Ledger, full: str, *, managed: bool = True, carbons: bool = False) -> None:
        self.ledger = ledger
        self.full = full
        self.bare, _, self.resource = full.partition("/")
        self.managed = managed
        self.carbons = carbons
        self.world: World | None = None
        self.player: Player | None = None
        self.up = False
        self.silent = self.mute = False
        self.requested = 0
        self.previd = ""
        self.resumptions = 0
        self.presence = 0  # of those it has sent, the last
        self.seen: dict[str, str] = {}  # the last presence of others, by full JID: its status, or its type
        self.results: dict[str, str] = {}  # what became of its iqs: their types, by id
        self.handled = 0
        self._out: deque[tuple[str, Message | None]] = deque()  # not acknowledged
        self._acked = 0
        self._confirmed = 0  # the last count that the server has got
        self._got: list[tuple[int, int, Message]] = []  # in this session, and how often the server had died by then
        self._came: deque[ElementTree.Element] = deque()
        self._stage = ""

    # ---- the connection

    def connects(self, world: World) -> None:
        """Begin to log in; `reads` goes on with it."""
        assert self.player is None
        self.world = world
        self.player = world.connect()
        self.up = self.mute = False
        self.requested = 0
        self._stage = "authenticate"
        self._opens()

    def _opens(self) -> None:
        assert self.player is not None
        self.player.opens_only(DOMAIN)

    def cut(self, most: int | None = None) -> None:
        """The connection breaks; of what was on its way to the client it still reads `most` elements, or all."""
        player = self.player
        if player is None:
            return
        self.reads(most if self.up or self._stage == "resume" else None)
        if self.player is None:
            return
        self._away()
        player.wire.closed = True
        player.stream.connection_lost("the network broke")

    def orphaned(self, most: int | None = None) -> None:
        """The process at the other end is dead; of what it has sent the client reads `most` elements, or all."""
        self.reads(most if self.up or self._stage == "resume" else None)
        player = self.player
        self._away()
        if player is not None:
            player.wire.closed = True

    def leaves(self) -> None:
        """Close the stream in order, having said what it has."""
        player = self.player
        if player is None or not self.up or self.mute:
            return
        self.reads()
        if self.player is None or self._out:
            return
        if self.managed:
            self._confirms()
        self._sends("</stream:stream>")
        self._away()
        player.stream.connection_lost("closed")
        self._session_over()

    def forgets(self) -> None:
        """The client, which has no connection, knows nothing of its session any more."""
        assert self.player is None
        if self.previd:
            self._session_over()

    def _away(self) -> None:
        self.player = None
        self.up = False
        self._came.clear()
        self._stage = ""
        if not self.managed:
            for message in self.ledger.messages.values():
                if message.sender is self and not message.got:
                    message.unsure = True
            self.ledger.session_over(self)

    def _session_over(self) -> None:
        self.previd = ""
        for number, died, message in self._got:
            message.over[self.full] = self.ledger.died
            if number > self._confirmed or died != self.ledger.died:
                message.again.add(self.full)
        self._got.clear()
        self.ledger.session_over(self)
        for _, lost in self._out:
            if lost is not None:
                lost.unsure = True
        self._out.clear()

    # ---- what it says

    def says(self, to: str) -> Message | None:
        """Send a message, or keep it for the resumption; None where it cannot."""
        if not self.up and not (self.managed and self.previd):
            return None
        message = self.ledger.new(self, to)
        self._gives(f"<message to='{to}' type='chat' id='{message.id}'><body>{message.id}</body></message>", message)
        return message

    def hides(self) -> None:
        """Broadcast that it is not there."""
        self._gives("<presence type='unavailable'/>")

    def tells(self) -> None:
        """Broadcast presence."""
        self.presence += 1
        self._gives(f"<presence><status>{self.presence}</status></presence>")

    def asks(self, id: str, payload: str, type: str = "get", to: str = "") -> None:
        """Send an iq."""
        address = f" to='{to}'" if to else ""
        self._gives(f"<iq type='{type}' id='{id}'{address}>{payload}</iq>")

    def probes(self, to: str) -> None:
        """Ask for somebody's presence."""
        self._gives(f"<presence type='probe' to='{to}'/>")

    def requests(self) -> None:
        """Ask for an acknowledgement."""
        if self.managed and self.up and not self.mute:
            self.requested += 1
            self._sends("<r xmlns='urn:xmpp:sm:3'/>")

    def acknowledges(self) -> None:
        """Acknowledge, unasked."""
        if self.managed and self.up:
            self._confirms()

    def _confirms(self) -> None:
        self._sends(f"<a xmlns='urn:xmpp:sm:3' h='{self.handled}'/>")
        if not self.mute and self.player is not None and not self.player.wire.closed:
            self._confirmed = self.handled

    @property
    def owed(self) -> int:
        """How many of its stanzas are not acknowledged."""
        return len(self._out)

    def _gives(self, xml: str, message: Message | None = None) -> None:
        if self.managed:
            self._out.append((xml, message))
        if self.up:
            self._sends(xml)

    def _sends(self, xml: str) -> None:
        if self.player is not None and not self.mute:
            self.player.sends_only(xml)

    # ---- what it hears

    def reads(self, most: int | None = None) -> bool:
        """React to everything that has come, or to `most` elements; whether anything has."""
        if self.player is None:
            return False
        if self._stage == "authenticate" and self.player.wire.closed:
            self._away_after_end()  # what came last may be in a stream that the client never opened
            return True
        self._came.extend(self.player.all_that_came())
        any_came = bool(self._came)
        count = len(self._came) if most is None else most
        while self._came and count and self.player is not None:
            count -= 1
            self._hears(self._came.popleft())
        if self.player is not None and self.player.wire.closed and not self._came:
            self._away_after_end()
        return any_came

    def _away_after_end(self) -> None:
        player = self.player
        self._away()
        if player is not None:
            player.stream.connection_lost("closed")

    def _hears(self, element: ElementTree.Element) -> None:
        tag = element.tag
        if tag.startswith(CLIENT):
            self._stanza(element)
        elif tag == f"{SM}r":
            if not self.silent:
                self.acknowledges()
        elif tag == f"{SM}a":
            self.requested = max(0, self.requested - 1) if not self.ledger.failing() else 0
            self._acknowledged(element, "acknowledged")
        elif tag == f"{SM}enabled":
            assert self._stage == "enable"
            self.previd = element.get("id", "")
            self.handled = self._acked = self._confirmed = 0
            self._got.clear()
            self._arrived()
        elif tag == f"{SM}resumed":
            assert self._stage == "resume" and element.get("previd") == self.previd
            self._acknowledged(element, "acknowledged at the resumption")
            self._stage = ""
            self.up = True
            self.resumptions += 1
            again = [message.id for _, message in self._out if message is not None]
            self.ledger.notes.append(f"{self.full} resumed at {self.handled}, {again} again")
            for xml, message in self._out:
                if message is not None:
                    message.sent_again()
                self._sends(xml)
        elif tag == f"{SM}failed":
            self._failed(element)
        elif tag == f"{STREAM}error":
            self.ledger.notes.append(f"{self.full}: stream error {element[0].tag.partition('}')[2]}")
            assert element[0].tag in {f"{STREAMS}{name}" for name in STREAM_ERRORS}, ElementTree.tostring(element)
        elif tag == f"{STREAM}features":
            self._features()
        elif tag == f"{SASL}success":
            self._stage = "resume" if self.previd else "bind"
            self._opens()
        elif tag == f"{SASL}failure":
            assert element.find(f"{SASL}temporary-auth-failure") is not None, ElementTree.tostring(element)
            self.cut(0)
        else:
            raise AssertionError(f"{self.full} was sent {ElementTree.tostring(element).decode()}")

    def got(self, message: Message) -> None:
        """A message has come for the first time."""
        if self.up and self.managed:
            self._got.append((self.handled, self.ledger.died, message))
        else:
            message.again.add(self.full)

    def _features(self) -> None:
        if self._stage == "authenticate":
            initial = base64.b64encode(f"\0{self.bare.partition('@')[0]}\0secret".encode()).decode()
            self._sends(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>")
        elif self._stage == "resume":
            self._sends(f"<resume xmlns='urn:xmpp:sm:3' previd='{self.previd}' h='{self.handled}'/>")
        else:
            self._binds()

    def _binds(self) -> None:
        self.seen.pop(self.full, None)
        self.ledger.session_over(self)  # binding ends the one before, if there is one
        self._stage = "bind"
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{self.resource}</resource></bind>"
        self._sends(f"<iq type='set' id='bind'>{bind}</iq>")

    def _failed(self, element: ElementTree.Element) -> None:
        """Its session is gone. Where its count is known the rest is sent in the next one (section 5)."""
        assert self._stage == "resume"
        self.ledger.notes.append(f"{self.full} cannot resume, h={element.get('h')}")
        if element[0].tag == f"{STANZAS}resource-constraint":
            self.cut(0)  # it is there and will be
            return
        assert element[0].tag == f"{STANZAS}item-not-found"
        left: list[tuple[str, Message | None]] = []
        if element.get("h") is not None:
            self._acknowledged(element, "acknowledged at the end of the session")
            left = [(xml, message) for xml, message in self._out if message is not None]
            self._out.clear()
        self._session_over()
        self._out.extend(left)
        self._binds()

    @property
    def available(self) -> bool:
        """Whether it has seen its own presence."""
        return self.full in self.seen

    def _arrived(self) -> None:
        """There is a new session."""
        self.ledger.session_over(self)
        self.ledger.notes.append(f"{self.full} has a new session")
        self._stage = ""
        self.up = True
        left, self._out = self._out, deque()
        if self.carbons:
            self.asks("carbons", "<enable xmlns='urn:xmpp:carbons:2'/>", "set")
        self.tells()
        for xml, message in left:
            if message is not None:
                message.sent_again()
            self._gives(xml, message)

    def _acknowledged(self, element: ElementTree.Element, how: str) -> None:
        h = int(element.get("h", ""))
        new = h - self._acked
        assert 0 <= new <= len(self._out), f"{self.full}: {new} more {how}, of {len(self._out)}"
        self._acked = h
        covered = [message.id for _, message in list(self._out)[:new] if message is not None]
        self.ledger.notes.append(f"{self.full} h={h} {how}: {covered}")
        for _ in range(new):
            _, message = self._out.popleft()
            if message is not None:
                message.acked = True
                message.resumed = self._stage == "resume"

    def _stanza(self, element: ElementTree.Element) -> None:
        if self._stage == "bind":
            assert element.get("id") == "bind"
            if element.get("type") == "error":
                self.cut(0)
            elif self.managed:
                self._stage = "enable"
                self._sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
            else:
                self._arrived()
            return
        if self.up:
            self.handled += 1
        else:  # between binding and <enabled/>: it does not count
            assert self._stage == "enable", f"{self.full}: a stanza before its time: {ElementTree.tostring(element)!r}"
        if element.tag == f"{CLIENT}message":
            self.ledger.came(self, element)
        elif element.tag == f"{CLIENT}presence" and element.get("type") in (None, "unavailable"):
            self.seen[element.get("from", "")] = element.findtext(f"{CLIENT}status") or element.get("type") or ""
        elif element.tag == f"{CLIENT}iq" and element.get("type") in ("result", "error"):
            self.results[element.get("id", "")] = element.get("type", "")
