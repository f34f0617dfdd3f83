"""BOSH over a network that delays, breaks and repeats: everything arrives once, in order, in both directions.

`XMPPD_SEEDS` says over how many networks; each failure names its seed.
"""

from __future__ import annotations

import os
import random
from xml.etree import ElementTree

import pytest

from tests.support.http import Answer, Connection, request
from tests.support.logins import exceptions
from tests.support.web import by_hand, web_world

SEEDS = int(os.environ.get("XMPPD_SEEDS", "40"))
STEPS = 60


class Browser:
    """A client with BOSH whose connections are not what they should be."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = web_world()
        self.player = by_hand(self.world, wait=self.chance.choice([5, 60]))
        self.friend = self.world.online("juliet@example.org/balcony")
        self.bodies: dict[int, str] = {}  # of all requests, by their rid
        self.answers: dict[int, bytes] = {}
        self.open: list[tuple[int, Connection]] = []
        self.said = self.told = 0

    @property
    def unanswered(self) -> list[int]:
        return [rid for rid in self.bodies if rid not in self.answers]

    def makes_request(self) -> None:
        """The next one, with some messages; it may be delayed. There are never more than two from the first one on that
        was not answered."""
        rid = self.player.rid + len(self.bodies)
        if rid - min(self.unanswered, default=rid) == 2:
            return
        inner = ""
        for _ in range(self.chance.choice([0, 1, 2])):
            to = f"to='{self.friend.full}' type='chat'"
            inner += f"<message xmlns='jabber:client' {to}><body>{self.said}</body></message>"
            self.said += 1
        self.bodies[rid] = inner
        if self.chance.random() < 0.8:
            self.posts(rid)

    def posts(self, rid: int) -> None:
        """Send a request, perhaps again."""
        connection = Connection(self.world, self.player.peer, self.player.site, secure=True)
        head = f"<body xmlns='http://jabber.org/protocol/httpbind' rid='{rid}' sid='{self.player.sid}'>"
        connection.sends_only(request("POST", "/http-bind", f"{head}{self.bodies[rid]}</body>"))
        self.open.append((rid, connection))

    def repeats(self) -> None:
        """What was not answered is sent, again or at last."""
        if self.unanswered:
            self.posts(self.chance.choice(self.unanswered))

    def loses(self) -> None:
        """A connection breaks, perhaps with an answer on its way."""
        if self.open:
            _, connection = self.open.pop(self.chance.randrange(len(self.open)))
            if self.chance.random() < 0.5:
                connection.received()
            connection.breaks()

    def reads(self) -> None:
        """Take the answers that have come."""
        self.world.settle()
        for rid, connection in list(self.open):
            data = connection.received()
            if not data:
                continue
            self.open.remove((rid, connection))
            answer = Answer(data)
            kind = ElementTree.fromstring(answer.body).get("type")
            assert (answer.status, kind) in ((200, None), (200, "error")), data
            if kind is None:
                assert self.answers.setdefault(rid, answer.body) == answer.body

    def is_told(self) -> None:
        self.friend.sends(f"<message to='{self.player.full}' type='chat'><body>{self.told}</body></message>")
        self.told += 1

    def waits(self) -> None:
        self.world.advance(self.chance.choice([0, 0.1, 3, 6]))

    def heard(self) -> list[str]:
        """What it was told, in the order of the answers."""
        return [
            body.text or "" for rid in sorted(self.answers)
            for body in ElementTree.fromstring(self.answers[rid]).iter("{jabber:client}body")
        ]  # fmt: skip

    def settles(self) -> None:
        """Ask until all has arrived; the network is patient now."""
        for _ in range(100):
            self.reads()
            waiting = {rid for rid, _ in self.open}
            for rid in self.unanswered:
                if rid not in waiting:
                    self.posts(rid)
            self.reads()
            if len(self.heard()) >= self.told and not self.unanswered:
                return
            if not self.unanswered:
                self.makes_request()
            self.world.advance(6)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_everything_arrives_once_and_in_order(seed: int) -> None:
    with exceptions() as failures:
        browser = Browser(seed)
        for _ in range(STEPS):
            step = browser.chance.choice(
                [browser.makes_request] * 4 + [browser.is_told] * 3 + [browser.loses, browser.repeats, browser.waits]
            )
            step()
            if browser.chance.random() < 0.7:
                browser.reads()
        browser.settles()
        said = [message.findtext("{jabber:client}body") for message in browser.friend.all_that_came()]
        assert said == [str(number) for number in range(browser.said)]
        assert browser.heard() == [str(number) for number in range(browser.told)]
        browser.world.advance(400)
        assert "bosh" not in browser.world.service.counts()
    assert failures == []
