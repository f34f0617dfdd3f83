"""``xmppctl s2s``: what goes between servers, and why something does not; and the figures of the same."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from tests.support.federation import Globe
from tests.support.world import World
from xmppd.ctl import commands, output
from xmppd.ctl.commands import CommandError
from xmppd.net.s2s.figures import Figures

HERE, THERE, DOWN = "montague.example", "capulet.example", "down.example"
ROMEO, JULIET = f"romeo@{HERE}/orchard", f"juliet@{THERE}/balcony"


@pytest.fixture
def globe() -> Globe:
    globe = Globe()
    globe.world(HERE, f"other.{HERE}")
    globe.world(THERE)
    globe.certificates = {HERE: [HERE], THERE: [THERE]}
    globe.played[DOWN] = []
    globe.down.add(DOWN)
    return globe


def call(world: World, name: str, **arguments: Any) -> Any:
    return world.run(commands.run(world.server, world.service, name, arguments))


def refusal(world: World, name: str, **arguments: Any) -> str:
    with pytest.raises(CommandError) as caught:
        call(world, name, **arguments)
    return str(caught.value)


def shown(capsys: pytest.CaptureFixture[str], name: str, result: Any) -> str:
    output.show(name, result)
    return capsys.readouterr().out


def test_list_has_the_streams_and_what_waits(globe: Globe, capsys: pytest.CaptureFixture[str]) -> None:
    here = globe.worlds[HERE]
    romeo, juliet = here.online(ROMEO), globe.worlds[THERE].online(JULIET)
    romeo.sends(f"<message to='{JULIET}' type='chat'><body>hi</body></message>")
    juliet.sends(f"<message to='{ROMEO}' type='chat'><body>ho</body></message>")
    romeo.sends(f"<message to='x@{DOWN}' type='chat'><body>hi</body></message>")
    here.advance(30)
    listed = call(here, "s2s list")
    (stream,) = listed["streams"]
    assert {name: stream[name] for name in ("direction", "domain", "tls", "received", "sent")} == {
        "direction": "out", "domain": THERE, "tls": "TLSv1.3", "received": 1, "sent": 1,
    }  # fmt: skip
    assert stream["bidirectional"] and stream["acknowledged"] and stream["seconds"] == 30
    assert stream["pairs"] == [
        {"from": THERE, "to": HERE, "by": "certificate"}, {"from": HERE, "to": THERE, "by": "certificate"},
    ]  # fmt: skip
    (waiting,) = listed["waiting"]
    assert (waiting["from"], waiting["to"], waiting["stanzas"]) == (HERE, DOWN, 1)
    assert "Connection refused" in waiting["failure"]
    text = shown(capsys, "s2s list", listed)
    assert f"{HERE} > {THERE} (certificate)" in text and "both directions, acknowledged" in text
    assert f"{HERE} > {DOWN}: 1 stanzas wait, next try in" in text and "Connection refused" in text
    assert call(here, "status")["s2s"] == {"incoming": 0, "outgoing": 1, "waiting": 1}


def test_list_of_nothing(globe: Globe, capsys: pytest.CaptureFixture[str]) -> None:
    listed = call(globe.worlds[HERE], "s2s list")
    assert listed == {"streams": [], "waiting": []}
    assert shown(capsys, "s2s list", listed).strip() == ""


def test_test_shows_each_step(globe: Globe, capsys: pytest.CaptureFixture[str]) -> None:
    tested = call(globe.worlds[HERE], "s2s test", domain=THERE)
    assert tested["error"] is None
    text = shown(capsys, "s2s test", tested)
    for step in ("TLSv1.3", f"valid for {THERE}", f"{HERE} is authenticated by certificate", "takes stanzas"):
        assert step in text
    assert not [stream for stream in globe.federations[HERE].streams if not stream.closed]


def test_test_is_for_the_first_host_or_another(globe: Globe) -> None:
    tested = call(globe.worlds[HERE], "s2s test", domain=THERE, **{"from": f"other.{HERE}"})
    assert tested["from"] == f"other.{HERE}" and "by dialback" in tested["steps"][-1]


@pytest.mark.parametrize(
    ("domain", "error"), [(DOWN, "Connection refused"), ("nowhere.example", "nowhere.example does not exist")]
)
def test_test_says_what_is_wrong(globe: Globe, domain: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    tested = call(globe.worlds[HERE], "s2s test", domain=domain)
    assert error in tested["error"]
    assert f"{domain} cannot be reached: " in shown(capsys, "s2s test", tested)


def test_what_cannot_be_tested(globe: Globe) -> None:
    here = globe.worlds[HERE]
    assert refusal(here, "s2s test", domain=HERE) == f"{HERE} is served here"
    assert "is not a domain" in refusal(here, "s2s test", domain="a b")
    assert "is not a host of this server" in refusal(here, "s2s test", domain=THERE, **{"from": THERE})
    assert refusal(World(), "s2s list") == "this server does not reach others"


def test_figures(globe: Globe) -> None:
    here = globe.worlds[HERE]
    romeo = here.online(ROMEO)
    globe.worlds[THERE].online(JULIET)
    romeo.sends(f"<message to='{JULIET}' type='chat'><body>hi</body></message>")
    romeo.sends(f"<message to='x@{DOWN}' type='chat'><body>hi</body></message>")
    registry = CollectorRegistry()
    registry.register(Figures(globe.federations[HERE]))
    text = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    for line in (
        'xmppd_s2s_streams{direction="out",state="proven"} 1.0',
        'xmppd_s2s_streams{direction="in",state="proven"} 0.0',
        'xmppd_s2s_stanzas_total{direction="out",kind="message"} 1.0',
        "xmppd_s2s_waiting_stanzas 1.0",
        "xmppd_s2s_unreachable_domains 1.0",
        "xmppd_s2s_failures_total 1.0",
    ):
        assert line in text, text
