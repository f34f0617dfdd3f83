"""``/metrics`` and ``/healthz``."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.http import ask, request
from tests.support.world import World
from xmppd.http import status


class Expiring:
    """Certificates that are valid for ten more days."""

    def __init__(self, world: World) -> None:
        self._world = world

    def expires(self, domain: str) -> datetime.datetime:
        now = datetime.datetime.fromtimestamp(self._world.clock.seconds(), datetime.timezone.utc)
        return now + datetime.timedelta(days=10)


def make(config: str = "") -> World:
    world = World(config)
    certificates: Any = Expiring(world)
    status.set_up(world.server, world.service, certificates, range(3))
    return world


def figures(world: World) -> dict[tuple[str, frozenset[str]], float]:
    """Each figure by its name and the values of its labels."""
    answer = ask(world, request("GET", "/metrics"))
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/openmetrics-text")
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_what_happens_is_counted() -> None:
    world = make()
    romeo = world.online("romeo@example.org/orchard")
    romeo.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    juliet = world.online("juliet@example.org/balcony")
    before = figures(world)
    juliet.sends("<message to='romeo@example.org' type='chat'><body>hi</body></message>")
    romeo.disconnects()
    after = figures(world)
    host = "example.org"

    def grown(name: str, *labels: str) -> float:
        return after[name, frozenset(labels)] - before.get((name, frozenset(labels)), 0)

    def now(name: str, *labels: str) -> float:
        return after[name, frozenset(labels)]

    assert (now("xmppd_sessions", host, "live"), now("xmppd_sessions", host, "hibernated")) == (1, 1)
    assert now("xmppd_connections", "c2s", "bound") == 1
    assert now("xmppd_connections", "http", "open") == 3
    assert now("xmppd_unacknowledged_stanzas", host) == 1
    assert grown("xmppd_stanzas_total", host, "message", "in") == 1
    assert grown("xmppd_stanzas_total", host, "message", "out") == 1
    assert grown("xmppd_archived_messages_total") == 2
    assert grown("xmppd_store_rows_total") > 0
    assert now("xmppd_certificate_expiry_days", host) == pytest.approx(10)
    assert now("xmppd_store_failing") == 0
    assert now("process_resident_memory_bytes") > 1e6


def test_metrics_are_for_programs_on_this_machine_or_with_the_secret() -> None:
    world = make()
    assert ask(world, request("GET", "/metrics"), "192.0.2.1").status == 404
    assert ask(world, request("GET", "/metrics", Origin="https://evil.example")).status == 403
    assert ask(world, request("GET", "/metrics", host="evil.example")).status == 403
    world = make("metrics_secret = s3cret\n")
    assert ask(world, request("GET", "/metrics")).status == 401
    assert ask(world, request("GET", "/metrics", Authorization="Bearer s3cret"), "192.0.2.1").status == 200


def test_whether_the_server_is_ready_is_for_everybody() -> None:
    world = make()
    assert ask(world, request("GET", "/healthz"), "192.0.2.1").status == 503
    world.server.ready = True
    answer = ask(world, request("GET", "/healthz"), "192.0.2.1")
    assert (answer.status, answer.body) == (200, b"ready\n")
    assert ask(world, request("HEAD", "/healthz"), "192.0.2.1").body == b""
