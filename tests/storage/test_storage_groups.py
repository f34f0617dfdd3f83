"""Group commit: what shares a transaction, who hears of it, in which order and when."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from xmppd.storage import StorageError, StorageTimeout
from xmppd.storage.schema import account, server_data

PUT = insert(server_data)
PUT_TOO = insert(server_data)


def row(key: str, value: bytes = b"") -> dict[str, Any]:
    return {"kind": "test", "key": key, "value": value}


def keys(connection: Any) -> list[str]:
    query = select(server_data.c.key).where(server_data.c.kind == "test").order_by(server_data.c.key)
    return list(connection.execute(query).scalars())


def watch(store: Any) -> list[str]:
    """What the writer's engine does from now on: a statement's first word for each, COMMIT and ROLLBACK."""
    seen: list[str] = []
    engine = store._database.writing
    event.listen(engine, "commit", lambda connection: seen.append("COMMIT"))
    event.listen(engine, "rollback", lambda connection: seen.append("ROLLBACK"))

    if engine.dialect.name == "sqlite":
        # What goes past SQLAlchemy as well, a row at a time.
        def trace(statement: str) -> None:
            verb = statement.split()[0]
            if verb in ("INSERT", "SELECT"):
                last, _, count = seen[-1].partition(" ") if seen else ("", "", "")
                seen[-1:] = [f"{verb} {int(count) + 1}"] if last == verb else [*seen[-1:], f"{verb} 1"]

        @event.listens_for(engine, "checkout")
        def checkout(raw: Any, record: Any, proxy: Any) -> None:
            raw.set_trace_callback(trace)

        if store._writer._kept is not None:
            store._writer._kept.connection.dbapi_connection.set_trace_callback(trace)
        return seen

    @event.listens_for(engine, "before_cursor_execute")
    def execute(conn: Any, cursor: Any, statement: str, params: Any, context: Any, executemany: bool) -> None:
        seen.append(f"{statement.split()[0]} {len(params) if executemany else 1}")

    return seen


class Stall:
    """A job that holds the writer until it is let go."""

    def __init__(self, store: Any, pump: Any) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.done = store.write(self._job)
        self.done.addErrback(lambda failure: None)
        pump.turn()
        assert self.begun.wait(5)

    def _job(self, connection: Any) -> None:
        self.begun.set()
        assert self.go.wait(20)


def outcomes(*deferreds: Deferred[Any]) -> list[Any]:
    """A list that fills as the Deferreds fire: (index, result, or the class of what failed)."""
    seen: list[Any] = []
    for index, deferred in enumerate(deferreds):
        deferred.addCallbacks(
            lambda result, index=index: seen.append((index, result)),
            lambda failure, index=index: seen.append((index, failure.type)),
        )
    return seen


def test_one_turn_is_one_transaction(store, pump):
    seen = watch(store)
    rows = [store.append(PUT, row(f"{n:03}")) for n in range(200)]
    assert not any(d.called for d in rows)
    for d in rows:
        pump.run(d)
    assert seen == ["INSERT 200", "COMMIT"]
    assert (store.groups, store.rows, store.last_group_size) == (1, 200, 200)
    assert store.last_commit_seconds > 0
    assert pump.run(store.write(keys)) == [f"{n:03}" for n in range(200)]


def test_one_call_from_a_thread_for_a_group(lasting, pump):
    store = lasting.open()
    pump.run([store.append(PUT, row(str(n))) for n in range(50)][-1])
    assert pump.from_threads == 1


def test_consecutive_rows_of_a_statement_go_together(store, pump):
    seen = watch(store)
    store.append(PUT, row("a"))
    store.append(PUT, row("b"))
    store.append(PUT_TOO, row("c"))
    middle = store.write(keys)
    store.append(PUT, row("d"))
    pump.run(store.append(PUT, row("e")))
    assert pump.run(middle) == ["a", "b", "c"]
    first = ["INSERT 3"] if store._database.sqlite else ["INSERT 2", "INSERT 1"]
    assert seen == [*first, "SELECT 1", "INSERT 2", "COMMIT"]


def test_rows_with_other_columns_lose_nothing(store, pump):
    """One statement for both would take the columns of the first row, and leave out the second one's id."""
    put = insert(account)
    row = {"host": "example.org", "created": 0, "enabled": True, "password_changed": 0}
    store.append(put, {**row, "localpart": "juliet"})
    pump.run(store.append(put, {**row, "localpart": "romeo", "id": 77}))
    assert pump.run(store.accounts.find("example.org", "juliet")).id == 1
    assert pump.run(store.accounts.find("example.org", "romeo")).id == 77


def test_deferreds_fire_in_order_after_the_commit(store, pump):
    committed: list[int] = []
    event.listen(store._database.writing, "commit", lambda connection: committed.append(len(seen)))
    seen = outcomes(
        store.append(PUT, row("a")),
        store.write(lambda connection: "b"),
        store.append(PUT, row("c")),
        store.write(lambda connection: "d"),
    )
    pump.until(lambda: len(seen) == 4)
    assert seen == [(0, None), (1, "b"), (2, None), (3, "d")]
    assert committed == [0]


@pytest.mark.parametrize("place", range(5))
def test_a_poisoned_row_fails_alone(store, pump, place):
    pump.run(store.append(PUT, row("twice")))
    names = [f"{n}" for n in range(5)]
    names[place] = "twice"
    seen = outcomes(*[store.append(PUT, row(name)) for name in names], store.write(lambda c: "job"))
    after = store.barrier()
    pump.until(lambda: len(seen) == 6)
    assert [index for index, _ in seen] == list(range(6))
    assert [r.__name__ if isinstance(r, type) else r for _, r in seen] == [
        *["IntegrityError" if n == place else None for n in range(5)],
        "job",
    ]
    assert pump.run(after) is None
    assert pump.run(store.write(keys)) == sorted({*names})


def test_a_job_that_raises_keeps_nothing_and_fails_alone(store, pump):
    def poisoned(connection):
        connection.execute(PUT, row("half"))
        raise ZeroDivisionError("its own fault")

    seen = outcomes(store.append(PUT, row("a")), store.write(poisoned), store.append(PUT, row("b")))
    pump.until(lambda: len(seen) == 3)
    assert seen == [(0, None), (1, ZeroDivisionError), (2, None)]
    assert pump.run(store.write(keys)) == ["a", "b"]


def test_a_job_that_goes_on_after_an_error_is_not_acknowledged(store, pump):
    """PostgreSQL answers the COMMIT of a failed transaction with a ROLLBACK, and no error."""
    pump.run(store.append(PUT, row("twice")))

    def careless(connection):
        connection.execute(PUT, row("lost"))
        try:
            connection.execute(PUT, row("twice"))
        except Exception:
            return "all is well"

    before = store.append(PUT, row("before"))
    result = pump.settle(store.write(careless))
    assert pump.run(before) is None
    present = pump.run(store.write(keys))
    assert "before" in present
    assert ("lost" in present) == (result == "all is well")


def test_a_wrong_statement_fails_alone(store, pump):
    seen = outcomes(
        store.append(PUT, row("a")),
        store.write(lambda connection: connection.execute(text("SELECT nonsense FROM nowhere"))),
    )
    pump.until(lambda: len(seen) == 2)
    assert seen[0] == (0, None)
    assert not issubclass(seen[1][1], StorageTimeout)
    assert pump.run(store.write(keys)) == ["a"]


def test_a_job_may_not_return_a_deferred(store, pump):
    other = store.write(lambda connection: "fine")
    assert pump.settle(store.write(lambda connection: Deferred())).type is TypeError
    assert pump.run(other) == "fine"


def test_jobs_that_come_while_a_group_is_in_flight_make_the_next_group(lasting, pump):
    store = lasting.open()
    stall = Stall(store, pump)
    seen = watch(store)
    later = [store.append(PUT, row("a"))]
    pump.turn()
    later.append(store.append(PUT, row("b")))
    pump.turn(0.05)
    assert not any(d.called for d in later) and seen == []
    stall.go.set()
    pump.run(later[1])
    # The first commit is the stalled group's own.
    assert seen == ["COMMIT", "INSERT 2", "COMMIT"]
    assert store.groups == 2


def test_what_a_callback_queues_is_kept_too(store, pump):
    second: list[Any] = []
    first = store.append(PUT, row("a"))
    first.addCallback(lambda _: second.append(store.append(PUT, row("b"))))
    pump.run(first)
    pump.run(second[0])
    assert not store.pending
    assert pump.run(store.write(keys)) == ["a", "b"]


def test_barrier_is_at_once_when_there_is_nothing(store, pump):
    assert store.barrier().called and not store.pending
    first = store.append(PUT, row("a"))
    assert store.pending
    barrier = store.barrier()
    assert not barrier.called
    pump.run(barrier)
    assert first.called and not store.pending
    assert store.barrier().called


def test_barrier_waits_for_all_groups_before_it_and_none_after(lasting, pump):
    store = lasting.open()
    stall = Stall(store, pump)
    in_flight = store.barrier()
    queued = store.append(PUT, row("a"))
    behind = store.barrier()
    seen = outcomes(stall.done, in_flight, queued, behind)
    pump.turn(0.05)
    assert seen == []
    stall.go.set()
    pump.until(lambda: in_flight.called)
    # The next group may be under way, but this barrier does not wait for it.
    assert not behind.called and not queued.called
    pump.until(lambda: behind.called)
    assert [index for index, _ in seen] == [0, 1, 2, 3]


@pytest.mark.parametrize("failing", [1, 2])
def test_barrier_fails_with_any_group_that_it_covers(lasting, pump, failing):
    store = lasting.open()
    commits: list[int] = []

    @event.listens_for(store._database.writing, "commit")
    def fail(connection: Any) -> None:
        commits.append(1)
        if len(commits) == failing:
            raise OSError("no disk")

    stall = Stall(store, pump)
    of_first = store.barrier()
    queued = store.append(PUT, row("a"))
    of_both = store.barrier()
    seen = outcomes(of_first, queued, of_both)
    stall.go.set()
    pump.until(lambda: len(seen) == 3)
    if failing == 1:
        assert dict(seen) == {0: StorageError, 1: None, 2: StorageError}
    else:
        assert dict(seen) == {0: None, 1: StorageError, 2: StorageError}
    assert pump.run(store.barrier()) is None


def test_beyond_the_bound_a_job_fails_at_once(backend, pump):
    store = backend.open(max_queue=3)
    kept = [store.append(PUT, row(str(n))) for n in range(3)]
    for refused in (store.append(PUT, row("x")), store.write(keys)):
        assert refused.called
        failure = pump.settle(refused)
        assert failure.type is StorageError and str(failure.value) == "queue full"
    assert [pump.run(d) for d in kept] == [None] * 3
    assert pump.run(store.write(keys)) == ["0", "1", "2"]


def test_a_read_sees_what_is_committed_and_cannot_write(store, pump):
    pump.run(store.append(PUT, row("a")))
    store.append(PUT, row("b"))
    assert pump.run(store.read(keys))[0] == "a"
    refused = pump.settle(store.read(lambda connection: connection.execute(PUT, row("c"))))
    assert isinstance(refused, Failure)
    assert pump.run(store.write(keys)) == ["a", "b"]


def test_a_read_does_not_wait_for_the_writer(lasting, pump):
    store = lasting.open()
    stall = Stall(store, pump)
    assert pump.run(store.read(keys)) == []
    stall.go.set()
    pump.run(store.barrier())


def test_a_read_that_raises_fails_with_that(store, pump):
    assert pump.settle(store.read(lambda connection: 1 // 0)).type is ZeroDivisionError
    assert pump.run(store.read(keys)) == []


def test_memory_needs_no_thread(pump):
    from twisted.internet.task import Clock

    from xmppd.storage import Store

    clock = Clock()
    before = threading.active_count()
    store = Store.open(clock, "sqlite://")
    seen = outcomes(store.append(PUT, row("a")), store.write(keys))
    assert seen == []
    clock.advance(0)
    assert seen == [(0, None), (1, ["a"])]
    assert threading.active_count() == before
    assert store.read(keys).result == ["a"]
    assert store.close().called
    assert clock.getDelayedCalls() == []


def test_close_keeps_what_is_queued_and_refuses_the_rest(lasting, pump):
    store = lasting.open()
    stall = Stall(store, pump)
    last = store.append(PUT, row("last"))
    threads = [t for t in threading.enumerate() if t.name.startswith("storage-")]
    closed = store.close()
    for refused in (store.write(keys), store.append(PUT, row("x")), store.read(keys)):
        assert pump.settle(refused).type is StorageError
    assert not closed.called
    stall.go.set()
    pump.run(closed)
    assert last.called
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert pump.run(lasting.open().write(keys)) == ["last"]
