"""Brings a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from .errors import StorageError

__all__ = ["upgrade", "versions"]

_SCRIPTS = Path(__file__).parent / "migrations"
# Any number that no other program on the same PostgreSQL database uses as an advisory lock.
_LOCK = 0x786D707064


def _config() -> Config:
    config = Config()
    # Alembic reads options through configparser, to which a percent sign is special.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def versions() -> list[str]:
    """The versions of the schema, oldest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def upgrade(engine: Engine, version: str = "head") -> None:
    """Bring the database to `version`, in one transaction.

    Raises StorageError where the database was made by a newer xmppd, and whatever SQLAlchemy raises where
    a change fails; the database is then as before.
    """
    with engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            # Moving a table's rows would delete what refers to them. Cannot change inside a transaction.
            _foreign_keys(connection, on=False)
        with connection.begin():
            if not sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            _run(connection, version)
            if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise StorageError("rows refer to an account that does not exist")
        if sqlite:
            _foreign_keys(connection, on=True)


def _run(connection: Connection, version: str) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    known = versions()
    if current is not None and current not in known:
        raise StorageError(f"made by a newer xmppd (schema {current}, this one knows {known[-1]})")
    if current == known[-1]:
        return
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def _foreign_keys(connection: Connection, *, on: bool) -> None:
    raw = connection.connection.dbapi_connection
    assert raw is not None
    raw.execute(f"PRAGMA foreign_keys = {'ON' if on else 'OFF'}")
