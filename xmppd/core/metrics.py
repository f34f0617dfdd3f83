"""Figures about the running server, each declared by the code that counts it, in one registry of the server."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter


class Metrics:
    """The figures of one server. Names are those of OpenMetrics: small letters, with the unit at the end."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._counters: dict[str, Counter] = {}

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """The counter of this name, made at the first call; several hosts share it, with a label for each."""
        if name not in self._counters:
            self._counters[name] = Counter(name, help, labels, registry=self.registry)
        return self._counters[name]

    def as_json(self) -> dict[str, float]:
        """What `counter` has made and has counted, by its name with its labels."""
        return {
            f"{sample.name}{{{', '.join(f'{label}={value}' for label, value in sample.labels.items())}}}": sample.value
            for counter in self._counters.values()
            for family in counter.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }
