"""Throw-away schemas in a PostgreSQL that is there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.schema import CreateSchema, DropSchema


@dataclass(frozen=True)
class Schema:
    """One schema; `url` is what the option `storage` is to be."""

    name: str
    url: str
    engine: Engine

    def mib(self) -> float:
        """How large all that is in it is on disk."""
        query = text(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :name)"
        )
        with self.engine.connect() as connection:
            return float(connection.execute(query, {"name": self.name}).scalar_one()) / 2**20


@contextmanager
def schema(url: str, name: str) -> Iterator[Schema]:
    """A new schema in the database at `url`, as long as it is needed."""
    parsed = make_url(url).set(drivername="postgresql")
    inside = parsed.update_query_dict({"options": f"-csearch_path={name}"})
    driver = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(driver, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(CreateSchema(name))
    try:
        yield Schema(name, inside.render_as_string(hide_password=False), engine)
    finally:
        with engine.connect() as connection:
            connection.execute(DropSchema(name, cascade=True))
