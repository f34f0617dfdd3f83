"""What is acknowledged stays; what fails is said to have failed; and the store recovers by itself."""

from __future__ import annotations

import os
import random
import secrets
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import OperationalError
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from xmppd.storage import RosterItem, StorageError, Store
from xmppd.storage.engine import Database
from xmppd.storage.errors import is_store_failure
from xmppd.storage.schema import server_data

PUT = insert(server_data)

# Some faults only one of them has.
ON_SQLITE = pytest.mark.parametrize("backend", ["memory", "sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("lasting", ["postgresql"], indirect=True)


def row(key: str, value: bytes = b"") -> dict[str, Any]:
    return {"kind": "test", "key": key, "value": value}


def keys(connection: Any) -> list[str]:
    return list(connection.execute(select(server_data.c.key).order_by(server_data.c.key)).scalars())


@pytest.fixture
def logged():
    """What storage has logged: (level, text)."""
    seen: list[tuple[str, str]] = []

    def observe(entry: dict[str, Any]) -> None:
        if entry.get("log_namespace", "").startswith("xmppd.storage"):
            seen.append((entry["log_level"].name, entry["log_format"].format(**entry)))

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("nth", range(1, 7))
def test_the_nth_commit_fails(store, pump, logged, nth, after):
    """The disk fails once; a commit that went through all the same must not be tried again."""
    commits: list[int] = []
    tried: list[str] = []
    dialect = store._database.writing.dialect
    commit = dialect.do_commit

    def do_commit(raw: Any) -> None:
        commits.append(1)
        if len(commits) != nth:
            return commit(raw)
        if after:
            commit(raw)
        raise dialect.dbapi.OperationalError("disk I/O error")

    dialect.do_commit = do_commit

    def counted(key: str) -> Any:
        def job(connection: Any) -> str:
            tried.append(key)
            connection.execute(PUT, row(key))
            return key

        return job

    acknowledged: set[str] = set()
    failed: set[str] = set()
    for group in range(6):
        names = [f"{group}{n}" for n in range(3)]
        deferreds = [store.write(counted(name)) for name in names]
        barrier = store.barrier()
        for name, deferred in zip(names, deferreds, strict=True):
            result = pump.settle(deferred)
            if isinstance(result, Failure):
                assert result.type is StorageError and "disk I/O error" in str(result.value)
                failed.add(name)
            else:
                acknowledged.add(result)
        assert isinstance(pump.settle(barrier), Failure) == (group + 1 == nth)
    assert failed == {f"{nth - 1}{n}" for n in range(3)}
    assert len(tried) == len(set(tried)) == 18
    present = set(pump.run(store.write(keys)))
    assert present == acknowledged | (failed if after else set())
    assert [level for level, _ in logged] == (["error", "info"])
    assert "disk I/O error" in logged[0][1]
    assert store.groups == 5 + 1 and store.rows == 15 + 1


def test_the_disk_fails_while_jobs_run_one_by_one(store, pump):
    """A poisoned job has the group run again in parts; the second of these cannot be committed."""
    pump.run(store.append(PUT, row("twice")))
    commits: list[int] = []

    @event.listens_for(store._database.writing, "commit")
    def fail(connection: Any) -> None:
        commits.append(1)
        if len(commits) == 2:
            raise OSError("no disk")

    names = ["first", "twice", "second", "third"]
    deferreds = [store.append(PUT, row(name)) for name in names]
    barrier = store.barrier()
    results = [pump.settle(deferred) for deferred in deferreds]
    assert results[0] is None
    assert [r.type.__name__ for r in results[1:]] == ["IntegrityError", "StorageError", "StorageError"]
    assert pump.settle(barrier).type is StorageError
    assert len(commits) == 2, "nothing is tried on a disk that has just failed"
    assert pump.run(store.write(keys)) == ["first", "twice"]


@ON_SQLITE
def test_a_full_disk_and_room_again(backend, pump, logged):
    """SQLite's own bound on the size of the file gives the very error of a full disk."""
    store = backend.open()
    # A setting of a connection: the store has to make a new one after the failure.
    limit = {"pages": 60}

    def bound(raw: Any, record: object = None) -> None:
        raw.execute(f"PRAGMA max_page_count = {limit['pages']}")

    event.listen(store._database.writing, "connect", bound)
    if backend.name == "memory":
        bound(store._database.writing.raw_connection().dbapi_connection)
    acknowledged, refused = [], []
    secret = b"SECRET BODY" * 400
    for n in range(100):
        together = [store.append(PUT, row(f"{n:03}a", secret)), store.append(PUT, row(f"{n:03}b", secret))]
        results = [pump.settle(deferred) for deferred in together]
        assert len({type(result) for result in results}) == 1
        if isinstance(results[0], Failure):
            assert all(str(r.value) == "database or disk is full" and r.type is StorageError for r in results)
            refused.append(n)
        else:
            acknowledged += [f"{n:03}a", f"{n:03}b"]
        if len(refused) == 3:
            break
    assert len(refused) == 3 and acknowledged
    limit["pages"] = 100_000
    if backend.name == "memory":
        bound(store._database.writing.raw_connection().dbapi_connection)
    pump.run(store.append(PUT, row("room", secret)))
    assert pump.run(store.write(keys)) == [*acknowledged, "room"]
    assert logged == [
        ("error", "storage fails at writing: database or disk is full"),
        ("info", "storage is back at writing"),
    ]


@pytest.mark.parametrize("more", [False, True], ids=["and ends", "and writes more"])
@ON_SQLITE
def test_a_job_that_swallows_a_full_disk_is_not_acknowledged(backend, pump, more):
    """SQLite has then ended the transaction, and sqlite3 finds nothing wrong with committing none."""
    store = backend.open()

    def careless(connection: Any) -> str:
        raw = connection.connection.dbapi_connection
        raw.execute("PRAGMA max_page_count = 60")
        # Without room in its cache SQLite writes pages before the COMMIT; a full disk then ends it all.
        raw.execute("PRAGMA cache_size = 2")
        with pytest.raises(OperationalError, match="full"):
            for n in range(100):
                connection.execute(PUT, row(str(n), b"x" * 4000))
        ended.append(not raw.in_transaction)
        raw.execute("PRAGMA max_page_count = 100000")
        if more:
            connection.execute(PUT, row("more"))
        return "all is well"

    ended: list[bool] = []
    result = pump.settle(store.write(careless))
    present = pump.run(store.write(keys))
    assert ended[0], "this test is about a transaction that was ended"
    assert isinstance(result, Failure) and "0" not in present


@ON_POSTGRESQL
def test_a_connection_that_is_lost(lasting, pump, logged):
    store = lasting.open()
    pump.run(store.append(PUT, row("before")))
    lose = text("SELECT pg_terminate_backend(pg_backend_pid())")
    together = [store.append(PUT, row("with")), store.write(lambda connection: connection.execute(lose))]
    assert [pump.settle(deferred).type for deferred in together] == [StorageError, StorageError]
    assert pump.settle(store.read(lambda connection: connection.execute(lose))).type is StorageError
    pump.run(store.append(PUT, row("after")))
    assert pump.run(store.read(keys)) == ["after", "before"]
    assert [level for level, _ in logged] == ["error", "error", "info", "info"]


@ON_POSTGRESQL
def test_a_server_that_was_restarted_meanwhile_costs_nothing(lasting, pump):
    store = lasting.open()
    pump.run(store.append(PUT, row("before")))
    pump.run(store.read(keys))
    other = Database(lasting.url, timeout=5, synchronous="FULL")
    with other.writing.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")
        )
    other.close()
    pump.run(store.append(PUT, row("after")))
    assert pump.run(store.read(keys)) == ["after", "before"]


def test_one_client_cannot_fail_the_others_with_a_huge_name(store, pump):
    """PostgreSQL has a bound on what fits into an index, and psycopg calls that an OperationalError."""
    account = pump.run(store.accounts.create("example.org", "juliet", {}))
    other = store.append(PUT, row("other"))
    huge = store.roster.put(account, RosterItem(secrets.token_hex(20_000)), 1)
    after = store.append(PUT, row("after"))
    assert pump.run(other) is None and pump.run(after) is None
    result = pump.settle(huge)
    assert not isinstance(result, Failure) or result.type is not StorageError


CHILD = """
import sys
from twisted.internet import reactor
from sqlalchemy import insert
from xmppd.storage import Store
from xmppd.storage.schema import server_data
import os, random
store = Store.open(reactor, sys.argv[1])
put = insert(server_data)
number = 0

def tell(_, told):
    os.write(1, b"%d\\n" % told)

def turn():
    global number
    for _ in range(random.randrange(1, 40)):
        number += 1
        row = {"kind": "test", "key": str(number), "value": b"x" * 300}
        store.append(put, row).addCallback(tell, number)
    store.barrier().addCallback(lambda _: reactor.callLater(0, turn))
    # Some come while a group is in flight.
    reactor.callLater(0.0005, late)

def late():
    global number
    number += 1
    row = {"kind": "test", "key": str(number), "value": b""}
    store.append(put, row).addCallback(tell, number)

reactor.callWhenRunning(turn)
reactor.run()
"""


@pytest.mark.parametrize("moment", range(3))
def test_what_was_acknowledged_survives_kill_9(lasting, pump, moment):
    lasting.open()
    child = subprocess.Popen([sys.executable, "-c", CHILD, lasting.url], stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = child.stdout.readline()
    time.sleep(random.uniform(0.01, 0.25))
    os.kill(child.pid, signal.SIGKILL)
    told += child.stdout.read()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    acknowledged = {int(number) for number in told.split(b"\n")[:-1]}
    assert len(acknowledged) > 1
    if lasting.name == "sqlite":
        with sqlite3.connect(lasting.url.removeprefix("sqlite:///")) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        raw.close()
    present = {int(key) for key in pump.run(lasting.open().write(keys))}
    assert acknowledged <= present
    # In order, and without a gap: whole groups.
    assert present == set(range(1, len(present) + 1))


@ON_SQLITE
def test_sqlite_waits_for_the_disk(backend, pump):
    pragmas = ("journal_mode", "synchronous", "foreign_keys")

    def look(connection: Any) -> list[Any]:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]

    mode = "memory" if backend.name == "memory" else "wal"
    assert pump.run(backend.open().write(look)) == [mode, 2, 1]
    assert pump.run(backend.open(url=backend.fresh_url(), synchronous="normal").write(look)) == [mode, 1, 1]


def test_files_are_private(tmp_path, pump):
    previous = os.umask(0)
    try:
        store = Store.open(pump, f"sqlite:///{tmp_path}/private.db")
        pump.run(store.append(PUT, row("a")))
        files = sorted(tmp_path.iterdir())
        assert [path.name for path in files] == ["private.db", "private.db-shm", "private.db-wal"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        pump.run(store.close())
    finally:
        os.umask(previous)


def test_a_fork_after_opening_is_safe(lasting, pump):
    """Nothing is open that a daemon would share with the process that started it."""
    path = lasting.url.removeprefix("sqlite:///")
    store = lasting.open()
    assert store._database.writing.pool.checkedin() == store._database.reading.pool.checkedin() == 0
    if lasting.name == "sqlite":
        links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert not [link for link in links if link.startswith(path)]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////nonexistent/folder/x.db", "No such file or directory"),
        ("mysql://juliet:SECRET@localhost/x", "neither sqlite nor postgresql"),
        ("juliet:SECRET", "not a URL"),
        ("postgresql://juliet:SECRET@localhost:port/x", "not a URL"),
        ("postgresql://juliet:SECRET@127.0.0.1:1/x", "refused"),
    ],
)
def test_an_unusable_store_says_why_in_one_line(pump, url, reason):
    with pytest.raises(StorageError) as raised:
        Store.open(pump, url)
    assert reason in str(raised.value)
    assert "SECRET" not in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_of_another_kind(tmp_path, pump):
    path = tmp_path / "letter.txt"
    path.write_text("Dear Juliet, " * 100)
    with pytest.raises(StorageError, match="not a database"):
        Store.open(pump, f"sqlite:///{path}")
    assert path.read_text() == "Dear Juliet, " * 100


def test_an_unknown_way_to_be_safe(pump):
    with pytest.raises(StorageError, match="EXTRA, FULL, NORMAL, OFF"):
        Store.open(pump, "sqlite://", synchronous="FULL; DROP TABLE account")


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (sqlite3.DatabaseError("database disk image is malformed"), True),
        (sqlite3.OperationalError("disk I/O error"), True),
        (sqlite3.IntegrityError("FOREIGN KEY constraint failed"), False),
        (sqlite3.ProgrammingError("Incorrect number of bindings supplied"), False),
        (ValueError("not of the store at all"), False),
    ],
)
def test_errors_of_the_driver_itself(error, broken):
    assert is_store_failure(error) is broken
