"""SASL on a stream (RFC 6120 section 6): who gets in, and what everybody else is told."""

from __future__ import annotations

import base64

import pytest
from twisted.internet.defer import Deferred

from tests.auth.support import Client
from tests.net.support import (
    BIND,
    BINDINGS,
    PASSWORD,
    SASL,
    auth,
    b64,
    fails,
    failure,
    opened,
    plain,
    response,
    scram,
)
from tests.support.world import HEADER, ROOMY, Player, World
from xmppd.net.authentication import MAX_TRIES
from xmppd.net.c2s import State
from xmppd.wire.parser import StreamEnd, StreamHeader, StreamParser
from xmppd.wire.stanza import Stanza

ABORT = f"<abort xmlns='{SASL}'/>"


def client(mechanism: str, binding: str = "", password: str = PASSWORD, **more: str) -> Client:
    hash_name = mechanism.removeprefix("SCRAM-").removesuffix("-PLUS")
    if binding:
        return Client(password, hash_name=hash_name, gs2=f"p={binding},,", binding=BINDINGS[binding], **more)
    return Client(password, hash_name=hash_name, **more)


def gets_in(player: Player) -> None:
    """A session can be made of it."""
    player.opens()
    player.receives_header()
    player.takes()
    player.sends(f"<iq type='set' id='b'><bind xmlns='{BIND}'><resource>x</resource></bind></iq>")
    player.receives(f"<iq type='result' id='b'><bind xmlns='{BIND}'><jid>romeo@example.org/x</jid></bind></iq>")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("initial", [True, False])
def test_scram(mechanism: str, initial: bool) -> None:
    player = opened(World())
    honest = client(mechanism)
    success = scram(player, mechanism, honest, initial)
    assert success.tag == f"{{{SASL}}}success"
    assert base64.b64decode(success.text or "") == honest.server_signature
    gets_in(player)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize("binding", BINDINGS)
def test_scram_with_channel_binding(mechanism: str, binding: str) -> None:
    player = opened(World(), bindings=BINDINGS)
    success = scram(player, mechanism, client(mechanism, binding))
    assert success.tag == f"{{{SASL}}}success"
    gets_in(player)


def test_another_channel_does_not_bind() -> None:
    player = opened(World(), bindings={**BINDINGS, "tls-exporter": b"another connection"})
    got = scram(player, "SCRAM-SHA-256-PLUS", client("SCRAM-SHA-256-PLUS", "tls-exporter"))
    assert got.tag == f"{{{SASL}}}failure" and got[0].tag == f"{{{SASL}}}not-authorized"


def test_a_client_that_did_not_see_plus_is_refused() -> None:
    player = opened(World(), bindings=BINDINGS)
    fails(player, auth("SCRAM-SHA-256", b64("y,,n=romeo,r=CLIENT")), "not-authorized")


def test_plus_without_a_binding_of_the_connection() -> None:
    fails(opened(World()), auth("SCRAM-SHA-256-PLUS", b64("p=tls-exporter,,n=romeo,r=C")), "invalid-mechanism")
    player = opened(World(), bindings={"tls-server-end-point": b"x"})
    fails(player, auth("SCRAM-SHA-256-PLUS", b64("p=tls-exporter,,n=romeo,r=C")), "not-authorized")
    fails(player, auth("SCRAM-SHA-256-PLUS", b64("p=tls-unique,,n=romeo,r=C")), "not-authorized")


def test_plain() -> None:
    player = opened(World())
    player.sends(plain())
    player.receives(f"<success xmlns='{SASL}'/>")
    gets_in(player)


@pytest.mark.parametrize("authzid", ["romeo@example.org", "Romeo@EXAMPLE.org"])
def test_an_authzid_that_is_the_own_account(authzid: str) -> None:
    player = opened(World())
    player.sends(plain(authzid=authzid))
    player.receives(f"<success xmlns='{SASL}'/>")
    gets_in(player)


@pytest.mark.parametrize(
    "authzid", ["juliet@example.org", "romeo@example.net", "romeo", "romeo@example.org/x", "example.org", "@", "\u0007"]
)
def test_an_authzid_that_is_somebody_else(authzid: str) -> None:
    world = World()
    world.account("juliet@example.org", "another")
    fails(opened(world), plain(authzid=authzid), "invalid-authzid")


@pytest.mark.parametrize("user", ["Romeo", "\uff52omeo"])
def test_any_spelling_of_the_user_name_opens_the_same_account(user: str) -> None:
    player = opened(World())
    player.sends(plain(user))
    player.receives(f"<success xmlns='{SASL}'/>")
    gets_in(player)


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        ("\0romeo\0wrong", "not-authorized"),
        ("\0nobody\0secret", "not-authorized"),
        ("\0romeo@example.org\0secret", "not-authorized"),
        ("\0ro meo\0secret", "not-authorized"),
        ("\0\u265a\0secret", "not-authorized"),
        ("\0" + "x" * 2000 + "\0secret", "not-authorized"),
        ("romeo\0secret", "malformed-request"),
        ("\0romeo\0secret\0", "malformed-request"),
        ("\0romeo\0secret\0x", "malformed-request"),
        ("\0romeo\0", "malformed-request"),
        ("\0\0secret", "malformed-request"),
        ("", "malformed-request"),
    ],
    ids=ascii,
)
def test_plain_that_is_refused(data: str, condition: str) -> None:
    player = opened(World())
    fails(player, auth("PLAIN", b64(data) or "="), condition)
    assert not player.wire.closed
    player.sends(plain())  # the stream can still be used
    player.receives(f"<success xmlns='{SASL}'/>")


# ---- what goes around the mechanisms


@pytest.mark.parametrize(
    "mechanism", ["", "plain", "DIGEST-MD5", "ANONYMOUS", "EXTERNAL", "SCRAM-SHA-512-PLUS", "PLAIN "]
)
def test_mechanisms_that_were_not_offered(mechanism: str) -> None:
    fails(opened(World()), auth(mechanism, b64("\0romeo\0secret")), "invalid-mechanism")


def test_a_mechanism_that_is_disabled() -> None:
    fails(opened(World("disable_sasl_mechanisms = PLAIN")), plain(), "invalid-mechanism")


def test_no_mechanism_is_named() -> None:
    fails(opened(World()), f"<auth xmlns='{SASL}'/>", "invalid-mechanism")


@pytest.mark.parametrize(
    "data", ["*", "AAA", "AA=A", "A A=", "AAAA\nAAAA", "====", "\u00e9", "AAAA=", " ", "==", "AAAA&#13;"]
)
def test_what_is_not_base64(data: str) -> None:
    player = opened(World())
    fails(player, auth("PLAIN", data), "incorrect-encoding")
    player.sends(auth("SCRAM-SHA-256"))
    player.takes()
    fails(player, response(data), "incorrect-encoding")


def test_nothing_and_empty_are_different() -> None:
    player = opened(World())
    player.sends(auth("PLAIN"))  # no initial response: the server asks for it
    player.receives(f"<challenge xmlns='{SASL}'>=</challenge>")
    player.sends(response(b64("\0romeo\0secret")))
    player.receives(f"<success xmlns='{SASL}'/>")
    fails(opened(World()), auth("PLAIN", "="), "malformed-request")  # an empty one is wrong


@pytest.mark.parametrize("empty", ["", "="])
def test_an_empty_response(empty: str) -> None:
    player = opened(World())
    player.sends(auth("PLAIN"))
    player.takes()
    fails(player, response(empty), "malformed-request")


def test_data_in_other_spellings_of_xml() -> None:
    data = b64("\0romeo\0secret")
    for spelt in (f"<![CDATA[{data}]]>", "".join(f"&#{ord(character)};" for character in data)):
        player = opened(World())
        player.sends(auth("PLAIN", spelt))
        player.receives(f"<success xmlns='{SASL}'/>")
    player = opened(World())
    fails(player, auth("PLAIN", f"{data[:8]}<x/>*{data[8:]}"), "incorrect-encoding")


def test_aborting() -> None:
    player = opened(World())
    player.sends(auth("SCRAM-SHA-256"))
    player.takes()
    player.sends(ABORT)
    player.receives(failure("aborted"))
    player.sends(ABORT)  # and with nothing to abort
    player.receives(failure("aborted"))
    player.sends(plain())
    player.receives(f"<success xmlns='{SASL}'/>")


@pytest.mark.parametrize("name", ["response", "success", "challenge", "failure", "foo", "mechanisms"])
def test_what_is_not_expected(name: str) -> None:
    fails(opened(World()), f"<{name} xmlns='{SASL}'>AAAA</{name}>", "malformed-request")


def test_auth_during_an_exchange() -> None:
    player = opened(World())
    player.sends(auth("SCRAM-SHA-256"))
    player.takes()
    fails(player, plain(), "malformed-request")
    fails(player, response(b64("n,,n=romeo,r=C")), "malformed-request")  # the exchange is over
    player.sends(plain())
    player.receives(f"<success xmlns='{SASL}'/>")


@pytest.mark.parametrize(
    "xml",
    ["<message/>", "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "<x xmlns='urn:x'/>",
     "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"],
)  # fmt: skip
def test_stanzas_during_an_exchange(xml: str) -> None:
    player = opened(World())
    player.sends(auth("SCRAM-SHA-256"))
    player.takes()
    player.sends(xml)
    player.receives_stream_error("not-authorized")


def test_a_replayed_final_message() -> None:
    player = opened(World())
    honest = client("SCRAM-SHA-256")
    player.sends(auth("SCRAM-SHA-256", b64(honest.first())))
    final = honest.final(base64.b64decode(player.takes().text or ""))
    player.sends(ABORT)
    player.takes()
    player.sends(auth("SCRAM-SHA-256", b64(honest.first())))
    player.takes()
    fails(player, response(b64(final)), "not-authorized")


@pytest.mark.parametrize(
    "behind", [HEADER.format(host="example.org"), HEADER.format(host="example.org")[21:], "<", "<a/>"]
)
def test_nothing_may_follow_auth_before_its_answer(behind: str) -> None:
    """Least of all a new stream: it would be one that nobody asked for."""
    player = opened(World())
    before = len(player.received_bytes())
    player.sends(plain() + behind)
    success = f"<success xmlns='{SASL}'/>".encode()
    answer = player.received_bytes()[before:]
    assert answer.startswith(success)
    [header, error, end] = StreamParser(ROOMY).feed(answer.removeprefix(success))
    assert isinstance(header, StreamHeader) and isinstance(end, StreamEnd)
    assert isinstance(error, Stanza) and error.children[0][1] == "not-authorized"
    assert player.wire.closed


def test_white_space_may() -> None:
    player = opened(World())
    player.sends(plain() + " \n")
    player.receives(f"<success xmlns='{SASL}'/>")
    gets_in(player)


# ---- unknown users


def test_an_unknown_user_looks_like_a_known_one() -> None:
    world = World()

    def first(user: str, hash_name: str) -> dict[str, str]:
        player = opened(world)
        player.sends(auth(f"SCRAM-{hash_name}", b64(Client("x", username=user, hash_name=hash_name).first())))
        text = base64.b64decode(player.takes().text or "").decode()
        player.sends(ABORT)
        return dict(part.split("=", 1) for part in text.split(","))

    for hash_name in ("SHA-1", "SHA-256"):
        known, one, again, other = (first(user, hash_name) for user in ("romeo", "nobody", "Nobody", "else"))
        assert one["s"] == again["s"] != other["s"] != known["s"]
        assert known.keys() == one.keys() and len(known["s"]) == len(one["s"])
        assert one["h"] == known["h"] and one["t"] == known["t"] == "0304"
        player = opened(world)
        mechanism = f"SCRAM-{hash_name}"
        unknown = scram(player, mechanism, client(mechanism, username="nobody"))
        wrong = scram(opened(world), mechanism, client(mechanism, password="wrong"))
        assert unknown[0].tag == wrong[0].tag == f"{{{SASL}}}not-authorized"
        assert len(unknown) == len(wrong)


def test_disabled_storage_is_no_wrong_password() -> None:
    world = World()
    player = opened(world)
    world.result(world.store.close())
    for attempt in (plain(), auth("SCRAM-SHA-256", b64("n,,n=romeo,r=C"))):
        fails(player, attempt, "temporary-auth-failure")


# ---- guessing


def test_five_failures_end_the_stream() -> None:
    player = opened(World("limit_auth_max = 1000"))
    for _ in range(MAX_TRIES - 1):
        fails(player, plain(password="wrong"), "not-authorized")
        assert not player.wire.closed
    fails(player, plain(password="wrong"), "not-authorized")
    player.receives_stream_error("policy-violation")


@pytest.mark.parametrize("attempt", [ABORT, auth("NONE"), auth("PLAIN", "*"), response("")])
def test_five_failures_of_any_kind_end_the_stream(attempt: str) -> None:
    player = opened(World())
    player.sends(attempt * 20)
    for _ in range(MAX_TRIES):
        assert player.takes().tag == f"{{{SASL}}}failure"
    player.receives_stream_error("policy-violation")


def test_failures_make_an_address_slow() -> None:
    world = World("limit_auth_max = 3\nlimit_auth_period = 1h")
    for _ in range(3):
        fails(opened(world), plain(password="wrong"), "not-authorized")
    waits = []
    for _ in range(8):
        player = opened(world)
        player.sends(plain(password="wrong"))
        waited = 0.0
        while player.wire.written.count(b"<failure") == 0:
            world.advance(0.25)
            waited += 0.25
        waits.append(waited)
        player.disconnects()
    assert waits == sorted(waits) and waits[0] == 0.5 and waits[-1] == 8.0
    # Others are not: neither another address nor who knows the password.
    fails(opened(world, peer="192.0.2.2"), plain(password="wrong"), "not-authorized")
    right = opened(world)
    right.sends(plain())
    right.receives(f"<success xmlns='{SASL}'/>")
    # And after a while it is forgotten.
    world.advance(3700)
    fails(opened(world), plain(password="wrong"), "not-authorized")


def test_an_ipv6_network_is_one_address() -> None:
    world = World("limit_auth_max = 1")
    fails(opened(world, peer="2001:db8::1"), plain(password="wrong"), "not-authorized")
    same, other = opened(world, peer="2001:db8::2"), opened(world, peer="2001:db8:0:1::1")
    same.sends(plain(password="wrong"))
    same.receives_nothing()
    fails(other, plain(password="wrong"), "not-authorized")
    world.advance(1)
    same.receives(failure("not-authorized"))


def test_while_an_answer_waits_nothing_else_is_handled() -> None:
    world = World("limit_auth_max = 1")
    fails(opened(world), plain(password="wrong"), "not-authorized")
    player = opened(world)
    player.sends(plain(password="wrong"))
    player.sends(plain())
    player.receives_nothing()
    world.advance(1)
    player.receives(failure("not-authorized"))
    player.receives(f"<success xmlns='{SASL}'/>")


def test_a_stream_that_ends_while_its_answer_waits_stays_ended() -> None:
    world = World("limit_auth_max = 1")
    fails(opened(world), plain(password="wrong"), "not-authorized")
    player = opened(world)
    player.sends(plain(password="wrong"))
    player.disconnects()
    world.advance(10)
    assert player.stream.state is State.CLOSED
    player.receives_nothing()


@pytest.mark.parametrize("how", ["disconnects", "times out"])
def test_a_stream_that_ends_while_the_password_is_checked_stays_ended(how: str) -> None:
    world = World()
    player = opened(world)
    checked: list[Deferred[bytes]] = []
    work: list[object] = []

    def in_thread(function: object, *args: object, **kwargs: object) -> Deferred[bytes]:
        work.append(lambda: function(*args, **kwargs))  # type: ignore[operator]
        checked.append(Deferred())
        return checked[-1]

    world.server.in_thread = in_thread  # type: ignore[assignment]
    player.sends(plain())
    assert work
    if how == "disconnects":
        player.disconnects()
    else:
        world.advance(31)
        player.receives_stream_error("connection-timeout")
    checked[0].callback(work[0]())  # type: ignore[operator]
    world.settle()
    assert player.stream.state is State.CLOSED
    player.receives_nothing()
    assert b"<success" not in player.received_bytes()
    assert not world.service.addresses._streams.get("192.0.2.1") or how == "times out"


def test_leaving_before_the_slow_answer_gains_nothing() -> None:
    world = World("limit_auth_max = 3\nlimit_auth_period = 1h")
    world.account("romeo@example.org", "secret")
    for _ in range(8):
        guess = opened(world)
        guess.sends(plain(password="wrong"))
        guess.disconnects()
    right = opened(world)
    right.sends(plain(password="secret"))
    right.receives_nothing()
    world.advance(8)
    assert right.takes().tag.endswith("}success")
