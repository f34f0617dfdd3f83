"""Archives on every database: ranges, pages in both directions, and what is taken away."""

from __future__ import annotations

import secrets

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from xmppd.storage import Range
from xmppd.storage import archive as archives
from xmppd.storage.archive import MAX_BYTES, MAX_RECENT, MAX_RECENT_BYTES, _select, _values
from xmppd.storage.schema import archive, archive_recent

ROMEO, PARIS = "romeo@example.org", "paris@example.org"


def id(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def juliet(store, pump):
    account = pump.run(store.accounts.create("example.org", "juliet", {}))
    other = pump.run(store.accounts.create("example.org", "other", {}))
    for number in range(10):
        contact, resource = (PARIS, "church") if number in (3, 7) else (ROMEO, "")
        store.archive.append(account, id(number), contact, resource, b"%d" % number)
        store.archive.append(other, id(number), contact, resource, b"other")
    pump.run(store.barrier())
    return account


def page(store, pump, account, limit=100, backwards=False, known=(), **limits):
    found = pump.run(store.archive.page(account, Range(**limits), limit, backwards, list(known)))
    return None if found is None else [int(message.stanza) for message in found[0]]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, list(range(10))),
        ({"contact": PARIS}, [3, 7]),
        ({"contact": PARIS, "resource": "church"}, [3, 7]),
        ({"contact": PARIS, "resource": "street"}, []),
        ({"after": id(6)}, [7, 8, 9]),
        ({"before": id(2)}, [0, 1]),
        ({"after": id(1), "before": id(5), "contact": ROMEO}, [2, 4]),
        ({"ids": (id(8), id(1), id(99))}, [1, 8]),
        ({"ids": ()}, []),
    ],
)
def test_a_range(store, pump, juliet, limits, expected):
    assert page(store, pump, juliet, **limits) == expected
    assert page(store, pump, juliet, backwards=True, **limits) == expected
    assert page(store, pump, juliet, limit=2, **limits) == expected[:2]
    assert page(store, pump, juliet, limit=2, backwards=True, **limits) == expected[-2:]


def test_a_page_has_an_end_in_bytes_too(store, pump, juliet):
    for number in range(20, 24):
        pump.run(store.archive.append(juliet, id(number), "big@example.org", "", b"x" * (MAX_BYTES // 2 - 10)))
    big = Range(contact="big@example.org")
    messages, complete = pump.run(store.archive.page(juliet, big, 10, False, []))
    assert ([message.id for message in messages], complete) == ([id(20), id(21)], False)
    messages, complete = pump.run(store.archive.page(juliet, big, 10, True, []))
    assert ([message.id for message in messages], complete) == ([id(22), id(23)], False)
    pump.run(store.archive.append(juliet, id(30), "one@example.org", "", b"x" * 2 * MAX_BYTES))
    messages, complete = pump.run(store.archive.page(juliet, Range(contact="one@example.org"), 10, False, []))
    assert (len(messages), complete) == (1, True)


def test_ids_that_have_to_be_there(store, pump, juliet):
    assert page(store, pump, juliet, limit=1, known=[id(1), id(9), id(1)]) == [0]
    assert page(store, pump, juliet, known=[id(1), id(10)]) is None


def test_the_ends(store, pump, juliet):
    assert pump.run(store.archive.ends(juliet)) == (id(0), id(9))
    nobody = pump.run(store.accounts.create("example.org", "nobody", {}))
    assert pump.run(store.archive.ends(nobody)) is None


@pytest.mark.parametrize(("until", "last"), [(id(9), 9), (id(99), 9), (id(8), 8), (id(0), 0)])
def test_the_end_up_to_an_id(store, pump, juliet, until, last):
    assert pump.run(store.archive.ends(juliet, until)) == (id(0), id(last))


def test_the_end_up_to_an_id_that_is_not_there(store, pump, juliet):
    pump.run(store.archive.append(juliet, id(20), ROMEO, "", b"20"))
    assert pump.run(store.archive.ends(juliet, id(15))) == (id(0), id(9))
    assert pump.run(store.archive.ends(juliet, id(9) + b"\xff")) == (id(0), id(9))
    pump.run(store.archive.expire(juliet, id(9), 100))
    assert pump.run(store.archive.ends(juliet, id(5))) is None
    assert pump.run(store.archive.ends(juliet, id(15))) == (id(9), id(9))


def test_an_archive_holds_what_was_kept_before_the_question(store, pump, juliet):
    other = pump.run(store.accounts.find("example.org", "other")).id
    store.archive.append(juliet, id(50), ROMEO, "", b"50")
    held = store.archive.holds(juliet, [id(3), id(99), id(50), id(3), id(51)])
    store.archive.append(juliet, id(51), ROMEO, "", b"51")
    assert pump.run(held) == {id(3), id(50)}
    assert pump.run(store.archive.holds(other, [id(3), id(50)])) == {id(3)}
    assert pump.run(store.archive.holds(juliet, [])) == set()
    assert pump.run(store.archive.holds(99, [id(3)])) == set()


def test_the_oldest_go_first_and_a_few_at_a_time(store, pump, juliet):
    assert pump.run(store.archive.expire(juliet, id(5), 3)) == 3
    assert page(store, pump, juliet) == list(range(3, 10))
    assert pump.run(store.archive.expire(juliet, id(5), 3)) == 2
    assert pump.run(store.archive.expire(juliet, id(5), 3)) == 0
    assert page(store, pump, juliet) == list(range(5, 10))
    assert pump.run(store.archive.ends(juliet)) == (id(5), id(9))


def test_accounts_of_a_host(store, pump, juliet):
    pump.run(store.accounts.create("example.com", "elsewhere", {}))
    assert pump.run(store.archive.accounts("example.org", 0, 1)) == [juliet]
    assert len(pump.run(store.archive.accounts("example.org", juliet, 10))) == 1


def test_a_message_of_nobody(store, pump):
    assert pump.settle(store.archive.append(99, id(1), ROMEO, "", b"")).type is IntegrityError


@pytest.mark.parametrize("contact", [None, PARIS])
@pytest.mark.parametrize("limits", [{}, {"after": id(5)}, {"before": id(5)}, {"resource": "church"}])
def test_a_page_is_found_by_an_index(store, pump, contact, limits):
    """The price of a page depends neither on the length of the archive nor on where in it the page is."""
    range = Range(contact=contact, **limits)
    query = _select(range, backwards=True)

    def explain(connection):
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # the table is empty
            connection.execute(text("SET LOCAL enable_sort = off"))
        compiled = query.compile(dialect=connection.dialect)
        given = {**compiled.params, **_values(1, range, 50)}
        values = tuple(given[name] for name in compiled.positiontup) if sqlite else given
        return [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN' * sqlite} {compiled}", values)]

    plan = " ".join(pump.run(store.read(explain))).lower()
    if store._database.sqlite:
        index = "archive_account_id_contact_id_idx (account_id=? and contact=?"
        if "resource" in limits:
            index = "archive_account_id_contact_resource_id_idx (account_id=? and contact=? and resource=?"
        assert (index if contact else "primary key") in plan
    assert "temp" not in plan and "seq scan" not in plan


# ---- what has no place yet


def places(store, pump):
    """How many messages have their places, and how many wait for them."""
    return pump.run(store.read(lambda connection: tuple(
        connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (archive, archive_recent)
    )))


def test_messages_wait_for_their_places_until_somebody_looks(store, pump, juliet):
    assert places(store, pump) == (0, 20)
    assert page(store, pump, juliet) == list(range(10))
    assert places(store, pump) == (20, 0)
    nurse = pump.run(store.accounts.create("example.org", "nurse", {}))
    pump.run(store.archive.append(nurse, id(0), ROMEO, "", b"0"))
    assert page(store, pump, juliet) == list(range(10))
    assert places(store, pump) == (20, 1)  # nobody has looked there
    assert page(store, pump, nurse) == [0]


def test_or_until_they_are_many(store, pump, juliet):
    for number in range(MAX_RECENT):
        store.archive.append(juliet, id(100 + number), ROMEO, "", b"")
    pump.run(store.barrier())
    assert places(store, pump)[1] < MAX_RECENT


def test_or_large(store, pump, juliet):
    for number in range(5):
        store.archive.append(juliet, id(100 + number), ROMEO, "", bytes(MAX_RECENT_BYTES // 4))
    pump.run(store.barrier())
    assert places(store, pump) == (24, 1)


def test_what_waits_is_found_by_the_next_process(lasting, pump):
    first = lasting.open()
    account = pump.run(first.accounts.create("example.org", "juliet", {}))
    first.archive.append(account, id(1), ROMEO, "", b"1")
    pump.run(first.close())
    second = lasting.open()
    other = pump.run(second.accounts.create("example.org", "other", {}))
    pump.run(second.archive.append(other, id(2), ROMEO, "", b"2"))
    assert page(second, pump, account) == [1]


def test_a_question_that_comes_while_they_are_moved_waits(lasting, pump):
    store = lasting.open()
    account = pump.run(store.accounts.create("example.org", "juliet", {}))
    assert page(store, pump, account) == []
    for number in range(MAX_RECENT):
        store.archive.append(account, id(number), ROMEO, "", b"%d" % number)
    question = store.archive.page(account, Range(), MAX_RECENT, False, [])
    rows, complete = pump.run(question)
    assert len(rows) == MAX_RECENT and complete


def test_a_moving_that_fails_is_done_at_the_next_question(store, pump, juliet, monkeypatch):
    sort = archives._sort

    def fails(connection):
        raise RuntimeError("this is a test")

    monkeypatch.setattr(archives, "_sort", fails)
    failed = store.archive.page(juliet, Range(), 10, False, [])
    assert isinstance(pump.settle(failed).value, RuntimeError)
    for number in range(MAX_RECENT):
        store.archive.append(juliet, id(100 + number), PARIS, "", b"")
    pump.run(store.barrier())
    monkeypatch.setattr(archives, "_sort", sort)
    assert page(store, pump, juliet, contact=ROMEO) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert places(store, pump)[1] == 0


def test_the_same_message_twice_is_one(store, pump, juliet):
    assert page(store, pump, juliet) == list(range(10))
    pump.run(store.archive.append(juliet, id(3), ROMEO, "", b"33"))
    store.archive.append(juliet, id(11), ROMEO, "", b"11")
    assert page(store, pump, juliet) == [*range(10), 11]


def test_one_client_cannot_keep_the_others_from_their_places_with_huge_names(store, pump, juliet):
    """PostgreSQL has a bound on what fits into an index; random text is none that it can make shorter."""
    huge = [store.archive.append(juliet, id(50), secrets.token_hex(1500), secrets.token_hex(1500), b"huge")]
    huge.append(store.archive.append(juliet, id(51), ROMEO, secrets.token_hex(3000), b"huge"))
    for each in huge:
        pump.settle(each)
    assert page(store, pump, juliet, contact=ROMEO, before=id(50)) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert places(store, pump)[1] == 0


def test_what_is_too_old_goes_wherever_it_is(store, pump, juliet):
    assert pump.run(store.archive.expire(juliet, id(3), 10)) == 3
    assert page(store, pump, juliet) == list(range(3, 10))
