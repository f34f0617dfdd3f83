"""The blocking command (XEP-0191): the examples of the XEP, and what somebody might try with it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from twisted.internet.defer import fail
from twisted.logger import formatEvent, globalLogPublisher

from tests.support.world import STANZA_ID, Player, World
from xmppd.modules.blocklist import blocks
from xmppd.storage import StorageError
from xmppd.wire.jid import parse

BLOCKING = "urn:xmpp:blocking"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
BLOCKED = f"<error type='cancel'><not-acceptable xmlns='{STANZAS}'/><blocked xmlns='urn:xmpp:blocking:errors'/></error>"
UNAVAILABLE = f"<error type='cancel'><service-unavailable xmlns='{STANZAS}'/></error>"


def items(*jids: str) -> str:
    return "".join(f"<item jid='{jid}'/>" for jid in jids)


def does(player: Player, what: str, *jids: str) -> None:
    """`player` blocks or unblocks, and nobody who has not asked for the list hears of it."""
    player.sends(f"<iq type='set' id='b1'><{what} xmlns='{BLOCKING}'>{items(*jids)}</{what}></iq>")
    player.receives(f"<iq type='result' id='b1' to='{player.full}'/>")


def has_blocked(player: Player, *jids: str) -> None:
    player.sends(f"<iq type='get' id='blocklist1'><blocklist xmlns='{BLOCKING}'/></iq>")
    player.receives(
        f"<iq type='result' id='blocklist1' to='{player.full}'>"
        f"<blocklist xmlns='{BLOCKING}'>{items(*jids)}</blocklist></iq>"
    )


def is_refused(player: Player, payload: str, condition: str, kind: str = "modify") -> None:
    player.sends(f"<iq type='set' id='b2'>{payload}</iq>")
    got = player.takes()
    error = got.find("{jabber:client}error")
    assert got.get("id") == "b2" and error is not None, ElementTree.tostring(got)
    assert error.get("type") == kind and error.find(f"{{{STANZAS}}}{condition}") is not None, ElementTree.tostring(got)


def friends() -> tuple[World, Player, Player]:
    """Juliet and Romeo, who see each other's presence."""
    world = World()
    juliet, romeo = world.online("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
    world.befriend(juliet, romeo)
    return world, juliet, romeo


# ---- the list


def test_the_list_is_empty_at_first() -> None:
    has_blocked(World().login("juliet@example.org/chamber"))


def test_what_is_blocked_is_in_the_list_at_every_resource_and_after_a_restart() -> None:
    world = World()
    juliet = world.login("juliet@example.org/chamber")
    does(juliet, "block", "romeo@montague.example")
    does(juliet, "block", "iago@shakespeare.example", "verona.example", "romeo@montague.example")
    blocked = ("iago@shakespeare.example", "romeo@montague.example", "verona.example")
    has_blocked(world.login("juliet@example.org/balcony"), *blocked)
    has_blocked(World(before=world).login("juliet@example.org/crypt"), *blocked)


def test_unblocking_one_of_several_and_one_that_is_not_blocked() -> None:
    world = World()
    juliet = world.login("juliet@example.org/chamber")
    does(juliet, "block", "a@x.example", "b@x.example", "c@x.example")
    does(juliet, "unblock", "b@x.example", "a@x.example", "z@x.example")
    has_blocked(juliet, "c@x.example")
    has_blocked(World(before=world).login("juliet@example.org/crypt"), "c@x.example")


def test_unblocking_all() -> None:
    world = World()
    juliet = world.login("juliet@example.org/chamber")
    does(juliet, "block", "a@x.example", "b@x.example")
    does(juliet, "unblock")
    has_blocked(juliet)
    has_blocked(World(before=world).login("juliet@example.org/crypt"))


def test_addresses_are_compared_as_addresses() -> None:
    juliet = World().login("juliet@example.org/chamber")
    does(juliet, "block", "ROMEO@Montague.Example", "romeo@montague.example", "nurse@montague.example")
    does(juliet, "unblock", "Romeo@MONTAGUE.example")
    has_blocked(juliet, "nurse@montague.example")


def test_an_address_with_markup_and_one_that_is_too_long_for_a_key() -> None:
    world = World()
    juliet = world.login("juliet@example.org/chamber")
    odd = "room@x.example/&lt;a b=&apos;c&apos;&gt;&amp;"
    long = f"{'l' * 1023}@{'d' * 63}.example/{'r' * 1023}"
    does(juliet, "block", odd, long)
    has_blocked(World(before=world).login("juliet@example.org/crypt"), long, odd)
    account = world.host.accounts.loaded("juliet")
    assert account is not None
    keys = world.result(world.store.data.all(account.id, "blocklist"))
    assert max(len(key.encode()) for key in keys) <= 1024
    does(juliet, "unblock", long)
    has_blocked(World(before=world).login("juliet@example.org/crypt"), odd)


def test_only_resources_that_have_asked_for_the_list_are_told_of_changes() -> None:
    world = World()
    balcony, chamber = world.login("juliet@example.org/balcony"), world.login("juliet@example.org/chamber")
    crypt, romeo = world.login("juliet@example.org/crypt"), world.login("romeo@example.org/orchard")
    for player in (balcony, chamber, romeo):
        has_blocked(player)
    for what, jids in (
        ("block", ("iago@x.example", "romeo@montague.example")),
        ("block", ("romeo@montague.example",)),  # for the second time
        ("unblock", ("romeo@montague.example",)),
        ("unblock", ()),
    ):
        does(crypt, what, *jids)
        for player in (balcony, chamber):
            player.receives(
                f"<iq to='{player.full}' type='set' id='*'><{what} xmlns='{BLOCKING}'>{items(*jids)}</{what}></iq>"
            )
            player.receives_nothing()
        crypt.receives_nothing()
        romeo.receives_nothing()


def test_who_makes_a_change_is_told_of_it_as_well() -> None:
    juliet = World().login("juliet@example.org/balcony")
    has_blocked(juliet)
    juliet.sends(f"<iq type='set' id='b1'><block xmlns='{BLOCKING}'>{items('romeo@x.example')}</block></iq>")
    juliet.receives_all(
        "<iq type='result' id='b1' to='juliet@example.org/balcony'/>",
        f"<iq to='juliet@example.org/balcony' type='set' id='*'><block xmlns='{BLOCKING}'>"
        "<item jid='romeo@x.example'/></block></iq>",
    )


# ---- requests that are refused


@pytest.mark.parametrize(
    ("payload", "condition"),
    [
        (f"<block xmlns='{BLOCKING}'/>", "bad-request"),
        (f"<block xmlns='{BLOCKING}'><item xmlns='urn:x' jid='romeo@x.example'/></block>", "bad-request"),
        (f"<block xmlns='{BLOCKING}'><item/></block>", "bad-request"),
        (f"<block xmlns='{BLOCKING}'><item jid=''/></block>", "jid-malformed"),
        (f"<block xmlns='{BLOCKING}'><item jid='a@b@c/'/></block>", "jid-malformed"),
        (f"<block xmlns='{BLOCKING}'>{items('ok@x.example', '@x.example')}</block>", "jid-malformed"),
        (f"<block xmlns='{BLOCKING}'>{items('x' * 1024 + '@x.example')}</block>", "jid-malformed"),
        (f"<unblock xmlns='{BLOCKING}'><item/></unblock>", "bad-request"),
        (f"<unblock xmlns='{BLOCKING}'>{items('a b@x.example')}</unblock>", "jid-malformed"),
        (f"<unblock xmlns='{BLOCKING}'><item xmlns='urn:x' jid='kept@x.example'/></unblock>", "bad-request"),
    ],
)
def test_bad_requests_change_nothing(payload: str, condition: str) -> None:
    juliet = World().login("juliet@example.org/chamber")
    does(juliet, "block", "kept@x.example")
    is_refused(juliet, payload, condition)
    has_blocked(juliet, "kept@x.example")


@pytest.mark.parametrize("jid", ["juliet@example.org", "juliet@example.org/balcony", "Juliet@Example.ORG/x"])
def test_nobody_blocks_themselves(jid: str) -> None:
    juliet = World().login("juliet@example.org/chamber")
    is_refused(juliet, f"<block xmlns='{BLOCKING}'>{items('romeo@x.example', jid)}</block>", "not-allowed", "cancel")
    has_blocked(juliet)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("get", "<blocklist xmlns='{}'/>"),
        ("set", "<block xmlns='{}'><item jid='a@b'/></block>"),
        ("set", "<unblock xmlns='{}'/>"),
    ],
)
@pytest.mark.parametrize("whom", ["juliet", "nobody"])
def test_the_list_of_another_user_is_forbidden(kind: str, payload: str, whom: str) -> None:
    world = World()
    juliet, romeo = world.login("juliet@example.org/chamber"), world.login("romeo@example.org/orchard")
    does(juliet, "block", "iago@x.example")
    romeo.sends(f"<iq type='{kind}' id='1' to='{whom}@example.org'>{payload.format(BLOCKING)}</iq>")
    romeo.receives(
        f"<iq type='error' id='1' from='{whom}@example.org' to='romeo@example.org/orchard'>"
        f"<error type='auth'><forbidden xmlns='{STANZAS}'/></error></iq>"
    )
    has_blocked(juliet, "iago@x.example")


def test_ten_thousand_addresses_are_too_many() -> None:
    world = World("stanza_size_limit = 2M\nstanza_elements_limit = 20000")
    juliet = world.login("juliet@example.org/chamber")
    many = items(*(f"spammer{number}@x.example" for number in range(10_000)))
    is_refused(juliet, f"<block xmlns='{BLOCKING}'>{many}</block>", "policy-violation")
    has_blocked(juliet)


def test_the_limit_counts_what_is_blocked_already_and_no_address_twice() -> None:
    juliet = World("max_blocked_jids = 3").login("juliet@example.org/chamber")
    does(juliet, "block", "a@x.example", "b@x.example")
    is_refused(juliet, f"<block xmlns='{BLOCKING}'>{items('c@x.example', 'd@x.example')}</block>", "policy-violation")
    does(juliet, "block", "a@x.example", "c@x.example", "c@x.example")
    is_refused(juliet, f"<block xmlns='{BLOCKING}'>{items('d@x.example')}</block>", "policy-violation")
    does(juliet, "block", "b@x.example")  # nothing new
    does(juliet, "unblock", "a@x.example")
    does(juliet, "block", "d@x.example")
    has_blocked(juliet, "b@x.example", "c@x.example", "d@x.example")


def test_who_has_more_than_a_lowered_limit_may_say_so_again() -> None:
    world = World()
    does(world.login("juliet@example.org/chamber"), "block", "a@x.example", "b@x.example")
    juliet = World("max_blocked_jids = 1", before=world).login("juliet@example.org/chamber")
    does(juliet, "block", "a@x.example")
    is_refused(juliet, f"<block xmlns='{BLOCKING}'>{items('c@x.example')}</block>", "policy-violation")
    has_blocked(juliet, "a@x.example", "b@x.example")


def test_requests_at_once_do_not_get_round_the_limit() -> None:
    world = World("max_blocked_jids = 1")
    players = [world.login("juliet@example.org/a"), world.login("juliet@example.org/b")]
    for number, player in enumerate(players):
        player.sends_only(
            f"<iq type='set' id='1'><block xmlns='{BLOCKING}'>{items(f'spammer{number}@x.example')}</block></iq>"
        )
    world.settle()
    assert sorted(str(player.takes().get("type")) for player in players) == ["error", "result"]


def test_nothing_is_blocked_that_the_store_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    juliet, romeo = world.online("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
    has_blocked(juliet)

    monkeypatch.setattr(world.store.data, "put", lambda *_: fail(StorageError("the disk is full")))
    block = f"<block xmlns='{BLOCKING}'>{items('romeo@example.org', 'iago@example.org')}</block>"
    is_refused(juliet, block, "resource-constraint", "wait")
    juliet.receives_nothing()
    has_blocked(juliet)
    romeo.sends("<message to='juliet@example.org' type='chat'><body>Hi</body></message>")
    juliet.receives(
        "<message from='romeo@example.org/orchard' to='juliet@example.org' type='chat'><body>Hi</body></message>"
    )


# ---- inbound


@pytest.mark.parametrize("to", ["juliet@example.org", "juliet@example.org/balcony", "juliet@example.org/gone"])
@pytest.mark.parametrize("kind", ["", "type='chat'", "type='normal'", "type='groupchat'", "type='headline'"])
def test_messages_of_who_is_blocked_come_back(to: str, kind: str) -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    romeo.sends(f"<message to='{to}' id='m1' {kind}><body>Can you hear me now?</body></message>")
    romeo.receives(f"<message type='error' id='m1' from='{to}' to='romeo@example.org/orchard'>{UNAVAILABLE}</message>")
    juliet.receives_nothing()


def test_errors_of_who_is_blocked_vanish() -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    for to in ("juliet@example.org", "juliet@example.org/balcony"):
        romeo.sends(f"<message to='{to}' id='m1' type='error'>{UNAVAILABLE}</message>")
        romeo.sends(f"<iq to='{to}' id='q1' type='error'>{UNAVAILABLE}</iq>")
        romeo.sends(f"<iq to='{to}' id='q2' type='result'/>")
        romeo.sends(f"<presence to='{to}' id='p1' type='error'>{UNAVAILABLE}</presence>")
    romeo.receives_nothing()
    juliet.receives_nothing()


@pytest.mark.parametrize("kind", ["get", "set"])
@pytest.mark.parametrize("to", ["juliet@example.org", "juliet@example.org/balcony"])
def test_requests_of_who_is_blocked_come_back(kind: str, to: str) -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    romeo.sends(f"<iq to='{to}' id='q1' type='{kind}'><query xmlns='jabber:iq:private'><a xmlns='urn:a'/></query></iq>")
    romeo.receives(f"<iq type='error' id='q1' from='{to}' to='romeo@example.org/orchard'>{UNAVAILABLE}</iq>")
    juliet.receives_nothing()


def test_presence_of_who_is_blocked_vanishes() -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    romeo.sends("<presence><show>away</show></presence>")
    romeo.receives(
        "<presence from='romeo@example.org/orchard' to='romeo@example.org/orchard'><show>away</show></presence>"
    )
    for to in ("juliet@example.org", "juliet@example.org/balcony"):
        romeo.sends(f"<presence to='{to}'/>")
        romeo.sends(f"<presence to='{to}' type='unavailable'/>")
        romeo.sends(f"<presence to='{to}' type='probe'/>")
    romeo.receives_nothing()
    juliet.receives_nothing()


@pytest.mark.parametrize("kind", ["subscribe", "subscribed", "unsubscribe", "unsubscribed"])
def test_subscription_stanzas_of_who_is_blocked_vanish(kind: str) -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    romeo.sends(f"<presence to='juliet@example.org' type='{kind}'/>")
    assert b"type='error'" not in romeo.received_bytes()
    juliet.receives_nothing()
    juliet.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    item = juliet.takes()[0][0]
    assert (item.get("jid"), item.get("subscription")) == ("romeo@example.org", "both")


def test_a_request_of_a_stranger_who_is_blocked_is_not_kept() -> None:
    world = World()
    juliet = world.online("juliet@example.org/balcony")
    does(juliet, "block", "spammer@example.org")
    spammer = world.online("spammer@example.org/bot")
    spammer.sends("<presence to='juliet@example.org' type='subscribe'/>")
    juliet.receives_nothing()
    again = world.login("juliet@example.org/chamber")
    again.sends("<presence/>")
    again.receives_all(
        "<presence from='juliet@example.org/chamber' to='juliet@example.org/chamber'/>",
        "<presence from='juliet@example.org/balcony' to='juliet@example.org/chamber'/>",
    )
    again.receives_nothing()


def test_a_request_that_waits_when_its_sender_is_blocked_does_not_come_again() -> None:
    world = World()
    spammer, juliet = world.online("spammer@example.org/bot"), world.online("juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    spammer.sends("<presence to='juliet@example.org' type='subscribe'/>")
    romeo.sends("<presence to='juliet@example.org' type='subscribe'/>")
    spammer.forget()
    juliet.forget()
    does(juliet, "block", "spammer@example.org")
    spammer.receives_nothing()
    juliet.disconnects()
    juliet = World(before=world).login("juliet@example.org/balcony")
    juliet.sends("<presence/>")
    juliet.receives_all(
        "<presence from='juliet@example.org/balcony' to='juliet@example.org/balcony'/>",
        "<presence from='romeo@example.org' to='juliet@example.org' type='subscribe'/>",
    )
    juliet.receives_nothing()


def test_nothing_is_kept_for_who_is_offline() -> None:
    world, juliet, _ = friends()
    does(juliet, "block", "romeo@example.org")
    juliet.disconnects()
    world = World(before=world)  # the list is not in memory
    romeo = world.login("romeo@example.org/orchard")
    romeo.sends("<message to='juliet@example.org' id='m1' type='chat'><body>Still here?</body></message>")
    romeo.receives(
        f"<message type='error' id='m1' from='juliet@example.org' "
        f"to='romeo@example.org/orchard'>{UNAVAILABLE}</message>"
    )
    juliet = world.login("juliet@example.org/balcony")
    juliet.sends("<presence/>")
    juliet.forget()
    assert b"Still here?" not in juliet.received_bytes()


def test_to_who_is_blocked_a_user_looks_like_nobody() -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    answers: list[list[bytes]] = []
    for name in ("juliet", "nobody"):
        romeo.sends(f"<message to='{name}@example.org' id='m1'><body>Hi</body></message>")
        romeo.sends(f"<iq to='{name}@example.org' id='q1' type='get'><vCard xmlns='vcard-temp'/></iq>")
        romeo.sends(f"<presence to='{name}@example.org' type='probe'/>")
        answers.append([])
        for answer in (romeo.takes(), romeo.takes()):
            for mark in answer.findall(STANZA_ID):  # of his own archive
                answer.remove(mark)
            answers[-1].append(ElementTree.tostring(answer).replace(name.encode(), b"*"))
        romeo.receives_nothing()
    assert answers[0] == answers[1]


def test_a_request_that_came_before_the_block_is_answered() -> None:
    world, juliet, romeo = friends()
    juliet.sends("<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard></iq>")
    juliet.forget()
    juliet.sends_only(f"<iq type='set' id='b1'><block xmlns='{BLOCKING}'>{items('romeo@example.org')}</block></iq>")
    romeo.sends_only("<iq type='get' id='v3' to='juliet@example.org'><vCard xmlns='vcard-temp'/></iq>")
    world.settle()
    romeo.receives("<presence type='unavailable' from='juliet@example.org/balcony' to='romeo@example.org'/>")
    romeo.receives(
        "<iq type='result' id='v3' from='juliet@example.org' to='romeo@example.org/orchard'>"
        "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard></iq>"
    )


# ---- outbound


@pytest.mark.parametrize("to", ["romeo@example.org", "romeo@example.org/orchard"])
@pytest.mark.parametrize(
    "stanza",
    [
        "<message to='{}' id='s' type='chat'><body>Can you hear me now?</body></message>",
        "<message to='{}' id='s' type='headline'/>",
        "<iq to='{}' id='s' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq to='{}' id='s' type='set'><x xmlns='urn:x'/></iq>",
        "<presence to='{}' id='s'/>",
        "<presence to='{}' id='s' type='unavailable'/>",
        "<presence to='{}' id='s' type='probe'/>",
        "<presence to='{}' id='s' type='subscribe'/>",
        "<presence to='{}' id='s' type='unsubscribed'/>",
    ],
)
def test_nothing_goes_out_to_who_is_blocked(to: str, stanza: str) -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    juliet.sends(stanza.format(to))
    name = stanza[1:].partition(" ")[0]
    juliet.receives(f"<{name} type='error' id='s' from='{to}' to='juliet@example.org/balcony'>{BLOCKED}</{name}>")
    romeo.receives_nothing()


def test_answers_to_who_is_blocked_vanish() -> None:
    _, juliet, romeo = friends()
    romeo.sends("<iq to='juliet@example.org/balcony' id='q1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
    juliet.takes()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    juliet.sends("<iq to='romeo@example.org/orchard' id='q1' type='result'/>")
    juliet.sends(f"<iq to='romeo@example.org/orchard' id='q1' type='error'>{UNAVAILABLE}</iq>")
    juliet.sends(f"<message to='romeo@example.org/orchard' id='q1' type='error'>{UNAVAILABLE}</message>")
    juliet.receives_nothing()
    romeo.receives_nothing()


def test_after_unblocking_everything_goes_its_way() -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    does(juliet, "unblock", "romeo@example.org")
    romeo.forget()
    juliet.sends("<message to='romeo@example.org' type='chat'><body>Now?</body></message>")
    romeo.receives(
        "<message from='juliet@example.org/balcony' to='romeo@example.org' type='chat'><body>Now?</body></message>"
    )
    romeo.sends("<message to='juliet@example.org' type='chat'><body>Yes</body></message>")
    juliet.receives(
        "<message from='romeo@example.org/orchard' to='juliet@example.org' type='chat'><body>Yes</body></message>"
    )


# ---- the four forms of section 6


@pytest.mark.parametrize(
    ("item", "blocked", "free"),
    [
        (
            "romeo@x.example/orchard",
            ["romeo@x.example/orchard"],
            ["romeo@x.example", "romeo@x.example/other", "x.example"],
        ),
        (
            "romeo@x.example",
            ["romeo@x.example", "romeo@x.example/orchard"],
            ["x.example", "x.example/orchard", "iago@x.example/orchard", "romeo@y.example"],
        ),
        (
            "x.example/orchard",
            ["x.example/orchard"],
            ["x.example", "x.example/other", "romeo@x.example", "romeo@x.example/orchard"],
        ),
        (
            "x.example",
            ["x.example", "x.example/orchard", "romeo@x.example", "romeo@x.example/orchard"],
            ["sub.x.example", "romeo@sub.x.example", "example", "y.example/x.example", "x.example@y.example"],
        ),
    ],
)
def test_which_addresses_an_item_means(item: str, blocked: list[str], free: list[str]) -> None:
    world = World()
    juliet = world.login("juliet@example.org/chamber")
    does(juliet, "block", item)
    account = world.host.accounts.loaded("juliet")
    assert account is not None
    assert [jid for jid in [*blocked, *free] if blocks(account, parse(jid))] == blocked


def test_a_blocked_resource_alone_is_blocked() -> None:
    world = World()
    juliet = world.online("juliet@example.org/balcony")
    orchard, tomb = world.online("romeo@example.org/orchard"), world.online("romeo@example.org/tomb")
    orchard.forget()
    does(juliet, "block", "romeo@example.org/orchard")
    orchard.sends("<message to='juliet@example.org' id='m1'><body>No</body></message>")
    orchard.receives(
        f"<message type='error' id='m1' from='juliet@example.org' "
        f"to='romeo@example.org/orchard'>{UNAVAILABLE}</message>"
    )
    tomb.sends("<message to='juliet@example.org'><body>Yes</body></message>")
    juliet.receives("<message from='romeo@example.org/tomb' to='juliet@example.org'><body>Yes</body></message>")
    juliet.sends("<message to='romeo@example.org/tomb'><body>Hi</body></message>")
    tomb.receives("<message from='juliet@example.org/balcony' to='romeo@example.org/tomb'><body>Hi</body></message>")
    juliet.sends("<message to='romeo@example.org/orchard' id='m2'><body>Hi</body></message>")
    juliet.receives(
        f"<message type='error' id='m2' from='romeo@example.org/orchard' "
        f"to='juliet@example.org/balcony'>{BLOCKED}</message>"
    )


# ---- the own server and the own account


def test_who_blocks_the_own_server_still_has_it() -> None:
    """And the other users of it are blocked."""
    world = World()
    juliet, romeo = world.online("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
    chamber = world.online("juliet@example.org/chamber")
    juliet.forget()
    does(juliet, "block", "example.org", "example.org/x")
    for to in ("to='example.org'", "to='juliet@example.org'", ""):
        juliet.sends(f"<iq type='get' id='q' {to}><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        assert juliet.takes().get("type") == "result"
    juliet.sends("<message to='juliet@example.org/chamber'><body>Note</body></message>")
    chamber.receives(
        "<message from='juliet@example.org/balcony' to='juliet@example.org/chamber'><body>Note</body></message>"
    )
    juliet.sends("<presence><show>away</show></presence>")
    chamber.receives(
        "<presence from='juliet@example.org/balcony' to='juliet@example.org/chamber'><show>away</show></presence>"
    )
    juliet.forget()
    romeo.sends("<message to='juliet@example.org' id='m1'><body>No</body></message>")
    romeo.receives(
        f"<message type='error' id='m1' from='juliet@example.org' "
        f"to='romeo@example.org/orchard'>{UNAVAILABLE}</message>"
    )
    juliet.receives_nothing()
    does(juliet, "unblock", "example.org")


def test_a_client_can_ping_its_server_and_log_in_again() -> None:
    world = World()
    juliet = world.login("juliet@example.org/balcony")
    does(juliet, "block", "example.org")
    again = World(before=world).login("juliet@example.org/balcony")
    again.sends("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
    again.receives("<iq type='result' id='p' from='example.org' to='juliet@example.org/balcony'/>")


# ---- presence when somebody is blocked and unblocked


def test_a_contact_sees_every_resource_go_and_come_back() -> None:
    world, _, romeo = friends()
    world.online("juliet@example.org/chamber", "<presence><show>dnd</show></presence>")
    silent = world.login("juliet@example.org/crypt")  # which has sent no presence
    romeo.forget()
    does(silent, "block", "romeo@example.org")
    romeo.receives_all(
        "<presence type='unavailable' from='juliet@example.org/balcony' to='romeo@example.org'/>",
        "<presence type='unavailable' from='juliet@example.org/chamber' to='romeo@example.org'/>",
    )
    romeo.receives_nothing()
    does(silent, "unblock", "romeo@example.org")
    romeo.receives_all(
        "<presence from='juliet@example.org/balcony' to='romeo@example.org'/>",
        "<presence from='juliet@example.org/chamber' to='romeo@example.org'><show>dnd</show></presence>",
    )
    romeo.receives_nothing()


def test_what_happens_meanwhile_is_not_told_to_who_is_blocked() -> None:
    world, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    juliet.sends("<presence><show>away</show></presence>")
    chamber = world.online("juliet@example.org/chamber")  # probes, and is broadcast
    chamber.disconnects()
    romeo.receives_nothing()
    world.online("juliet@example.org/crypt").sends("<presence type='unavailable'/>")
    romeo.receives_nothing()
    juliet.forget()
    does(juliet, "unblock")
    romeo.receives("<presence from='juliet@example.org/balcony' to='romeo@example.org'><show>away</show></presence>")
    romeo.receives_nothing()


def test_an_unavailable_user_has_nothing_to_say_at_unblocking() -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    juliet.sends("<presence type='unavailable'/>")
    does(juliet, "unblock", "romeo@example.org")
    romeo.receives_nothing()


def test_strangers_are_told_nothing() -> None:
    world = World()
    juliet, romeo = world.online("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
    does(juliet, "block", "romeo@example.org")
    does(juliet, "unblock", "romeo@example.org")
    romeo.receives_nothing()


def test_who_only_has_a_subscription_of_the_user_is_told_nothing() -> None:
    """Juliet sees Romeo's presence, he does not see hers."""
    world = World()
    juliet, romeo = world.online("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
    juliet.sends("<presence to='romeo@example.org' type='subscribe'/>")
    romeo.sends("<presence to='juliet@example.org' type='subscribed'/>")
    juliet.forget()
    romeo.forget()
    does(juliet, "block", "romeo@example.org")
    does(juliet, "unblock", "romeo@example.org")
    romeo.receives_nothing()


def test_who_got_directed_presence_sees_the_user_go_and_does_not_see_a_return() -> None:
    world = World()
    juliet, romeo = world.online("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
    nurse = world.online("nurse@example.org/house")
    juliet.sends("<presence to='romeo@example.org/orchard'/>")
    juliet.sends("<presence to='nurse@example.org/house'/>")
    romeo.forget()
    nurse.forget()
    does(juliet, "block", "romeo@example.org")
    nurse.receives_nothing()
    romeo.receives("<presence type='unavailable' from='juliet@example.org/balcony' to='romeo@example.org/orchard'/>")
    does(juliet, "unblock", "romeo@example.org")
    juliet.sends("<presence type='unavailable'/>")
    romeo.receives_nothing()  # it is told once


def test_directed_presence_of_a_resource_that_is_not_available() -> None:
    world = World()
    juliet, romeo = world.login("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
    juliet.sends("<presence to='romeo@example.org/orchard'/>")
    romeo.forget()
    does(juliet, "block", "example.org")
    romeo.receives("<presence type='unavailable' from='juliet@example.org/balcony' to='romeo@example.org/orchard'/>")
    romeo.receives_nothing()


def test_a_blocked_domain_means_all_contacts_of_it_and_blocking_one_of_them_again_nobody() -> None:
    world, juliet, romeo = friends()
    nurse = world.online("nurse@example.org/house")
    world.befriend(juliet, nurse)
    romeo.forget()
    does(juliet, "block", "example.org")
    for player in (romeo, nurse):
        player.receives(f"<presence type='unavailable' from='juliet@example.org/balcony' to='{player.bare}'/>")
    does(juliet, "block", "romeo@example.org")
    does(juliet, "unblock", "example.org")
    nurse.receives("<presence from='juliet@example.org/balcony' to='nurse@example.org'/>")
    romeo.receives_nothing()  # who is still blocked
    does(juliet, "unblock", "romeo@example.org")
    romeo.receives("<presence from='juliet@example.org/balcony' to='romeo@example.org'/>")


def test_a_blocked_resource_of_a_contact_sees_the_user_go_and_come_back() -> None:
    world, juliet, romeo = friends()
    tomb = world.online("romeo@example.org/tomb")
    romeo.forget()
    juliet.forget()
    does(juliet, "block", "romeo@example.org/orchard")
    romeo.receives("<presence type='unavailable' from='juliet@example.org/balcony' to='romeo@example.org/orchard'/>")
    does(juliet, "unblock", "romeo@example.org/orchard")
    romeo.receives("<presence from='juliet@example.org/balcony' to='romeo@example.org/orchard'/>")
    tomb.receives_nothing()


def test_removing_a_blocked_contact_ends_the_subscriptions_on_both_sides() -> None:
    _, juliet, romeo = friends()
    does(juliet, "block", "romeo@example.org")
    romeo.forget()
    juliet.sends(
        "<iq type='set' id='r'><query xmlns='jabber:iq:roster'>"
        "<item jid='romeo@example.org' subscription='remove'/></query></iq>"
    )
    romeo.forget()
    romeo.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    item = romeo.takes()[0][0]
    assert (item.get("jid"), item.get("subscription")) == ("juliet@example.org", "none")


# ---- reports (XEP-0377), discovery


@pytest.mark.parametrize(
    ("report", "logged"),
    [
        (
            "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>"
            "<text xml:lang='en'>Never came\ntrouble.</text><stanza-id xmlns='urn:xmpp:sid:0' id='1' "
            "by='x'/></report>",
            "juliet@example.org reports romeo@x.example for spam",
        ),
        (
            "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:abuse'/>",
            "juliet@example.org reports romeo@x.example for abuse",
        ),
        (
            "<report xmlns='urn:xmpp:reporting:1' reason='x&#10;root has logged in'/>",
            "juliet@example.org reports romeo@x.example for another reason",
        ),
        ("<report xmlns='urn:xmpp:reporting:1'/>", None),
        ("<report xmlns='urn:xmpp:reporting:0' reason='urn:xmpp:reporting:abuse'/>", None),
    ],
)
def test_a_report_with_a_block(report: str, logged: str | None) -> None:
    world = World()
    juliet, chamber = world.login("juliet@example.org/balcony"), world.login("juliet@example.org/chamber")
    has_blocked(chamber)
    lines: list[str] = []

    def observer(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observer)
    try:
        juliet.sends(
            f"<iq type='set' id='b1'><block xmlns='{BLOCKING}'><item jid='romeo@x.example'>{report}</item></block></iq>"
        )
    finally:
        globalLogPublisher.removeObserver(observer)
    juliet.receives("<iq type='result' id='b1' to='juliet@example.org/balcony'/>")
    assert [line for line in lines if "reports" in line] == ([logged] if logged else [])
    chamber.receives(
        f"<iq to='juliet@example.org/chamber' type='set' id='*'><block xmlns='{BLOCKING}'>"
        "<item jid='romeo@x.example'/></block></iq>"
    )
    has_blocked(juliet, "romeo@x.example")


def test_discovery() -> None:
    juliet = World().login("juliet@example.org/balcony")
    juliet.sends("<iq type='get' to='example.org' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    features = {child.get("var") for child in juliet.takes().iter()}
    assert {"urn:xmpp:blocking", "urn:xmpp:reporting:1"} <= features


def test_who_is_blocked_sees_the_same_whether_the_user_is_there_or_not() -> None:
    """Section 3.3: the user appears offline, at a login of the blocked contact and to a probe."""
    heard = []
    for there in (True, False):
        world = World()
        juliet, romeo = world.online("juliet@example.org/balcony"), world.online("romeo@example.org/orchard")
        world.befriend(juliet, romeo)
        does(juliet, "block", "romeo@example.org")
        if not there:
            juliet.sends("</stream:stream>")
        romeo.sends("</stream:stream>")
        romeo = world.login("romeo@example.org/orchard")
        romeo.sends("<presence/>")
        heard.append(sorted((e.get("from"), e.get("type") or "") for e in romeo.all_that_came()))
        romeo.sends("<presence type='probe' to='juliet@example.org'/>")
        romeo.receives_nothing()
    assert heard[0] == heard[1]
    assert ("juliet@example.org", "unavailable") in heard[0]
