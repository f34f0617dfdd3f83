"""What a page of a message archive (XEP-0313) costs, by the size of the archive and by where the page lies.

Run as ``python -m benchmarks.archive`` in a checkout; ``README.rst`` says what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from benchmarks.history import KINDS, LOCAL, PAGE, PASSWORD, SMALLEST, History, Question
from benchmarks.postgresql import Schema, schema
from tests.conversations.process import RunningServer, program
from tests.conversations.raw import RawClient
from xmppd.wire import ns

WARM_UP = 10  # questions of each kind that are asked before it counts
SETTLE = 0.002  # seconds after an answer until its processor time is read


# ---- servers


@dataclass
class Loading:
    """How an archive was loaded: seconds, the most memory that xmppctl had, and what is on disk after it."""

    seconds: float
    peak_mib: float
    database_mib: float


@dataclass
class Spent:
    """What the questions of a kind took: milliseconds until the answer was there, and of the server's processors."""

    waited: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """The figures that are told."""
        percentiles = statistics.quantiles(self.waited, n=100, method="inclusive")
        return {"cpu_ms": statistics.fmean(self.worked), "p50_ms": percentiles[49], "p99_ms": percentiles[98]}


def load(server: RunningServer, history: History, kept: Schema | None) -> Loading:
    """Import an archive, with `xmppctl` at work alone."""
    file, report = server.folder / "users.xml", server.folder / "report.json"
    history.write(file)
    command = [program("xmppctl"), "-c", str(server.config), "import", "--json", str(file)]
    start = time.perf_counter()
    with report.open("w") as output:
        process = subprocess.Popen(command, stdout=output)  # noqa: S603 - our own program
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    result = report.read_text()
    if process.returncode != 0 or json.loads(result)["created"] != 1 or json.loads(result)["left_out"]:
        raise SystemExit(f"the import failed: {result}")
    file.unlink()
    files = (path.stat().st_size for path in (server.folder / "var").rglob("*") if path.is_file())
    return Loading(seconds, usage.ru_maxrss / 1024, sum(files) / 2**20 if kept is None else kept.mib())


class Asker:
    """A server with an archive, a client of its owner, and what the questions took."""

    def __init__(self, server: RunningServer, history: History, seed: int) -> None:
        assert server.process is not None
        self.server = server
        self.history = history
        # The clock of a process (clock_getcpuclockid): user and system time of all its threads, in nanoseconds.
        # /proc/PID/stat counts the same in steps of 10 ms.
        self._clock = (~server.process.pid << 3) | 2
        self._client = RawClient(server, direct_tls=True)
        self._client.login(LOCAL, "benchmark", PASSWORD, presence=False)
        self._questions = {kind: make(history, random.Random(seed)) for kind, make in KINDS.items()}
        self._asked = 0
        self.spent = {kind: Spent() for kind in KINDS}

    def ask(self, kind: str, counts: bool = True) -> None:
        """Ask the next question of a kind and look at the answer."""
        question = next(self._questions[kind])
        self._asked += 1
        text = question.to_xml(f"q{self._asked}")
        worked = time.clock_gettime_ns(self._clock)
        start = time.perf_counter()
        self._client.send(text)
        answer = self._client.read_until("</iq>")
        waited = time.perf_counter() - start
        time.sleep(SETTLE)
        worked = time.clock_gettime_ns(self._clock) - worked
        self._check(kind, question, answer)
        if counts:
            self.spent[kind].waited.append(waited * 1000)
            self.spent[kind].worked.append(worked / 1e6)

    def _check(self, kind: str, question: Question, answer: str) -> None:
        """Whether just the right messages came, in their order."""
        tree = ElementTree.fromstring(f"<answer>{answer}</answer>")  # noqa: S314 - of a server of our own
        got = [
            (result.attrib["id"], next(result.iter(f"{{{ns.CLIENT}}}body")).text)
            for result in tree.iter(f"{{{ns.MAM}}}result")
        ]
        wanted = [(self.history.id(index), self.history.body(index)) for index in question.expected]
        if got != wanted or len(got) != PAGE or tree[-1].get("type") != "result":
            raise SystemExit(f"{kind}: not the page that was asked for:\n{answer}")

    def memory_mib(self) -> float:
        """The most memory that the server has had."""
        assert self.server.process is not None
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024

    def close(self) -> None:
        """Log out."""
        self._client.close()


@contextmanager
def running(folder: Path, history: History, postgresql: str, seed: int) -> Iterator[tuple[Loading, Asker]]:
    """A server with an archive, as long as it is needed; on SQLite where no PostgreSQL is given."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        kept = stack.enter_context(schema(postgresql, f"archive_{history.size}")) if postgresql else None
        server = RunningServer(folder, f"storage = {kept.url}" if kept is not None else "")
        stack.callback(server.close)
        say(f"{history.size:,} messages: writing and importing them")
        loading = load(server, history, kept)
        asker = Asker(server.start(), history, seed)
        yield loading, asker
        asker.close()
        server.stop()


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def measure(askers: Sequence[Asker], count: int, seed: int) -> None:
    """Ask `count` questions of each kind and each server, mixed, so that a busy moment of the machine meets all."""
    chance = random.Random(seed)
    for counts, times in ((False, WARM_UP), (True, count)):
        todo = [(asker, kind) for asker in askers for kind in KINDS] * times
        chance.shuffle(todo)
        for asker, kind in todo:
            asker.ask(kind, counts)


# ---- what is told


def loading_table(results: dict[int, dict[str, Any]]) -> Table:
    """How the archives were loaded."""
    heads = ("messages", "import s", "messages/s", "xmppctl peak MiB", "database MiB", "server peak MiB")
    table = Table(title="Loading with xmppctl import")
    for head in heads:
        table.add_column(head, justify="right")
    for size, result in results.items():
        loading = result["loading"]
        speed = size / loading["seconds"]
        sizes = (loading["peak_mib"], loading["database_mib"], result["server_peak_mib"])
        table.add_row(f"{size:,}", f"{loading['seconds']:.1f}", *(f"{figure:,.0f}" for figure in (speed, *sizes)))
    return table


def cost_table(results: dict[int, dict[str, Any]]) -> Table:
    """What the pages cost; ratios are of the largest archive to the smallest."""
    smallest, largest = min(results), max(results)
    table = Table(title=f"A page of {PAGE} messages")
    table.add_column("kind")
    for size in results:
        for head in ("cpu ms", "p50 ms", "p99 ms"):
            table.add_column(f"{size:,}\n{head}", justify="right")
    for head in ("cpu", "p50"):
        table.add_column(f"ratio\n{head}", justify="right")
    for kind in KINDS:
        costs = {size: result["kinds"][kind] for size, result in results.items()}
        cells = [f"{figure:.2f}" for cost in costs.values() for figure in cost.values()]
        ratios = (costs[largest][name] / costs[smallest][name] for name in ("cpu_ms", "p50_ms"))
        table.add_row(kind, *cells, *(f"{ratio:.2f}" for ratio in ratios))
    return table


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[20_000, 1_000_000], help="messages in each archive")
    parser.add_argument("--queries", type=int, default=300, help="of each kind and size (300)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn at random (1)")
    parser.add_argument("--folder", type=Path, help="an empty one for the data, which stays there (a temporary one)")
    parser.add_argument("--postgresql", default="", metavar="URL", help="a database to use instead of SQLite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures as well")
    given = parser.parse_args()
    if min(given.sizes) < SMALLEST or given.queries < 2:
        parser.error(f"an archive has at least {SMALLEST} messages, and there are at least 2 queries")
    return given


def main() -> None:
    """Load the archives, ask, and show what it took."""
    given = options()
    end_ms = int(time.time() - 3600) * 1000
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xmppd-archive-")))
        servers = [
            stack.enter_context(running(folder / str(size), History(size, end_ms), given.postgresql, given.seed))
            for size in sorted(set(given.sizes))
        ]
        say(f"asking {given.queries} questions of each kind")
        measure([asker for _, asker in servers], given.queries, given.seed)
        results = {
            asker.history.size: {
                "loading": asdict(loading),
                "server_peak_mib": asker.memory_mib(),
                "kinds": {kind: spent.summary() for kind, spent in asker.spent.items()},
            }
            for loading, asker in servers
        }
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(loading_table(results))
    console.print(cost_table(results))
    if given.json is not None:
        about = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "queries": given.queries}
        given.json.write_text(json.dumps({**about, "sizes": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
