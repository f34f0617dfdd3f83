"""What a second reading of federation has found."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.net.s2s.test_found import DIALBACK, JULIET, TO_JULIET, bodies, managed, manages, played
from tests.net.s2s.town import EVIL, HELLO, HERE, THERE, Town
from tests.support.federation import Globe
from xmppd.ctl import s2s as ctl

MESSAGE = f"<message to='{JULIET}' id='1' type='chat'><body>hi</body></message>"


# ---- what strangers are told


def test_senders_are_not_told_what_is_only_for_administrators() -> None:
    globe, world, romeo = played("s2s_retry_time = 5s")
    globe.down.add(THERE)
    romeo.sends(TO_JULIET.format("hi"))
    for _ in range(10):
        world.advance(1)
    error = romeo.receives_error("remote-server-timeout", "wait", id="1", sender=JULIET)
    said = " ".join(error.itertext())
    assert "192.0.2.7" not in said and "refused" not in said.lower()


def test_peers_are_not_told_whom_we_could_not_ask() -> None:
    town = Town()
    town.globe.played[THERE] = []
    town.globe.down.add(THERE)
    peer = town.opened()
    town.asked(peer)
    got = peer.takes()
    assert got.get("type") == "error" and "192.0.2.7" not in ElementTree.tostring(got, "unicode")


@pytest.mark.parametrize("place", ["stream", "dialback"])
def test_nothing_of_a_peer_moves_the_cursor_of_who_reads_the_log(place: str) -> None:
    globe, _, romeo = played()
    with capturedLogs() as logs:
        romeo.sends(MESSAGE)
        remote = globe.remote(THERE)
        if place == "stream":
            remote.answers_header(THERE)
            error = "<undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
            text = "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>a&#10;b&#x9b;2J</text>"
            remote.sends(f"<stream:error>{error}{text}</stream:error>")
        else:
            remote.secures(THERE, DIALBACK)
            remote.takes()
            text = "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>a&#10;b&#x9b;2J</text>"
            remote.sends(f"<db:result from='{THERE}' to='{HERE}' type='error'><error>{text}</error></db:result>")
    lines = [formatEvent(event) for event in logs]
    assert lines and all("\n" not in line and "\x9b" not in line for line in lines)


# ---- the end of streams


def test_who_says_goodbye_reads_no_more() -> None:
    town = Town()
    peer = managed(town)
    stream = next(iter(town.globe.federations[HERE].streams))
    town.world.server.tasks.start(stream.say_goodbye(), "a goodbye")
    peer.stream.data_received(HELLO.encode())
    town.world.settle()
    assert peer.wire.paused and len(town.romeo.all_that_came()) == 1


def test_an_idle_stream_is_acknowledged_before_it_is_closed() -> None:
    town = Town("s2s_ack_timeout = 1h")
    peer = managed(town)
    peer.sends(HELLO)
    town.world.advance(601)
    town.world.settle()
    peer.receives("<a xmlns='urn:xmpp:sm:3' h='1'/>")
    assert peer.wire.written.endswith(b"</stream:stream>")


# ---- what may not grow


def test_what_waits_for_all_servers_has_a_limit() -> None:
    globe = Globe()
    world = globe.world(HERE, config="s2s_max_total_queue = 64K\ns2s_max_queue = 64K")
    romeo = world.online(f"romeo@{HERE}/orchard")
    globe.down |= {THERE, EVIL}
    for domain in (THERE, EVIL):
        globe.played[domain] = []
        romeo.sends(f"<message to='x@{domain}' id='{domain}' type='chat'><body>{'y' * 40_000}</body></message>")
    romeo.receives_error("resource-constraint", "wait", id=EVIL, sender=f"x@{EVIL}")
    romeo.receives_nothing()


def test_a_stream_of_ours_carries_no_more_pairs_than_it_may() -> None:
    globe = Globe()
    others = [f"{number}.{HERE}" for number in range(3)]
    world = globe.world(HERE, *others, config="s2s_max_pairs = 2\ns2s_bidi = no")
    there = globe.world(THERE)
    juliet = there.online(f"{JULIET}/balcony")
    for domain in (HERE, *others):
        world.login(f"romeo@{domain}/x").sends(TO_JULIET.format(domain))
        world.settle()
    assert sorted(bodies(juliet)) == sorted([HERE, *others])
    carried = [len(stream.carried) for stream in globe.federations[HERE].streams if not stream.incoming]
    assert sorted(carried) == [2, 2]


# ---- what there is, is used


def test_a_stream_that_is_lost_while_there_is_another_is_no_reason_to_wait() -> None:
    globe, world, romeo = played("s2s_bidi = yes")
    romeo.sends(TO_JULIET.format("one"))
    first = globe.remote(THERE)
    manages(first)
    assert "one" in bodies(first)
    [link] = globe.federations[HERE].links.values()
    incoming = Town.proven(TownOf(globe, world), bidi=True)
    first.wire.breaks()
    world.settle()
    assert "one" in [text for element in incoming.all_that_came() for text in element.itertext()]
    assert link.failures == 0


class TownOf(Town):
    """A town of a globe that there is."""

    def __init__(self, globe: Globe, world: object) -> None:
        self.globe, self.world = globe, world  # type: ignore[assignment]


def test_an_administrator_is_told_that_a_domain_is_not_spoken_to() -> None:
    globe = Globe()
    world = globe.world(HERE, config=f"s2s_blacklist = {THERE}")
    globe.played[THERE] = []
    result = world.run(ctl.test(globe.federations[HERE], THERE, HERE))
    assert "s2s_blacklist" in result["error"] and not globe.attempts
