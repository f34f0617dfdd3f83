"""What is on its way to another server: kept, in order, sent again, or given back exactly once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.support.disk import broken
from tests.support.federation import Globe
from tests.support.world import Player, World
from xmppd.storage import Store

HERE, THERE = "montague.example", "capulet.example"
ROMEO, JULIET = f"romeo@{HERE}/orchard", f"juliet@{THERE}/balcony"


def message(body: str) -> str:
    return f"<message to='{JULIET}' id='{body}' type='chat'><body>{body}</body></message>"


class Land:
    """Romeo and juliet at two servers that know each other's certificates."""

    def __init__(self, config: str = "", smacks: bool = True) -> None:
        self.globe = Globe()
        self.globe.certificates = {HERE: [HERE], THERE: [THERE]}
        config += "" if smacks else "\nsmacks_enabled_s2s = no"
        self.here: World = self.globe.world(HERE, config=config)
        self.there: World = self.globe.world(THERE, config=config)
        self.romeo: Player = self.here.online(ROMEO)
        self.juliet: Player = self.there.online(JULIET)
        self.heard: list[str] = []

    def says(self, *bodies: str) -> None:
        for body in bodies:
            self.romeo.sends(message(body))

    def hears(self) -> list[str]:
        """What juliet has heard since the last time."""
        came = [element.findtext("{jabber:client}body") or "" for element in self.juliet.all_that_came()]
        came = [body for body in came if body]
        self.heard += came
        return came

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.here.advance(1)

    def kept(self) -> int:
        """How many stanzas are on disk, here."""
        return len(self.here.result(self.here.store.outbox.page(0, 10_000)))

    def pipe(self) -> object:
        return self.globe.pipes[-1]


@pytest.mark.parametrize("smacks", [True, False])
def test_what_has_arrived_is_not_kept(smacks: bool) -> None:
    land = Land(smacks=smacks)
    land.says("1", "2")
    assert land.hears() == ["1", "2"]
    land.passes(0 if smacks else 3)
    assert land.kept() == 0
    assert all(link.size == 0 for link in land.globe.federations[HERE].links.values())


def test_while_there_is_no_stream_it_is_kept_and_then_it_is_sent_in_order() -> None:
    land = Land()
    land.globe.down.add(THERE)
    land.says("1", "2", "3")
    assert land.kept() == 3
    land.passes(10)
    land.says("4")
    land.globe.down.clear()
    land.passes(20)
    assert land.hears() == ["1", "2", "3", "4"]
    assert land.kept() == 0
    land.romeo.receives_nothing()


def test_without_acknowledgements_what_the_network_has_not_taken_does_not_count_as_arrived() -> None:
    land = Land(smacks=False)
    land.says("0")
    land.hears()
    land.passes(3)
    pipe = land.globe.pipes[-1]
    pipe.stuck = True
    land.says("1")
    land.passes(10)
    assert land.kept() == 1
    pipe.reads_again()
    land.passes(1)
    assert land.kept() == 0


def test_a_late_message_says_so() -> None:
    land = Land()
    land.globe.down.add(THERE)
    land.says("1")
    land.passes(2)
    land.globe.down.clear()
    land.passes(5)
    delay = land.juliet.takes().find("{urn:xmpp:delay}delay")
    assert delay is not None and delay.get("from") == HERE


def test_what_was_not_acknowledged_is_sent_again_and_comes_before_what_is_new() -> None:
    land = Land()
    land.says("0")
    land.hears()
    for end in (land.globe.pipes[-1], land.globe.pipes[-1].other):
        assert end is not None
        end.other = None  # the network swallows everything
    land.says("1", "2")
    assert land.hears() == [] and land.kept() == 2
    land.globe.cut()
    for stream in list(land.globe.federations[HERE].streams):
        stream.transport.abort("cut")
    land.says("3")
    land.passes(5)
    assert land.hears() == ["1", "2", "3"]
    assert land.kept() == 0


def test_a_peer_that_reads_nothing_does_not_mix_the_order_up() -> None:
    land = Land()
    land.says("0")
    land.hears()
    pipe = land.globe.pipes[-1]
    assert pipe.other is not None
    pipe.other.other = pipe.other = None
    pipe.stuck = True
    for number in range(1, 31):
        body = f"{number}{' ' * 5000}"
        land.romeo.sends(f"<message to='{JULIET}' id='{number}' type='chat'><body>{body}</body></message>")
    (link,) = land.globe.federations[HERE].links.values()
    assert link.queue and link.size < 30 * 6000
    pipe.abort("cut")
    land.passes(5)
    assert [body.strip() for body in land.hears()] == [str(number) for number in range(1, 31)]
    assert link.size == 0 and land.kept() == 0


def test_a_peer_that_acknowledges_nothing_is_cut_off() -> None:
    land = Land("s2s_ack_timeout = 30s")
    land.says("0")
    land.hears()
    for end in (land.globe.pipes[-1], land.globe.pipes[-1].other):
        assert end is not None
        end.other = None
    land.says("1")
    land.passes(29)
    assert land.hears() == []
    land.passes(3)
    assert land.hears() == ["1"]


def test_a_request_whose_answer_may_be_lost_is_not_sent_twice() -> None:
    land = Land()
    land.says("0")
    land.hears()
    for end in (land.globe.pipes[-1], land.globe.pipes[-1].other):
        assert end is not None
        end.other = None
    land.romeo.sends(f"<iq to='{JULIET}' id='q' type='set'><x xmlns='urn:x'/></iq>")
    for stream in list(land.globe.federations[HERE].streams):
        stream.transport.abort("cut")
    land.passes(5)
    land.romeo.receives_error("remote-server-timeout", "wait", id="q", sender=JULIET)
    land.juliet.receives_nothing()


def test_too_much_for_one_server_is_refused() -> None:
    land = Land("s2s_max_queue = 64k")
    land.globe.down.add(THERE)
    refused = 0
    for number in range(100):
        land.romeo.sends(f"<message to='{JULIET}' id='{number}' type='chat'><body>{'x' * 5000}</body></message>")
        refused += len(land.romeo.all_that_came())
    assert 85 <= refused <= 92 and land.kept() == 100 - refused


def test_too_many_servers_are_refused() -> None:
    land = Land("s2s_max_domains = 2")
    for number in range(3):
        land.globe.played[f"{number}.example"] = []
        land.romeo.sends(f"<message to='x@{number}.example' id='{number}' type='chat'><body>hi</body></message>")
    land.romeo.receives_error("resource-constraint", "wait", id="2", sender="x@2.example")
    land.romeo.receives_nothing()


def test_links_that_are_not_used_are_forgotten() -> None:
    land = Land("s2s_idle_timeout = 60s")
    land.says("1")
    land.passes(70)
    assert not land.globe.federations[HERE].links and not land.globe.federations[HERE].streams
    land.says("2")
    assert land.hears() == ["1", "2"]


def test_a_failure_is_forgotten_as_well() -> None:
    land = Land()
    land.romeo.sends("<message to='x@nowhere.example' id='1' type='chat'><body>hi</body></message>")
    land.romeo.receives_error("remote-server-not-found", "cancel", id="1", sender="x@nowhere.example")
    land.passes(5)
    assert not land.globe.federations[HERE].links


def test_errors_and_answers_do_not_wait_and_are_not_answered() -> None:
    land = Land()
    land.globe.down.add(THERE)
    land.romeo.sends(f"<message to='{JULIET}' type='error' id='1'><error type='cancel'/></message>")
    land.romeo.sends(f"<iq to='{JULIET}' type='result' id='2'/>")
    land.romeo.sends(f"<presence to='{JULIET}' type='unavailable'/>")
    land.passes(3)
    land.romeo.receives_nothing()
    assert land.kept() == 0


def test_a_full_disk_gives_back_what_has_not_left() -> None:
    land = Land()
    land.globe.down.add(THERE)
    with broken(land.here):
        land.says("1")
        land.passes(1)
    land.romeo.receives_error("resource-constraint", "wait", id="1", sender=JULIET)
    land.globe.down.clear()
    land.passes(20)
    assert land.hears() == []
    land.romeo.receives_nothing()


# ---- the end of the process


def test_what_was_not_acknowledged_survives_a_kill() -> None:
    land = Land()
    land.globe.down.add(THERE)
    land.says("1", "2")
    land.globe.kill(HERE)
    land.globe.down.clear()
    land.passes(20)
    assert land.hears() == ["1", "2"]


def test_what_was_acknowledged_is_not_sent_again_after_a_kill() -> None:
    land = Land()
    land.says("1", "2")
    assert land.hears() == ["1", "2"]
    land.globe.kill(HERE)
    land.passes(20)
    assert land.hears() == []


def test_a_restart_in_order_waits_for_acknowledgements() -> None:
    land = Land()
    land.says("1")
    federation = land.globe.federations[HERE]
    federation.shut_down()
    land.here.run(federation.close(2.0))
    assert land.kept() == 0 and land.hears() == ["1"]
    assert all(stream.closed for stream in federation.streams)


def test_what_comes_while_it_stops_is_left_to_the_next_process() -> None:
    land = Land()
    federation = land.globe.federations[HERE]
    federation.shut_down()
    land.says("1")
    assert land.hears() == [] and land.kept() == 1
    land.globe.kill(HERE)
    land.passes(3)
    assert land.hears() == ["1"]


def test_a_domain_that_is_not_served_any_more_sends_nothing() -> None:
    land = Land()
    land.globe.down.add(THERE)
    land.says("1")
    database = land.here.store._database
    land.globe.kill(HERE)
    other = land.globe.world("elsewhere.example", store=Store(land.globe.clock, database, timeout=10.0, max_queue=100))
    assert other.result(other.store.outbox.page(0, 10)) == []


# ---- anything at all


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("bidi", ["yes", "no"])
def test_whatever_happens_each_message_arrives_or_comes_back(seed: int, bidi: str) -> None:
    """Connections break, servers die, and are away for a while: in the end each message was heard, or was given back,
    and what was heard for the first time was heard in the order in which it was said."""
    draw = random.Random(seed)
    land = Land(f"s2s_bidi = {bidi}\ns2s_retry_time = 30s")
    said: list[str] = []
    back: Counter[str] = Counter()

    def note() -> None:
        land.hears()
        for element in land.romeo.all_that_came():
            if element.get("type") == "error":
                back[element.get("id") or ""] += 1

    for _ in range(60):
        what = draw.random()
        if what < 0.5:
            said.append(str(len(said)))
            land.says(said[-1])
        elif what < 0.6:
            for _ in range(draw.randrange(4)):  # which are under way when the connection breaks
                said.append(str(len(said)))
                land.romeo.sends_only(message(said[-1]))
                land.globe.clock.advance(0)
            land.globe.cut()
            land.here.settle()
        elif what < 0.65:
            land.globe.down ^= {THERE}
        elif what < 0.70:
            note()
            land.here = land.globe.kill(HERE)
            land.romeo = land.here.online(ROMEO)
        elif what < 0.75:
            note()
            land.there = land.globe.kill(THERE)
            land.juliet = land.there.login(JULIET)
            land.juliet.sends("<presence/>")
        else:
            land.passes(draw.randrange(20))
        note()
    land.globe.down.clear()
    land.passes(120)
    note()
    assert set(land.heard) | set(back) == set(said)
    assert not set(land.heard) & set(back), "heard, and given back as well"
    assert all(count == 1 for count in back.values())
    first = list(dict.fromkeys(land.heard))
    assert first == sorted(first, key=int)
    assert land.kept() == 0
