"""What watches the server: ``/metrics`` in the OpenMetrics format, and ``/healthz``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sized
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from xmppd.config import Option, Scope, Text
from xmppd.core.http import HttpRequest, HttpResponse, refuse_strangers
from xmppd.core.server import Server
from xmppd.net.certificates import Certificates
from xmppd.net.service import ClientService

SECRET = Option(
    "metrics_secret", Text(), "",
    "What a program shows in ``Authorization: Bearer`` to read ``/metrics``; without it only programs on this machine "
    "may.", scope=Scope.SERVER, secret=True,
)  # fmt: skip
OPTIONS = (SECRET,)

_latest: Any = generate_latest


def set_up(server: Server, clients: ClientService, certificates: Certificates, http: Sized) -> None:
    """Answer both paths; `http` are the connections of the site."""
    server.metrics.registry.register(Figures(server, clients, certificates, http))
    ProcessCollector(registry=server.metrics.registry)

    def admit(request: HttpRequest) -> HttpResponse | None:
        return refuse_strangers(request, server.hosts, server.settings[SECRET])

    def metrics(request: HttpRequest) -> HttpResponse:
        text: bytes = _latest(server.metrics.registry)
        return HttpResponse(200, text, CONTENT_TYPE_LATEST)

    def healthz(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"ready\n") if server.ready else HttpResponse(503, b"not ready\n")

    server.http.on("GET", "/metrics", metrics, admit)
    for method in ("GET", "HEAD"):
        server.http.on(method, "/healthz", healthz)


class Figures(Collector):
    """What is looked up when somebody asks, and not counted as it happens."""

    def __init__(self, server: Server, clients: ClientService, certificates: Certificates, http: Sized) -> None:
        self._server = server
        self._http = http
        self._clients = clients
        self._certificates = certificates

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client."""
        server = self._server
        sessions = GaugeMetricFamily("xmppd_sessions", "Sessions, live and hibernated.", labels=["host", "state"])
        queued = GaugeMetricFamily(
            "xmppd_unacknowledged_stanzas", "Stanzas that clients have not acknowledged.", labels=["host"]
        )
        counts = {(host, state): 0 for host in server.hosts for state in ("live", "hibernated")}
        waiting = dict.fromkeys(server.hosts, 0)
        for session in server.sessions:
            hibernates = session.keeper is not None and session.keeper.hibernates
            counts[session.host.domain, "hibernated" if hibernates else "live"] += 1
            waiting[session.host.domain] += session.keeper.queued if session.keeper is not None else 0
        for labels, count in counts.items():
            sessions.add_metric(labels, count)
        for host, count in waiting.items():
            queued.add_metric([host], count)
        yield sessions
        yield queued
        yield self._stanzas()
        streams = GaugeMetricFamily("xmppd_connections", "Connections, by kind and state.", labels=["kind", "state"])
        for kind, states in self._clients.counts().items():
            for state, count in states.items():
                streams.add_metric([kind, state], count)
        streams.add_metric(["http", "open"], len(self._http))
        for component in server.components.values():
            streams.add_metric(["component", "connected" if component.connected else "away"], 1)
        yield streams
        yield from self._store()
        certificates = GaugeMetricFamily(
            "xmppd_certificate_expiry_days", "Days until the certificate of a host is not valid any more.",
            labels=["host"],
        )  # fmt: skip
        for host in server.hosts:
            now = datetime.datetime.fromtimestamp(server.now(), datetime.timezone.utc)
            certificates.add_metric([host], (self._certificates.expires(host) - now) / datetime.timedelta(days=1))
        yield certificates
        started = GaugeMetricFamily("xmppd_start_time_seconds", "When the server started, since 1970.")
        started.add_metric([], server.started)
        yield started

    def _stanzas(self) -> Metric:
        stanzas = CounterMetricFamily(
            "xmppd_stanzas", "Stanzas from clients (in) and to them (out).", labels=["host", "kind", "direction"]
        )
        for host in self._server.hosts.values():
            for (kind, direction), count in host.stanzas.items():
                stanzas.add_metric([host.domain, kind, direction], count)
        return stanzas

    def _store(self) -> Iterator[Metric]:
        store = self._server.store
        for name, help, value in (
            ("xmppd_store_commits", "Groups of writes that were committed.", store.groups),
            ("xmppd_store_rows", "Rows in them.", store.rows),
            ("xmppd_archived_messages", "Messages that were given to archives.", store.archive.appended),
        ):
            counter = CounterMetricFamily(name, help)
            counter.add_metric([], value)
            yield counter
        for name, help, figure in (
            ("xmppd_store_queued_writes", "Writes that wait for the next group.", store.queued),
            ("xmppd_store_last_group_rows", "Rows of the last group.", store.last_group_size),
            ("xmppd_store_last_commit_seconds", "How long its commit took.", store.last_commit_seconds),
            ("xmppd_store_failing", "Whether the last group could not be committed.", store.is_failing),
        ):
            gauge = GaugeMetricFamily(name, help)
            gauge.add_metric([], float(figure))
            yield gauge
