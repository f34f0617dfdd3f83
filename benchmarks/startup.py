"""How long the server takes to start, with many accounts and with many sessions that wait for their clients.

Run as ``python -m benchmarks.startup`` in a checkout; ``README.rst`` says what is measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import crowd
from tests.conversations.process import RunningServer
from tests.conversations.raw import RawClient

# Sessions must not be over before the last measurement, and the log says who was restored.
OPTIONS = "smacks_hibernation_time = 7d\n"
MESSAGES = 3  # that the client of each session has not acknowledged
RESTORE_SECONDS = 120.0  # that this may take
RESTORED = "sessions of the last run wait for their clients"


@dataclass
class Starts:
    """What starts of one kind took: seconds until ready, seconds of processors until then; seconds from then until all
    sessions are in memory, and MiB of memory then; seconds until the end after SIGTERM."""

    ready: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    restored: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    stopped: list[float] = field(default_factory=list)


def measure(server: RunningServer, starts: Starts) -> None:
    """Start once, and leave the server running."""
    begin = time.perf_counter()
    server.start()
    starts.ready.append(time.perf_counter() - begin)
    assert server.process is not None
    clock = (~server.process.pid << 3) | 2  # see archive.py
    starts.cpu.append(time.clock_gettime_ns(clock) / 1e9)


def measure_restored(server: RunningServer, starts: Starts, restored: int) -> None:
    """Wait until all sessions are there; SystemExit where some are not."""
    begin = time.perf_counter()
    if restored:
        told = int(server.wait_for(RESTORED, RESTORE_SECONDS).partition(RESTORED)[0].split()[-1])
        if told < restored - 1:  # but for the one that was resumed
            raise SystemExit(f"{restored} sessions should be there, not {told}:\n{server.log()}")
    starts.restored.append(time.perf_counter() - begin)
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    starts.memory.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)


def resume(server: RunningServer, sm_id: str, number: int, handled: int) -> None:
    """Whether a session can really be resumed, with what its client has not acknowledged."""
    client = RawClient(server, direct_tls=True)
    client.authenticate(crowd.name(number))
    client.send(f"<resume xmlns='urn:xmpp:sm:3' previd='{sm_id}' h='{handled}'/>")
    answer = client.read_until("/>")
    if not answer.lstrip().startswith("<resumed"):
        raise SystemExit(f"the session of {crowd.name(number)} is not resumed: {answer}")
    for message in range(MESSAGES):
        client.read_until(f"{crowd.body(message)}</body>")
    client.close()


class Kind:
    """A kind of start: a folder with a server, and the store that each start finds."""

    def __init__(self, folder: Path, accounts: int, hibernated: int, crashed: bool = False) -> None:
        folder.mkdir(parents=True)
        self.hibernated = hibernated
        self.starts = Starts()
        self.server = RunningServer(folder, OPTIONS)
        self.sm_id = ""
        self.handled = crowd.make(self.server, accounts, hibernated, MESSAGES)
        database = folder / "var" / "xmppd.sqlite"
        if crashed:
            crowd.crash(database)
        if hibernated:
            self.sm_id = crowd.sm_id(database, hibernated - 1)
        (folder / "var").rename(folder / "kept")

    def start(self) -> None:
        """Start once with the store as it was made, and end it."""
        kept, var = self.server.folder / "kept", self.server.folder / "var"
        shutil.rmtree(var, ignore_errors=True)
        shutil.copytree(kept, var)
        self.server.lines.clear()
        measure(self.server, self.starts)
        if self.sm_id:  # before it was restored with the others
            resume(self.server, self.sm_id, self.hibernated - 1, self.handled)
        measure_restored(self.server, self.starts, self.hibernated)
        begin = time.perf_counter()
        self.server.signal(signal.SIGTERM)
        status = self.server.wait()
        self.starts.stopped.append(time.perf_counter() - begin)
        if status != 0 or "Traceback" in self.server.log():
            raise SystemExit(f"it ended with status {status}:\n{self.server.log()}")


def table(kinds: dict[str, Kind]) -> Table:
    """Medians, and the slowest start."""
    shown = Table("start", "ready s", "slowest s", "CPU s", "all restored s later", "memory MiB", "SIGTERM to end s")
    for what, kind in kinds.items():
        starts = kind.starts
        figures = (
            statistics.median(starts.ready), max(starts.ready), statistics.median(starts.cpu),
            statistics.median(starts.restored), statistics.median(starts.memory), statistics.median(starts.stopped),
        )  # fmt: skip
        shown.add_row(what, *(f"{figure:.2f}" for figure in figures))
    return shown


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000, help="how many there are (100,000)")
    parser.add_argument("--hibernated", type=int, default=10_000, help="how many have a session that waits (10,000)")
    parser.add_argument("--starts", type=int, default=5, help="of each kind (5)")
    parser.add_argument("--folder", type=Path, help="an empty one for the data, which stays there (a temporary one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures as well")
    given = parser.parse_args()
    if not 1 <= given.hibernated <= given.accounts or given.starts < 1:
        parser.error("there is at least one session and one start, and no more sessions than accounts")
    return given


def main() -> None:
    """Make the stores, start, and show what it took."""
    given = options()
    kinds: dict[str, Kind] = {}
    people = f"{given.accounts:,} accounts"
    crowded = f"{people}, {given.hibernated:,} sessions"
    wanted = {
        "empty": (1, 0, False),
        people: (given.accounts, 0, False),
        crowded: (given.accounts, given.hibernated, False),
        f"{crowded}, after a crash": (given.accounts, given.hibernated, True),
    }
    with tempfile.TemporaryDirectory(prefix="xmppd-startup-") as temporary:
        folder = given.folder or Path(temporary)
        try:
            for number, (what, arguments) in enumerate(wanted.items()):
                say(f"making: {what}")
                kinds[what] = Kind(folder / str(number), *arguments)
            for turn in range(given.starts):
                say(f"start {turn + 1} of {given.starts}")
                for kind in kinds.values():
                    kind.start()
        finally:
            for kind in kinds.values():
                kind.server.close()
    Console(width=None if sys.stdout.isatty() else 120).print(table(kinds))
    if given.json is not None:
        about = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        figures = {what: asdict(kind.starts) for what, kind in kinds.items()}
        given.json.write_text(json.dumps({**about, "starts": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
