"""Client streams from the first byte to a bound session: headers, features, STARTTLS, binding, and the end."""

from __future__ import annotations

import pytest

from tests.net.support import (
    BIND,
    BINDINGS,
    CLEAR,
    SASL,
    STARTTLS,
    STATES,
    STREAM,
    TLS,
    auth,
    authenticated,
    every_state,
    opened,
    plain,
)
from tests.support.world import HEADER, Player, World
from xmppd.wire.jid import parse

TWO_HOSTS = "[host:example.org]\n[host:example.net]\n"


def features(player: Player) -> list[str]:
    """The names of the features that are announced next, with the SASL mechanisms and binding types; limits, which are
    always there where something may be sent, are left out."""
    element = player.takes()
    assert element.tag == f"{{{STREAM}}}features"
    names: list[str] = []
    for feature in element:
        if feature.tag != f"{LIMITS}limits":
            names.append(feature.tag.rpartition("}")[2])
        if feature.tag == f"{{{SASL}}}mechanisms":
            names += [mechanism.text or "" for mechanism in feature]
        if feature.tag == "{urn:xmpp:sasl-cb:0}sasl-channel-binding":
            names += [binding.get("type") or "" for binding in feature]
        if feature.tag == f"{{{TLS}}}starttls":
            names += [child.tag.rpartition("}")[2] for child in feature]
    return names


LIMITS = "{urn:xmpp:stream-limits:0}"
SCRAM = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"]
PLUS = ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"]
TYPES = ["sasl-channel-binding", "tls-exporter", "tls-server-end-point"]
ENCRYPTED = ["authentication", "config-version"]
BOUND = [ENCRYPTED[0], *TYPES, ENCRYPTED[1]]


@pytest.mark.parametrize(
    ("config", "connection", "expected"),
    [
        ("", {"secure": False}, ["starttls", "required"]),
        ("", {"secure": False, "bindings": BINDINGS}, ["starttls", "required"]),
        ("", {}, ["mechanisms", *SCRAM, "PLAIN", *ENCRYPTED]),
        ("", {"direct_tls": True}, ["mechanisms", *SCRAM, "PLAIN", *ENCRYPTED]),
        ("", {"bindings": BINDINGS}, ["mechanisms", *PLUS, *SCRAM, "PLAIN", *BOUND]),
        (
            "",
            {"bindings": {"tls-server-end-point": b"x"}},
            ["mechanisms", *PLUS, *SCRAM, "PLAIN", ENCRYPTED[0], TYPES[0], TYPES[2], ENCRYPTED[1]],
        ),
        (CLEAR, {"secure": False}, ["starttls", "mechanisms", *SCRAM]),
        (
            f"{CLEAR}\nallow_unencrypted_plain_auth = yes",
            {"secure": False},
            ["starttls", "mechanisms", *SCRAM, "PLAIN"],
        ),
        (CLEAR, {}, ["mechanisms", *SCRAM, "PLAIN", *ENCRYPTED]),
        ("disable_sasl_mechanisms = PLAIN, SCRAM-SHA-1", {}, ["mechanisms", *SCRAM[:2], *ENCRYPTED]),
        (
            f"disable_sasl_mechanisms = {', '.join(PLUS)}",
            {"bindings": BINDINGS},
            ["mechanisms", *SCRAM, "PLAIN", *ENCRYPTED],
        ),
        (f"disable_sasl_mechanisms = PLAIN, {', '.join(SCRAM)}", {}, []),
    ],
)
def test_features_before_authentication(config: str, connection: dict[str, object], expected: list[str]) -> None:
    player = World(config).connect(**connection)  # type: ignore[arg-type]
    player.opens()
    player.receives_header()
    assert features(player) == expected
    player.receives_nothing()


def test_features_after_starttls() -> None:
    player = opened(World(), secure=False, bindings=BINDINGS)
    player.sends(STARTTLS)
    player.receives(f"<proceed xmlns='{TLS}'/>")
    player.opens()
    player.receives_header()
    assert features(player) == ["mechanisms", *PLUS, *SCRAM, "PLAIN", *BOUND]


@pytest.mark.parametrize(("config", "secure"), [("", True), (CLEAR, False), (CLEAR, True)])
def test_features_after_authentication(config: str, secure: bool) -> None:
    world = World(f"{config}\nallow_unencrypted_plain_auth = yes")
    player = opened(world, secure=secure)
    player.sends(plain())
    player.takes()
    player.opens()
    player.receives_header()
    names = features(player)
    assert {"bind", "session", "ver", "sub"} <= set(names)
    assert not {"starttls", "mechanisms", "sasl-channel-binding", "register"} & set(names)


def test_limits_are_told_before_and_after_authentication() -> None:
    """XEP-0478 section 3."""
    player = World("stanza_size_limit = 20k").connect()
    player.world.account("romeo@example.org")
    sizes = []
    for said in (plain(), ""):
        player.opens()
        player.receives_header()
        sizes.append(player.takes().findtext(f"{LIMITS}limits/{LIMITS}max-bytes"))
        if said:
            player.sends(said)
            player.takes()
    assert sizes == ["10000", "20480"]


def test_nothing_but_tls_is_offered_before_tls() -> None:
    world = World("allow_registration = yes")
    player = opened(world, secure=False)
    for stanza in (
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        plain(), auth("SCRAM-SHA-256"), f"<iq type='set' id='1'><bind xmlns='{BIND}'/></iq>",
    ):  # fmt: skip
        player = opened(world, secure=False)
        player.sends(stanza)
        answer = player.takes()
        if answer.tag == f"{{{SASL}}}failure":
            answer = player.takes()
        assert answer.tag == f"{{{STREAM}}}error"
        player.receives_end()


# ---- headers


def header(text: str) -> str:
    return f"<?xml version='1.0'?><stream:stream {text} xmlns:stream='{STREAM}'>"


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("to='example.com' version='1.0' xmlns='jabber:client'", "host-unknown"),
        ("to='' version='1.0' xmlns='jabber:client'", "host-unknown"),
        ("to='@' version='1.0' xmlns='jabber:client'", "host-unknown"),
        ("to='romeo@example.org' version='1.0' xmlns='jabber:client'", "host-unknown"),
        ("to='example.org/x' version='1.0' xmlns='jabber:client'", "host-unknown"),
        ("version='1.0' xmlns='jabber:client'", "host-unknown"),
        ("to='example.org' version='1.0' xmlns='jabber:server'", "invalid-namespace"),
        ("to='example.org' version='1.0' xmlns='urn:x'", "invalid-namespace"),
        ("to='example.org' version='1.0'", "invalid-namespace"),
        ("to='example.org' version='1.0' xmlns:c='jabber:client'", "invalid-namespace"),
        ("to='example.org' xmlns='jabber:client'", "unsupported-version"),
        ("to='example.org' version='' xmlns='jabber:client'", "unsupported-version"),
        ("to='example.org' version='0.9' xmlns='jabber:client'", "unsupported-version"),
        ("to='example.org' version='2.0' xmlns='jabber:client'", "unsupported-version"),
        ("to='example.org' version='11.0' xmlns='jabber:client'", "unsupported-version"),
        ("to='example.org' version='x' xmlns='jabber:client'", "unsupported-version"),
    ],
)
def test_headers_that_are_refused(text: str, condition: str) -> None:
    player = World().connect()
    player.sends(header(text))
    ours = player.receives_header()
    assert ours.attributes["version"] == "1.0" and ours.attributes["from"] == "example.org"
    player.receives_stream_error(condition)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        (f"<stream xmlns='jabber:client' xmlns:stream='{STREAM}'>", "invalid-namespace"),
        ("<stream:stream xmlns='jabber:client' xmlns:stream='urn:x'>", "invalid-namespace"),
        ("<message/>", "bad-format"),
        ("<x:y/>", "bad-namespace-prefix"),
        ("GET / HTTP/1.1\r\n\r\n", "not-well-formed"),
        ("<!DOCTYPE x>", "restricted-xml"),
        ("<!-- -->", "restricted-xml"),
        ("<?xml version='1.0' encoding='latin-1'?><", "unsupported-encoding"),
    ],
)
def test_a_stream_error_before_our_header_is_inside_our_stream(text: str, condition: str) -> None:
    player = World().connect()
    player.sends(text)
    player.receives_header()
    player.receives_stream_error(condition)


@pytest.mark.parametrize(
    "text",
    [
        "to='example.org' version='1.0' xmlns='jabber:client'",
        "to='EXAMPLE.org.' version='1.0' xmlns='jabber:client'",
        "to='example.org' version='1.1' xmlns='jabber:client'",
        "xmlns='jabber:client' version='1.0' from='romeo@example.org' to='example.org' xml:lang='de'",
    ],
)
def test_headers_that_are_accepted(text: str) -> None:
    player = World().connect()
    player.sends(header(text))
    player.receives_header()
    assert "mechanisms" in features(player)


def test_our_header() -> None:
    world = World(sections=TWO_HOSTS)
    player = world.connect()
    player.sends(header("to='Example.NET' from='romeo@example.net' version='1.0' xmlns='jabber:client'"))
    ours = player.receives_header()
    assert ours.attributes.pop("http://www.w3.org/XML/1998/namespace lang") == "en"
    assert len(ours.attributes.pop("id")) >= 22  # 128 bits and more
    assert ours.attributes == {"from": "example.net", "to": "romeo@example.net", "version": "1.0"}
    assert ours.namespaces == {"": "jabber:client", "stream": STREAM}


def test_what_a_header_is_from_comes_back_as_it_was() -> None:
    player = World().connect()
    player.sends(header("to='example.org' from='a&apos;&lt;&#13;b' version='1.0' xmlns='jabber:client'"))
    assert player.receives_header().attributes["to"] == "a'<\rb"


def test_each_stream_has_an_id_of_its_own() -> None:
    world = World()
    ids = set()
    for _ in range(20):
        player = world.connect()
        player.opens()
        ids.add(player.receives_header().attributes["id"])
    assert len(ids) == 20


def test_a_restarted_stream_has_another_id() -> None:
    """RFC 6120 sections 5.4.3.3 and 6.4.6."""
    world = World()
    world.account("romeo@example.org")
    player = world.connect(secure=False)
    ids = []
    for then in (STARTTLS, plain(), ""):
        player.opens()
        ids.append(player.receives_header().attributes["id"])
        player.takes()
        if then:
            player.sends(then)
            player.takes()
    assert len(set(ids)) == 3


def test_the_host_is_fixed_by_authentication() -> None:
    """CVE-2018-10847: another host at the restart."""
    world = World(sections=TWO_HOSTS)
    for other in ("example.net", "example.com", ""):
        player = opened(world)
        player.sends(plain())
        player.receives(f"<success xmlns='{SASL}'/>")
        player.opens(other)
        player.receives_header()
        player.receives_stream_error("not-authorized")
        assert not list(world.server.sessions)


def test_the_host_may_be_another_after_tls() -> None:
    world = World(sections=TWO_HOSTS)
    player = opened(world, secure=False)
    player.sends(STARTTLS)
    player.takes()
    player.opens("example.net")
    assert player.receives_header().attributes["from"] == "example.net"


# ---- STARTTLS


def test_starttls() -> None:
    player = opened(World(), secure=False)
    player.sends(STARTTLS)
    player.receives(f"<proceed xmlns='{TLS}'/>")
    player.receives_nothing()
    assert player.wire.tls_started and not player.wire.closed


def test_white_space_behind_starttls_is_no_injection() -> None:
    player = opened(World(), secure=False)
    player.sends(f"{STARTTLS} \r\n")
    player.receives(f"<proceed xmlns='{TLS}'/>")


@pytest.mark.parametrize(
    "injected", [HEADER.format(host="example.org"), plain(), "<", "x", "<message/>", "</stream:stream>"]
)
def test_nothing_may_follow_starttls_in_the_clear(injected: str) -> None:
    """RFC 6120 section 5.4.3.3; CVE-2021-38370 and its kin."""
    player = opened(World(CLEAR), secure=False)
    player.sends(STARTTLS + injected)
    player.receives_stream_error("policy-violation")
    assert not player.wire.tls_started


def test_what_was_sent_before_starttls_is_forgotten() -> None:
    player = opened(World(CLEAR), secure=False)
    player.sends(auth("SCRAM-SHA-256"))
    player.takes()
    player.sends(f"<abort xmlns='{SASL}'/>")
    player.takes()
    player.sends(STARTTLS)
    player.receives(f"<proceed xmlns='{TLS}'/>")
    player.sends(plain())
    player._parser = type(player._parser)(player._parser.limits)
    player.receives_header()
    player.receives_stream_error("bad-format")


@pytest.mark.parametrize("connection", [{}, {"direct_tls": True}])
def test_starttls_under_tls_fails(connection: dict[str, bool]) -> None:
    player = opened(World(), **connection)
    player.sends(STARTTLS)
    player.receives(f"<failure xmlns='{TLS}'/>")
    player.receives_end()


def test_starttls_twice() -> None:
    player = opened(World(), secure=False)
    player.sends(STARTTLS)
    player.takes()
    player.opens()
    player.receives_header()
    player.takes()
    player.sends(STARTTLS)
    player.receives(f"<failure xmlns='{TLS}'/>")
    player.receives_end()


@pytest.mark.parametrize("xml", [f"<proceed xmlns='{TLS}'/>", "<starttls xmlns='urn:x'/>", "<starttls/>"])
def test_what_is_not_starttls(xml: str) -> None:
    player = opened(World(), secure=False)
    player.sends(xml)
    player.receives_stream_error("not-authorized")


def test_no_login_in_the_clear() -> None:
    world = World()
    for attempt in (plain(), auth("SCRAM-SHA-256"), f"<response xmlns='{SASL}'/>"):
        player = opened(world, secure=False)
        player.sends(attempt)
        player.receives(f"<failure xmlns='{SASL}'><encryption-required/></failure>")
        player.receives_stream_error("policy-violation")


# ---- before and after binding


STANZAS = ["<message/>", "<presence/>", "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"]


@pytest.mark.parametrize("xml", [*STANZAS, f"<iq type='set' id='1'><bind xmlns='{BIND}'/></iq>", "<r xmlns='urn:x'/>"])
def test_stanzas_before_authentication(xml: str) -> None:
    player = opened(World())
    player.sends(xml)
    player.receives_stream_error("not-authorized")


@pytest.mark.parametrize(
    "xml",
    [*STANZAS, plain(), STARTTLS, f"<iq type='get' id='1'><bind xmlns='{BIND}'/></iq>", f"<bind xmlns='{BIND}'/>"],
)
def test_stanzas_before_binding(xml: str) -> None:
    player = authenticated(World())
    player.sends(xml)
    player.receives_stream_error("not-authorized")


def bound_jid(player: Player, xml: str) -> str:
    player.sends(f"<iq type='set' id='b'><bind xmlns='{BIND}'>{xml}</bind></iq>")
    answer = player.receives(f"<iq type='result' id='b'><bind xmlns='{BIND}'><jid>*</jid></bind></iq>")
    return answer.findtext(f"{{{BIND}}}bind/{{{BIND}}}jid") or ""


def test_the_resource_that_was_wanted() -> None:
    world = World()
    assert bound_jid(authenticated(world), "<resource>balcony</resource>") == "romeo@example.org/balcony"
    assert bound_jid(authenticated(world), "<resource>a&lt;b &#233;</resource>") == "romeo@example.org/a<b \u00e9"
    assert world.server.sessions.get(parse("romeo@example.org/balcony")) is not None


@pytest.mark.parametrize("xml", ["", "<resource/>", "<resource></resource>", "<resource xmlns='urn:x'>x</resource>"])
def test_a_resource_of_the_servers(xml: str) -> None:
    world = World()
    one, other = bound_jid(authenticated(world), xml), bound_jid(authenticated(world), xml)
    assert one != other
    for jid in (one, other):
        assert parse(jid).bare == "romeo@example.org" and len(parse(jid).resource) >= 22


@pytest.mark.parametrize("resource", ["x" * 1024, "x" * 3000, "\u00e9" * 512, "\u200b\u0007".replace("\u0007", "")])
def test_a_resource_that_is_none(resource: str) -> None:
    player = authenticated(World())
    player.sends(f"<iq type='set' id='b'><bind xmlns='{BIND}'><resource>{resource}</resource></bind></iq>")
    answer = player.takes()
    assert answer.get("type") == "error" and answer.get("id") == "b"
    [error] = answer
    assert error.get("type") == "modify"
    assert error[0].tag == "{urn:ietf:params:xml:ns:xmpp-stanzas}bad-request"
    assert bound_jid(player, "<resource>good</resource>") == "romeo@example.org/good"


def test_a_resource_that_is_taken_goes_to_who_comes_last() -> None:
    world = World()
    old = authenticated(world)
    bound_jid(old, "<resource>here</resource>")
    new = authenticated(world)
    assert bound_jid(new, "<resource>here</resource>") == "romeo@example.org/here"
    old.receives_stream_error("conflict")
    session = world.server.sessions.get(parse("romeo@example.org/here"))
    assert session is not None and session.carrier is new.stream
    old.disconnects()
    assert world.server.sessions.get(parse("romeo@example.org/here")) is session


def test_too_many_sessions() -> None:
    world = World("max_sessions_per_account = 2")
    bound_jid(authenticated(world), "<resource>1</resource>")
    second = authenticated(world)
    bound_jid(second, "<resource>2</resource>")
    third = authenticated(world)
    third.sends(f"<iq type='set' id='b'><bind xmlns='{BIND}'><resource>3</resource></bind></iq>")
    error = third.takes()[0]
    assert error.get("type") == "wait" and error[0].tag.endswith("}resource-constraint")
    # One that takes another's place is not one more, and who leaves makes room.
    bound_jid(authenticated(world), "<resource>1</resource>")
    second.sends("</stream:stream>")
    assert bound_jid(third, "<resource>3</resource>") == "romeo@example.org/3"


def test_binding_twice_is_refused_and_the_stream_goes_on() -> None:
    player = authenticated(World())
    bound_jid(player, "<resource>a</resource>")
    player.sends(f"<iq type='set' id='c'><bind xmlns='{BIND}'><resource>b</resource></bind></iq>")
    assert player.takes().get("type") == "error"
    player.sends("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert player.takes().get("type") == "result"
    assert [session.jid.resource for session in player.world.server.sessions] == ["a"]


def test_an_account_that_is_gone_cannot_bind() -> None:
    world = World()
    player = authenticated(world)
    account = world.result(world.store.accounts.find("example.org", "romeo"))
    world.result(world.store.accounts.delete(account.id))
    player.sends(f"<iq type='set' id='b'><bind xmlns='{BIND}'/></iq>")
    assert player.takes()[0][0].tag.endswith("}not-allowed")


def test_what_follows_bind_in_the_same_segment_waits_for_it() -> None:
    player = authenticated(World())
    player.sends(
        f"<iq type='set' id='b'><bind xmlns='{BIND}'><resource>a</resource></bind></iq>"
        "<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq></stream:stream>"
    )
    assert player.takes().get("id") == "b"
    assert player.takes().get("id") == "p"
    player.receives_end()


@pytest.mark.parametrize(
    ("xml", "condition"),
    [
        ("<foo/>", "unsupported-stanza-type"),
        ("<foo xmlns='urn:x'/>", "unsupported-stanza-type"),
        ("<Message/>", "unsupported-stanza-type"),
        ("<message xmlns='jabber:server'/>", "invalid-namespace"),
        ("<message xmlns=''/>", "invalid-namespace"),
        ("<iq xmlns='urn:x' type='get' id='1'/>", "invalid-namespace"),
        ("<stream:stream/>", "invalid-namespace"),
        ("<stream:features/>", "invalid-namespace"),
        ("<message from='juliet@example.org'/>", "invalid-from"),
        ("<message from='@'/>", "invalid-from"),
        ("text", "bad-format"),
        ("<message></presence>", "not-well-formed"),
    ],
)
def test_what_ends_a_bound_stream(xml: str, condition: str) -> None:
    player = World().login("romeo@example.org/orchard")
    player.sends(xml)
    player.receives_stream_error(condition)


def test_the_senders_address_in_any_spelling() -> None:
    world = World()
    player = world.login("romeo@example.org/orchard")
    for claimed in ("romeo@example.org", "ROMEO@Example.org/orchard"):
        player.sends(f"<iq type='get' id='1' to='example.org' from='{claimed}'><ping xmlns='urn:xmpp:ping'/></iq>")
        player.receives("<iq type='result' id='1' from='example.org' to='romeo@example.org/orchard'/>")


def test_white_space_keeps_a_stream_alive() -> None:
    world = World()
    player = world.login("romeo@example.org/orchard")
    for _ in range(100):
        player.sends(" \n")
        world.advance(1)
    player.receives_nothing()
    assert not player.wire.closed
    before = len(player.received_bytes())
    world.service.keep_alive()
    assert player.received_bytes()[before:] == b" "


def test_keep_alive_goes_to_bound_streams_only() -> None:
    world = World()
    for name, player in every_state(world).items():
        before = len(player.received_bytes())
        world.service.keep_alive()
        assert player.received_bytes()[before:] == (b" " if name == "bound" else b"")


# ---- the end


@pytest.mark.parametrize("state", STATES)
def test_malformed_xml_in_any_state(state: str) -> None:
    world = World()
    player = every_state(world)[state]
    for _ in range(2):
        player.sends("<a></b>" if state != "half a header" else "<<")
    written = player.received_bytes()
    assert written.count(b"<stream:error>") == 1 and written.endswith(b"</stream:error></stream:stream>")
    assert written.count(b"</stream:stream>") == 1
    assert player.wire.closed
    player.disconnects()


@pytest.mark.parametrize("state", ["opened in the clear", "opened", "in an exchange", "authenticated", "bound"])
def test_the_end_of_a_stream(state: str) -> None:
    world = World()
    player = every_state(world)[state]
    player.sends("</stream:stream><message/>")
    player.receives_end()
    assert not [session for session in world.server.sessions if session.carrier is player.stream]


@pytest.mark.parametrize("state", STATES)
def test_shutting_down_in_any_state(state: str) -> None:
    world = World()
    player = every_state(world)[state]
    world.service.shut_down()
    written = player.received_bytes()
    assert b"<system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" in written
    assert written.endswith(b"</stream:stream>") and player.wire.closed


def test_after_the_end_nothing_is_listened_to() -> None:
    player = World().login("romeo@example.org/orchard")
    player.sends("</stream:stream>")
    player.receives_end()
    player.sends("<message/>")
    player.opens()
    player.receives_nothing()


def test_a_stream_at_rest_reads_on_as_before() -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    for busy in (True, False):
        if busy:
            romeo.sends(" ")
        world.service.rest()
        world.service.rest()
        assert romeo.stream._parser._expat is None
    romeo.sends("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.receives(f"<iq type='result' id='p' from='example.org' to='{romeo.full}'/>")
