"""xmppd beside Prosody and ejabberd: what the same work costs each of them.

``README.rst`` says what is measured, and how it is to be read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from benchmarks.picture import draw
from benchmarks.report import as_json, facts, notes, rst, terminal
from benchmarks.running import compare, say
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SERVERS


def some_of(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    """Names separated by commas."""

    def parse(text: str) -> list[str]:
        wanted = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(known)}")
        return [name for name in known if name in wanted]

    return parse


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    servers, scenarios = ",".join(SERVERS), ",".join(SCENARIOS)
    parser.add_argument("--servers", type=some_of(SERVERS), default=list(SERVERS), help=servers)
    parser.add_argument("--scenarios", type=some_of(SCENARIOS), default=list(SCENARIOS), help=scenarios)
    parser.add_argument("--quick", action="store_true", help="less of everything: the figures are not those to tell")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions of each scenario (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="where to write the table as reStructuredText")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where to draw the ratios, as SVG or PNG")
    parser.add_argument("--install", action="store_true", help="install peers that are missing, of Debian's packages")
    parser.add_argument("--folder", type=Path, help="a new one for logs and data, which stays (a temporary one)")
    given = parser.parse_args()
    if given.repeat < 1:
        parser.error("at least one repetition")
    if given.picture and find_spec("matplotlib") is None:
        parser.error("a picture needs matplotlib, which is in the extra 'bench'")
    return given


def install(servers: list[str]) -> None:
    """Install the packages of servers that are missing. The services that they bring are not started."""
    packages = [package for name in servers if SERVERS[name].missing() for package in SERVERS[name].packages]
    if not packages:
        return
    say(f"installing {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        command = ["sudo", *command]
    subprocess.run(command, env=environment, stdout=sys.stderr, check=True)  # noqa: S603 - names from this package


def main() -> int:
    """Compare, and show what was found; 1 where something did not do its work."""
    given = options()
    # Servers are ended, and files removed, where this program is told to end as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if given.install:
        install(given.servers)
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="xmppd-compare-", ignore_cleanup_errors=True)
        folder = given.folder or Path(stack.enter_context(temporary))
        results = compare(given.servers, given.scenarios, given.repeat, given.quick, folder)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(terminal(results))
    for note in [*facts(results), *notes(results)]:
        console.print(note, markup=False)
    if given.json:
        given.json.write_text(json.dumps(as_json(results), indent=1) + "\n")
    if given.picture:
        draw(results, given.picture)
    if given.rst:
        given.rst.write_text(rst(results))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
