"""What ``/metrics`` tells of other servers."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xmppd.net.s2s.federation import Federation


class Figures(Collector):
    """Looked up when somebody asks."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client."""
        federation = self._federation
        streams = GaugeMetricFamily("xmppd_s2s_streams", "Streams of other servers.", labels=["direction", "state"])
        counts = {(way, state): 0 for way in ("in", "out") for state in ("proven", "negotiating")}
        for stream in federation.streams:
            state = "proven" if stream.proven or stream.carried else "negotiating"
            counts["in" if stream.incoming else "out", state] += not stream.closed
        for labels, count in counts.items():
            streams.add_metric(labels, count)
        yield streams
        stanzas = CounterMetricFamily(
            "xmppd_s2s_stanzas", "Stanzas from other servers (in) and to them (out).", labels=["kind", "direction"]
        )
        for direction, kinds in (("in", federation.received), ("out", federation.sent)):
            for kind in ("message", "presence", "iq"):
                stanzas.add_metric([kind, direction], kinds[kind])
        yield stanzas
        for name, help, figure in (
            ("xmppd_s2s_waiting_stanzas", "Stanzas that wait for a stream to another server.",
             sum(len(link.queue) for link in federation.links.values())),
            ("xmppd_s2s_unacknowledged_stanzas", "Stanzas that other servers have not acknowledged.",
             sum(stream.sending.unconfirmed for stream in federation.streams)),
            ("xmppd_s2s_unreachable_domains", "Pairs of domains for which the last try has failed.",
             sum(link.failure is not None for link in federation.links.values())),
        ):  # fmt: skip
            gauge = GaugeMetricFamily(name, help)
            gauge.add_metric([], figure)
            yield gauge
        failures = CounterMetricFamily("xmppd_s2s_failures", "Tries to reach another server that have failed.")
        failures.add_metric([], federation.failures)
        yield failures
