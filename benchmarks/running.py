"""Each scenario against each server, one after the other."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.connection import Failed
from benchmarks.scenarios import SCENARIOS, Scenario, Stage
from benchmarks.servers import PEERS, SERVERS, Certificate, NotStarted

STEP_SECONDS = 420.0  # for one repetition, so that nothing hangs for ever


@dataclass
class Outcome:
    """What a scenario found out about a server: figures of each repetition, or why there are none."""

    repetitions: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    failure: str = ""
    client: float = 0.0  # the most that the load client took of a processor while something was measured

    def values(self, key: str) -> list[float]:
        """A figure in each repetition."""
        return [figures[key] for figures in self.repetitions if key in figures]

    def median(self, key: str) -> float | None:
        """The figure that counts; none where there is none."""
        values = self.values(key)
        return statistics.median(values) if values and not self.failure else None


@dataclass
class Results:
    """All that was found: by scenario, then by server."""

    quick: bool
    versions: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)

    def ratio(self, scenario: str, key: str, server: str) -> float | None:
        """A figure of a server, as a multiple of the better peer's; none where one of them is unknown."""
        own = self.outcomes[scenario][server].median(key)
        found = [self.outcomes[scenario][peer].median(key) for peer in PEERS if peer in self.outcomes[scenario]]
        best = min((median for median in found if median is not None), default=0.0)
        return own / best if own is not None and best else None

    @property
    def failed(self) -> bool:
        """Whether something did not do its work."""
        return any(outcome.failure for servers in self.outcomes.values() for outcome in servers.values())


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def compare(servers: list[str], scenarios: list[str], repeat: int, quick: bool, folder: Path) -> Results:
    """Measure all that was asked for."""
    results = Results(quick)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    certificate = Certificate.make(folder)
    missing = {name: SERVERS[name].missing() for name in servers}
    for name, reason in missing.items():
        results.versions[name] = reason or SERVERS[name].version()
    for scenario in scenarios:
        for name in servers:
            say(f"{scenario}: {name}")
            outcome = Outcome(left_out=missing[name])
            if not outcome.left_out:
                _run(SCENARIOS[scenario](quick), name, repeat, folder / scenario / name, certificate, outcome)
            results.outcomes.setdefault(scenario, {})[name] = outcome
            if outcome.failure or outcome.left_out:
                say(f"{scenario}: {name}: {outcome.failure or outcome.left_out}")
    return results


def _run(
    scenario: Scenario, name: str, repeat: int, folder: Path, certificate: Certificate, outcome: Outcome
) -> None:
    try:
        outcome.left_out = SERVERS[name].lacks(scenario.needs())
        if outcome.left_out:
            return
        rounds, each = (repeat, 1) if scenario.new_server else (1, repeat)
        for number in range(rounds):
            _on_a_server(scenario, name, each, folder / str(number), certificate, outcome)
    except (Failed, NotStarted, asyncio.TimeoutError) as error:
        outcome.failure = str(error)[:1000] or "it took too long"
    except Exception:
        outcome.failure = traceback.format_exc()[-2000:]
    finally:
        scenario.close()


def _on_a_server(
    scenario: Scenario, name: str, repeat: int, folder: Path, certificate: Certificate, outcome: Outcome
) -> None:
    server = SERVERS[name](folder, certificate, scenario.needs())
    try:
        server.start()
        server.create(scenario.users())
        stage = Stage(server, server.processes, server.target(), folder, certificate)
        asyncio.run(_play(scenario, stage, repeat, outcome))
    finally:
        server.stop()


async def _play(scenario: Scenario, stage: Stage, repeat: int, outcome: Outcome) -> None:
    await asyncio.wait_for(scenario.prepare(stage), STEP_SECONDS)
    for _ in range(repeat):
        gc.collect()  # so that ours does not meet one of them alone
        outcome.repetitions.append(await asyncio.wait_for(scenario.once(stage), STEP_SECONDS))
    await asyncio.wait_for(scenario.finish(stage), STEP_SECONDS)
    stage.target.alarm.check()
    outcome.facts.update(stage.target.facts)
    outcome.client = max([outcome.client, *(cost.client / cost.wall for cost in stage.processes.costs)])
