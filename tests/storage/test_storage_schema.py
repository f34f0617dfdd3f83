"""Every old version of the schema, with rows in it, becomes the newest one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Boolean, Engine, Integer, LargeBinary, MetaData, func, inspect, select, text

from xmppd.storage import StorageError, Store
from xmppd.storage.engine import _postgresql, _sqlite
from xmppd.storage.engine import make_url as parse
from xmppd.storage.migrate import upgrade, versions
from xmppd.storage.schema import metadata


def bare_engine(url: str) -> Engine:
    """An engine as the store has it, on a database that nothing was done to."""
    if url.startswith("sqlite"):
        return _sqlite(parse(url), "FULL", readers=0)
    return _postgresql(parse(url).set(drivername="postgresql+psycopg"), 5, "FULL", readers=0)


def describe(engine: Engine) -> dict[str, Any]:
    """All that a schema promises, in a form that can be compared."""
    look = inspect(engine)
    tables: dict[str, Any] = {}
    for name in look.get_table_names():
        if name == "alembic_version":
            continue
        tables[name] = {
            "columns": {c["name"]: (str(c["type"]), c["nullable"]) for c in look.get_columns(name)},
            "order": [c["name"] for c in look.get_columns(name)],
            "key": look.get_pk_constraint(name)["constrained_columns"],
            "foreign": [
                (k["constrained_columns"], k["referred_table"], k["referred_columns"], k["options"])
                for k in look.get_foreign_keys(name)
            ],
            "unique": [(k["name"], k["column_names"]) for k in look.get_unique_constraints(name)],
            "indexes": sorted((i["name"], i["column_names"], i["unique"]) for i in look.get_indexes(name)),
        }
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                query = text("SELECT sql FROM sqlite_master WHERE name = :name")
                tables[name]["counts"] = "AUTOINCREMENT" in connection.execute(query, {"name": name}).scalar()
            else:
                query = text("SELECT column_default FROM information_schema.columns WHERE table_name = :name")
                defaults = connection.execute(query, {"name": name}).scalars()
                tables[name]["counts"] = any("nextval" in (value or "") for value in defaults)
    return tables


def fill(engine: Engine) -> dict[str, int]:
    """Put a row into each table, whatever its columns are; return how many each has."""
    old = MetaData()
    old.reflect(engine)
    counts: dict[str, int] = {}
    with engine.begin() as connection:
        for table in old.sorted_tables:
            if table.name == "alembic_version":
                continue
            row: dict[str, Any] = {}
            for column in table.columns:
                if isinstance(column.type, Boolean):
                    row[column.name] = True
                elif isinstance(column.type, Integer):
                    row[column.name] = 1
                elif isinstance(column.type, LargeBinary):
                    row[column.name] = b"bytes"
                else:
                    row[column.name] = "[]" if column.name == "groups" else "text"
            connection.execute(table.insert(), row)
            counts[table.name] = 1
    return counts


def test_a_fresh_database_is_as_the_tables_in_the_code(lasting):
    migrated = bare_engine(lasting.fresh_url())
    upgrade(migrated)
    made = bare_engine(lasting.fresh_url())
    with made.begin() as connection:
        metadata.create_all(connection)
    assert describe(migrated) == describe(made)
    assert len(describe(made)) == len(metadata.tables) == 13
    migrated.dispose()
    made.dispose()


@pytest.mark.parametrize("version", versions())
def test_an_old_version_with_rows_becomes_the_newest(lasting, pump, version):
    url = lasting.fresh_url()
    engine = bare_engine(url)
    upgrade(engine, version)
    counts = fill(engine)
    store = lasting.open(url=url)
    fresh = bare_engine(lasting.fresh_url())
    upgrade(fresh)
    assert describe(engine) == describe(fresh)
    with engine.connect() as connection:
        for name, count in counts.items():
            assert connection.execute(select(func.count()).select_from(text(name))).scalar() == count
    found = pump.run(store.accounts.find("text", "text"))
    assert found is not None and found.id == 1
    assert len(pump.run(store.roster.load(1)).items) == 1
    engine.dispose()
    fresh.dispose()


def test_opening_again_changes_nothing(lasting, pump):
    store = lasting.open()
    account = pump.run(store.accounts.create("example.org", "juliet", {}))
    pump.run(store.close())
    store = lasting.open()
    assert pump.run(store.accounts.find("example.org", "juliet")).id == account


def test_foreign_keys_hold_after_a_migration(store, pump):
    assert pump.settle(store.data.put(99, "kind", "key", b"")).type.__name__ == "IntegrityError"


def test_a_database_of_a_newer_version_is_refused(lasting, pump):
    pump.run(lasting.open().close())
    engine = bare_engine(lasting.url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StorageError, match=r"newer xmppd \(schema 9999"):
        Store.open(pump, lasting.url)


def test_a_migration_that_fails_leaves_the_database_as_it_was(lasting, pump):
    engine = bare_engine(lasting.fresh_url())
    with engine.begin() as connection:
        # In the way of the last table that the first version makes.
        connection.execute(text("CREATE TABLE server_data (mine integer)"))
    before = describe(engine)
    with pytest.raises(Exception, match="server_data"):
        upgrade(engine)
    assert describe(engine) == before and list(before) == ["server_data"]
    engine.dispose()
