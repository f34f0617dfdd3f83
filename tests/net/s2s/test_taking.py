"""What another server may say once it is proven, how much of it, and how it is acknowledged."""

from __future__ import annotations

import pytest

from tests.net.s2s.town import EVIL, EXTERNAL, HELLO, HERE, ROMEO, SASL, THERE, Town

# ---- stanzas


@pytest.mark.parametrize(
    ("stanza", "condition"),
    [
        (f"<message from='x@{EVIL}' to='{ROMEO}'/>", "invalid-from"),
        (f"<message from='x@sub.{THERE}' to='{ROMEO}'/>", "invalid-from"),
        (f"<message from='juliet@{HERE}' to='{ROMEO}'/>", "invalid-from"),
        (f"<message from='{HERE}' to='{ROMEO}'/>", "invalid-from"),
        (f"<message from='x@{THERE}' to='a@other.{HERE}'/>", "improper-addressing"),
        (f"<message from='x@{THERE}' to='a@{EVIL}'/>", "improper-addressing"),
        (f"<message from='x@{THERE}'/>", "improper-addressing"),
        (f"<message to='{ROMEO}'/>", "improper-addressing"),
        (f"<message from='@{THERE}' to='{ROMEO}'/>", "improper-addressing"),
        (f"<message from='x@{THERE}' to='@{HERE}'/>", "improper-addressing"),
        (f"<message xmlns='jabber:client' from='x@{THERE}' to='{ROMEO}'/>", "invalid-namespace"),
        (f"<other from='x@{THERE}' to='{ROMEO}'/>", "unsupported-stanza-type"),
    ],
)
def test_only_what_was_proven_is_heard(stanza: str, condition: str) -> None:
    town = Town(sections=f"[host:other.{HERE}]\n")
    peer = town.proven()
    peer.sends(stanza)
    peer.receives_stream_error(condition)
    town.romeo.receives_nothing()


def test_what_was_proven_on_one_stream_does_not_count_on_another() -> None:
    town = Town()
    town.proven()
    other = town.peer(EVIL, certificates=[EVIL])
    other.logs_in(HERE)
    other.sends(HELLO)
    other.receives_stream_error("invalid-from")
    town.romeo.receives_nothing()


def test_before_anything_is_proven_nothing_is_heard() -> None:
    town = Town()
    peer = town.peer(certificates=[THERE])
    peer.opens(HERE)
    peer.features()
    peer.sends(HELLO)
    peer.receives_stream_error("not-authorized")
    early = town.peer(certificates=[THERE])
    early.sends("<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:server'>" + HELLO)
    early.receives_header()
    early.receives_stream_error("unsupported-version")
    town.romeo.receives_nothing()


def test_a_request_to_the_server_is_answered_on_a_stream_of_ours() -> None:
    town = Town()
    town.globe.played[THERE] = []
    peer = town.proven()
    peer.sends(f"<iq from='juliet@{THERE}/b' to='{HERE}' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
    peer.receives_nothing()
    assert town.globe.attempts == [THERE]


def test_with_bidi_it_is_answered_on_this_one() -> None:
    town = Town()
    peer = town.proven(bidi=True)
    peer.sends(f"<iq from='juliet@{THERE}/b' to='{HERE}' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
    got = peer.takes()
    assert (got.get("type"), got.get("id"), got.get("to")) == ("result", "1", f"juliet@{THERE}/b")
    town.romeo.sends(f"<message to='juliet@{THERE}' type='chat'><body>ho</body></message>")
    assert peer.takes().findtext("{jabber:client}body") == "ho"
    assert town.globe.attempts == []


def test_with_bidi_nothing_is_sent_before_the_stream_is_open_again() -> None:
    town = Town()
    town.globe.played[THERE] = []
    town.romeo.sends(f"<message to='juliet@{THERE}' type='chat'><body>ho</body></message>")
    peer = town.peer(certificates=[THERE])
    peer.opens(HERE)
    peer.features()
    peer.sends("<bidi xmlns='urn:xmpp:bidi'/>")
    peer.sends(EXTERNAL.format("="))
    peer.receives(f"<success {SASL}/>")
    peer.receives_nothing()
    peer.opens(HERE)
    peer.features()
    assert peer.takes().findtext("{jabber:client}body") == "ho"


def test_bidi_comes_before_authentication_or_not_at_all() -> None:
    peer = Town().proven()
    peer.sends("<bidi xmlns='urn:xmpp:bidi'/>")
    peer.receives_stream_error("policy-violation")


def test_a_stanza_that_is_larger_than_the_peer_takes_goes_back() -> None:
    town = Town()
    peer = town.peer(certificates=[THERE])
    peer.opens(HERE)
    peer.features()
    limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>"
    peer.sends(f"<bidi xmlns='urn:xmpp:bidi'>{limits}</bidi>")
    peer.sends(EXTERNAL.format("="))
    peer.takes()
    peer.opens(HERE)
    peer.features()
    town.romeo.sends(f"<message to='juliet@{THERE}' id='1' type='chat'><body>{'x' * 10_000}</body></message>")
    error = town.romeo.receives_error("policy-violation", "modify", id="1", sender=f"juliet@{THERE}")
    assert error[0].get("by") is None
    peer.receives_nothing()


# ---- limits


def test_who_takes_too_long_is_sent_away() -> None:
    town = Town("s2s_timeout = 10s")
    peer = town.peer(secure=False)
    town.world.advance(9)
    peer.opens(HERE)
    peer.features()
    town.world.advance(1)
    peer.receives_stream_error("connection-timeout")


def test_who_is_proven_may_stay() -> None:
    town = Town("s2s_timeout = 10s")
    peer = town.proven()
    town.world.advance(100)
    peer.sends(HELLO)
    assert town.romeo.takes() is not None


def test_one_address_has_only_so_many_streams_that_are_not_proven() -> None:
    town = Town("max_unauthenticated_per_address = 2")
    for _ in range(2):
        town.peer().opens(HERE)
    third = town.peer()
    assert not third.stream.admitted
    third.opens(HERE)
    third.receives_stream_error("policy-violation")


def test_who_comes_again_and_again_leaves_nothing_behind() -> None:
    town = Town()
    for number in range(300):
        peer = town.peer(certificates=[THERE])
        if number % 3 == 0:
            peer.opens(HERE)
        else:
            peer.logs_in(HERE, bidi=number % 2 == 0)
        if number % 5 == 0:
            peer.sends("</stream:stream>")
        peer.wire.breaks()
        town.world.settle()
    federation = town.globe.federations[HERE]
    town.world.advance(31)
    assert not federation.streams and not federation._carriers and not town.world.server.tasks.busy
    assert not federation.addresses._streams
    town.proven().sends(HELLO)
    assert town.romeo.takes() is not None


@pytest.mark.parametrize("proven", [True, False])
def test_what_is_too_large_ends_the_stream(proven: bool) -> None:
    town = Town("s2s_stanza_size_limit = 20000")
    if proven:
        peer = town.proven()
    else:
        peer = town.peer()
        peer.opens(HERE)
        peer.features()
    peer.sends(f"<message from='juliet@{THERE}' to='{ROMEO}'><body>")
    for _ in range(10_000):
        if peer.wire.closed:
            break
        peer.sends("x" * 1000)
    peer.receives_stream_error("policy-violation")
    town.romeo.receives_nothing()


def test_who_sends_too_fast_is_read_more_slowly() -> None:
    town = Town("s2s_rate = 1000\ns2s_burst = 4s")
    peer = town.proven()
    peer.sends(" " * 6000)
    assert peer.wire.paused
    town.world.advance(4)
    assert not peer.wire.paused


def test_an_idle_stream_is_closed_in_order() -> None:
    town = Town("s2s_idle_timeout = 60s")
    peer = town.proven()
    town.world.advance(59)
    peer.receives_nothing()
    town.world.advance(2)
    assert peer.wire.written.endswith(b"</stream:stream>") and not peer.wire.closed
    peer.sends(HELLO)  # was on its way
    assert town.romeo.takes() is not None
    peer.sends("</stream:stream>")
    assert peer.wire.closed


def test_a_peer_that_does_not_close_its_half_is_not_waited_for() -> None:
    town = Town("s2s_idle_timeout = 60s")
    peer = town.proven()
    town.world.advance(60)
    assert not peer.wire.closed
    town.world.advance(5)
    assert peer.wire.closed


# ---- acknowledgements (XEP-0198)


def test_what_was_handled_is_acknowledged() -> None:
    town = Town()
    peer = town.proven()
    peer.sends("<enable xmlns='urn:xmpp:sm:3'/>")
    peer.receives("<enabled xmlns='urn:xmpp:sm:3'/>")
    peer.sends(HELLO * 3 + "<r xmlns='urn:xmpp:sm:3'/>")
    peer.receives("<a xmlns='urn:xmpp:sm:3' h='3'/>")


@pytest.mark.parametrize("when", ["before", "twice", "off"])
def test_stream_management_at_the_wrong_time(when: str) -> None:
    town = Town("smacks_enabled_s2s = no" if when == "off" else "")
    if when == "before":
        peer = town.peer()
        peer.opens(HERE)
        peer.features()
    else:
        peer = town.proven()
    if when == "twice":
        peer.sends("<enable xmlns='urn:xmpp:sm:3'/>")
        peer.takes()
    peer.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    got = peer.takes()
    assert got.tag == "{urn:xmpp:sm:3}failed"
    assert got[0].tag == "{urn:ietf:params:xml:ns:xmpp-stanzas}unexpected-request"


@pytest.mark.parametrize(
    ("h", "condition"), [("1", "undefined-condition"), ("x", "invalid-xml"), ("-1", "invalid-xml")]
)
def test_acknowledgements_that_cannot_be(h: str, condition: str) -> None:
    town = Town()
    peer = town.proven()
    peer.sends("<enable xmlns='urn:xmpp:sm:3'/>")
    peer.takes()
    peer.sends(f"<a xmlns='urn:xmpp:sm:3' h='{h}'/>")
    peer.receives_stream_error(condition)


# ---- policy


@pytest.mark.parametrize(
    ("config", "let_in"),
    [
        (f"s2s_blacklist = {THERE}", False),
        ("s2s_blacklist = *.example", False),
        (f"s2s_blacklist = {EVIL}", True),
        (f"s2s_whitelist = {EVIL}", False),
        (f"s2s_whitelist = {EVIL}, {THERE}", True),
    ],
)
def test_who_may_be_spoken_to(config: str, let_in: bool) -> None:
    town = Town(config)
    peer = town.peer(certificates=[THERE])
    peer.opens(HERE)
    if let_in:
        peer.features()
        return
    peer.receives_stream_error("policy-violation")
    town.romeo.sends(f"<message to='juliet@{THERE}' id='1'><body>hi</body></message>")
    town.romeo.receives_error("not-allowed", "cancel", id="1", sender=f"juliet@{THERE}")
    assert town.globe.attempts == []
