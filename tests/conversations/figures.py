"""What a server holds at a moment when nothing is under way, and whether that has grown."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.conversations.process import PATIENCE, RunningServer

# What is in these has somebody who waits for it; when nobody waits for anything they are empty.
PASSING = ("offline_message", "outgoing_stanza", "sm_stanza", "subscription_request")
MOST_OLD = """SELECT COALESCE(MAX(number), 0) FROM (
    SELECT COUNT(*) AS number FROM account_data WHERE kind = 'smacks' GROUP BY account_id)"""
OLD_IDS = 10  # ended sessions of an account whose last counts are kept

# MiB. After the warm-up a process of Python still grows a little, until its heap has all the sizes it needs; 200 bytes
# that are left of each of an hour's messages are more than this.
MORE_MEMORY = 24.0
# The reactor starts threads of its pool, of which it has ten at most, when several are needed at once.
MORE_THREADS = 10
MORE_FILES = 4  # connections to the database that readers open when there is more to read at once


@dataclass
class Figures:
    """Memory in MiB, open files, threads, and rows of the tables where what is passing is kept."""

    memory: float = 0.0
    files: int = 0
    threads: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = ", ".join(f"{count} {name}" for name, count in self.rows.items())
        return f"{self.memory:.1f} MiB, {self.files} files, {self.threads} threads; rows: {rows}"

    def growth(self, before: Figures) -> list[str]:
        """What of it is more than can be explained."""
        found = []
        if self.memory > before.memory + MORE_MEMORY:
            found.append(f"memory grew from {before.memory:.1f} to {self.memory:.1f} MiB")
        if self.files > before.files + MORE_FILES:
            found.append(f"open files grew from {before.files} to {self.files}")
        if self.threads > before.threads + MORE_THREADS:
            found.append(f"threads grew from {before.threads} to {self.threads}")
        return found


def rows(server: RunningServer) -> dict[str, int]:
    """The rows of the tables where what is passing is kept."""
    database = server.folder / "var" / "xmppd.sqlite"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as connection:
        found = {name: _count(connection, f"SELECT COUNT(*) FROM {name}") for name in (*PASSING, "sm_session")}
        found["old sessions of an account"] = _count(connection, MOST_OLD)
    return found


def _count(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def look(server: RunningServer) -> Figures:
    """The figures of now."""
    assert server.process is not None
    process = Path(f"/proc/{server.process.pid}")
    memory = int((process / "status").read_text().partition("VmRSS:")[2].split()[0]) / 1024
    files, threads = len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
    return Figures(memory, files, threads, rows(server))


async def at_rest(server: RunningServer, sessions: int) -> Figures:
    """The figures once nothing waits for anybody, with so many sessions; AssertionError when that does not come."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while True:
        figures = await asyncio.to_thread(look, server)
        waiting = {name: figures.rows[name] for name in PASSING if figures.rows[name]}
        if not waiting and figures.rows["sm_session"] == sessions:
            break
        assert loop.time() < deadline, f"it does not come to rest with {sessions} sessions: {figures}"
        await asyncio.sleep(0.2)  # the server says to nobody when it has tidied up
    assert figures.rows["old sessions of an account"] <= OLD_IDS, str(figures)
    return figures
