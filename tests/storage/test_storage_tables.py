"""Rosters, offline messages, and what modules keep."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from xmppd.storage import Roster, RosterItem, SubscriptionRequest

NURSE = RosterItem("nurse@example.org", "Angelica", "both", "", True, ("Capulet", 'Ältere, "Damen"'))
ROMEO = RosterItem("romeo@example.net", ask="subscribe")
PARIS = SubscriptionRequest("paris@example.org", b"<presence type='subscribe'/>", 1234)


@pytest.fixture
def juliet(store, pump):
    return pump.run(store.accounts.create("example.org", "juliet", {}))


@pytest.fixture
def other(store, pump):
    return pump.run(store.accounts.create("example.org", "other", {}))


def test_a_roster_is_empty_at_first(store, pump, juliet):
    assert pump.run(store.roster.load(juliet)) == Roster([], 0, [])


def test_a_roster_is_loaded_with_what_was_queued(store, pump, juliet, other):
    store.roster.put(juliet, ROMEO, 1)
    store.roster.put(juliet, NURSE, 2**40)
    store.roster.put_request(juliet, PARIS)
    items, version, requests = pump.run(store.roster.load(juliet))
    assert items == [NURSE, ROMEO] and version == 2**40 and requests == [PARIS]
    assert items[0].approved is True and items[1].approved is False
    assert pump.run(store.roster.load(other)) == Roster([], 0, [])


def test_a_roster_item_is_replaced_and_removed(store, pump, juliet, other):
    pump.run(store.roster.put(other, NURSE, 9))
    pump.run(store.roster.put(juliet, NURSE, 1))
    changed = RosterItem(NURSE.jid, "Nurse", "to")
    pump.run(store.roster.put(juliet, changed, 2))
    assert pump.run(store.roster.load(juliet)) == Roster([changed], 2, [])
    pump.run(store.roster.remove(juliet, NURSE.jid, 3))
    pump.run(store.roster.remove(juliet, "nobody@example.org", 4))
    assert pump.run(store.roster.load(juliet)) == Roster([], 4, [])
    assert pump.run(store.roster.load(other)) == Roster([NURSE], 9, [])


def test_a_roster_is_changed_as_a_whole(store, pump, juliet):
    pump.run(store.roster.put(juliet, NURSE, 1))
    many = [RosterItem(f"{n:03}@example.org") for n in range(300)]
    pump.run(store.roster.change(juliet, many, [NURSE.jid], 2))
    assert pump.run(store.roster.load(juliet)) == Roster(many, 2, [])
    broken = store.roster.change(juliet, [NURSE, RosterItem("x", None)], [many[0].jid], 3)
    assert pump.settle(broken).type is IntegrityError
    assert pump.run(store.roster.load(juliet)) == Roster(many, 2, [])


def test_a_request_is_replaced_and_removed(store, pump, juliet, other):
    pump.run(store.roster.put_request(juliet, PARIS))
    pump.run(store.roster.put_request(other, PARIS))
    again = SubscriptionRequest(PARIS.jid, b"<presence/>", 5678)
    pump.run(store.roster.put_request(juliet, again))
    assert pump.run(store.roster.load(juliet)).requests == [again]
    pump.run(store.roster.remove_request(juliet, PARIS.jid))
    assert pump.run(store.roster.load(juliet)).requests == []
    assert pump.run(store.roster.load(other)).requests == [PARIS]


def test_offline_messages_wait_in_order(store, pump, juliet, other):
    pump.run(store.offline.append(other, 1, b"for another"))
    for kept in [store.offline.append(juliet, 1000 - n, b"<%d/>" % n) for n in range(5)]:
        pump.run(kept)
    waiting = pump.run(store.offline.peek(juliet))
    assert [(m.received, m.stanza) for m in waiting] == [(1000 - n, b"<%d/>" % n) for n in range(5)]
    assert [m.id for m in waiting] == sorted(m.id for m in waiting)
    assert pump.run(store.offline.size(juliet)) == (5, 20)
    # Looking takes nothing away.
    assert pump.run(store.offline.peek(juliet)) == waiting
    assert pump.run(store.offline.peek(juliet, after=waiting[1].id, limit=2)) == waiting[2:4]


def test_offline_messages_are_forgotten_by_their_ids(store, pump, juliet, other):
    for n in range(4):
        pump.run(store.offline.append(juliet, n, b"%d" % n))
        pump.run(store.offline.append(other, n, b"%d" % n))
    waiting = pump.run(store.offline.peek(juliet))
    pump.run(store.offline.delete(juliet, [message.id for message in waiting[:2]]))
    assert pump.run(store.offline.peek(juliet)) == waiting[2:]
    pump.run(store.offline.delete(juliet, [message.id for message in pump.run(store.offline.peek(other))]))
    pump.run(store.offline.delete(juliet, []))
    assert pump.run(store.offline.size(other)) == (4, 4)
    last = waiting[-1].id
    pump.run(store.offline.delete(juliet, [message.id for message in waiting]))
    assert pump.run(store.offline.size(juliet)) == (0, 0)
    # An id is not used again, so that a late delete cannot hit a newer message.
    pump.run(store.offline.append(juliet, 9, b"new"))
    assert pump.run(store.offline.peek(juliet))[0].id > last


def test_offline_messages_up_to_a_limit(store, pump, juliet, other):
    pump.run(store.offline.append(other, 1, b"for another"))
    kept = [store.offline.append_bounded(juliet, n, b"%d" % n, 3, 1000) for n in range(5)]
    assert [pump.run(deferred) for deferred in kept] == [(1, 1), (2, 2), (3, 3), None, None]
    assert pump.run(store.offline.append_bounded(juliet, 5, b"12345", 1000, 7)) is None
    assert pump.run(store.offline.append_bounded(juliet, 5, b"1234", 1000, 7)) == (4, 7)
    assert [message.stanza for message in pump.run(store.offline.peek(juliet))] == [b"0", b"1", b"2", b"1234"]


def test_an_offline_message_for_nobody(store, pump):
    assert pump.settle(store.offline.append(99, 1, b"<message/>")).type is IntegrityError


def test_data_of_an_account(store, pump, juliet, other):
    data = store.data
    assert pump.run(data.get(juliet, "private", "a")) is None
    pump.run(data.put(other, "private", "a", b"another's"))
    data.put(juliet, "private", "b", b"\x00\xff")
    data.put(juliet, "private", "a", b"1")
    data.put(juliet, "vcard", "a", b"card")
    assert pump.run(data.get(juliet, "private", "a")) == b"1"
    pump.run(data.put(juliet, "private", "a", b"2"))
    everything = pump.run(data.all(juliet, "private"))
    assert list(everything.items()) == [("a", b"2"), ("b", b"\x00\xff")]
    assert pump.run(data.delete(juliet, "private", "a")) is True
    assert pump.run(data.delete(juliet, "private", "a")) is False
    assert pump.run(data.all(juliet, "private")) == {"b": b"\x00\xff"}
    assert pump.run(data.get(juliet, "vcard", "a")) == b"card"
    assert pump.run(data.get(other, "private", "a")) == b"another's"


def test_data_of_the_server(store, pump):
    data = store.data
    assert pump.run(data.server_get("secret", "dialback")) is None
    pump.run(data.server_put("secret", "dialback", b"1"))
    pump.run(data.server_put("secret", "dialback", b"2"))
    pump.run(data.server_put("other", "dialback", b"3"))
    assert pump.run(data.server_get("secret", "dialback")) == b"2"
    assert pump.run(data.server_all("secret")) == {"dialback": b"2"}
    assert pump.run(data.server_delete("secret", "dialback")) is True
    assert pump.run(data.server_delete("secret", "dialback")) is False
    assert pump.run(data.server_get("other", "dialback")) == b"3"


def test_a_secret_is_made_once(store, pump):
    made = []

    def make() -> bytes:
        made.append(b"%d" % len(made))
        return made[-1]

    together = [store.data.server_get_or_create("secret", "salt", make) for _ in range(3)]
    assert {pump.run(deferred) for deferred in together} == {b"0"}
    assert pump.run(store.data.server_get_or_create("secret", "salt", make)) == b"0"
    assert made == [b"0"]
    assert pump.run(store.data.server_get("secret", "salt")) == b"0"
