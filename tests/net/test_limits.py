"""What one client may cost: time, connections, bytes a second, memory; and that nothing of it stays behind."""

from __future__ import annotations

import gc
import weakref

import pytest
from twisted.internet.defer import Deferred

from tests.net.support import (
    STARTTLS,
    STATES,
    auth,
    b64,
    every_state,
    fails,
    opened,
    plain,
    response,
)
from tests.support.world import HEADER, Player, World
from xmppd.core.peers import network
from xmppd.core.session import Session
from xmppd.net.addresses import REMEMBERED, Addresses
from xmppd.net.c2s import MAX_BACKLOG, UNSENT_PAUSE, ClientStream
from xmppd.wire.parser import StreamParser

PING = "<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>"

# ---- time


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("trickle", ["", " "])
def test_one_deadline_from_the_connection_to_the_session(state: str, trickle: str) -> None:
    world = World("c2s_timeout = 30s")
    player = every_state(world)[state]
    for _ in range(29):
        world.advance(1)
        player.sends(trickle if state not in ("half a header", "connected") else "")
    assert not player.wire.closed
    world.advance(1)
    if state == "bound":
        assert not player.wire.closed
        world.advance(1000)
        assert not player.wire.closed
    else:
        assert b"<connection-timeout xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" in player.received_bytes()
        assert player.wire.closed


def test_progress_does_not_move_the_deadline() -> None:
    world = World("c2s_timeout = 30s")
    world.account("romeo@example.org")
    player = world.connect(secure=False)
    for text in ("open", STARTTLS, "open", auth("NONE"), plain(), "open"):
        world.advance(4.9)
        if text == "open":
            player.opens()
        else:
            player.sends(text)
        player.forget()
        assert not player.wire.closed
    world.advance(0.7)
    player.receives_stream_error("connection-timeout")


def test_a_header_in_single_bytes_is_not_waited_for() -> None:
    world = World("c2s_timeout = 30s")
    player = world.connect()
    for byte in b"<stream:stream to='example.org' version='1.0' xmlns='jabber:client'":
        player.sends(bytes([byte]))
        world.advance(1)
    assert player.wire.closed


# ---- streams of one address


def test_unauthenticated_streams_of_one_address() -> None:
    world = World("max_unauthenticated_per_address = 3")
    first, *_ = players = [opened(world) for _ in range(3)]
    refused = world.connect()
    refused.opens()
    refused.receives_header()
    refused.receives_stream_error("policy-violation")
    other = world.connect(peer="192.0.2.2")
    other.opens()
    other.receives_header()
    other.takes()
    # One that is authenticated counts no more, nor does one that has gone.
    first.sends(plain())
    opened(world)
    players[1].sends("</stream:stream>")
    opened(world)
    players[2].disconnects()
    last = opened(world)
    refused = world.connect()
    refused.opens()
    assert refused.wire.closed
    # The one that was refused was never counted.
    refused.disconnects()
    refused = world.connect()
    refused.opens()
    assert refused.wire.closed and not last.wire.closed


def test_streams_that_time_out_make_room() -> None:
    world = World("max_unauthenticated_per_address = 2\nc2s_timeout = 30s")
    for _ in range(5):
        players = [world.connect() for _ in range(2)]
        world.advance(31)
        assert all(player.wire.closed for player in players)
    opened(world)


def test_no_count_is_left() -> None:
    world = World()
    for player in every_state(world).values():
        player.disconnects()
        player.disconnects()
    assert world.service.addresses._streams == {}


def test_what_is_one_address() -> None:
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("2001:db8::1") == network("2001:db8::ffff") != network("2001:db8:0:1::1")
    assert network("fe80::1%eth0") == network("fe80::2%eth0")
    assert network("a socket") == "a socket"


def test_failures_of_many_addresses_are_bounded() -> None:
    now = 0.0
    addresses = Addresses(lambda: now)
    for number in range(REMEMBERED + 100):
        addresses.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5, 30)
    assert len(addresses._failures) == REMEMBERED
    assert all(addresses.failed("10.0.0.1", 5, 30) == 0 for _ in range(5))


def test_failures_count_for_their_period() -> None:
    now = [0.0]
    addresses = Addresses(lambda: now[0])
    assert [addresses.failed("a", 2, 30) for _ in range(5)] == [0, 0, 0.5, 1, 2]
    now[0] = 29.9
    assert addresses.failed("a", 2, 30) == 4
    now[0] = 30.0
    assert addresses.failed("a", 2, 30) == 0
    for _ in range(5000):
        assert addresses.failed("a", 2, 30) <= 8
    assert len(addresses._failures["a"]) <= 1000


# ---- bytes a second


def test_a_client_that_sends_too_fast_is_not_read_from() -> None:
    world = World("c2s_rate = 10k\nc2s_burst = 2s")
    player = world.login("romeo@example.org/orchard")
    world.advance(10)
    player.sends(" " * 20_480)
    assert not player.wire.paused  # what it may send at once
    player.sends(" " * 10_240)
    assert player.wire.paused
    world.advance(0.9)
    assert player.wire.paused
    world.advance(0.2)
    assert not player.wire.paused
    player.sends(" " * 10_240)
    assert player.wire.paused
    world.advance(1.1)
    assert not player.wire.paused
    assert not player.wire.closed


@pytest.mark.parametrize("size", [1, 333, 10_239, 32_768, 99_991])
def test_a_pause_always_ends(size: int) -> None:
    world = World("c2s_rate = 10007\nc2s_burst = 1s")
    player = world.login("romeo@example.org/orchard")
    for _ in range(60):
        player.sends(" " * size)
        while player.wire.paused:
            calls = [call for call in world.clock.getDelayedCalls() if "_let_read" in str(call)]
            assert calls, "it would wait for ever"
            world.clock.advance(max(0.0, min(call.getTime() for call in calls) - world.clock.seconds()))


def test_what_is_saved_up_is_bounded() -> None:
    world = World("c2s_rate = 10k\nc2s_burst = 2s")
    player = world.login("romeo@example.org/orchard")
    world.advance(10_000)
    player.sends(" " * 20_481)
    assert player.wire.paused


def test_the_rate_counts_before_login_as_well() -> None:
    world = World("c2s_rate = 1k\nc2s_burst = 1s")
    player = world.connect()
    player.sends(" " * 1500)
    assert player.wire.paused


# ---- slow readers


def test_a_client_that_does_not_read_is_not_read_from() -> None:
    world = World()
    player = world.login("romeo@example.org/orchard")
    player.wire.stuck = True
    sent = 0
    while not player.wire.paused:
        player.sends(PING)
        world.advance(0.1)
        sent += 1
        assert player.wire.unsent < UNSENT_PAUSE + 1000
    world.advance(1000)
    assert player.wire.paused
    player.wire.reads_again()
    assert not player.wire.paused
    player.sends(PING)
    player.forget()
    assert player.received_bytes().count(b"id='p'") == sent + 1


def test_a_client_that_is_both_too_fast_and_too_slow_is_read_from_again() -> None:
    world = World("c2s_rate = 10k\nc2s_burst = 1s")
    player = world.login("romeo@example.org/orchard")
    player.wire.stuck = True
    player.wire.unsent = UNSENT_PAUSE + 1
    player.sends(" " * 20_480)
    assert player.wire.paused
    world.advance(10)  # it is no longer too fast
    assert player.wire.paused
    player.wire.reads_again()  # nor too slow
    assert not player.wire.paused
    # The other way round.
    player.wire.stuck = True
    player.wire.unsent = UNSENT_PAUSE + 1
    player.sends(" " * 30_720)
    player.wire.reads_again()
    assert player.wire.paused
    world.advance(10)
    assert not player.wire.paused


def test_stanzas_that_wait_are_bounded() -> None:
    world = World()
    player = opened(world)
    checked: Deferred[bytes] = Deferred()
    world.server.in_thread = lambda *args, **kwargs: checked  # type: ignore[assignment]
    player.sends(plain(password="wrong") + auth("PLAIN", "*") * MAX_BACKLOG)
    assert not player.wire.paused
    player.sends(auth("PLAIN", "*"))
    assert player.wire.paused
    checked.callback(b"not the key")
    assert not player.wire.paused or player.wire.closed


# ---- sizes


@pytest.mark.parametrize("state", ["opened", "opened in the clear", "in an exchange"])
def test_before_login_a_stanza_is_small(state: str) -> None:
    world = World()
    for size, fine in ((9_000, True), (10_001, False)):
        player = every_state(world)[state]
        player.sends("<a x='" + "y" * size)
        assert player.wire.closed is not fine
    player = every_state(world)[state]
    player.sends("<a>" * 20)
    assert b"<policy-violation" in player.received_bytes()
    player = every_state(world)[state]
    player.sends("<a>" + "<b/>" * 60)
    assert b"<policy-violation" in player.received_bytes()


def test_after_login_a_stanza_may_be_as_large_as_the_limit() -> None:
    world = World("stanza_size_limit = 20000\nstanza_depth_limit = 10\nstanza_elements_limit = 100")
    player = world.login("romeo@example.org/orchard")

    def message(size: int, inner: str = "") -> str:
        empty = f"<message to='romeo@example.org/orchard'><body></body>{inner}</message>"
        return empty.replace("<body>", "<body>" + "x" * (size - len(empty)))

    player.sends(message(20_000))
    assert player.takes().tag == "{jabber:client}message"
    player.sends(message(200, "<a>" * 8 + "</a>" * 8))
    assert player.takes().tag == "{jabber:client}message"
    for xml in (message(20_001), message(500, "<a>" * 10 + "</a>" * 10), message(1000, "<a/>" * 100)):
        player = world.login("romeo@example.org/orchard")
        player.sends(xml)
        player.receives_stream_error("policy-violation")


# ---- what stays behind


def left(kinds: tuple[type, ...]) -> list[object]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, kinds)]


def in_a_delayed_failure(world: World) -> Player:
    for _ in range(7):
        player = opened(world)
        player.sends(plain(password="wrong"))
    return player


def between_scram_messages(world: World) -> Player:
    player = opened(world)
    player.sends(auth("SCRAM-SHA-256", b64("n,,n=romeo,r=CLIENT")))
    player.takes()
    return player


def refused(world: World) -> Player:
    player = opened(world)
    fails(player, response("*"), "malformed-request")
    return player


@pytest.mark.parametrize("how", ["breaks", "ends", "fails", "is shut down", "times out"])
def test_nothing_stays_of_connections_that_come_and_go(how: str) -> None:
    before = {id(thing) for thing in left((ClientStream, Session, StreamParser))}
    world = World("max_unauthenticated_per_address = 1000\nlimit_auth_max = 100000")
    calls = len(world.clock.getDelayedCalls())
    watched: list[weakref.ref[Player]] = []

    def come_and_go() -> None:
        for _ in range(100 // len(STATES) + 1):
            players = list(every_state(world).values())
            players += [in_a_delayed_failure(world), between_scram_messages(world), refused(world)]
            for player in players:
                watched.append(weakref.ref(player))
                player.sends(" " * 2_000_000 if how == "breaks" else "")  # it waits for its rate as well
                if how == "ends":
                    player.sends("</stream:stream>")
                elif how == "fails":
                    player.sends("<a><!-- -->")
                elif how == "times out":
                    world.advance(31)
            if how == "is shut down":
                world.service.shut_down()
            for player in [*players]:
                player.disconnects()
        for stream in list(world.service._streams):
            stream.connection_lost("the last ones")

    come_and_go()
    world.advance(10)  # what may be left for a moment: the answer to a failed login, a pause of reading
    assert len(world.clock.getDelayedCalls()) == calls
    assert world.service.counts() == {} and not world.service._streams
    assert world.server.sessions.count == 0 or how in ("breaks", "times out")
    assert world.service.addresses._streams == {}
    stayed = [thing for thing in left((ClientStream, StreamParser)) if id(thing) not in before]
    assert stayed == []
    assert all(player() is None for player in watched)


@pytest.mark.parametrize("state", STATES)
def test_a_stream_that_is_over_lets_go_at_once(state: str) -> None:
    world = World()
    player = every_state(world)[state]
    waiting = len(world.clock.getDelayedCalls())
    parser = player.stream._parser
    player.disconnects()
    assert parser.feed(HEADER.format(host="example.org").encode() + b"<a/>") == []
    assert not player.stream._events
    assert len(world.clock.getDelayedCalls()) <= waiting - (state != "bound")


def test_a_session_ends_with_its_stream() -> None:
    before = {id(thing) for thing in left((Session,))}
    world = World()
    player = world.login("romeo@example.org/orchard")
    assert [thing for thing in left((Session,)) if id(thing) not in before]
    player.sends("</stream:stream>")
    player.disconnects()
    del player
    assert [thing for thing in left((Session,)) if id(thing) not in before] == []
    assert world.server.sessions.count == 0
