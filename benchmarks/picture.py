"""The ratios of a comparison as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import number
from benchmarks.running import Results
from benchmarks.scenarios import SCENARIOS, Figure
from benchmarks.servers import PEERS, Xmppd

LESS, MORE, LINE, GREY = "#2f7d5b", "#c2702c", "#444444", "#e4e4e4"
MARKS = {PEERS[0]: ("o", "#4a6fa5"), PEERS[1]: ("D", "#7a4fa3")}
ROW = 0.27  # inches


@dataclass(frozen=True)
class Row:
    """A figure that xmppd and a peer have: what it is, and the multiples of the better peer's by server."""

    label: str
    value: str
    ratios: dict[str, float]


def rows(results: Results) -> list[Row]:
    """All that can be compared. The 99th percentiles are left to the table, as they move a lot."""
    found = []
    for scenario, outcomes in results.outcomes.items():
        for figure in SCENARIOS[scenario].figures:
            if figure.key.endswith("p99"):
                continue
            multiples = {server: results.ratio(scenario, figure.key, server) for server in outcomes}
            ratios = {server: multiple for server, multiple in multiples.items() if multiple}
            if Xmppd.name in ratios and len(ratios) > 1:
                label = f"{scenario}: {figure.label}"
                found.append(Row(label, _value(results, scenario, figure), ratios))
    return found


def _value(results: Results, scenario: str, figure: Figure) -> str:
    median = results.outcomes[scenario][Xmppd.name].median(figure.key)
    return f"{number(median)} {figure.unit}" if median is not None else ""


def draw(results: Results, path: Path) -> None:
    """Draw it into a file whose name says the format."""
    import matplotlib  # not at the top: only who wants a picture needs it

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text, which is smaller than outlines
    found = rows(results)
    if not found:
        return
    figure, axes = pyplot.subplots(figsize=(9, 1.3 + ROW * len(found)), layout="constrained")
    for place, row in enumerate(found):
        own = row.ratios[Xmppd.name]
        axes.barh(place, own - 1, left=1, height=0.62, color=LESS if own <= 1 else MORE)
        for peer, (mark, colour) in MARKS.items():
            if peer in row.ratios:
                axes.plot(row.ratios[peer], place, mark, color=colour, markersize=5)
    smallest = min(min(row.ratios.values()) for row in found)
    largest = max(max(row.ratios.values()) for row in found)
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(0.5, smallest) / 1.25, max(2.0, largest) * 1.25)
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}x")
    axes.set_yticks(range(len(found)), [row.label for row in found], fontsize=8)
    axes.set_ylim(len(found) - 0.4, -0.6)
    values = axes.secondary_yaxis("right")
    values.set_yticks(range(len(found)), [row.value for row in found], fontsize=8)
    values.tick_params(length=0)
    axes.axvline(1, color=LINE, linewidth=1)
    axes.grid(axis="x", color=GREY)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title("xmppd's cost as a multiple of the better peer's: to the left is less", fontsize=10)
    axes.set_xlabel(f"on the right: what xmppd takes; {'quick sizes' if results.quick else 'full sizes'}", fontsize=8)
    patch = Patch(color=LESS)
    lines = [Line2D([], [], marker=mark, color=colour, linestyle="") for mark, colour in MARKS.values()]
    figure.legend([patch, *lines], [Xmppd.name, *MARKS], loc="outside lower right", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
