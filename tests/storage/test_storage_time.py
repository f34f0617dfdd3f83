"""Time limits, on a clock of the test's own."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import insert, select

from xmppd.storage import StorageError, StorageTimeout
from xmppd.storage.schema import server_data

PUT = insert(server_data)


def row(key: str) -> dict[str, Any]:
    return {"kind": "test", "key": key, "value": b""}


def keys(connection: Any) -> list[str]:
    return list(connection.execute(select(server_data.c.key).order_by(server_data.c.key)).scalars())


@pytest.fixture
def stalled(lasting, pump):
    """A store whose writer hangs from second 0 until the event is set."""
    store = lasting.open(timeout=10)
    begun, go = threading.Event(), threading.Event()

    def hang(connection: Any) -> str:
        begun.set()
        assert go.wait(20)
        connection.execute(PUT, row("hung"))
        return "finished"

    hung = store.write(hang)
    pump.turn()
    assert begun.wait(5)
    yield store, hung, go
    go.set()


def test_a_job_in_flight_fails_in_time_and_may_still_finish(stalled, pump):
    store, hung, go = stalled
    barrier = store.barrier()
    pump.advance(9.9)
    assert not hung.called and not barrier.called
    pump.advance(0.1)
    assert hung.called and barrier.called
    assert pump.settle(hung).type is StorageTimeout
    assert pump.settle(barrier).type is StorageTimeout
    assert store.pending
    go.set()
    pump.until(lambda: not store.pending)
    assert pump.run(store.write(keys)) == ["hung"]


def test_each_queued_job_has_its_own_time(stalled, pump):
    store, hung, go = stalled
    hung.addErrback(lambda failure: None)
    pump.advance(1)
    early = store.append(PUT, row("early"))
    pump.advance(5)
    late = store.append(PUT, row("late"))
    barrier = store.barrier()
    pump.advance(4.9)
    assert hung.called and not early.called
    pump.advance(0.1)
    assert early.called and not late.called and not barrier.called
    pump.advance(4.9)
    assert not late.called and not barrier.called
    pump.advance(0.1)
    assert late.called and barrier.called
    # A job that joins a group of which all others have been given up.
    pump.advance(30)
    very_late = store.append(PUT, row("very late"))
    pump.advance(9.9)
    assert not very_late.called
    pump.advance(0.1)
    for deferred in (early, late, barrier, very_late):
        assert pump.settle(deferred).type is StorageTimeout
    go.set()
    pump.run(store.write(keys))


def test_a_read_fails_in_time(lasting, pump):
    store = lasting.open(timeout=10)
    go = threading.Event()
    slow = store.read(lambda connection: go.wait(20))
    pump.advance(10)
    assert pump.settle(slow).type is StorageTimeout
    go.set()
    assert pump.run(store.read(keys)) == []


def test_reads_nobody_waits_for_are_not_made(lasting, pump):
    store = lasting.open(timeout=10)
    go = threading.Event()
    made: list[int] = []
    slow = [store.read(lambda connection: go.wait(20)) for _ in range(4)]
    given_up = [store.read(lambda connection: made.append(1)) for _ in range(20)]
    pump.advance(10)
    assert all(pump.settle(d).type is StorageTimeout for d in slow + given_up)
    go.set()
    pump.run(store.read(keys))
    assert made == []


def test_one_timer_for_a_group_and_none_left_behind(store, pump):
    deferreds = [store.append(PUT, row(f"{n:04}")) for n in range(1000)]
    assert len(pump.getDelayedCalls()) <= 2
    for deferred in deferreds:
        pump.run(deferred)
    pump.run(store.read(keys))
    assert pump.getDelayedCalls() == []


def test_a_cancelled_deferred_is_left_alone(store, pump):
    gone = store.append(PUT, row("gone"))
    kept = store.append(PUT, row("kept"))
    gone.addErrback(lambda failure: None)
    gone.cancel()
    pump.run(kept)
    assert pump.run(store.write(keys)) == ["gone", "kept"]


def test_close_ends_though_the_writer_hangs(stalled, pump):
    store, hung, _ = stalled
    hung.addErrback(lambda failure: None)
    closed = store.close()
    for _ in range(4):
        assert not closed.called or pump.seconds() > 10
        pump.advance(10)
    assert closed.called


def test_close_ends_though_the_barriers_are_at_their_bound(lasting, pump):
    store = lasting.open(max_queue=1)
    last = store.append(PUT, row("last"))
    store.barrier()
    assert pump.settle(store.barrier()).type is StorageError
    pump.run(store.close())
    assert last.called
