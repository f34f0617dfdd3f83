"""Small helpers that the tables share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Insert, Select, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["Conflicting", "Query", "Upsert", "insert_new"]


class Query:
    """A query that is asked often. On SQLite it is compiled once and goes past SQLAlchemy's own execute, which takes
    ten times as long as to find a row; errors are the driver's there. Made once, as a module's constant."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: tuple[str, list[tuple[str, Any]]] | None = None  # with its parameters and their defaults

    def __call__(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """All rows. On SQLite truth values are 0 and 1."""
        return list(self.each(connection, parameters))

    def each(self, connection: Connection, parameters: Mapping[str, Any]) -> Iterable[Sequence[Any]]:
        """The rows one by one: what is not taken is not read."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, parameters)
        if self._compiled is None:
            compiled: Any = self._statement.compile(dialect=connection.dialect)
            self._compiled = str(compiled), [(name, compiled.params[name]) for name in compiled.positiontup]
        sql, names = self._compiled
        raw: Any = connection.connection.dbapi_connection
        rows: Iterable[Sequence[Any]] = raw.execute(sql, [parameters.get(name, default) for name, default in names])
        return rows


class Conflicting:
    """An insertion that says what becomes of rows that are there already, for either database."""

    def __init__(self, statements: Mapping[str, Insert]) -> None:
        self._statements = statements

    def on(self, connection: Connection) -> Insert:
        """The statement for the database that a connection is to."""
        return self._statements[connection.dialect.name]


def insert_new(table: Table, rows: Select[Any]) -> Conflicting:
    """Insert what a query gives, in the order of the table's columns, but for rows whose primary key is there."""
    names = [column.name for column in table.columns]
    return Conflicting({
        "sqlite": sqlite.insert(table).from_select(names, rows).on_conflict_do_nothing(),
        "postgresql": postgresql.insert(table).from_select(names, rows).on_conflict_do_nothing(),
    })


class Upsert(Conflicting):
    """Insert rows, or overwrite those with the same primary key. Made once for each table."""

    def __init__(self, table: Table) -> None:
        keys = list(table.primary_key.columns)
        values = [column.name for column in table.columns if not column.primary_key]
        # The two databases spell it alike; SQLAlchemy has a class for each.
        lite = sqlite.insert(table)
        postgres = postgresql.insert(table)
        super().__init__({
            "sqlite": lite.on_conflict_do_update(
                index_elements=keys, set_={name: lite.excluded[name] for name in values}
            ),
            "postgresql": postgres.on_conflict_do_update(
                index_elements=keys, set_={name: postgres.excluded[name] for name in values}
            ),
        })

    def __call__(self, connection: Connection, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Keep one row, or several; none is fine."""
        if rows:
            connection.execute(self.on(connection), rows)
