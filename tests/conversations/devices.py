"""Devices of users: they keep their sessions as `load.Client` does, have copies of what the user's other devices say
and hear (XEP-0280), and read the user's archive (XEP-0313)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import cast
from xml.etree.ElementTree import Element

from tests.conversations.ledger import Entry, Ledger, Way, from_id, to_id
from tests.conversations.load import CLIENT, SM, WINDOW, Client, Key, Progress, shown
from tests.conversations.process import RunningServer

CARBONS = "{urn:xmpp:carbons:2}"
FORWARD = "{urn:xmpp:forward:0}"
MAM = "{urn:xmpp:mam:2}"
RSM = "{http://jabber.org/protocol/rsm}"
DELAY = "{urn:xmpp:delay}delay"
STANZA_ID = "{urn:xmpp:sid:0}stanza-id"
NOT_MINE = {f"{CLIENT}message", f"{CLIENT}presence", f"{CLIENT}iq", f"{SM}r"}  # once it has left

PAGE = 50  # messages of an archive that are asked for at once; by default the server gives no more
PADDING = 40  # words at most that a message has beside what it is

Peers = Callable[[], list["Device"]]


def text(key: Key) -> str:
    """What a message says: some are short, some are long."""
    return f"{to_id(key)}{' words' * (key.number * 7 % PADDING)}"


class Device(Client):
    """One device of a user, from one login to the end of the session."""

    def __init__(self, server: RunningServer, name: str, resource: str, ledger: Ledger, happened: Progress) -> None:
        super().__init__(server, name, resource, ledger, happened)
        self.ledger = ledger
        self.label = f"{name}/{resource}"
        self.status = ""
        self.statuses: dict[str, str] = {}  # of the contacts' devices, by full JID
        self.talks = False  # whether it begins something new
        self._asked = 0
        self._answers: dict[str, Element] = {}
        self._results: dict[str, dict[str, Key]] = {}  # of pages that are on their way, by id

    async def arrive(self) -> None:
        """Begin a session with copies, and say that one is there."""
        await self.begin()
        self._send(None, "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
        self._send(None, "<iq type='set' id='copies'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        self.appear("here")

    def appear(self, status: str) -> None:
        """Say something of oneself."""
        self.status = status
        self._send(None, f"<presence><status>{status}</status></presence>")

    def tell(self, other: Device) -> None:
        """Send the next message to another's user. None is for just one device: when its session ends without an
        acknowledgement such a one comes to the others once more, who have a copy of it."""
        key = self.ledger.sent(self.label, other.name)
        body = f"<body>{text(key)}</body>"
        self._send(key, f"<message to='{other.name}@localhost' type='chat' id='{to_id(key)}'>{body}</message>")

    async def chat(self, peers: Peers, chance: random.Random, pause: float) -> None:
        """Send to others as a person does, for `pause` seconds apart in the mean, as long as it `talks`."""
        while self.talks:
            for _ in range(chance.randint(1, 4)):
                self.tell(chance.choice(peers()))
            self.ask()
            if chance.random() < 0.05:
                self.appear(f"busy with {chance.randrange(1000)}")
            if chance.random() < 0.04:
                await self.glance()
            has_room = partial(self._has_room, WINDOW)
            assert await self._own.until(has_room), f"{self}: nothing is acknowledged"
            await asyncio.sleep(chance.expovariate(1 / pause))

    def cut(self, stay_away: bool = False) -> None:
        """The connection is gone by a TCP reset."""
        self._stream.reset()
        super().cut(stay_away)

    def leave(self) -> None:
        """End the session in order."""
        self.available = False
        super().leave()

    def __str__(self) -> str:
        return f"{self.label}, {self.tally.round}"

    # ---- the archive

    async def glance(self) -> None:
        """Look at the newest page of the archive, as clients do."""
        await self.page("<before/>")

    async def read_archive(self, after: str = "") -> list[Entry]:
        """All of the archive from behind a message to its end."""
        found: list[Entry] = []
        complete = False
        while not complete:
            entries, complete = await self.page(f"<after>{after}</after>" if after else "")
            found += entries
            after = entries[-1].id if entries else after
        return found

    async def page(self, where: str) -> tuple[list[Entry], bool]:
        """A page of the archive, and whether it is the last in this direction."""
        self._asked += 1
        id = f"page-{self._asked}"
        self._results[id] = {}
        rsm = f"<set xmlns='http://jabber.org/protocol/rsm'><max>{PAGE}</max>{where}</set>"
        self._send(None, f"<iq type='set' id='{id}'><query xmlns='urn:xmpp:mam:2' queryid='{id}'>{rsm}</query></iq>")
        self.ask()
        assert await self._own.until(lambda: id in self._answers), f"{self}: the archive does not answer"
        fin = self._answers.pop(id).find(f"{MAM}fin")
        assert fin is not None, f"{self}: no end of a page"
        found = [Entry(*item) for item in self._results.pop(id).items()]
        ends = [fin.findtext(f"{RSM}set/{RSM}{name}") for name in ("first", "last")]
        if ends != ([found[0].id, found[-1].id] if found else [None, None]):
            self.ledger.wrong(f"{self.label} got another page than the server tells of: {ends}, {len(found)} messages")
        return found, fin.get("complete") == "true"

    # ---- what comes

    def _take(self, element: Element) -> None:
        # What comes behind the last acknowledgement is not this session's any more.
        if not (self._leaving and element.tag in NOT_MINE):
            super()._take(element)

    def _count(self, stanza: Element) -> None:
        type = stanza.get("type", "")
        if type == "error":
            self.ledger.wrong(f"{self.label} got an error: {shown(stanza)}")
        elif stanza.tag == f"{CLIENT}message":
            self._hear(stanza)
        elif stanza.tag == f"{CLIENT}presence":
            sender = stanza.get("from", "")
            self.statuses[sender] = type or stanza.findtext(f"{CLIENT}status", "")
            self.available = self.available or (sender == self.jid and not self._leaving)
        elif type == "result":
            id = stanza.get("id", "")
            if id in self._results:  # else it was asked again, after a crash
                self._answers[id] = stanza
            self._own.made()
        else:
            raise AssertionError(f"{self}: nobody expects {shown(stanza)}")

    def _hear(self, stanza: Element) -> None:
        result = stanza.find(f"{MAM}result")
        if result is not None:
            message = result.find(f"{FORWARD}forwarded/{CLIENT}message")
            page = self._results.get(result.get("queryid", ""))
            if page is not None:
                page[result.attrib["id"]] = self._key(message)
            return
        way, message = "direct", stanza
        for kind in ("sent", "received"):
            copy = stanza.find(f"{CARBONS}{kind}/{FORWARD}forwarded/{CLIENT}message")
            if copy is not None:
                way, message = kind, copy
        account = f"{self.name}@localhost"
        ids = [mark.get("id", "") for mark in message.findall(STANZA_ID) if mark.get("by") == account]
        delayed = stanza.find(DELAY) is not None
        self.ledger.got(self.label, self._key(message), cast(Way, way), ids[0] if len(ids) == 1 else "", delayed)

    def _key(self, message: Element | None) -> Key:
        assert message is not None, f"{self}: a message is missing"
        key = from_id(message.get("id", ""))
        if message.findtext(f"{CLIENT}body") != text(key):
            self.ledger.wrong(f"{self.label} got something else than {key}: {shown(message)}")
        return key
