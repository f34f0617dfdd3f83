"""A PostgreSQL of the tests' own, on a socket in a throw-away folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Empty schemas in a PostgreSQL that lives as long as the tests: each call gives the URL of a new one."""
    found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    programs = next((Path(path).resolve().parent for path in reversed(found) if path), None)
    if programs is None:
        pytest.skip("apt-get install postgresql")
    # It refuses to run as root.
    root = os.geteuid() == 0
    user = next((u for u in ("postgres", "nobody") if u in {p.pw_name for p in pwd.getpwall()}), None)
    who: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid} if root and user else {}
    home = Path(tempfile.mkdtemp(prefix="xmppd-postgresql-", dir="/tmp"))
    if who:
        shutil.chown(home, who["user"], who["group"])

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", home / "data", *arguments],
            check=True,
            cwd=home,
            stdout=subprocess.DEVNULL,
            **who,
        )

    call("initdb", "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8")
    settings = f"-k {home} -c listen_addresses= -c fsync=off -c max_connections=200"
    call("pg_ctl", "-w", "-l", f"{home}/log", "-o", settings, "start")
    url = f"postgresql+psycopg://tester@/postgres?host={home}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    made: list[str] = []

    def fresh() -> str:
        made.append(f"t{len(made)}")
        with engine.connect() as connection:
            # Much quicker than a database of its own.
            connection.execute(text(f"CREATE SCHEMA {made[-1]}"))
        return f"postgresql://tester@/postgres?host={home}&options=-csearch_path%3D{made[-1]}"

    yield fresh
    call("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(home)
