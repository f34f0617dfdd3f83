"""What a comparison found, as a table for the terminal or a document, and for programs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from benchmarks.running import Outcome, Results
from benchmarks.scenarios import SCENARIOS, Figure
from benchmarks.servers import PEERS

HEADS = ("scenario", "figure", "unit")
DOCUMENT = """\
Figures
=======

What a piece of work costs xmppd, Prosody and ejabberd, one beside the other on one machine.
`benchmarks/README.rst <../benchmarks/README.rst>`_ says what is measured, how, and what to keep in mind; this page is
made by its command.

.. image:: benchmarks.svg
   :alt: ratios to the better of the peers
"""
SCALE = """\
How cost grows
--------------

.. image:: scale.png
   :alt: cost by the number of sessions, contacts, archived messages, unacknowledged messages, and hosts
"""
EXPLANATION = (
    "Median of the repetitions (smallest to largest), and how many times as much that is as with the better of the "
    "peers. Less is better everywhere."
)


def number(value: float) -> str:
    """Three digits."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def ratio(results: Results, scenario: str, figure: Figure, server: str) -> str:
    """The multiple, where it says something: with a single peer its own is 1."""
    found = results.ratio(scenario, figure.key, server)
    alone = server in PEERS and sum(peer in results.outcomes[scenario] for peer in PEERS) == 1
    return "" if found is None or alone else f"{found:.2f}x"


def cell(outcome: Outcome, figure: Figure) -> tuple[str, str]:
    """The median, and the range."""
    if outcome.failure:
        return "failed", ""
    values, median = outcome.values(figure.key), outcome.median(figure.key)
    if median is None:
        return "-", ""
    return number(median), f"({number(min(values))}-{number(max(values))})" if len(values) > 1 else ""


def rows(results: Results) -> Iterator[tuple[str, Figure, list[tuple[str, str, str]]]]:
    """For each figure: the scenario's name, and median, range and ratio of each server."""
    for scenario, outcomes in results.outcomes.items():
        for figure in SCENARIOS[scenario].figures:
            cells = [
                (*cell(outcome, figure), ratio(results, scenario, figure, server))
                for server, outcome in outcomes.items()
            ]
            yield scenario, figure, cells


def notes(results: Results) -> list[str]:
    """What was left out or failed, and why."""
    return [
        f"{scenario}, {server}: {'FAILED: ' + outcome.failure if outcome.failure else 'left out: ' + outcome.left_out}"
        for scenario, outcomes in results.outcomes.items()
        for server, outcome in outcomes.items()
        if outcome.failure or outcome.left_out
    ]


def facts(results: Results) -> list[str]:
    """What is worth to know of each server beside the figures."""
    found = []
    for name, version in results.versions.items():
        outcomes = [(scenario, servers[name]) for scenario, servers in results.outcomes.items() if name in servers]
        told = {f"{key}: {value}" for _, outcome in outcomes for key, value in outcome.facts.items()}
        scenario, busiest = max(outcomes, key=lambda pair: pair[1].client)
        if told:
            client = f"the load client took up to {busiest.client:.0%} of a processor, in {scenario}"
            found.append(f"{name} {version}: {'; '.join(sorted(told))}; {client}")
    return found


def heads(results: Results) -> list[str]:
    """The servers with their versions."""
    return [f"{name} {version}" for name, version in results.versions.items()]


def terminal(results: Results) -> Table:
    """The table for a terminal."""
    table = Table(title="xmppd and others", caption=EXPLANATION)
    for head in HEADS:
        table.add_column(head)
    for name, version in results.versions.items():
        table.add_column(f"{name}\n{version}", justify="right")
    previous = ""
    for scenario, figure, cells in rows(results):
        if previous and scenario != previous:
            table.add_section()
        texts = [" ".join(part for part in parts if part) for parts in cells]
        table.add_row("" if scenario == previous else scenario, figure.label, figure.unit, *texts)
        previous = scenario
    return table


def rst(results: Results) -> str:
    """A document with the table and notes, and with the pictures that lie beside it."""
    size = "quick sizes" if results.quick else "full sizes"
    lines = [
        DOCUMENT,
        f"Measured on {time.strftime('%Y-%m-%d')} with {size}: {machine()}. {EXPLANATION}",
        "", ".. list-table::", "   :header-rows: 1", "",
    ]  # fmt: skip
    table = [[*HEADS, *heads(results)]]
    for scenario, figure, cells in rows(results):
        table.append([scenario, figure.label, figure.unit, *(" ".join(filter(None, parts)) for parts in cells)])
    for row in table:
        lines += [f"   {'* -' if index == 0 else '  -'} {text}" for index, text in enumerate(row)]
    told = [f"* {note.splitlines()[0]}" for note in notes(results)]
    return "\n".join([*lines, "", *told, "", SCALE])


def machine() -> str:
    """What it was measured on."""
    return f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def as_json(results: Results) -> dict[str, Any]:
    """All figures."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine(),
        "quick": results.quick,
        "servers": results.versions,
        "scenarios": {
            scenario: {server: _outcome(results, scenario, server) for server in outcomes}
            for scenario, outcomes in results.outcomes.items()
        },
    }


def _outcome(results: Results, scenario: str, server: str) -> dict[str, Any]:
    outcome = results.outcomes[scenario][server]
    figures = {
        figure.key: {
            "label": figure.label, "unit": figure.unit, "median": outcome.median(figure.key),
            "ratio": results.ratio(scenario, figure.key, server), "values": outcome.values(figure.key),
        }
        for figure in SCENARIOS[scenario].figures
    }  # fmt: skip
    reasons = {"left_out": outcome.left_out, "failure": outcome.failure}
    return {"figures": figures, "facts": {**outcome.facts, "client": outcome.client}, **reasons}
