"""What the servers do while they are measured: a module for each."""

from __future__ import annotations

from benchmarks.scenarios.archive import Archive
from benchmarks.scenarios.base import Figure, Scenario, Stage
from benchmarks.scenarios.chat import Chat
from benchmarks.scenarios.federation import Federation
from benchmarks.scenarios.idle import Idle
from benchmarks.scenarios.login import Login, LoginByToken
from benchmarks.scenarios.offline import Offline
from benchmarks.scenarios.presence import Presence
from benchmarks.scenarios.push import Push
from benchmarks.scenarios.resume import Resume
from benchmarks.scenarios.rosters import Rosters

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.name: scenario
    for scenario in (Login, LoginByToken, Chat, Presence, Idle, Resume, Archive, Offline, Push, Rosters, Federation)
}

__all__ = ["SCENARIOS", "Figure", "Scenario", "Stage"]
