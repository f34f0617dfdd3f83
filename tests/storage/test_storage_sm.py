"""Sessions under stream management on every database: what is asked for in one turn, in whatever order it is done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from xmppd.storage import SmSession, SmStanza

MESSAGE = b"<message/>"
SLACK = 1000


@pytest.fixture
def juliet(store, pump):
    return pump.run(store.accounts.create("example.org", "juliet", {}))


@pytest.fixture
def session(store, pump, juliet):
    made = SmSession(7, juliet, "sm-id", "balcony", 0, None, None, b"{}")
    pump.run(store.sm.add(made))
    return made


def stored(store, pump):
    found = pump.run(store.accounts.find("example.org", "juliet"))
    return [session for session, _ in pump.run(store.sm.sessions(found.id))]


def stanzas(store, pump, id=7):
    found = pump.run(store.accounts.find("example.org", "juliet"))
    return [row for session, rows in pump.run(store.sm.sessions(found.id)) for row in rows if session.id == id]


def places(store, pump, id=7):
    return [row.position for row in stanzas(store, pump, id)]


def test_a_session_is_kept_and_found_by_its_host(store, pump, session):
    romeo = pump.run(store.accounts.create("example.org", "romeo", {}))
    assert pump.run(store.sm.sessions(session.account_id)) == [(session, [])]
    assert pump.run(store.sm.sessions(romeo)) == []
    assert pump.run(store.sm.accounts("example.org")) == ["juliet"]
    assert pump.run(store.sm.accounts("example.com")) == []
    pump.run(store.sm.save(replace(session, handled=99, hibernated=5, state=b"[]")))
    pump.run(store.sm.handled(7, 3))
    assert stored(store, pump) == [replace(session, handled=3, hibernated=5, state=b"[]")]
    pump.run(store.sm.push(7, 1, 5, MESSAGE))
    pump.run(store.sm.remove(7))
    assert stored(store, pump) == [] == places(store, pump)


def test_stanzas_wait_in_their_places(store, pump, session):
    for position in (1, 2, 3, 4):
        pump.run(store.sm.push(7, position, position * 10, MESSAGE))
    pump.run(store.sm.acknowledged(7, 2))
    assert stanzas(store, pump) == [SmStanza(3, 30, MESSAGE), SmStanza(4, 40, MESSAGE)]
    pump.run(store.sm.rewrite(replace(session, handled=8), [SmStanza(9, 40, MESSAGE)]))
    assert places(store, pump) == [9]
    assert stored(store, pump)[0].handled == 8


def test_a_stanza_for_no_session(store, pump):
    assert pump.settle(store.sm.push(99, 1, 1, MESSAGE)).type is IntegrityError


def test_what_is_taken_over_is_forgotten_with_it_or_not_at_all(store, pump, session, juliet):
    pump.run(store.offline.append(juliet, 1, MESSAGE))
    gone = []

    def forget(connection):
        gone.append(True)

    pump.run(store.sm.take_over(7, [SmStanza(1, 1, MESSAGE)], forget))
    assert (places(store, pump), gone) == ([1], [True])
    assert pump.settle(store.sm.take_over(7, [SmStanza(1, 1, MESSAGE)], forget)).type is IntegrityError
    assert gone == [True]


def test_counts_of_one_turn_are_one_row(store, pump, session):
    rows = store.rows
    first = store.sm.handled(7, 1)
    assert [store.sm.handled(7, count) for count in (2, 3, 4)] == [None] * 3
    pump.run(first)
    assert store.rows - rows == 1
    assert stored(store, pump)[0].handled == 4


@pytest.mark.parametrize("between", ["save", "rewrite", "another"])
def test_a_count_never_goes_back(store, pump, session, juliet, between):
    """In one turn statements are put together, and may be done in another order than they were asked for."""
    other = SmSession(8, juliet, "other", "chamber", 0, None, None, b"{}")
    pump.run(store.sm.add(other))
    store.sm.handled(8, 1)
    if between != "another":
        store.sm.handled(7, 60)
    if between == "save":
        store.sm.save(replace(session, handled=63))
    else:
        store.sm.rewrite(replace(session, handled=63), [])
    store.sm.handled(7, 65)
    pump.run(store.barrier())
    assert [session.handled for session in stored(store, pump)] == [65, 1]


def test_after_a_restart_nothing_is_sent_behind_what_may_have_been(store, pump, session):
    pump.run(store.sm.push(7, 41, 1, MESSAGE))
    pump.run(store.sm.recover(SLACK))
    assert stored(store, pump)[0].unsent_from == 41 + SLACK
    pump.run(store.sm.push(7, 42 + SLACK, 1, MESSAGE))
    pump.run(store.sm.recover(SLACK))
    assert stored(store, pump)[0].unsent_from == 41 + SLACK
