"""How the cost of xmppd grows: with sessions, rosters, archives, what is not acknowledged, and hosts.

Run as ``python -m benchmarks.scale`` in a checkout; ``README.rst`` says what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.curves import CURVES, Curve
from benchmarks.report import machine, number
from benchmarks.running import say

MOST_TICKS = 5  # of an axis


def table(curves: Sequence[Curve]) -> Table:
    """All points."""
    found = Table(title="How xmppd's cost grows")
    for head in ("cost", "unit", "by", "of"):
        found.add_column(head)
    found.add_column("size: cost")
    for curve in curves:
        for line, points in curve.lines.items():
            cells = "   ".join(f"{size:,g}: {number(cost)}" for size, cost in points)
            found.add_row(curve.title, curve.unit, curve.of, "" if line == "all" else line, cells)
    return found


def draw(curves: Sequence[Curve], path: Path) -> None:
    """A panel for each cost, which begins at nothing; most sizes are on a logarithmic axis."""
    import matplotlib  # not at the top: only who wants a picture needs it

    matplotlib.use("agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text, which is smaller than outlines
    columns = 3
    rows = -(-len(curves) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(10, 2.6 * rows), layout="constrained", squeeze=False)
    for panel in panels.flat[len(curves) :]:
        panel.set_visible(False)
    for panel, curve in zip(panels.flat, curves, strict=False):
        for line, points in curve.lines.items():
            panel.plot(*zip(*points, strict=True), "o-", markersize=3, label=line)
        sizes = sorted({size for points in curve.lines.values() for size, _ in points})
        if curve.logarithmic:
            panel.set_xscale("log")
        panel.set_xticks(sizes if len(sizes) <= MOST_TICKS else sizes[::2])
        panel.set_xticks([], minor=True)
        panel.xaxis.set_major_formatter(lambda value, position: f"{value:,g}")
        panel.set_ylim(0, 1.3 * max(cost for points in curve.lines.values() for _, cost in points))
        panel.set_title(curve.title, fontsize=8)
        panel.set_xlabel(curve.of, fontsize=8)
        panel.set_ylabel(curve.unit, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(color="#e4e4e4")
        if list(curve.lines) != ["all"]:
            panel.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("curves", nargs="*", metavar="CURVE", default=list(CURVES), help=f"{', '.join(CURVES)} (all)")
    parser.add_argument("--quick", action="store_true", help="smaller: the figures are not those to tell")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures as well")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where to draw them, as SVG or PNG")
    given = parser.parse_args()
    if unknown := set(given.curves) - set(CURVES):
        parser.error(f"no such curve: {', '.join(sorted(unknown))}")
    if given.picture and find_spec("matplotlib") is None:
        parser.error("a picture needs matplotlib, which is in the extra 'bench'")
    return given


async def measure(names: Sequence[str], quick: bool) -> list[Curve]:
    """Measure them, one after the other."""
    found: list[Curve] = []
    for name in names:
        say(name)
        found += await CURVES[name](quick)
    return found


def main() -> None:
    """Measure, and show what was found."""
    given = options()
    # Servers are ended, and files removed, where this program is told to end as well.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    curves = asyncio.run(measure(given.curves, given.quick))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table(curves))
    for note in filter(None, (curve.note for curve in curves)):
        console.print(note, markup=False)
    if given.json:
        about = {"machine": machine(), "quick": given.quick}
        given.json.write_text(json.dumps({**about, "curves": [asdict(curve) for curve in curves]}, indent=1) + "\n")
    if given.picture:
        draw(curves, given.picture)


if __name__ == "__main__":
    main()
