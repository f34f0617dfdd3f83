"""What phones add to push notifications: encryption, priority, calls, filters, and the settings of their users."""

from __future__ import annotations

import base64
import json
from typing import Any
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.push import APP, PHONE, ROMEO, SECTIONS, AppServer, Push, enable, says
from tests.support.world import Player, World

JULIET = "juliet@example.org/balcony"
KEY = bytes(range(16))
ENCRYPT = "{tigase:push:encrypt:0}encrypted"
ROOM = f"room@{APP}"
PROPOSE = (
    "<propose xmlns='urn:xmpp:jingle-message:0' id='call1'>"
    "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/>"
    "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='video'/></propose>"
)


def make(inner: str = "", config: str = "") -> tuple[World, AppServer, Player]:
    """A server with an app server, juliet, and romeo's phone, which is not there."""
    world = World(config, SECTIONS)
    app = AppServer(world)
    romeo = world.online(PHONE)
    enable(romeo, inner=inner)
    juliet = world.online(JULIET)
    romeo.disconnects()
    return world, app, juliet


def encrypt(key: bytes | str = KEY, alg: str = "aes-128-gcm", more: str = "") -> str:
    text = base64.b64encode(key).decode() if isinstance(key, bytes) else key
    return f"<encrypt xmlns='tigase:push:encrypt:0' alg='{alg}' {more}>{text}</encrypt>"


def decrypted(push: Push, key: bytes = KEY) -> dict[str, Any]:
    """What the phone shows; the tag has to be right."""
    element = push.notification.find(ENCRYPT)
    assert element is not None and element.text is not None
    iv = base64.b64decode(element.get("iv") or "")
    assert len(iv) == 12
    shown: dict[str, Any] = json.loads(AESGCM(key).decrypt(iv, base64.b64decode(element.text), None))
    return shown


def room_says(app: AppServer, text: str, inner: str = "", nick: str = "juliet") -> None:
    app.component.sends(
        f"<message type='groupchat' from='{ROOM}/{nick}' to='{ROMEO}'><body>{text}</body>{inner}</message>"
    )
    app.component.all_that_came()  # nobody is in the room


# ---- what is announced


@pytest.mark.parametrize("feature", [
    "tigase:push:encrypt:0", "tigase:push:encrypt:aes-128-gcm", "tigase:push:priority:0", "tigase:push:jingle:0",
    "tigase:push:filter:ignore-unknown:0", "tigase:push:filter:muted:0", "tigase:push:filter:groupchat:0",
])  # fmt: skip
def test_extensions_are_announced_by_the_account(feature: str) -> None:
    romeo = World().online(PHONE)
    romeo.sends(f"<iq type='get' id='d' to='{ROMEO}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    assert f"<feature var='{feature}'/>".encode() in romeo.received_bytes()


# ---- encryption


def test_an_encrypted_push_says_what_came_to_the_phone_alone() -> None:
    world, app, juliet = make(encrypt())
    says(juliet, "Wherefore \u2026?")
    world.advance(1)
    push = app.push()
    assert push.fields == {} and b"Wherefore" not in ElementTree.tostring(push.iq)
    assert decrypted(push) == {
        "unread": 1, "sender": "juliet@example.org", "type": "chat", "message": "Wherefore \u2026?",
    }  # fmt: skip


def test_each_push_has_an_initialisation_vector_of_its_own() -> None:
    world, app, juliet = make(encrypt())
    seen = set()
    for _ in range(3):
        says(juliet)
        world.advance(1)
        element = app.push().notification.find(ENCRYPT)
        assert element is not None
        seen.add(element.get("iv"))
    assert len(seen) == 3


@pytest.mark.parametrize(("element", "condition"), [
    (encrypt(alg="aes-256-gcm"), "feature-not-implemented"),
    (encrypt(alg=""), "feature-not-implemented"),
    (encrypt(KEY[:15]), "bad-request"),
    (encrypt(KEY + b"x"), "bad-request"),
    (encrypt(KEY * 2), "bad-request"),
    (encrypt(""), "bad-request"),
    (encrypt("AAECAwQFBgcICQoLDA0ODw"), "bad-request"),
    (encrypt("!AECAwQFBgcICQoLDA0ODw=="), "bad-request"),
    (encrypt("\u00e9AECAwQFBgcICQoLDA0ODw=="), "bad-request"),
    (encrypt(more="max-size='-1'"), "bad-request"),
    (encrypt(more="max-size='many'"), "bad-request"),
])  # fmt: skip
def test_a_key_that_cannot_be_used_is_refused(element: str, condition: str) -> None:
    world = World("", SECTIONS)
    romeo = world.online(PHONE)
    romeo.sends(f"<iq type='set' id='e'><enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'>{element}</enable></iq>")
    romeo.receives_error(condition, "modify", id="e")


def test_a_key_may_have_white_space_around_it() -> None:
    text = base64.b64encode(KEY).decode()
    world, app, juliet = make(encrypt(f"\n  {text[:10]}\n{text[10:]} "))
    says(juliet)
    world.advance(1)
    assert decrypted(app.push())["message"] == "hi"


@pytest.mark.parametrize("inner", [
    "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
    "<encrypted xmlns='urn:xmpp:omemo:2'/>",
    "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:omemo:2'/>",
    f"<encrypted xmlns='eu.siacs.conversations.axolotl'>{'x' * 20_000}</encrypted>",
])  # fmt: skip
def test_of_an_encrypted_message_a_fixed_sentence_is_shown(inner: str) -> None:
    world, app, juliet = make(encrypt())
    says(juliet, "I sent you an encrypted message", inner=inner)
    world.advance(1)
    assert decrypted(app.push())["message"] == "You have received an encrypted message"


@pytest.mark.parametrize(("text", "expected"), [
    ("x" * 1000, "x" * 255),
    ("\u00e9" * 1000, "\u00e9" * 127),
    ("x\u20ac" * 100, "x\u20ac" * 63 + "x"),
    ("\n" * 1000, "\n" * 255),
])  # fmt: skip
def test_a_long_text_is_cut_between_characters(text: str, expected: str) -> None:
    world, app, juliet = make(encrypt())
    says(juliet, text.replace("\n", "&#10;"))
    world.advance(1)
    assert decrypted(app.push())["message"] == expected


@pytest.mark.parametrize("size", [64, 200, 1000, 3000])
@pytest.mark.parametrize("text", ["x" * 5000, "\u00e9\U0001f600" * 1000, "&quot;\\" * 1000])
def test_a_phone_that_says_how_much_it_takes_gets_no_more(size: int, text: str) -> None:
    world, app, juliet = make(encrypt(more=f"max-size='{size}'"))
    says(juliet, text)
    world.advance(1)
    push = app.push()
    element = push.notification.find(ENCRYPT)
    assert element is not None and element.text is not None
    assert len(element.text) <= max(size, 120)  # what is said beside the text has to be said
    shown = decrypted(push)
    if size == 1000:
        assert len(shown["message"].encode()) > 300


def test_a_call_rings() -> None:
    _, app, juliet = make(encrypt())
    says(juliet, "", inner=PROPOSE)
    push = app.push()
    element = push.notification.find(ENCRYPT)
    assert element is not None and element.get("type") == "voip"
    assert decrypted(push) == {
        "unread": 1, "sender": JULIET, "type": "call", "sid": "call1", "media": ["audio", "video"],
    }  # fmt: skip
    assert push.notification.find("{tigase:push:jingle:0}jingle") is None


def test_group_chat_has_the_nickname_and_a_request_has_its_kind() -> None:
    world, app, juliet = make(encrypt())
    room_says(app, "hello")
    world.advance(1)
    assert decrypted(app.push()) == {
        "unread": 1, "sender": ROOM, "type": "groupchat", "nickname": "juliet", "message": "hello",
    }  # fmt: skip
    romeo = world.online(PHONE)
    romeo.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    romeo.disconnects()
    world.advance(2)
    app.pushes()
    juliet.sends(f"<presence type='subscribe' to='{ROMEO}'/>")
    world.advance(1)
    assert decrypted(app.push()) == {"unread": 0, "sender": "juliet@example.org", "type": "subscribe"}


def test_what_has_no_text_shows_none() -> None:
    world, app, juliet = make(encrypt())
    says(juliet, "", inner="<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>")
    world.advance(1)
    assert decrypted(app.push()) == {"unread": 1, "sender": "juliet@example.org", "type": "chat"}


def test_enabling_without_a_key_ends_encryption() -> None:
    world, app, juliet = make(encrypt())
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    push = app.push()
    assert push.important and push.notification.find(ENCRYPT) is None


def test_the_key_is_there_after_a_restart() -> None:
    world, app, juliet = make(encrypt())
    world.clock.calls.clear()
    again = World("", SECTIONS, before=world)
    again.starts()
    app, juliet = AppServer(again), again.online(JULIET)
    says(juliet)
    again.advance(1)
    assert decrypted(app.push())["message"] == "hi"


def test_a_call_for_a_client_that_wants_them_without_encryption() -> None:
    _, app, juliet = make("<jingle xmlns='tigase:push:jingle:0'/>")
    says(juliet, "", inner=PROPOSE)
    jingle = app.push().notification.find("{tigase:push:jingle:0}jingle")
    assert jingle is not None and (jingle.get("action"), jingle.get("sid")) == ("propose", "call1")
    assert [media.text for media in jingle] == ["audio", "video"]


# ---- priority


@pytest.mark.parametrize("inner", ["", encrypt()])
def test_what_is_important_has_a_high_priority(inner: str) -> None:
    world, app, juliet = make(inner)
    says(juliet)
    says(juliet, "", inner="<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>")
    world.advance(1)
    important, other = app.pushes()
    assert important.notification.findtext("{tigase:push:priority:0}priority") == "high"
    assert other.notification.find("{tigase:push:priority:0}priority") is None


# ---- filters


def test_strangers_may_not_wake() -> None:
    world, app, juliet = make("<ignore-unknown xmlns='tigase:push:filter:ignore-unknown:0'/>" + encrypt())
    says(juliet)
    app.nothing()
    romeo = world.online(PHONE)
    juliet.sends(f"<presence to='{ROMEO}'/>")
    world.befriend(romeo, juliet)
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    assert decrypted(app.push())["message"] == "hi"
    nurse = world.online("nurse@example.org/kitchen")
    says(nurse, "", inner=PROPOSE)
    app.nothing()


def test_who_is_muted_does_not_wake() -> None:
    muted = "<muted xmlns='tigase:push:filter:muted:0'><item jid='JULIET@example.org/x'/><item jid='@'/><item/></muted>"
    world, app, juliet = make(muted)
    says(juliet)
    app.nothing()
    says(world.online("nurse@example.org/kitchen"))
    world.advance(1)
    app.push()


def test_a_filtered_stanza_is_not_pushed_by_another_rule() -> None:
    world, app, juliet = make("<muted xmlns='tigase:push:filter:muted:0'><item jid='juliet@example.org'/></muted>")
    says(juliet)
    world.advance(2)
    romeo = world.login(PHONE)
    romeo.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    romeo.sends("<presence/>")
    romeo.disconnects()
    app.nothing()


def rooms(*rules: str) -> str:
    return f"<groupchat xmlns='tigase:push:filter:groupchat:0'>{''.join(rules)}</groupchat>"


MENTION = "<reference xmlns='urn:xmpp:reference:0' type='mention' uri='{}'/>"


@pytest.mark.parametrize(("rule", "text", "inner", "woken"), [
    ("", "hi", "", False),
    (f"<room jid='{ROOM}' allow='always'/>", "hi", "", True),
    (f"<room jid='{ROOM}' allow='never'/>", "hi", MENTION.format("xmpp:romeo@example.org"), False),
    (f"<room jid='other@{APP}' allow='always'/>", "hi", "", False),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "hi", "", False),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "hi", MENTION.format("xmpp:romeo@example.org"), True),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "hi", MENTION.format(f"xmpp:{ROOM}/Monty"), True),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Mon ty'/>", "hi", MENTION.format(f"xmpp:{ROOM}/Mon%20ty"), True),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "hi", MENTION.format(f"xmpp:{ROOM}/Other"), False),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "hi", MENTION.format("https://example.org"), False),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "hi", MENTION.format("xmpp:@"), False),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "monty: look", "", True),
    (f"<room jid='{ROOM}' allow='mentioned' nick='Monty'/>", "montys", "", False),
    (f"<room jid='{ROOM}' allow='mentioned' nick='M.nty'/>", "Monty", "", False),
    (f"<room jid='{ROOM}' allow='mentioned'/>", "romeo", "", False),
])  # fmt: skip
def test_rooms_wake_as_the_client_has_said(rule: str, text: str, inner: str, woken: bool) -> None:
    world, app, _ = make(rooms(rule))
    room_says(app, text, inner)
    world.advance(1)
    assert len(app.pushes()) == int(woken)


# ---- notification settings (XEP-0492)


def bookmarks(romeo: Player, *conferences: str) -> None:
    """Store bookmarks in private data."""
    storage = f"<storage xmlns='storage:bookmarks'>{''.join(conferences)}</storage>"
    romeo.sends(f"<iq type='set' id='b'><query xmlns='jabber:iq:private'>{storage}</query></iq>")
    assert romeo.takes().get("type") == "result"


def notify(*settings: str) -> str:
    return f"<notify xmlns='urn:xmpp:notification-settings:1'>{''.join(settings)}</notify>"


def conference(jid: str, *settings: str, nick: str = "") -> str:
    name = f"<nick>{nick}</nick>" if nick else ""
    return f"<conference jid='{jid}'>{name}<extensions>{notify(*settings)}</extensions></conference>"


@pytest.mark.parametrize(("settings", "woken"), [
    (["<never/>"], False),
    (["<always/>"], True),
    ([], True),
    (["<never identity-category='client' identity-type='pc'/>", "<always/>"], True),
    (["<always identity-category='client' identity-type='pc'/>", "<never/>"], False),
    (["<always/>", "<never identity-category='client'/>"], False),
    (["<never identity-category='client'/>", "<always identity-category='client' identity-type='phone'/>"], True),
    (["<never identity-type='phone'/>", "<always/>"], True),
    (["<never><advanced><x xmlns='urn:x'/></advanced></never>"], False),
    (["<sometimes/>"], True),
    (["<never xmlns='urn:other'/>"], True),
])  # fmt: skip
def test_what_the_user_has_said_of_a_chat_counts(settings: list[str], woken: bool) -> None:
    world, app, juliet = make()
    romeo = world.login(f"{ROMEO}/settings")
    bookmarks(romeo, conference("juliet@example.org", *settings), conference("a@b@c", "<never/>"))
    romeo.sends("</stream:stream>")
    says(juliet)
    world.advance(1)
    assert len(app.pushes()) == int(woken)


def test_another_setting_counts_from_then_on_also_after_a_restart() -> None:
    world, app, juliet = make()
    romeo = world.login(f"{ROMEO}/settings")
    says(juliet)
    world.advance(1)
    app.push()
    bookmarks(romeo, conference("juliet@example.org", "<never/>"))
    says(juliet)
    app.nothing()
    world.clock.calls.clear()
    world = World("", SECTIONS, before=world)
    world.starts()
    app, juliet = AppServer(world), world.online(JULIET)
    says(juliet)
    app.nothing()
    romeo = world.login(f"{ROMEO}/settings")
    bookmarks(romeo)
    says(juliet)
    world.advance(1)
    app.push()


@pytest.mark.parametrize(("text", "inner", "woken"), [
    ("hi", "", False),
    ("monty!", "", True),
    ("hi", MENTION.format("xmpp:romeo@example.org"), True),
    ("hi", MENTION.format(f"xmpp:{ROOM}/monty"), True),
    ("hi", f"<reply xmlns='urn:xmpp:reply:0' to='{ROOM}/monty' id='1'/>", True),
    ("hi", f"<reply xmlns='urn:xmpp:reply:0' to='{ROOM}/other' id='1'/>", False),
])  # fmt: skip
def test_a_room_may_wake_where_the_user_is_mentioned(text: str, inner: str, woken: bool) -> None:
    world, app, _ = make()
    romeo = world.login(f"{ROMEO}/settings")
    bookmarks(romeo, conference(ROOM, "<on-mention/>", nick="monty"))
    romeo.sends("</stream:stream>")
    room_says(app, text, inner)
    world.advance(1)
    assert len(app.pushes()) == int(woken)


def test_without_private_data_there_are_no_settings() -> None:
    world, app, juliet = make(config="modules_disabled = private\n")
    says(juliet)
    world.advance(1)
    app.push()
