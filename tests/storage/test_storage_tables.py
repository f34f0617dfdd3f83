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


def test_data_is_changed_by_what_it_was(store, pump, juliet):
    seen = []

    def longer(value):
        seen.append(value)
        return (value or b"") + b"x", len(seen)

    data = store.data
    data.put(juliet, "other", "a", b"another kind")
    # In one turn: none of them misses what another has made.
    together = [data.change(juliet, "private", "a", longer) for _ in range(3)]
    assert [pump.run(deferred) for deferred in together] == [1, 2, 3]
    assert seen == [None, b"x", b"xx"]
    assert pump.run(data.all(juliet, "private")) == {"a": b"xxx"}
    assert pump.run(data.get(juliet, "other", "a")) == b"another kind"


def test_a_change_to_nothing_forgets(store, pump, juliet, other):
    data = store.data
    for account in (juliet, other):
        for key in "ab":
            pump.run(data.put(account, "private", key, b"1"))
    assert pump.run(data.change(juliet, "private", "a", lambda value: (None, value))) == b"1"
    assert pump.run(data.all(juliet, "private")) == {"b": b"1"}
    assert pump.run(data.all(other, "private")) == {"a": b"1", "b": b"1"}
    assert pump.run(data.change(juliet, "private", "a", lambda value: (None, value))) is None
    assert pump.run(data.change(juliet, "private", "b", lambda value: (value, "as it was"))) == "as it was"
    assert pump.run(data.all(juliet, "private")) == {"b": b"1"}


def test_a_change_that_fails_changes_nothing(store, pump, juliet):
    def refuse(value):
        raise ValueError(value)

    pump.run(store.data.put(juliet, "private", "a", b"1"))
    before = store.data.put(juliet, "private", "b", b"2")
    failed = store.data.change(juliet, "private", "a", refuse)
    assert pump.settle(failed).type is ValueError
    pump.run(before)
    assert pump.run(store.data.all(juliet, "private")) == {"a": b"1", "b": b"2"}


def test_a_change_for_nobody(store, pump):
    assert pump.settle(store.data.change(99, "private", "a", lambda value: (b"x", value))).type is IntegrityError
    assert pump.run(store.data.change(99, "private", "a", lambda value: (None, value))) is None


def test_an_account_is_found_with_what_it_keeps_under_a_name(store, pump, juliet, other):
    data = store.data
    row = pump.run(store.accounts.find("example.org", "juliet"))
    assert pump.run(data.find("example.org", "juliet", "fast", "a")) == (row, None)
    for account, kind, key in ((other, "fast", "a"), (juliet, "x", "a"), (juliet, "fast", "b")):
        data.put(account, kind, key, b"something else")
    assert pump.run(data.find("example.org", "juliet", "fast", "a")) == (row, None)
    data.put(juliet, "fast", "a", b"\x00\xff")
    found = data.find("example.org", "juliet", "fast", "a")  # with what was queued
    assert pump.run(found) == (row, b"\x00\xff")
    for host, localpart in (("example.org", "nobody"), ("example.com", "juliet"), ("example.org", "Juliet")):
        assert pump.run(data.find(host, localpart, "fast", "a")) is None


def test_what_accounts_keep_of_a_kind_comes_in_pages_of_accounts(store, pump):
    ids = [pump.run(store.accounts.create("example.org", f"n{n}", {})) for n in range(5)]
    elsewhere = pump.run(store.accounts.create("example.com", "n0", {}))
    for n in (0, 1, 2, 4):  # the fourth keeps something else
        for key in "ba"[: n + 1]:
            pump.run(store.data.put(ids[n], "clients", key, b"%d" % n))
    pump.run(store.data.put(ids[0], "private", "a", b"x"))
    pump.run(store.data.put(ids[3], "private", "a", b"x"))
    pump.run(store.data.put(elsewhere, "clients", "a", b"x"))
    expected = [
        (ids[n], f"n{n}", key, b"%d" % n) for n, keys in ((0, "b"), (1, "ab"), (2, "ab"), (4, "ab")) for key in keys
    ]
    assert pump.run(store.data.page("example.org", "clients", 0, 100)) == expected
    assert pump.run(store.data.page("example.org", "clients", 0, 2)) == expected[:3]
    assert pump.run(store.data.page("example.org", "clients", ids[1], 1)) == expected[3:5]
    assert pump.run(store.data.page("example.org", "clients", ids[2], 2)) == expected[5:]
    assert pump.run(store.data.page("example.org", "clients", ids[4], 2)) == []
    assert pump.run(store.data.page("example.com", "clients", 0, 2)) == [(elsewhere, "n0", "a", b"x")]
    assert pump.run(store.data.page("nowhere.example", "clients", 0, 2)) == []


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
