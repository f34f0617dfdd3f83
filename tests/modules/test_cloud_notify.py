"""Push notifications (XEP-0357): who asks for them, when they are sent, and what they say."""

from __future__ import annotations

import pytest

from tests.support.push import (
    APP,
    PHONE,
    ROMEO,
    SECTIONS,
    AppServer,
    acknowledge,
    disable,
    enable,
    managed,
    passes,
    phone,
    resume,
    says,
)
from tests.support.sasl2 import BIND, IDS, SM_ENABLE, agent, arrives, bound, plain
from tests.support.world import Player, World
from xmppd.core.events import CloudNotifyPing
from xmppd.modules.cloud_notify.registrations import Registrations

JULIET = "juliet@example.org/balcony"
PROPOSE = (
    "<propose xmlns='urn:xmpp:jingle-message:0' id='call1'>"
    "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose>"
)
MARKER = "<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>"
TYPING = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"


def make(config: str = "") -> tuple[World, AppServer, Player]:
    """A server with an app server, and juliet."""
    world = World(config, SECTIONS)
    app = AppServer(world)
    return world, app, world.online(JULIET)


def known(world: World) -> list[tuple[str, str]]:
    """The registrations of romeo, by jid and node."""
    account = world.run(world.host.accounts.load("romeo"))
    return [(entry.jid, entry.node) for entry in account.get(Registrations).known.values()]


def ask(player: Player, xml: str, to: str = "") -> None:
    address = f" to='{to}'" if to else ""
    player.sends(f"<iq type='set' id='e'{address}>{xml}</iq>")


# ---- registration (sections 4 to 6)


def test_the_account_says_that_it_can_be_asked() -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    romeo.sends(f"<iq type='get' id='d' to='{ROMEO}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    assert b"<feature var='urn:xmpp:push:0'/>" in romeo.received_bytes()


@pytest.mark.parametrize("to", ["", ROMEO])
def test_a_registration_is_kept_over_a_restart(to: str) -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    ask(romeo, f"<enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'/>", to)
    assert romeo.takes().get("type") == "result"
    again = World(sections=SECTIONS, before=world)
    again.starts()
    assert known(again) == [(APP, "n")]


@pytest.mark.parametrize(("attributes", "condition", "type"), [
    ("node='n'", "bad-request", "modify"),
    ("jid='' node='n'", "bad-request", "modify"),
    (f"jid='{PHONE}' node='n'", "bad-request", "modify"),
    (f"jid='{ROMEO}' node='n'", "bad-request", "modify"),
    ("jid='a@b@c' node='n'", "jid-malformed", "modify"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["enable", "disable"])
def test_an_address_that_is_missing_wrong_or_the_own_is_refused(
    name: str, attributes: str, condition: str, type: str
) -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    ask(romeo, f"<{name} xmlns='urn:xmpp:push:0' {attributes}/>")
    romeo.receives_error(condition, type, id="e")
    assert known(world) == []


def test_nobody_enables_push_for_somebody_else() -> None:
    world, _, juliet = make()
    world.account(ROMEO)
    ask(juliet, f"<enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'/>", ROMEO)
    juliet.receives_error("forbidden", "auth", id="e", sender=ROMEO)
    assert known(world) == []


def test_one_that_was_there_is_replaced_with_its_options() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    form = "<x xmlns='jabber:x:data' type='submit'><field var='secret'><value>{}</value></field></x>"
    enable(romeo, inner=form.format("old"))
    enable(romeo, inner=form.format("new"))
    assert known(world) == [(APP, "node")]
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    options = app.push().options
    assert options is not None and [value.text for value in options.iter("{jabber:x:data}value")] == ["new"]


def test_publish_options_are_echoed_as_they_came() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo, inner=(
        "<x xmlns='jabber:x:data' type='submit'>"
        "<field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
        "<field var='secret'><value>a&lt;b&gt;&amp;'&quot;&#13;&#10;\u00e9</value></field>"
        "<field var='list' type='text-multi'><value>1</value><value/></field></x>"
    ))  # fmt: skip
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    push = app.push()
    assert push.options is not None
    (form,) = push.options
    assert form.get("type") == "submit"
    fields = {field.get("var"): [value.text for value in field] for field in form}
    assert fields == {
        "FORM_TYPE": ["http://jabber.org/protocol/pubsub#publish-options"],
        "secret": ["a<b>&'\"\r\n\u00e9"],
        "list": ["1", None],
    }


def test_a_node_with_markup_stays_what_it_is() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo, node="&apos;/>&lt;x a=&quot;&#10;]]>")
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    assert app.push().node == "'/><x a=\"\n]]>"


def test_without_a_node_there_is_none_in_what_is_published() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    ask(romeo, f"<enable xmlns='urn:xmpp:push:0' jid='{APP}'/>")
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    assert app.push().node is None


def test_one_node_or_all_of_an_app_server_are_disabled() -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    for node in ("a", "b", "c"):
        enable(romeo, node)
    enable(romeo, "a", jid="other.example")
    disable(romeo, "b")
    assert known(world) == [(APP, "a"), (APP, "c"), ("other.example", "a")]
    disable(romeo)
    assert known(world) == [("other.example", "a")]
    disable(romeo)  # nothing is there any more: that is what was asked for
    again = World(sections=SECTIONS, before=world)
    again.starts()
    assert known(again) == [("other.example", "a")]


def test_a_thousand_registrations_leave_the_newest_five() -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    for number in range(1000):
        world.advance(0.01)
        enable(romeo, f"n{number}")
    assert known(world) == [(APP, f"n{number}") for number in range(995, 1000)]
    kept = world.result(world.store.data.all(world.run(world.host.accounts.load("romeo")).id, "push"))
    assert len(kept) == 5


def test_how_many_there_may_be_is_an_option_and_one_enabled_again_is_not_the_oldest() -> None:
    world, _, _ = make("push_max_devices = 2\n")
    romeo = world.online(PHONE)
    for node in ("a", "b", "a", "c"):
        world.advance(1)
        enable(romeo, node)
    assert known(world) == [(APP, "a"), (APP, "c")]


def test_a_form_that_is_too_large_is_refused() -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    large = "x" * 20_000
    form = f"<x xmlns='jabber:x:data'><field var='s'><value>{large}</value></field></x>"
    ask(romeo, f"<enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'>{form}</enable>")
    romeo.receives_error("not-acceptable", "modify", id="e")
    ask(romeo, f"<enable xmlns='urn:xmpp:push:0' jid='{APP}' node='{large}'/>")
    romeo.receives_error("not-acceptable", "modify", id="e")
    assert known(world) == []


def test_an_app_server_may_take_a_node_back() -> None:
    world, app, _ = make()
    romeo = world.online(PHONE)
    enable(romeo, "a")
    enable(romeo, "b")
    notice = (
        "<message from='{}' to='romeo@example.org'><pubsub xmlns='http://jabber.org/protocol/pubsub' node='a'>"
        "<affiliation jid='romeo@example.org' affiliation='{}'/></pubsub></message>"
    )
    app.component.sends(notice.format(f"other@{APP}", "none"))
    app.component.sends(notice.format(APP, "publish-only"))
    assert len(known(world)) == 2
    romeo.forget()
    app.component.sends(notice.format(APP, "none"))
    assert known(world) == [(APP, "b")]
    romeo.receives_nothing()


# ---- a client keeps its registration


def test_a_session_that_does_not_ask_again_has_the_registration_of_its_client() -> None:
    world, app, juliet = make()
    romeo = bound(world)
    enable(romeo)
    romeo.sends("</stream:stream>")
    again = arrives(world, plain(agent(IDS[0]), BIND.format(SM_ENABLE))).player
    again.forget()
    again.sends("<presence/>")
    world.advance(1)
    again.forget()
    says(juliet)
    app.nothing()  # it is there
    again.disconnects()
    world.advance(1)
    assert app.push().important


def test_a_client_without_an_id_is_known_by_its_resource() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.sends("</stream:stream>")
    other = world.online(f"{ROMEO}/other")
    managed(other)
    other.disconnects()
    world.advance(1)
    says(juliet)
    world.advance(1)
    assert app.push().important  # as of one without a session
    again = world.online(PHONE)
    managed(again)
    says(juliet)
    app.nothing()
    again.disconnects()
    world.advance(1)
    assert app.push().important


def test_another_client_that_enables_the_same_node_has_it_from_then_on() -> None:
    world, app, juliet = make()
    old, _ = phone(world)
    new, _ = phone(world, f"{ROMEO}/new")
    old.disconnects()
    says(juliet)
    app.nothing()
    new.disconnects()
    world.advance(1)
    assert app.push().important
    assert known(world) == [(APP, "node")]


# ---- rule c: what is kept offline


def test_a_message_for_somebody_who_is_not_there_is_pushed() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    says(juliet, "Wherefore art thou?")
    app_saw_before = app.pushes()
    world.advance(1)
    push = app.push()
    assert app_saw_before == []
    assert (push.iq.get("from"), push.iq.get("to"), push.node) == ("example.org", APP, "node")
    assert push.fields == {
        "message-count": "1", "pending-subscription-count": "0", "last-message-body": "New Message!",
    }  # fmt: skip
    assert push.options is None
    app.nothing()


@pytest.mark.parametrize("module", ["mam", "offline"])
def test_messages_are_pushed_where_only_one_of_the_two_keeps_them(module: str) -> None:
    world, app, juliet = make(f"modules_disabled = {module}\n")
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    app.push()
    app.nothing()


def test_each_registration_is_told() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo, "a")
    enable(romeo, "b")
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    assert sorted(push.node or "" for push in app.pushes()) == ["a", "b"]


# ---- rule b: what is archived, for clients without a session


def test_a_message_that_another_device_gets_wakes_those_that_are_not_there() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    desktop = world.online(f"{ROMEO}/desktop")
    enable(desktop, "desktop")
    says(juliet)
    world.advance(1)
    assert app.push().node == "node"


def test_a_message_that_is_not_archived_wakes_nobody_while_somebody_has_it() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    world.online(f"{ROMEO}/desktop")
    says(juliet, inner="<no-store xmlns='urn:xmpp:hints'/>")
    app.nothing()


def test_what_a_user_says_on_one_device_does_not_wake_the_other() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    desktop = world.online(f"{ROMEO}/desktop")
    says(desktop, to="juliet@example.org")
    says(desktop, to=ROMEO)  # a note to self
    app.nothing()
    assert b"hi" in juliet.received_bytes()


# ---- rule a: a session that hibernates, or does not answer


def test_what_is_not_acknowledged_when_hibernation_starts_is_pushed() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    says(juliet)
    app.nothing()
    romeo.disconnects()
    assert app.pushes() == []
    world.advance(1)
    assert app.push().important
    app.nothing()


def test_what_is_acknowledged_is_not() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    says(juliet)
    world.advance(1)
    acknowledge(romeo, 2)
    romeo.disconnects()
    app.nothing()


def test_what_comes_while_it_hibernates_is_pushed() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    romeo.disconnects()
    app.nothing()
    for _ in range(3):
        says(juliet)
        world.advance(1)
        assert app.push().important


def test_a_client_that_comes_back_is_not_told_any_more() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    romeo.disconnects()
    says(juliet)
    world.advance(0.5)
    again = resume(world, id, 1)
    assert again.takes().findtext("{jabber:client}body") == "hi"
    app.nothing()
    says(juliet)
    app.nothing()


def test_a_client_that_owes_an_acknowledgement_is_told_of_what_waits_and_of_what_comes() -> None:
    world, app, juliet = make("smacks_max_ack_delay = 30s\n")
    romeo, _ = phone(world)
    says(juliet)
    passes(world, 30)
    assert app.pushes() == []
    passes(world, 4)
    assert app.push().important
    says(juliet, "again")
    world.advance(1)
    assert app.push().important
    acknowledge(romeo, 3)
    says(juliet)
    app.nothing()


def test_a_stanza_is_pushed_once_whichever_rule_comes_first() -> None:
    """Delayed, then hibernating, then not resumed, kept offline, delivered again, not acknowledged again."""
    world, app, juliet = make("smacks_max_ack_delay = 5s\npush_max_hibernation_timeout = 0s\n")
    romeo, _ = phone(world)
    says(juliet)
    passes(world, 10)
    assert app.push().important
    romeo.disconnects()
    app.nothing()
    world.advance(700)
    app.nothing()
    again = world.online(PHONE)
    managed(again)
    again.disconnects()
    app.nothing()


def test_a_stanza_is_pushed_once_though_its_session_begins_after_the_push() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    app.push()
    again = world.login(PHONE)
    managed(again)
    again.sends("<presence/>")
    assert b"hi" in again.received_bytes()
    again.disconnects()
    app.nothing()


def test_two_messages_without_an_archive_that_say_the_same_are_two() -> None:
    world, app, juliet = make("modules_disabled = mam\n")
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    for id in ("1", "2"):
        says(juliet, id=id)
        world.advance(1)
        app.push()


@pytest.mark.parametrize("kind", ["presence", "iq", "subscribe", "marker", "error"])
def test_what_is_not_important_is_pushed_as_such(kind: str) -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    if kind == "presence":
        world.befriend(romeo, juliet)
        again = romeo
        again.disconnects()
        world.advance(1)
        app.pushes()
        juliet.sends("<presence><show>away</show></presence>")
    else:
        juliet.sends(f"<presence to='{PHONE}'/>")
        romeo.sends(f"<presence to='{JULIET}'/>")
        romeo.disconnects()
        world.advance(1)
        app.pushes()
        juliet.sends({
            "iq": f"<iq type='get' id='1' to='{PHONE}'><query xmlns='jabber:iq:version'/></iq>",
            "subscribe": f"<presence type='subscribe' to='{ROMEO}'/>",
            "marker": f"<message type='chat' to='{ROMEO}'>{MARKER}</message>",
            "error": f"<message type='error' to='{PHONE}'><error type='cancel'/></message>",
        }[kind])  # fmt: skip
    world.advance(1)
    push = app.push()
    assert not push.important
    assert push.fields["message-count"] == ("1" if kind in ("marker", "error") else "0")
    assert push.fields["pending-subscription-count"] == ("1" if kind == "subscribe" else "0")
    assert id


def test_chat_states_alone_copies_and_answers_wake_nobody() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    romeo.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    romeo.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    romeo.sends("<iq type='set' id='m'><query xmlns='urn:xmpp:mam:2'/></iq>")
    desktop = world.online(f"{ROMEO}/desktop")
    romeo.disconnects()
    world.advance(2)
    app.pushes()  # of the presence of the own desktop, nothing is said either
    says(juliet, "", inner=TYPING)
    says(juliet, to=f"{ROMEO}/desktop")  # a copy goes to the phone
    says(desktop, to="juliet@example.org")
    app.nothing()


def test_answers_and_the_own_presence_wake_nobody() -> None:
    world, app, _ = make()
    romeo, _ = phone(world)
    romeo.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    romeo.sends("<iq type='set' id='m'><query xmlns='urn:xmpp:mam:2'/></iq>")
    romeo.sends("<presence><show>away</show></presence>")
    romeo.disconnects()
    app.nothing()


def test_what_client_state_holds_back_wakes_nobody() -> None:
    world, app, juliet = make("smacks_max_ack_delay = 1h\n")
    romeo, _ = phone(world)
    world.befriend(romeo, juliet)
    romeo.sends("<inactive xmlns='urn:xmpp:csi:0'/>")
    world.advance(2)
    romeo.forget()
    juliet.sends("<presence><show>away</show></presence>")
    romeo.receives_nothing()
    app.nothing()
    says(juliet)  # lets out what is held
    world.advance(1)
    app.nothing()
    romeo.disconnects()
    world.advance(1)
    important, other = app.pushes()  # the other one of the subscription, which was not acknowledged either
    assert important.important and not other.important
    juliet.sends("<presence><show>dnd</show></presence>")
    app.nothing()  # nobody looks at a client that was inactive when it went


# ---- calls and others at once


def test_a_call_is_pushed_at_once_and_to_all() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    desktop = world.online(f"{ROMEO}/desktop")
    enable(desktop, "desktop")
    asleep = world.online(f"{ROMEO}/tablet")
    enable(asleep, "tablet")
    asleep.disconnects()
    says(juliet, "", inner=PROPOSE)
    found = app.pushes()
    assert sorted(push.node or "" for push in found) == ["desktop", "node", "tablet"]
    assert all(push.important for push in found)
    assert romeo
    app.nothing()


def test_a_call_of_the_user_and_the_end_of_one_are_not_urgent() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    desktop = world.online(f"{ROMEO}/desktop")
    says(desktop, "", to="juliet@example.org", inner=PROPOSE)
    app.nothing()
    says(juliet, "", inner="<retract xmlns='urn:xmpp:jingle-message:0' id='call1'/>")
    assert app.pushes() == []
    world.advance(1)
    assert not app.push().important


def test_group_chat_for_somebody_who_is_not_there_wakes() -> None:
    world, app, _ = make()
    romeo = world.online(PHONE)
    enable(romeo)
    message = f"<message type='groupchat' from='room@{APP}/juliet' to='{ROMEO}'>{{}}</message>"
    app.component.sends(message.format("<body>there?</body>"))
    assert [iq.get("type") for iq in app.component.all_that_came()] == ["error"]
    app.nothing()
    romeo.disconnects()
    app.component.sends(message.format("<body>hi</body>"))
    app.component.all_that_came()
    world.advance(1)
    assert app.push().important
    app.component.sends(message.format("<subject>s</subject>"))
    app.component.all_that_came()
    world.advance(1)
    assert not app.push().important


def test_other_modules_wake_all_of_a_users_phones_or_some() -> None:
    world, app, _ = make()
    romeo = world.online(PHONE)
    enable(romeo, "a")
    enable(romeo, "b")
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.bus.fire(CloudNotifyPing(account)))
    world.advance(1)
    found = app.pushes()
    assert sorted(push.node or "" for push in found) == ["a", "b"]
    assert not any(push.important for push in found)
    (id,) = [id for id, entry in account.get(Registrations).known.items() if entry.node == "b"]
    world.run(world.host.bus.fire(CloudNotifyPing(account, registrations=[id])))
    world.advance(1)
    assert app.push().node == "b"


# ---- bursts


def test_what_comes_within_a_second_is_one_important_push_and_one_that_is_not() -> None:
    world, app, juliet = make("push_notification_with_body = yes\npush_notification_with_sender = yes\n")
    romeo, _ = phone(world)
    romeo.disconnects()
    for number in range(5):
        says(juliet, f"text {number}")
        says(juliet, "", inner=MARKER, id=f"m{number}")
        world.advance(0.1)
    world.advance(1)
    important, other = app.pushes()
    assert important.fields == {
        "message-count": "5", "pending-subscription-count": "0", "last-message-body": "text 4",
        "last-message-sender": JULIET,
    }  # fmt: skip
    assert not other.important and other.fields["message-count"] == "5"
    app.nothing()


# ---- what is said


@pytest.mark.parametrize(("config", "text", "expected"), [
    ("", "secret words", {"last-message-body": "New Message!"}),
    ("push_notification_with_body = yes\n", "words", {"last-message-body": "words"}),
    ("push_notification_with_sender = yes\n", "words", {
        "last-message-body": "New Message!", "last-message-sender": JULIET,
    }),
    ("push_notification_important_body = Ping\n", "words", {"last-message-body": "Ping"}),
    ("push_notification_important_body =\n", "words", {}),
    ("push_notification_important_body =\npush_notification_with_body = yes\n", "words", {
        "last-message-body": "words",
    }),
])  # fmt: skip
def test_a_push_says_as_much_as_the_administrator_wants(config: str, text: str, expected: dict[str, str]) -> None:
    world, app, juliet = make(config)
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    says(juliet, text)
    world.advance(1)
    assert app.push().fields == {"message-count": "1", "pending-subscription-count": "0", **expected}


@pytest.mark.parametrize(("inner", "important"), [
    ("<body>x</body>", True),
    ("<body/>", False),
    ("<body xmlns='urn:other'>x</body>", False),
    ("<encrypted xmlns='eu.siacs.conversations.axolotl'/>", True),
    ("<encrypted xmlns='urn:xmpp:omemo:0'/>", True),
    ("<encrypted xmlns='urn:xmpp:omemo:1'/>", True),
    ("<encrypted xmlns='urn:xmpp:omemo:2'/>", True),
    ("<x xmlns='jabber:x:encrypted'>a</x>", True),
    ("<openpgp xmlns='urn:xmpp:openpgp:0'>a</openpgp>", True),
    (PROPOSE, True),
    (MARKER, False),
    ("<received xmlns='urn:xmpp:receipts' id='1'/>", False),
])  # fmt: skip
def test_what_is_important(inner: str, important: bool) -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    romeo.disconnects()
    says(juliet, "", inner=inner)
    world.advance(1)
    assert app.push().important == important


def test_a_text_is_cut_where_a_phone_could_not_have_it() -> None:
    world, app, juliet = make("push_notification_with_body = yes\n")
    romeo, _ = phone(world)
    romeo.disconnects()
    says(juliet, "\u00e9" * 10_000)
    world.advance(1)
    assert app.push().fields["last-message-body"] == "\u00e9" * 2048


def test_the_requests_that_wait_are_counted() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    romeo.disconnects()
    juliet.sends(f"<presence type='subscribe' to='{ROMEO}'/>")
    world.advance(1)
    assert app.push().fields["pending-subscription-count"] == "1"
