"""Can the store be used? Looks, and changes nothing: unlike opening it, which makes and migrates."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from xmppd.storage.errors import one_line
from xmppd.storage.migrate import versions

CONNECT_SECONDS = 5  # for PostgreSQL to answer
_VERSION = "SELECT version_num FROM alembic_version"

Answer = tuple[str, str]  # a level and a text, as of a finding


def can_make(path: Path) -> bool:
    """Whether a file could be made at `path`, or replaced: its folder, or where that is missing the nearest
    one above, may be written."""
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def check(url: str, running: bool) -> Answer:
    """Look at the store at `url`; `running`: a server is using it now."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "error", "storage: not a URL that is understood"  # it may have a password in it
    name = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        return _check_postgresql(url, name)
    if parsed.get_backend_name() != "sqlite":
        return "error", f"storage {name}: neither sqlite nor postgresql"
    if parsed.database in (None, "", ":memory:"):
        return "note", "storage is in memory: all is lost when the server stops"
    return _check_sqlite(Path(str(parsed.database)), running)


def _check_sqlite(path: Path, running: bool) -> Answer:
    if not path.exists():
        if can_make(path):
            return "note", f"storage {path}: there is no such file yet; it is made at the start"
        return "error", f"storage {path}: there is no such file, and none can be made there"
    # SQLite puts its journal beside the file.
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK) or not can_make(path):
        return "error", f"storage {path}: it cannot be read and written"
    if running:
        return "ok", f"storage {path}: the running server uses it"
    try:
        # Immutable: nothing is locked and no journal is made. Nobody writes while no server runs.
        with closing(
            sqlite3.connect(f"file:{quote(str(path.absolute()))}?immutable=1", uri=True)
        ) as database:
            tables = [
                row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            row = database.execute(_VERSION).fetchone() if "alembic_version" in tables else None
    except sqlite3.Error as error:
        return "error", f"storage {path}: {one_line(error)}"
    return _about(str(path), None if row is None else str(row[0]))


def _check_postgresql(url: str, name: str) -> Answer:
    try:
        engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            connect_args={"connect_timeout": CONNECT_SECONDS},
            hide_parameters=True,
        )
        with engine.connect() as connection:
            known = connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one()
            version = None if known is None else connection.execute(text(_VERSION)).scalar_one_or_none()
        engine.dispose()
    except ImportError as error:
        return "error", f"storage {name}: {error.name} is not installed"
    except SQLAlchemyError as error:
        return "error", f"storage {name}: {one_line(error)}"
    return _about(name, version)


def _about(name: str, version: str | None) -> Answer:
    known = versions()
    if version is None:
        return "note", f"storage {name}: it is empty; its tables are made at the start"
    if version not in known:
        return (
            "error",
            f"storage {name}: made by a newer xmppd (schema {version}, this one knows {known[-1]})",
        )
    if version != known[-1]:
        return (
            "note",
            f"storage {name}: it is changed to this version at the start (a copy before is a good idea)",
        )
    return "ok", f"storage {name}: it can be used"
