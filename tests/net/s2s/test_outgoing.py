"""Streams that we open: each step that may go wrong, and what the sender of a stanza is told."""

from __future__ import annotations

import base64
import itertools

import pytest

from tests.net.s2s.town import EVIL, HERE, ROMEO, SASL, THERE, Town, dialback
from tests.support.federation import Remote

JULIET = f"juliet@{THERE}"
TLS = "xmlns='urn:ietf:params:xml:ns:xmpp-tls'"
DIALBACK_FEATURE = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
BIDI = "<bidi xmlns='urn:xmpp:features:bidi'/>"
SM = "<sm xmlns='urn:xmpp:sm:3'/>"
EXTERNAL = f"<mechanisms {SASL}><mechanism>EXTERNAL</mechanism></mechanisms>"


class Road(Town):
    """Romeo says something to juliet, whose server the test plays."""

    def __init__(self, config: str = "", says: bool = True) -> None:
        super().__init__(config)
        self.globe.played[THERE] = []
        if says:
            self.says("1")

    def says(self, id: str, kind: str = "message") -> None:
        inner = {"message": "<body>hi</body>", "iq": "<ping xmlns='urn:xmpp:ping'/>", "presence": ""}[kind]
        type = {"message": "chat", "iq": "get", "presence": "subscribe"}[kind]
        self.romeo.sends(f"<{kind} to='{JULIET}' id='{id}' type='{type}'>{inner}</{kind}>")

    @property
    def there(self) -> Remote:
        return self.globe.remote(THERE)

    def arrived(self, *ids: str) -> None:
        """These stanzas came to juliet's server."""
        assert [self.there.takes().get("id") for _ in ids] == list(ids)

    def bounced(self, condition: str, id: str = "1") -> None:
        type = "wait" if condition == "remote-server-timeout" else "cancel"
        self.romeo.receives_error(condition, type, id=id, sender=JULIET)
        self.romeo.receives_nothing()

    def waits_then_bounced(self, condition: str = "remote-server-timeout") -> None:
        """The message is tried again for some time, and comes back once."""
        self.globe.down.add(THERE)
        self.romeo.receives_nothing()
        for _ in range(70):
            self.world.advance(1)
        self.bounced(condition)
        for _ in range(70):
            self.world.advance(1)
        self.romeo.receives_nothing()


# ---- the way there


def test_header_tls_header_dialback_message() -> None:
    road = Road()
    there = road.there
    assert b"from='montague.example' to='capulet.example'>" in there.wire.written and b" id=" not in there.wire.written
    there.secures(THERE, DIALBACK_FEATURE)
    there.accepts_key(THERE, HERE)
    road.arrived("1")
    road.says("2")
    road.arrived("2")
    assert road.globe.attempts == [THERE]


def test_a_certificate_is_shown_where_it_is_taken() -> None:
    road = Road()
    there = road.there
    there.secures(THERE, EXTERNAL + DIALBACK_FEATURE)
    auth = there.takes()
    assert auth.get("mechanism") == "EXTERNAL" and base64.b64decode(auth.text or "").decode() == HERE
    there.sends(f"<success {SASL}/>")
    there.restarts()
    there.answers_header(THERE, "id3", SM)
    there.receives("<enable xmlns='urn:xmpp:sm:3'/>")
    there.sends("<enabled xmlns='urn:xmpp:sm:3'/>")
    road.arrived("1")
    there.receives("<r xmlns='urn:xmpp:sm:3'/>")


@pytest.mark.parametrize("answer", ["<failed xmlns='urn:xmpp:sm:3'/>", "<enabled xmlns='urn:xmpp:sm:3' resume='1'/>"])
def test_without_acknowledgements_it_works_as_well(answer: str) -> None:
    road = Road()
    road.there.secures(THERE, DIALBACK_FEATURE + SM)
    road.there.accepts_key(THERE, HERE)
    road.there.receives("<enable xmlns='urn:xmpp:sm:3'/>")
    road.there.sends(answer)
    road.arrived("1")


def test_a_certificate_that_is_refused_is_followed_by_dialback() -> None:
    road = Road()
    there = road.there
    there.secures(THERE, EXTERNAL + DIALBACK_FEATURE)
    there.takes()
    there.sends(f"<failure {SASL}><not-authorized/></failure>")
    there.accepts_key(THERE, HERE)
    road.arrived("1")


def test_with_bidi_the_answer_comes_on_the_same_stream() -> None:
    road = Road("s2s_stanza_size_limit = 300k")
    there = road.there
    there.secures(THERE, DIALBACK_FEATURE + BIDI)
    limits = "<max-bytes>307200</max-bytes><idle-seconds>600</idle-seconds>"
    there.receives(f"<bidi xmlns='urn:xmpp:bidi'><limits xmlns='urn:xmpp:stream-limits:0'>{limits}</limits></bidi>")
    answer = f"<message from='{JULIET}/b' to='{ROMEO}' type='chat'><body>ho</body></message>"
    there.accepts_key(THERE, HERE)
    road.arrived("1")
    there.sends(answer)
    assert road.romeo.takes().findtext("{jabber:client}body") == "ho"
    there.sends(answer.replace(JULIET, f"x@{EVIL}"))
    there.receives_stream_error("invalid-from")


def test_without_bidi_nothing_is_taken_on_a_stream_of_ours() -> None:
    road = Road("s2s_bidi = no")
    road.there.secures(THERE, DIALBACK_FEATURE + BIDI)
    road.there.accepts_key(THERE, HERE)
    road.arrived("1")
    road.there.sends(f"<message from='{JULIET}/b' to='{ROMEO}' type='chat'><body>ho</body></message>")
    road.there.receives_stream_error("not-authorized")
    road.romeo.receives_nothing()


def test_with_bidi_nothing_is_taken_before_we_are_accepted() -> None:
    road = Road()
    road.there.secures(THERE, DIALBACK_FEATURE + BIDI)
    road.there.sends(f"<message from='{JULIET}/b' to='{ROMEO}' type='chat'><body>ho</body></message>")
    road.romeo.receives_nothing()
    assert road.there.wire.closed


def test_a_key_shown_on_a_stream_of_ours_is_verified_on_another() -> None:
    road = Road()
    road.there.secures(THERE, DIALBACK_FEATURE + BIDI)
    road.there.takes()
    road.there.accepts_key(THERE, HERE)
    road.arrived("1")
    first = road.there
    road.globe.played[f"rooms.{THERE}"] = []
    first.sends(f"<db:result from='rooms.{THERE}' to='{HERE}'>key</db:result>")
    second = road.globe.remote(f"rooms.{THERE}")
    second.secures(f"rooms.{THERE}", DIALBACK_FEATURE)
    verify = second.takes()
    assert (verify.get("id"), verify.text) == ("id2", "key")
    second.sends(f"<db:verify from='rooms.{THERE}' to='{HERE}' id='id2' type='valid'/>")
    dialback(first, "valid")


def test_a_key_shown_where_it_must_not_be_ends_the_stream() -> None:
    road = Road()
    road.there.secures(THERE, DIALBACK_FEATURE)
    road.there.accepts_key(THERE, HERE)
    road.arrived("1")
    road.there.sends(f"<db:result from='{THERE}' to='{HERE}'>key</db:result>")
    road.there.receives_stream_error("not-authorized")


def test_a_stanza_larger_than_the_peer_takes_goes_back() -> None:
    road = Road(says=False)
    road.romeo.sends(f"<message to='{JULIET}' id='big' type='chat'><body>{'x' * 20_000}</body></message>")
    limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>20000</max-bytes></limits>"
    road.there.secures(THERE, DIALBACK_FEATURE + limits)
    road.there.accepts_key(THERE, HERE)
    road.romeo.receives_error("policy-violation", "modify", id="big", sender=JULIET)
    road.says("2")
    road.arrived("2")
    road.world.advance(100)
    assert road.world.result(road.world.store.outbox.page(0, 10)) == []


# ---- a peer that does something else


def test_no_such_server() -> None:
    road = Road(says=False)
    del road.globe.played[THERE]
    road.says("1")
    road.bounced("remote-server-not-found")
    road.says("2")  # at once, from memory
    road.bounced("remote-server-not-found", "2")


def test_a_server_that_does_not_know_the_domain() -> None:
    road = Road()
    road.there.answers_header(THERE)
    road.there.restarts()
    road.there.sends(
        "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
    )
    road.waits_then_bounced()


def test_a_server_that_says_so_at_once_may_only_be_starting() -> None:
    road = Road(says=False)
    for kind in ("iq", "message"):
        road.says(kind, kind)
        road.there.sends(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='1'>"
            "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
        )
        if kind == "iq":
            road.bounced("remote-server-not-found", "iq")
            road.world.advance(5)
    road.romeo.receives_nothing()
    road.world.advance(5)
    road.there.secures(THERE, DIALBACK_FEATURE)
    road.there.accepts_key(THERE, HERE)
    road.arrived("message")


@pytest.mark.parametrize("kind", ["iq", "presence", "message"])
def test_who_is_told_at_once_and_who_waits(kind: str) -> None:
    road = Road(says=False)
    road.globe.down.add(THERE)
    road.says("1", kind)
    if kind == "iq":
        road.bounced("remote-server-timeout")
        return
    road.romeo.forget()
    for _ in range(40):
        road.world.advance(1)
    road.romeo.receives_nothing()
    road.globe.down.clear()
    for _ in range(19):
        if not road.globe.played[THERE]:
            road.world.advance(1)
    road.there.secures(THERE, DIALBACK_FEATURE)
    road.there.accepts_key(THERE, HERE)
    assert road.there.takes().tag == f"{{jabber:client}}{kind}"


def test_no_tls() -> None:
    road = Road()
    road.there.answers_header(THERE, features=DIALBACK_FEATURE)
    assert road.there.wire.closed
    road.waits_then_bounced()


def test_no_tls_where_it_is_not_needed() -> None:
    road = Road("s2s_require_encryption = no")
    road.there.answers_header(THERE, features=DIALBACK_FEATURE)
    road.there.accepts_key(THERE, HERE)
    road.arrived("1")


@pytest.mark.parametrize(
    "answer", [f"<failure {TLS}/>", f"<proceed {TLS}/><x/>", "</stream:stream>", "<x/>", "rubbish", "<proceed/>"]
)
def test_tls_that_does_not_start(answer: str) -> None:
    road = Road()
    road.there.answers_header(THERE, features=f"<starttls {TLS}/>")
    road.there.takes()
    road.there.sends(answer)
    assert road.there.wire.closed
    road.waits_then_bounced()


def test_a_certificate_that_is_not_good_enough() -> None:
    road = Road("s2s_secure_auth = yes")
    road.there.secures(THERE, DIALBACK_FEATURE)
    assert road.there.wire.closed
    road.waits_then_bounced()


def test_a_certificate_that_is() -> None:
    road = Road("s2s_secure_auth = yes", says=False)
    road.globe.certificates[THERE] = [THERE]
    road.says("1")
    road.there.secures(THERE, DIALBACK_FEATURE)
    road.there.accepts_key(THERE, HERE)
    road.arrived("1")


def test_no_way_to_authenticate() -> None:
    road = Road()
    there = road.there
    there.world.settle()
    there.receives_header()
    there.sends(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='1'>"
        f"<stream:features><starttls {TLS}/></stream:features>"
    )
    there.takes()
    there.sends(f"<proceed {TLS}/>")
    there.restarts()
    there.wire.receiver.secured()
    there.world.settle()
    there.sends(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='2'>"
        "<stream:features/>"
    )
    assert there.wire.closed
    road.waits_then_bounced()


@pytest.mark.parametrize(
    ("result", "condition"),
    [
        ("<db:result from='{there}' to='{here}' type='invalid'/>", "internal-server-error"),
        ("<db:result from='{there}' to='{here}' type='error'><error type='cancel'><item-not-found "
         "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>", "remote-server-timeout"),
        ("<db:result from='{there}' to='{here}' type='error'/>", "remote-server-timeout"),
        ("<db:result from='{there}' to='{here}' type='nonsense'/>", "remote-server-timeout"),
        ("<db:result from='{evil}' to='{here}' type='valid'/>", "remote-server-timeout"),
        ("<db:result from='{there}' to='{evil}' type='valid'/>", "remote-server-timeout"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_accepted(result: str, condition: str) -> None:
    road = Road()
    road.there.secures(THERE, DIALBACK_FEATURE)
    road.there.takes()
    road.there.sends(result.format(there=THERE, here=HERE, evil=EVIL))
    assert road.there.wire.closed
    if condition == "internal-server-error":
        road.bounced(condition)
    else:
        road.waits_then_bounced(condition)


def test_a_peer_that_is_silent_at_each_step_is_given_up() -> None:
    for step in range(5):
        road = Road("s2s_connect_timeout = 5s\ns2s_timeout = 20s\ns2s_retry_time = 0s")
        there = road.there
        if step == 1:
            there.answers_header(THERE, features=f"<starttls {TLS}/>")
        elif step == 2:
            there.answers_header(THERE, features=f"<starttls {TLS}/>")
            there.sends(f"<proceed {TLS}/>")
        elif step == 3:
            there.secures(THERE, EXTERNAL)
        elif step == 4:
            there.secures(THERE, DIALBACK_FEATURE)
        road.romeo.receives_nothing()
        for _ in range(21):
            road.world.advance(1)
        road.bounced("remote-server-timeout")
        assert there.wire.closed
        assert not road.globe.federations[HERE].opening.is_busy and not road.world.server.tasks.busy


@pytest.mark.parametrize("how", ["breaks", "closes", "fails"])
@pytest.mark.parametrize("step", range(5))
def test_a_peer_that_goes_at_each_step_is_tried_again_more_and_more_slowly(step: int, how: str) -> None:
    road = Road()
    times = []
    for _ in range(60):
        there = road.there
        if not there.wire.closed:
            times.append(road.world.clock.seconds())
            if step == 1:
                there.answers_header(THERE, features=f"<starttls {TLS}/>")
            elif step == 2:
                there.answers_header(THERE, features=f"<starttls {TLS}/>")
                there.sends(f"<proceed {TLS}/>")
            elif step == 3:
                there.secures(THERE, EXTERNAL)
            elif step == 4:
                there.secures(THERE, DIALBACK_FEATURE + SM)
                there.accepts_key(THERE, HERE)
            if how == "breaks" or step in (0, 2):
                there.wire.breaks()
            elif how == "closes":
                there.sends("</stream:stream>")
            else:
                error = "<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                there.sends(f"<stream:error>{error}</stream:error></stream:stream>")
            assert there.wire.closed
        road.world.advance(1)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == sorted(pauses) and len(times) <= 8
    road.bounced("remote-server-timeout")


def test_a_message_that_ends_each_stream_is_given_back() -> None:
    road = Road()
    for _ in range(70):
        if not road.there.wire.closed:
            road.romeo.receives_nothing()
            road.there.secures(THERE, DIALBACK_FEATURE + SM)
            road.there.accepts_key(THERE, HERE)
            road.there.takes()
            road.there.sends("<enabled xmlns='urn:xmpp:sm:3'/>")
            road.arrived("1")
            road.there.wire.breaks()
        road.world.advance(1)
    road.bounced("remote-server-timeout")
    assert 5 < len(road.globe.attempts) < 9


def test_ten_megabytes_instead_of_an_answer() -> None:
    road = Road("s2s_stanza_size_limit = 20000")
    there = road.there
    there.world.settle()
    sent = 0
    while not there.wire.closed and sent < 10_000_000:
        there.sends(b"<stream:stream " + b"x" * 1000 if not sent else b"x" * 1000)
        sent += 1000
    assert sent < 50_000
    road.waits_then_bounced()


def test_elements_that_nobody_waits_for_are_not_collected() -> None:
    road = Road()
    road.there.answers_header(THERE, features=f"<starttls {TLS}/>")
    road.there.sends("<x xmlns='urn:x'/>" * 100)
    assert road.there.wire.closed
    road.waits_then_bounced()


# ---- more domains on one stream (XEP-0220 section 2.5)


def two_hosts(features: str = DIALBACK_FEATURE) -> Road:
    road = Road.__new__(Road)
    Town.__init__(road, sections=f"[host:other.{HERE}]\n")
    road.globe.played[THERE] = []
    road.says("1")
    road.there.secures(THERE, features)
    road.there.accepts_key(THERE, HERE)
    road.arrived("1")
    benvolio = road.world.login(f"benvolio@other.{HERE}/x")
    benvolio.sends(f"<message to='{JULIET}' id='2' type='chat'><body>me too</body></message>")
    return road


def test_another_host_of_ours_shows_its_key_on_the_same_stream() -> None:
    road = two_hosts()
    road.there.accepts_key(THERE, f"other.{HERE}")
    road.arrived("2")
    assert road.globe.attempts == [THERE]


def test_where_that_is_refused_it_gets_a_stream_of_its_own() -> None:
    road = two_hosts()
    first = road.there
    got = first.takes()
    assert got.get("from") == f"other.{HERE}"
    error = "<error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    first.sends(f"<db:result from='{THERE}' to='other.{HERE}' type='error'>{error}</db:result>")
    assert road.globe.attempts == [THERE, THERE]
    road.there.secures(THERE, DIALBACK_FEATURE)
    road.there.accepts_key(THERE, f"other.{HERE}")
    road.arrived("2")
    assert not first.wire.closed
