"""External components (XEP-0114): how they get in, what they may say, and what becomes of what is for them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tests.support.world import Component, World, configuration
from xmppd import settings
from xmppd.config import ConfigError

SECTIONS = (
    "[host:example.org]\n[component:push.example.org]\nsecret = secret\n[component:other.example]\nsecret = other\n"
)
ROMEO = "romeo@example.org/orchard"


def make(config: str = "", sections: str = SECTIONS) -> World:
    return World(config, sections)


# ---- getting in (section 3)


def test_a_component_that_knows_the_secret_is_let_in() -> None:
    world = make()
    component = Component(world)
    component.opens("push.example.org")
    component.receives_nothing()  # no features: it is not XMPP 1.0
    component.shakes_hands("secret")
    component.receives("<handshake/>")


def test_the_header_answers_in_the_namespace_of_components_and_without_a_version() -> None:
    world = make()
    component = Component(world)
    component.opens_only("push.example.org")
    header = component.receives_header()
    assert header.namespaces[""] == "jabber:component:accept"
    assert header.attributes["from"] == "push.example.org"
    assert "version" not in header.attributes


def test_the_digest_may_be_in_capitals() -> None:
    component = Component(make())
    component.opens("push.example.org")
    digest = hashlib.sha1(f"{component.stream_id}secret".encode()).hexdigest().upper()
    component.sends(f"<handshake>{digest}</handshake>")
    component.receives("<handshake/>")


def test_a_new_secret_counts_from_the_next_connection_on() -> None:
    world = make()
    old = world.component("push.example.org")
    world.config.update(configuration("", SECTIONS.replace("secret = secret", "secret = changed")))
    assert not old.wire.closed
    old.disconnects()
    for secret, fits in (("secret", False), ("changed", True)):
        component = Component(world)
        component.opens("push.example.org")
        component.shakes_hands(secret)
        if fits:
            component.receives("<handshake/>")
        else:
            component.receives_stream_error("not-authorized")


def test_a_secret_that_was_taken_away_lets_nobody_in() -> None:
    world = make()
    world.config.update(configuration("", SECTIONS.replace("secret = secret", "secret =")))
    component = Component(world)
    component.opens("push.example.org")
    component.shakes_hands("")
    component.receives_stream_error("not-authorized")


@pytest.mark.parametrize("secret", ["other", "", "Secret"])
def test_one_that_does_not_is_sent_away(secret: str) -> None:
    component = Component(make())
    component.opens("push.example.org")
    component.shakes_hands(secret)
    component.receives_stream_error("not-authorized")


@pytest.mark.parametrize("domain", ["example.org", "unknown.example", ""])
def test_there_is_no_component_for_a_host_or_for_what_nobody_has_named(domain: str) -> None:
    component = Component(make())
    component.opens(domain)
    component.receives_stream_error("host-unknown")


def test_a_header_of_a_client_is_refused() -> None:
    world = make()
    component = Component(world)
    component.header = component.header.replace("jabber:component:accept", "jabber:client")
    component.opens("push.example.org")
    component.receives_stream_error("invalid-namespace")


def test_what_comes_before_the_handshake_is_not_routed() -> None:
    world = make()
    romeo = world.online(ROMEO)
    component = Component(world)
    component.opens("push.example.org")
    component.sends(f"<message from='push.example.org' to='{romeo.bare}'><body>hi</body></message>")
    component.receives_stream_error("not-authorized")
    romeo.receives_nothing()


def test_before_the_handshake_nothing_may_be_large() -> None:
    component = Component(make())
    component.opens("push.example.org")
    component.sends(f"<handshake>{'a' * 20_000}</handshake>")
    component.receives_stream_error("policy-violation")


def test_one_that_says_nothing_is_not_waited_for() -> None:
    world = make("c2s_timeout = 30s\n")
    component = Component(world)
    component.opens("push.example.org")
    world.advance(29)
    component.receives_nothing()
    world.advance(1)
    component.receives_stream_error("connection-timeout")


def test_one_address_may_not_have_any_number_of_streams_that_have_shown_nothing() -> None:
    world = make("max_unauthenticated_per_address = 2\n")
    for _ in range(2):
        Component(world).opens("push.example.org")
    third = Component(world)
    third.opens("push.example.org")
    third.receives_stream_error("policy-violation")


def test_one_that_is_let_in_does_not_count_any_more_and_may_take_its_time() -> None:
    world = make("max_unauthenticated_per_address = 1\nc2s_timeout = 10\n")
    first = world.component("push.example.org")
    second = world.component("other.example", "other")
    world.advance(60)
    for component in (first, second):
        component.receives_nothing()


def test_what_is_no_handshake_lets_nobody_in() -> None:
    for element in ("<handshake/>", "<handshake xmlns='jabber:client'>{}</handshake>", "<message>{}</message>"):
        component = Component(make())
        component.opens("push.example.org")
        component.sends(element.format(hashlib.sha1(f"{component.stream_id}secret".encode()).hexdigest()))
        component.receives_stream_error("not-authorized")


def test_after_the_handshake_stanzas_may_be_large_but_not_without_bounds() -> None:
    world = make("stanza_size_limit = 64k\n")
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    message = f"<message from='push.example.org' to='{romeo.bare}'><body>{{}}</body></message>"
    component.sends(message.format("x" * 60_000))
    assert romeo.takes()[0].text == "x" * 60_000
    component.sends(message.format("x" * 70_000))
    component.receives_stream_error("policy-violation")


def test_a_stanza_may_not_become_large_by_being_spelt_anew() -> None:
    world = make("stanza_size_limit = 64k\n")
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    attributes = "".join(f" p:a{number}=''" for number in range(30))
    component.sends(
        f"<message xmlns:p='urn:{'n' * 200}' xmlns:c='jabber:component:accept' from='push.example.org' "
        f"to='{romeo.bare}'><c:body>x</c:body>{f'<p:x{attributes}/>' * 100}</message>"
    )
    component.receives_stream_error("policy-violation")
    romeo.receives_nothing()


def test_the_first_component_of_a_domain_stays() -> None:
    world = make()
    first = world.component("push.example.org")
    second = Component(world)
    second.opens("push.example.org")
    second.shakes_hands("secret")
    second.receives_stream_error("conflict")
    first.receives_nothing()
    first.sends("<iq type='get' id='1' from='push.example.org' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    first.receives("<iq type='result' id='1' from='example.org' to='push.example.org'/>")


def test_the_administrator_may_want_that_the_last_one_stays() -> None:
    world = make("component_conflict_resolve = kick_old\n")
    first = world.component("push.example.org")
    second = world.component("push.example.org")
    first.receives_stream_error("conflict")
    romeo = world.online(ROMEO)
    romeo.sends("<message to='push.example.org'><body>hi</body></message>")
    second.receives(f"<message from='{ROMEO}' to='push.example.org'><body>hi</body></message>")


def test_a_section_without_a_secret_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"secret: \[component:push\.example\.org\] has none"):
        make(sections="[host:example.org]\n[component:push.example.org]\n")


def test_without_a_component_there_is_no_port_for_one(tmp_path: Path) -> None:
    for with_components in (True, False):
        names = [ports.name for ports, _ in settings.listening(make().config.server, with_components)]
        assert ("component_ports" in names) == with_components


# ---- stanzas


def test_messages_go_both_ways_with_what_belongs_to_them_in_the_right_namespace() -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    component.sends(
        f"<message from='bot@push.example.org/1' to='{romeo.bare}' type='chat' id='m1'><body>hi</body>"
        "<x xmlns='urn:example'><y/></x></message>"
    )
    romeo.receives(
        f"<message from='bot@push.example.org/1' to='{romeo.bare}' type='chat' id='m1'><body>hi</body>"
        "<x xmlns='urn:example'><y/></x></message>"
    )
    romeo.sends("<message to='bot@push.example.org/1' type='chat' id='m2'><body>ho</body></message>")
    component.receives(
        f"<message from='{ROMEO}' to='bot@push.example.org/1' type='chat' id='m2'><body>ho</body></message>"
    )


def test_an_archive_knows_what_a_component_has_said_by_its_body() -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    component.sends(f"<message from='push.example.org' to='{romeo.bare}'><body>hi</body></message>")
    got = romeo.takes()
    assert got.find("{urn:xmpp:sid:0}stanza-id") is not None  # a body makes it worth keeping


@pytest.mark.parametrize("xml", [
    "<message xmlns='jabber:client' from='push.example.org' to='romeo@example.org'><body>hi</body></message>",
    "<message from='push.example.org' to='romeo@example.org'>"
    "<body xmlns='jabber:component:accept'>hi</body></message>",
    "<c:message xmlns:c='jabber:component:accept' from='push.example.org' to='romeo@example.org'>"
    "<c:body>hi</c:body></c:message>",
    "<message xmlns:c='jabber:component:accept' from='push.example.org' to='romeo@example.org'>"
    "<c:body>hi</c:body></message>",
])  # fmt: skip
def test_the_namespace_may_be_said_in_any_way(xml: str) -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    component.sends(xml)
    romeo.receives("<message from='push.example.org' to='romeo@example.org'><body>hi</body></message>")


@pytest.mark.parametrize("xml", [
    "<message to='push.example.org'><body xmlns='jabber:client'>hi</body></message>",
    "<message xmlns:c='jabber:client' to='push.example.org'><c:body>hi</c:body></message>",
])  # fmt: skip
def test_it_reaches_a_component_in_its_own_namespace_whatever_a_client_says(xml: str) -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    before = len(component.received_bytes())
    romeo.sends(xml)
    assert b"jabber:client" not in component.received_bytes()[before:]
    component.receives(f"<message from='{ROMEO}' to='push.example.org'><body>hi</body></message>")


def test_iqs_go_both_ways() -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    romeo.sends("<iq type='get' id='q' to='push.example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    request = component.asked()
    component.answers(request)
    romeo.receives(f"<iq type='result' id='q' from='push.example.org' to='{ROMEO}'/>")
    romeo.sends("<presence to='a@push.example.org'/>")  # else it is a stranger, to whom no client answers
    component.receives(f"<presence from='{ROMEO}' to='a@push.example.org'/>")
    component.sends(f"<iq type='get' id='w' from='a@push.example.org' to='{ROMEO}'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.receives(f"<iq type='get' id='w' from='a@push.example.org' to='{ROMEO}'><ping xmlns='urn:xmpp:ping'/></iq>")


def test_a_contact_at_a_component_is_subscribed_to_and_sends_presence() -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    romeo.sends("<presence type='subscribe' to='bot@push.example.org'/>")
    romeo.forget()
    component.receives(f"<presence type='subscribe' from='{romeo.bare}' to='bot@push.example.org'/>")
    component.sends(f"<presence type='subscribed' from='bot@push.example.org' to='{romeo.bare}'/>")
    romeo.forget()
    component.sends(f"<presence from='bot@push.example.org/1' to='{romeo.bare}'><show>away</show></presence>")
    romeo.receives(f"<presence from='bot@push.example.org/1' to='{romeo.bare}'><show>away</show></presence>")


def test_components_reach_each_other() -> None:
    world = make()
    one, other = world.component("push.example.org"), world.component("other.example", "other")
    one.sends("<message from='a@push.example.org' to='b@other.example'><body>hi</body></message>")
    other.receives("<message from='a@push.example.org' to='b@other.example'><body>hi</body></message>")


def test_stanzas_of_a_component_stay_in_order_though_an_account_has_to_be_loaded() -> None:
    world = make()
    world.account("juliet@example.org")
    component = world.component("push.example.org")
    message = "<message from='push.example.org' to='juliet@example.org'><body>{}</body></message>"
    component.sends("".join(message.format(number) for number in range(5)))
    juliet = world.online("juliet@example.org/balcony")
    bodies = [element.findtext("{jabber:client}body") for element in juliet.all_that_came()]
    assert bodies == []  # `online` has passed over them
    texts = [f"<body>{n}</body>".encode() for n in range(5)]
    written = juliet.received_bytes()
    assert [written.index(text) for text in texts] == sorted(written.index(text) for text in texts)


def test_what_comes_in_one_read_stays_behind_what_came_in_another() -> None:
    component = make().component("push.example.org")
    # Whether there is a nobody has to be asked; the component itself is there.
    component.sends_only("<message id='1' from='push.example.org' to='nobody@example.org'><body>1</body></message>")
    component.sends_only("<message id='2' from='push.example.org' to='push.example.org'><body>2</body></message>")
    component.world.settle()
    assert [element.get("id") for element in component.all_that_came()] == ["1", "2"]


def test_a_component_that_is_too_fast_is_not_read_from_for_a_while() -> None:
    world = make()
    names = [f"u{number}" for number in range(100)]
    for name in names:
        world.account(f"{name}@example.org")
    component = world.component("push.example.org")
    for name in names:
        component.sends_only(f"<message from='push.example.org' to='{name}@example.org'><body>1</body></message>")
    assert component.wire.paused
    world.settle()
    assert not component.wire.paused


def test_what_a_component_has_sent_before_it_went_arrives() -> None:
    world = make()
    world.account("juliet@example.org")
    component = world.component("push.example.org")
    message = "<message from='push.example.org' to='juliet@example.org'><body>{}</body></message>"
    component.sends_only("".join(message.format(number) for number in range(5)))
    component.disconnects()
    world.settle()
    written = world.online("juliet@example.org/balcony").received_bytes()
    assert re.findall(rb"<body>(\d)</body>", written) == [b"0", b"1", b"2", b"3", b"4"]


def test_what_comes_behind_a_stanza_that_it_may_not_send_does_not_arrive() -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    message = "<message from='{}' to='romeo@example.org'><body>hi</body></message>"
    component.sends(message.format("example.org") + message.format("push.example.org"))
    component.receives_stream_error("invalid-from")
    romeo.receives_nothing()


@pytest.mark.parametrize(("xml", "condition"), [
    ("<message from='example.org' to='romeo@example.org'><body>hi</body></message>", "invalid-from"),
    ("<message from='juliet@example.org' to='romeo@example.org'><body>hi</body></message>", "invalid-from"),
    ("<message from='x.push.example.org' to='romeo@example.org'><body>hi</body></message>", "invalid-from"),
    ("<message from='@' to='romeo@example.org'><body>hi</body></message>", "invalid-from"),
    ("<message to='romeo@example.org'><body>hi</body></message>", "improper-addressing"),
    ("<message from='push.example.org'><body>hi</body></message>", "improper-addressing"),
    ("<nonsense from='push.example.org' to='romeo@example.org'/>", "unsupported-stanza-type"),
    ("<message xmlns='jabber:server' from='push.example.org' to='romeo@example.org'/>", "invalid-namespace"),
])  # fmt: skip
def test_what_a_component_may_not_say_ends_its_stream(xml: str, condition: str) -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    component.sends(xml)
    component.receives_stream_error(condition)
    romeo.receives_nothing()


def test_what_cannot_be_delivered_comes_back_to_the_component() -> None:
    world = make()
    component = world.component("push.example.org")
    component.sends("<message from='push.example.org' to='nobody@example.org' id='1'><body>hi</body></message>")
    component.receives_error("service-unavailable", "cancel", id="1", sender="nobody@example.org")
    component.sends("<message from='push.example.org' to='a@b@c' id='2'><body>hi</body></message>")
    component.receives_error("jid-malformed", "modify", id="2")
    component.sends("<iq from='push.example.org' to='example.org' type='get' id='3'/>")
    component.receives_error("bad-request", "modify", id="3", sender="example.org")


def test_a_component_is_no_stranger_to_nobody_and_no_owner_of_an_account() -> None:
    world = make()
    component = world.component("push.example.org")
    world.account("romeo@example.org")
    component.sends(
        "<iq from='push.example.org' to='romeo@example.org' type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>"
    )
    component.receives_error("forbidden", "auth", id="1", sender="romeo@example.org")


# ---- a component that is not there, or does not read


def test_who_writes_to_a_component_that_is_not_there_is_told_to_try_again() -> None:
    world = make()
    romeo = world.online(ROMEO)
    romeo.sends("<message to='push.example.org' id='1'><body>hi</body></message>")
    romeo.receives_error("service-unavailable", "wait", id="1", sender="push.example.org")
    component = world.component("push.example.org")
    component.disconnects()
    romeo.sends("<iq type='get' id='2' to='push.example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.receives_error("service-unavailable", "wait", id="2", sender="push.example.org")


def test_what_waits_for_a_component_is_bounded_and_comes_back_when_it_goes() -> None:
    world = make("component_max_queue = 64k\n")
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    component.wire.stuck = True
    body = "x" * 10_000
    for number in range(20):
        romeo.sends(f"<message to='push.example.org' id='{number}'><body>{body}</body></message>")
        world.advance(1)
    came = romeo.all_that_came()
    refused = [element.get("id") for element in came if element.get("type") == "error"]
    assert refused == [str(number) for number in range(13, 20)]  # 7 were on their way, 6 wait
    assert all(element[0].get("type") == "wait" for element in came)
    component.disconnects()
    back = [element.get("id") for element in romeo.all_that_came()]
    assert back == [str(number) for number in range(7, 13)]


def test_what_waits_is_bounded_by_all_that_it_takes() -> None:
    world = make("component_max_queue = 64k\n")
    component, other = world.component("push.example.org"), world.component("other.example", "other")
    component.wire.stuck = True
    component.wire.unsent = 64 * 1024
    message = "<message from='other.example' to='push.example.org' id='{}'{}/>"
    for number in range(10):
        other.sends(message.format(number, f" a='{'x' * 15_000}'"))
    assert [element.get("id") for element in other.all_that_came()] == [str(number) for number in range(4, 10)]
    for number in range(100):
        other.sends(message.format(number, ""))
    assert len(other.all_that_came()) > 80


def test_what_waits_comes_back_before_the_server_goes_down() -> None:
    world = make()
    sender, stuck = world.component("other.example", "other"), world.component("push.example.org")
    stuck.wire.stuck = True
    for number in range(10):
        sender.sends(f"<message from='other.example' to='push.example.org' id='{number}'><body>{'x' * 20_000}</body>"
                     "</message>")  # fmt: skip
    world.components.shut_down()
    world.settle()
    came = sender.all_that_came()
    assert [element.get("id") for element in came[:6]] == [str(number) for number in range(4, 10)]
    assert came[6].tag == "{http://etherx.jabber.org/streams}error"


def test_what_waits_is_sent_in_order_once_the_component_reads_again() -> None:
    world = make()
    component = world.component("push.example.org")
    romeo = world.online(ROMEO)
    component.wire.stuck = True
    for number in range(20):
        romeo.sends(f"<message to='push.example.org' id='{number}'><body>{'x' * 10_000}</body></message>")
        world.advance(1)
    component.wire.reads_again()
    assert [element.get("id") for element in component.all_that_came()] == [str(number) for number in range(20)]


def test_the_host_above_lists_its_components() -> None:
    world = make()
    romeo = world.online(ROMEO)
    romeo.sends(
        "<iq type='get' id='1' to='example.org'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
    )
    romeo.receives(
        f"<iq type='result' id='1' from='example.org' to='{ROMEO}'>"
        "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='push.example.org'/></query></iq>"
    )


def test_a_component_is_told_that_the_server_goes_down() -> None:
    world = make()
    component = world.component("push.example.org")
    world.components.shut_down()
    component.receives_stream_error("system-shutdown")


def test_a_component_is_sent_a_space_from_time_to_time() -> None:
    world = make()
    component = world.component("push.example.org")
    before = len(component.received_bytes())
    world.components.keep_alive()
    assert component.received_bytes()[before:] == b" "
