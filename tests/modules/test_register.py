"""In-band registration (XEP-0077): the examples of the XEP, and what somebody might try with it."""

from __future__ import annotations

import base64
from xml.etree import ElementTree

import pytest
from twisted.internet.defer import fail

from tests.support.world import Player, World
from xmppd.core.events import PasswordChanged
from xmppd.modules.register import REMEMBERED, Throttle
from xmppd.storage import StorageError

STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
STREAMS = "{http://etherx.jabber.org/streams}"
REGISTER = "jabber:iq:register"
OPEN = "allow_registration = yes"
FORM = (
    "<x xmlns='jabber:x:data' type='submit'>"
    "<field type='hidden' var='FORM_TYPE'><value>{kind}</value></field>"
    "<field type='text-single' var='username'><value>{username}</value></field>"
    "<field type='text-private' var='password'><value>{password}</value></field></x>"
)


def connected(world: World, **connection: object) -> Player:
    """A client that may register or log in now."""
    player = world.connect(**connection)
    player.opens()
    player.forget()
    return player


def asks(player: Player, content: str, kind: str = "set") -> None:
    player.sends(f"<iq type='{kind}' id='reg'><query xmlns='{REGISTER}'>{content}</query></iq>")


def wants(player: Player, username: str, password: str = "Calliope") -> None:
    asks(player, f"<username>{username}</username><password>{password}</password>")


def succeeds(player: Player) -> None:
    to = f" to='{player.full}'" if player.full else ""
    player.receives(f"<iq type='result' id='reg'{to}/>")


def is_refused(player: Player, condition: str, kind: str) -> str:
    """The next is this error and no more, not even what was asked; its text."""
    got = player.takes()
    assert (got.get("type"), got.get("id")) == ("error", "reg"), ElementTree.tostring(got)
    error = got.find("{jabber:client}error")
    assert error is not None and len(got) == 1, ElementTree.tostring(got)
    assert error.get("type") == kind and error.find(f"{{{STANZAS}}}{condition}") is not None, ElementTree.tostring(got)
    return error.findtext(f"{{{STANZAS}}}text") or ""


def authenticates(player: Player, username: str, password: str) -> bool:
    initial = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
    player.sends(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>")
    return player.takes().tag.endswith("success")


def can_log_in(world: World, username: str, password: str) -> bool:
    return authenticates(connected(world), username, password)


def logs_in(player: Player, username: str, password: str) -> None:
    """On the stream on which the account was made."""
    assert authenticates(player, username, password)
    player.opens()
    player.forget()
    player.bind("globe")


def features(player: Player) -> set[str]:
    player.opens()
    player.receives_header()
    got = player.takes()
    assert got.tag == f"{STREAMS}features"
    return {child.tag for child in got}


# ---- a new account


def test_a_new_account() -> None:
    world = World(OPEN)
    bill = connected(world)
    bill.sends(f"<iq type='get' id='reg1' to='example.org'><query xmlns='{REGISTER}'/></iq>")
    bill.receives(
        f"<iq type='result' id='reg1'><query xmlns='{REGISTER}'><instructions>*</instructions>"
        "<username/><password/>"
        "<x xmlns='jabber:x:data' type='form'><title>*</title><instructions>*</instructions>"
        "<field type='hidden' var='FORM_TYPE'><value>jabber:iq:register</value></field>"
        "<field type='text-single' label='*' var='username'><required/></field>"
        "<field type='text-private' label='*' var='password'><required/></field></x></query></iq>"
    )
    wants(bill, "bill")
    succeeds(bill)
    logs_in(bill, "bill", "Calliope")
    assert bill.full == "bill@example.org/globe"
    assert not can_log_in(world, "bill", "calliope")


def test_a_new_account_by_a_data_form() -> None:
    world = World(OPEN)
    bill = connected(world)
    asks(bill, FORM.format(kind=REGISTER, username="bill", password="Calliope"))
    succeeds(bill)
    assert can_log_in(world, "bill", "Calliope")


def test_a_data_form_comes_before_the_fields_beside_it() -> None:
    world = World(OPEN)
    bill = connected(world)
    form = FORM.format(kind=REGISTER, username="bill", password="Calliope")
    asks(bill, f"<username>will</username><password>Wrong</password>{form}")
    succeeds(bill)
    assert can_log_in(world, "bill", "Calliope") and not can_log_in(world, "will", "Wrong")


def test_the_stream_feature_is_there_only_before_login_and_only_where_it_is_allowed() -> None:
    feature = "{http://jabber.org/features/iq-register}register"
    assert feature in features(World(OPEN).connect())
    assert feature not in features(World().connect())
    assert feature not in features(World(OPEN).connect(secure=False))  # TLS comes first
    player = World(OPEN).login("bill@example.org/globe")
    assert b"iq-register" not in player.received_bytes().rpartition(b"<stream:features")[2]


@pytest.mark.parametrize("kind", ["get", "set"])
def test_where_nobody_may_register_it_is_a_stanza_before_login(kind: str) -> None:
    world = World()
    bill = connected(world)
    asks(bill, "<username>bill</username><password>Calliope</password>", kind)
    bill.receives_stream_error("not-authorized")
    assert not can_log_in(world, "bill", "Calliope")


def test_it_counts_what_the_configuration_says_now() -> None:
    world = World()
    waiting = connected(world)
    world.config.update(World(OPEN).config)
    wants(waiting, "bill")
    succeeds(waiting)
    world.config.update(World().config)
    wants(waiting, "will")
    waiting.receives_stream_error("not-authorized")
    assert "{http://jabber.org/features/iq-register}register" not in features(world.connect())


def test_each_host_decides_for_itself() -> None:
    world = World("", "[host:example.org]\n[host:example.net]\nallow_registration = yes\n")
    bill = connected(world)
    wants(bill, "bill")
    bill.receives_stream_error("not-authorized")
    player = world.connect()
    player.opens("example.net")
    player.forget()
    wants(player, "bill")
    succeeds(player)
    assert not can_log_in(world, "bill", "Calliope")  # who is bill@example.org


def test_nobody_registers_in_the_clear() -> None:
    bill = connected(World(OPEN), secure=False)
    wants(bill, "bill")
    bill.receives_stream_error("not-authorized")


@pytest.mark.parametrize("taken", ["bill", "BILL", "Ｂill"])
def test_a_name_that_is_taken_in_any_spelling(taken: str) -> None:
    world = World(OPEN)
    world.account("bill@example.org", "secret")
    bill = connected(world)
    wants(bill, taken)
    is_refused(bill, "conflict", "cancel")
    assert can_log_in(world, "bill", "secret") and not can_log_in(world, "bill", "Calliope")


def test_two_registrations_of_one_name_at_once() -> None:
    world = World(OPEN)
    players = [connected(world), connected(world)]
    for number, player in enumerate(players):
        player.sends_only(
            f"<iq type='set' id='reg'><query xmlns='{REGISTER}'><username>bill</username>"
            f"<password>password{number}</password></query></iq>"
        )
    world.settle()
    answers = [player.takes() for player in players]
    assert sorted(str(answer.get("type")) for answer in answers) == ["error", "result"]
    winner = [answer.get("type") for answer in answers].index("result")
    assert answers[1 - winner].find(f".//{{{STANZAS}}}conflict") is not None
    assert can_log_in(world, "bill", f"password{winner}")
    assert not can_log_in(world, "bill", f"password{1 - winner}")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<username>bill</username>",
        "<username>bill</username><password/>",
        "<password>Calliope</password>",
        "<username/><password>Calliope</password>",
        "<username xmlns='urn:x'>bill</username><password>Calliope</password>",
        "<username>bi ll</username><password>Calliope</password>",
        "<username>bill@example.org</username><password>Calliope</password>",
        "<username>bill/globe</username><password>Calliope</password>",
        "<username>bill&lt;</username><password>Calliope</password>",
        "<username>\u202ebill</username><password>Calliope</password>",
        "<username>\N{PILE OF POO}</username><password>Calliope</password>",
        "<username>bill</username><password>\N{PILE OF POO}</password>",
        "<username>bill</username><password>a&#9;b</password>",
        "<username>bill</username><password>\u00ad</password>",
        f"<username>{'b' * 1024}</username><password>Calliope</password>",
        f"<username>{'b' * 3000}@example.org/globe</username><password>Calliope</password>",
        FORM.format(kind=REGISTER, username="", password="Calliope"),
        FORM.format(kind=REGISTER, username="bill", password=""),
    ],
)
def test_what_cannot_be_an_account_is_not_acceptable(content: str) -> None:
    world = World(OPEN)
    bill = connected(world)
    asks(bill, content)
    assert is_refused(bill, "not-acceptable", "modify")  # with a text
    wants(bill, "bill")  # the stream goes on, and there is no account yet
    succeeds(bill)


@pytest.mark.parametrize(
    "content",
    [
        "<username>bill</username><username>will</username><password>Calliope</password>",
        FORM.format(kind="urn:other", username="bill", password="Calliope"),
        FORM.format(kind=f"{REGISTER}:changepassword", username="bill", password="Calliope"),
        FORM.format(kind=REGISTER, username="bill", password="Calliope").replace("'submit'", "'cancel'"),
        FORM.format(kind=REGISTER, username="bill", password="Calliope").replace("'username'", "'password'"),
    ],
)
def test_what_is_not_a_registration(content: str) -> None:
    world = World(OPEN)
    bill = connected(world)
    asks(bill, content)
    is_refused(bill, "bad-request", "modify")
    assert not can_log_in(world, "bill", "Calliope")


def test_who_is_not_registered_has_nothing_to_remove() -> None:
    world = World(OPEN)
    world.account("bill@example.org")
    player = connected(world)
    asks(player, "<remove/>")
    is_refused(player, "unexpected-request", "wait")
    asks(player, "<remove/><username>bill</username><password>Calliope</password>")
    is_refused(player, "unexpected-request", "wait")
    assert can_log_in(world, "bill", "secret")


def test_a_store_that_fails_is_not_the_end_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(OPEN)
    bill = connected(world)
    with monkeypatch.context() as patched:
        patched.setattr(world.store.accounts, "create", lambda *_: fail(StorageError("the disk is full")))
        wants(bill, "bill")
        assert "disk" not in is_refused(bill, "resource-constraint", "wait")
    wants(bill, "bill")
    succeeds(bill)


def test_an_address_may_make_only_so_many_accounts() -> None:
    world = World(f"{OPEN}\nregistration_throttle_max = 3\nregistration_throttle_period = 10m")
    for number in range(3):
        player = connected(world, peer="192.0.2.7")
        wants(player, f"bot{number}")
        succeeds(player)
    player = connected(world, peer="192.0.2.7")
    wants(player, "bot3")
    is_refused(player, "not-acceptable", "wait")
    other = connected(world, peer="192.0.2.8")
    wants(other, "human")
    succeeds(other)
    world.advance(601)
    player = connected(world, peer="192.0.2.7")
    wants(player, "bot3")
    succeeds(player)


def test_trying_names_that_are_taken_counts_and_what_is_no_registration_does_not() -> None:
    world = World(f"{OPEN}\nregistration_throttle_max = 2")
    world.account("bill@example.org")
    player = connected(world)
    for _ in range(5):
        wants(player, "bill", "")
        is_refused(player, "not-acceptable", "modify")
    for _ in range(2):
        wants(player, "bill")
        is_refused(player, "conflict", "cancel")
    wants(player, "bill")
    is_refused(player, "not-acceptable", "wait")


def test_addresses_of_one_ipv6_customer_are_one() -> None:
    world = World(f"{OPEN}\nregistration_throttle_max = 1")
    wants(connected(world, peer="2001:db8::1"), "bot")
    player = connected(world, peer="2001:db8::2")
    wants(player, "bot2")
    is_refused(player, "not-acceptable", "wait")


def test_without_a_maximum_there_is_none() -> None:
    world = World(f"{OPEN}\nregistration_throttle_max = 0")
    player = connected(world)
    for number in range(20):
        wants(player, f"bot{number}")
        succeeds(player)


def test_the_throttle_remembers_a_bounded_number_of_addresses_and_attempts() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(REMEMBERED + 10):
        assert throttle.allow(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1, 60.0)
    assert len(throttle._tries) == REMEMBERED
    for _ in range(100):
        throttle.allow("192.0.2.1", 3, 60.0)
    assert len(throttle._tries["192.0.2.1"]) == 3


# ---- who has logged in


@pytest.mark.parametrize("to", ["", "to='example.org'", "to='juliet@example.org'"])
def test_who_has_logged_in_is_registered(to: str) -> None:
    juliet = World().login("juliet@example.org/balcony")
    juliet.sends(f"<iq type='get' id='reg1' {to}><query xmlns='{REGISTER}'/></iq>")
    sender = to.replace("to=", "from=")
    juliet.receives(
        f"<iq type='result' id='reg1' {sender} to='juliet@example.org/balcony'>"
        f"<query xmlns='{REGISTER}'><registered/><username>juliet</username><password/></query></iq>"
    )


def test_a_user_of_another_host_has_no_account_here() -> None:
    world = World(OPEN, "[host:example.org]\n[host:example.net]\n")
    world.account("juliet@example.org")
    juliet = world.login("juliet@example.net/balcony")
    for kind, content in (
        ("get", ""),
        ("set", "<username>juliet</username><password>stolen</password>"),
        ("set", "<remove/>"),
    ):
        juliet.sends(f"<iq type='{kind}' id='reg' to='example.org'><query xmlns='{REGISTER}'>{content}</query></iq>")
        is_refused(juliet, "service-unavailable", "cancel")
    assert can_log_in(world, "juliet", "secret")


def test_discovery() -> None:
    juliet = World().login("juliet@example.org/balcony")
    juliet.sends("<iq type='get' to='example.org' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    assert REGISTER in {child.get("var") for child in juliet.takes().iter()}


# ---- another password


@pytest.mark.parametrize("to", ["", "to='example.org'", "to='bill@example.org'"])
@pytest.mark.parametrize("username", ["bill", "Bill", "bill@example.org"])
def test_another_password(to: str, username: str) -> None:
    world = World()
    changed: list[PasswordChanged] = []
    world.host.bus.on(PasswordChanged, changed.append)
    other, bill = world.login("bill@example.org/theatre"), world.login("bill@example.org/globe")
    bill.sends(
        f"<iq type='set' id='change1' {to}><query xmlns='{REGISTER}'><username>{username}</username>"
        "<password>newpass</password></query></iq>"
    )
    bill.receives(f"<iq type='result' id='change1' {to.replace('to=', 'from=')} to='bill@example.org/globe'/>")
    assert can_log_in(world, "bill", "newpass") and not can_log_in(world, "bill", "secret")
    assert [(event.account.jid.full, event.by and event.by.jid.full) for event in changed] == [
        ("bill@example.org", "bill@example.org/globe")
    ]
    other.receives_stream_error("not-authorized")
    bill.sends("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")  # it goes on
    bill.receives("<iq type='result' id='p' from='example.org' to='bill@example.org/globe'/>")


def test_another_password_by_a_data_form() -> None:
    world = World()
    bill = world.login("bill@example.org/globe")
    asks(
        bill,
        FORM.format(kind=f"{REGISTER}:changepassword", username="bill@example.org", password="groundlings"),
    )
    succeeds(bill)
    assert can_log_in(world, "bill", "groundlings")


@pytest.mark.parametrize(
    "username", ["will", "nobody", "will@example.org", "bill@example.net", "a b", "bill@example.org/x"]
)
def test_the_password_of_another_account_stays(username: str) -> None:
    """CVE-2009-1595."""
    world = World()
    world.account("will@example.org")
    bill = world.login("bill@example.org/globe")
    wants(bill, username, "stolen")
    is_refused(bill, "not-allowed", "cancel")
    for name in ("will", "bill"):
        assert can_log_in(world, name, "secret") and not can_log_in(world, name, "stolen")


@pytest.mark.parametrize("to", ["will@example.org", "nobody@example.org"])
@pytest.mark.parametrize("content", ["<username>will</username><password>stolen</password>", "<remove/>"])
def test_nothing_is_done_at_the_address_of_another_account(to: str, content: str) -> None:
    world = World()
    world.account("will@example.org")
    bill = world.login("bill@example.org/globe")
    bill.sends(f"<iq type='set' id='reg' to='{to}'><query xmlns='{REGISTER}'>{content}</query></iq>")
    is_refused(bill, "forbidden", "auth")
    assert can_log_in(world, "will", "secret") and can_log_in(world, "bill", "secret")


@pytest.mark.parametrize(
    ("content", "condition"),
    [
        ("", "bad-request"),
        ("<username>bill</username>", "bad-request"),
        ("<username>bill</username><password/>", "bad-request"),
        ("<username>bill</username><password></password>", "bad-request"),
        ("<password>newpass</password>", "bad-request"),
        ("<username>bill</username><password>a</password><password>b</password>", "bad-request"),
        (FORM.format(kind=f"{REGISTER}:cancel", username="bill", password="secret"), "bad-request"),
        ("<username>bill</username><password>\N{PILE OF POO}</password>", "not-acceptable"),
        ("<username>bill</username><password>a&#10;b</password>", "not-acceptable"),
    ],
)
def test_what_cannot_be_a_password_leaves_the_old_one(content: str, condition: str) -> None:
    world = World()
    bill = world.login("bill@example.org/globe")
    asks(bill, content)
    text = is_refused(bill, condition, "modify")
    assert text and "\N{PILE OF POO}" not in text
    assert can_log_in(world, "bill", "secret")


# ---- the end of an account


def test_the_end_of_an_account() -> None:
    world = World()
    bill, other = world.login("bill@example.org/globe"), world.login("bill@example.org/theatre")
    asks(bill, "<remove/>")
    succeeds(bill)  # and then
    bill.receives_stream_error("not-authorized")
    other.receives_stream_error("not-authorized")
    assert not can_log_in(world, "bill", "secret")


@pytest.mark.parametrize("to", ["example.org", "bill@example.org"])
def test_the_end_of_an_account_at_an_address(to: str) -> None:
    world = World()
    bill = world.login("bill@example.org/globe")
    bill.sends(f"<iq type='set' id='unreg1' to='{to}'><query xmlns='{REGISTER}'><remove/></query></iq>")
    bill.receives(f"<iq type='result' id='unreg1' from='{to}' to='bill@example.org/globe'/>")
    bill.receives_stream_error("not-authorized")
    assert not can_log_in(world, "bill", "secret")


@pytest.mark.parametrize(
    "beside", ["<username>bill</username>", "<remove/>", "<x xmlns='jabber:x:data' type='submit'/>"]
)
def test_remove_stands_alone(beside: str) -> None:
    world = World()
    bill = world.login("bill@example.org/globe")
    asks(bill, f"<remove/>{beside}")
    is_refused(bill, "bad-request", "modify")
    assert can_log_in(world, "bill", "secret")


def test_an_account_that_could_not_be_deleted_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    bill = world.login("bill@example.org/globe")
    with monkeypatch.context() as patched:
        patched.setattr(world.store.accounts, "delete", lambda *_: fail(StorageError("the disk is full")))
        asks(bill, "<remove/>")
        is_refused(bill, "resource-constraint", "wait")
    bill.receives_nothing()
    assert can_log_in(world, "bill", "secret")
    account = world.host.accounts.loaded("bill")
    assert account is not None
    world.run(world.host.accounts.delete(account))  # by somebody else: no answer to the request of before
    bill.receives_stream_error("not-authorized")


def test_contacts_and_who_got_directed_presence_see_the_end_once() -> None:
    world = World()
    bill, anne = world.online("bill@example.org/globe"), world.online("anne@example.org/home")
    ben = world.online("ben@example.org/mermaid")
    world.befriend(bill, anne)
    bill.sends("<presence to='ben@example.org/mermaid'/>")
    ben.forget()
    asks(bill, "<remove/>")
    anne.receives("<presence type='unavailable' from='bill@example.org/globe' to='anne@example.org'/>")
    seen = [anne.takes() for _ in range(4)]
    types = [element.get("type") for element in seen if element.tag.endswith("presence")]
    assert types == ["unsubscribe", "unsubscribed"]
    assert {element.get("from") for element in seen if element.tag.endswith("presence")} == {"bill@example.org"}
    anne.receives_nothing()
    ben.receives("<presence type='unavailable' from='bill@example.org/globe' to='ben@example.org/mermaid'/>")
    ben.receives_nothing()
    anne.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    assert anne.takes()[0][0].get("subscription") == "none"


def test_who_was_blocked_does_not_see_the_user_at_the_end_but_is_not_subscribed_any_more() -> None:
    world = World()
    bill, anne = world.online("bill@example.org/globe"), world.online("anne@example.org/home")
    world.befriend(bill, anne)
    bill.sends("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='anne@example.org'/></block></iq>")
    bill.forget()
    anne.forget()
    asks(bill, "<remove/>")
    seen = [anne.takes() for _ in range(4)]
    types = [element.get("type") for element in seen if element.tag.endswith("presence")]
    assert types == ["unsubscribe", "unsubscribed"]
    anne.receives_nothing()


def test_nothing_of_an_account_is_left_for_who_has_the_name_next() -> None:
    world = World(OPEN)
    bill = world.online("bill@example.org/globe")
    for request in (
        "<query xmlns='jabber:iq:roster'><item jid='anne@example.org' name='Anne'/></query>",
        "<vCard xmlns='vcard-temp'><FN>Bill</FN></vCard>",
        "<query xmlns='jabber:iq:private'><a xmlns='urn:a'>mine</a></query>",
        "<block xmlns='urn:xmpp:blocking'><item jid='ben@example.org'/></block>",
    ):
        bill.sends(f"<iq type='set' id='s'>{request}</iq>")
    bill.sends("<presence type='unavailable'/>")
    world.login("anne@example.org/home").sends("<message to='bill@example.org'><body>For Bill</body></message>")
    bill.forget()
    asks(bill, "<remove/>")
    succeeds(bill)
    next_one = connected(world)
    wants(next_one, "bill", "other")
    succeeds(next_one)
    logs_in(next_one, "bill", "other")
    for request, answer in (
        ("<query xmlns='jabber:iq:roster'/>", "<query xmlns='jabber:iq:roster' ver='0'/>"),
        (
            "<query xmlns='jabber:iq:private'><a xmlns='urn:a'/></query>",
            "<query xmlns='jabber:iq:private'><a xmlns='urn:a'/></query>",
        ),
        ("<blocklist xmlns='urn:xmpp:blocking'/>", "<blocklist xmlns='urn:xmpp:blocking'/>"),
    ):
        next_one.sends(f"<iq type='get' id='g'>{request}</iq>")
        next_one.receives(f"<iq type='result' id='g' to='bill@example.org/globe'>{answer}</iq>")
    next_one.sends("<iq type='get' id='g'><vCard xmlns='vcard-temp'/></iq>")
    assert next_one.takes().get("type") == "error"
    next_one.sends("<presence/>")
    next_one.receives("<presence from='bill@example.org/globe' to='bill@example.org/globe'/>")
    next_one.receives_nothing()


def test_a_session_that_waits_for_its_client_ends_with_the_account() -> None:
    """Or it would be a resource of who has the name next (XEP-0198)."""
    world = World()
    phone = world.online("bill@example.org/phone")
    phone.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    phone.disconnects()
    assert len(world.server.sessions.of("bill@example.org")) == 1
    asks(world.login("bill@example.org/globe"), "<remove/>")
    assert world.server.sessions.of("bill@example.org") == []


def test_who_has_authenticated_as_an_account_that_is_deleted_cannot_bind() -> None:
    world = World()
    bill = world.login("bill@example.org/globe")
    late = world.connect()
    late.authenticate("bill", "example.org", "secret")
    asks(bill, "<remove/>")
    late.receives_stream_error("not-authorized")  # or it would be the next owner's of the name
