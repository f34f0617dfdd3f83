"""Dialback (XEP-0220): whose a key is, who is believed about it, and what was not asked for."""

from __future__ import annotations

import pytest

from tests.net.s2s.town import DIALBACK, EVIL, HELLO, HERE, ROMEO, THERE, Town, dialback
from xmppd.auth.dialback import dialback_key


def test_a_key_is_asked_for_at_the_server_of_its_domain() -> None:
    town = Town()
    town.globe.played[THERE] = []
    peer = town.opened()
    town.asked(peer)
    authoritative = town.globe.remote(THERE)
    authoritative.secures(THERE)
    verify = authoritative.takes()
    assert verify.tag == f"{DIALBACK}verify" and verify.text == "key"
    assert (verify.get("from"), verify.get("to"), verify.get("id")) == (HERE, THERE, peer.id)
    peer.receives_nothing()
    authoritative.sends(f"<db:verify from='{THERE}' to='{HERE}' id='{peer.id}' type='valid'/>")
    dialback(peer, "valid")
    peer.sends(HELLO)
    assert town.romeo.takes().findtext("{jabber:client}body") == "hi"


def test_a_key_that_is_not_theirs_ends_the_stream() -> None:
    town = Town()
    town.globe.played[THERE] = []
    peer = town.opened()
    town.asked(peer)
    authoritative = town.globe.remote(THERE)
    authoritative.secures(THERE)
    authoritative.takes()
    authoritative.sends(f"<db:verify from='{THERE}' to='{HERE}' id='{peer.id}' type='invalid'/>")
    dialback(peer, "invalid")
    peer.receives_end()


@pytest.mark.parametrize(
    ("sender", "to", "condition"),
    [
        (THERE, "nowhere.example", "item-not-found"),
        (HERE, HERE, "not-acceptable"),
        (f"push.{HERE}", HERE, "not-acceptable"),
        ("blocked.example", HERE, "policy-violation"),
        ("unknown.example", HERE, "remote-server-not-found"),
        ("down.example", HERE, "remote-connection-failed"),
    ],
)
def test_keys_that_are_not_looked_at(sender: str, to: str, condition: str) -> None:
    town = Town("s2s_blacklist = blocked.example", f"[component:push.{HERE}]\nsecret = secret\n")
    town.globe.down.add("down.example")
    town.globe.played["down.example"] = []
    peer = town.opened()
    town.asked(peer, sender, to)
    dialback(peer, "error", condition)
    peer.sends(HELLO)
    peer.receives_stream_error("not-authorized")


def test_a_domain_of_the_certificate_needs_no_call() -> None:
    town = Town()
    peer = town.peer(certificates=[THERE, f"rooms.{THERE}"])
    peer.logs_in(HERE)
    town.asked(peer, f"rooms.{THERE}")
    dialback(peer, "valid")
    assert town.globe.attempts == []
    peer.sends(f"<message from='r@rooms.{THERE}' to='{ROMEO}' type='chat'><body>room</body></message>")
    assert town.romeo.takes().findtext("{jabber:client}body") == "room"


def test_an_answer_from_a_server_that_was_not_asked_does_not_count() -> None:
    town = Town()
    town.globe.played[THERE] = []
    peer, other = town.peer(), town.peer(EVIL)
    for each in (peer, other):
        each.opens(HERE)
        each.features()
    town.asked(peer)
    other.sends(f"<db:verify from='{THERE}' to='{HERE}' id='{peer.id}' type='valid'/>")
    other.receives_stream_error("invalid-from")
    peer.receives_nothing()


@pytest.mark.parametrize(
    "answer",
    [
        "<db:verify from='{there}' to='{here}' id='wrong' type='valid'/>",
        "<db:verify from='{evil}' to='{here}' id='{id}' type='valid'/>",
        "<db:verify from='{there}' to='{evil}' id='{id}' type='valid'/>",
        "<db:result from='{there}' to='{here}' type='valid'/>",
    ],
)
def test_an_answer_that_was_not_asked_for_does_not_count(answer: str) -> None:
    town = Town()
    town.globe.played[THERE] = []
    peer = town.opened()
    town.asked(peer)
    authoritative = town.globe.remote(THERE)
    authoritative.secures(THERE)
    authoritative.takes()
    authoritative.sends(answer.format(there=THERE, here=HERE, evil=EVIL, id=peer.id))
    authoritative.receives_stream_error("invalid-from")
    dialback(peer, "error", "remote-connection-failed")


@pytest.mark.parametrize("type", ["valid", "invalid", "error"])
@pytest.mark.parametrize("bidi", [True, False])
def test_results_that_nobody_asked_for_end_the_stream(type: str, bidi: bool) -> None:
    town = Town()
    peer = town.proven(bidi)
    peer.sends(f"<db:result from='{EVIL}' to='{HERE}' type='{type}'/>")
    peer.receives_stream_error("invalid-from")


@pytest.mark.parametrize("key", ["right", "wrong", "", "\u1234"])
def test_we_say_whether_a_key_is_ours(key: str) -> None:
    town = Town()
    peer = town.opened()
    federation = town.globe.federations[HERE]
    right = dialback_key(federation.dialback_secret, THERE, HERE, "id")
    peer.sends(f"<db:verify from='{THERE}' to='{HERE}' id='id'>{right if key == 'right' else key}</db:verify>")
    got = peer.takes()
    assert got.attrib == {"from": HERE, "to": THERE, "id": "id", "type": "valid" if key == "right" else "invalid"}


def test_a_key_is_asked_for_at_a_host_that_is_not_ours() -> None:
    peer = Town().opened()
    peer.sends(f"<db:verify from='{THERE}' to='nowhere.example' id='id'>key</db:verify>")
    dialback(peer, "error", "item-not-found", "verify")


@pytest.mark.parametrize(
    "element",
    [
        f"<db:result to='{HERE}'>key</db:result>",
        f"<db:result from='{THERE}'>key</db:result>",
        f"<db:result from='a b' to='{HERE}'>key</db:result>",
        f"<db:verify from='{THERE}' to='{HERE}'>key</db:verify>",
        f"<db:verify from='{THERE}' to='{HERE}' id='{'x' * 300}'>key</db:verify>",
        f"<db:other from='{THERE}' to='{HERE}'>key</db:other>",
    ],
)
def test_dialback_that_is_none(element: str) -> None:
    peer = Town().opened()
    peer.sends(element)
    assert peer.takes().tag.endswith("}error")
    peer.receives_end()


def test_the_same_key_twice_at_once() -> None:
    town = Town()
    town.globe.played[THERE] = []
    peer = town.opened()
    town.asked(peer)
    town.asked(peer)
    peer.receives_stream_error("policy-violation")


def test_too_many_domains_on_one_stream() -> None:
    town = Town("s2s_max_pairs = 3")
    peer = town.peer(certificates=[THERE, *(f"{n}.{THERE}" for n in range(4))])
    peer.logs_in(HERE)
    for number in range(2):
        town.asked(peer, f"{number}.{THERE}")
        dialback(peer, "valid")
    town.asked(peer, f"3.{THERE}")
    dialback(peer, "error", "resource-constraint")
    peer.sends(HELLO)
    assert town.romeo.takes().findtext("{jabber:client}body") == "hi"


def test_too_many_keys_at_once() -> None:
    town = Town("s2s_max_verifying = 1")
    town.globe.played[THERE] = []
    peer = town.opened()
    town.asked(peer)
    town.asked(peer, f"rooms.{THERE}")
    dialback(peer, "error", "remote-connection-failed")
