"""SIGHUP: what a file that was read again changes in the running configuration."""

from __future__ import annotations

import pytest

from xmppd.config import Change, Config, Duration, Option, Ports, Scope, Text, load_bytes

PORTS = Option("c2s_ports", Ports(), "5222", "Ports for clients.", scope=Scope.SERVER, live=False)
TIMEOUT = Option("c2s_timeout", Duration(), "30s", "From accept to authenticated.")
STORAGE = Option("storage", Text(), "sqlite", "Where state lives.", live=False)
SECRET = Option("secret", Text(), "", "A password.", secret=True)
OPTIONS = [PORTS, TIMEOUT, STORAGE, SECRET]

HOST = "[host:a.example]\n"


def loads(text: str) -> Config:
    return load_bytes(text.encode(), "xmppd.cfg", OPTIONS)


def test_the_same_file_changes_nothing() -> None:
    text = "[xmppd]\nc2s_ports = 1, 2\n" + HOST + "c2s_timeout = 1m\n"
    assert loads(text).update(loads(text)) == []


def test_whoever_holds_the_settings_sees_the_new_value() -> None:
    config = loads(HOST + "c2s_timeout = 1m\n[component:c.example]\n")
    server, host, component = config.server, config.hosts["a.example"], config.components["c.example"]
    changes = config.update(
        loads("[xmppd]\nc2s_timeout = 4m\n" + HOST + "c2s_timeout = 2m\n[component:c.example]\n")
    )
    assert changes == [
        Change("xmppd", TIMEOUT, 30.0, 240.0, needs_restart=False),
        Change("host:a.example", TIMEOUT, 60.0, 120.0, needs_restart=False),
    ]
    assert (server[TIMEOUT], host[TIMEOUT], component[TIMEOUT]) == (240, 120, 240)
    assert config.server is server
    assert config.hosts == {"a.example": host}
    assert config.components == {"c.example": component}


def test_a_host_that_drops_its_own_value_inherits() -> None:
    config = loads("[xmppd]\nc2s_timeout = 1m\n" + HOST + "c2s_timeout = 2m\n")
    changes = config.update(loads("[xmppd]\nc2s_timeout = 1m\n" + HOST))
    assert changes == [Change("host:a.example", TIMEOUT, 120.0, 60.0, needs_restart=False)]
    assert config.hosts["a.example"][TIMEOUT] == 60
    config.update(loads(HOST))
    assert config.hosts["a.example"][TIMEOUT] == 30
    assert not config.hosts["a.example"].is_set(TIMEOUT)


def test_lines_are_those_of_the_newer_file() -> None:
    config = loads(HOST + "c2s_timeout = 1m\n")
    config.update(loads("\n\n" + HOST + "c2s_timeout = 1m\n"))
    assert str(config.hosts["a.example"].error(TIMEOUT, "no")) == "xmppd.cfg:4: c2s_timeout: no"


def test_a_value_that_takes_a_restart_is_kept_and_told_each_time() -> None:
    config = loads("[xmppd]\nc2s_ports = 1\n" + HOST)
    text = "[xmppd]\nc2s_ports = 2\n" + HOST
    expected = [Change("xmppd", PORTS, (1,), (2,), needs_restart=True)]
    assert config.update(loads(text)) == expected
    assert config.server[PORTS] == (1,)
    assert config.hosts["a.example"][PORTS] == (1,)
    assert config.update(loads(text)) == expected


def test_a_hosts_own_value_that_takes_a_restart_is_kept() -> None:
    config = loads(HOST + "storage = x\n")
    assert config.update(loads("[xmppd]\nstorage = y\n" + HOST)) == [
        Change("xmppd", STORAGE, "sqlite", "y", needs_restart=True),
        Change("host:a.example", STORAGE, "x", "y", needs_restart=True),
    ]
    assert config.hosts["a.example"][STORAGE] == "x"
    assert config.hosts["a.example"].is_set(STORAGE)
    assert not config.server.is_set(STORAGE)


def test_hosts_that_come_and_go_take_a_restart() -> None:
    config = loads(HOST + "c2s_timeout = 1m\n[component:c.example]\n")
    gone = config.hosts["a.example"]
    changes = config.update(loads("[host:b.example]\n[component:d.example]\n"))
    assert changes == [
        Change("host:a.example", None, True, False, needs_restart=True),
        Change("component:c.example", None, True, False, needs_restart=True),
        Change("host:b.example", None, False, True, needs_restart=True),
        Change("component:d.example", None, False, True, needs_restart=True),
    ]
    assert config.hosts == {"a.example": gone}
    assert gone[TIMEOUT] == 60
    assert list(config.components) == ["c.example"]


def test_a_host_that_becomes_a_component_takes_a_restart() -> None:
    config = loads(HOST + "[host:b.example]\n")
    changes = config.update(loads(HOST + "[component:b.example]\n"))
    assert [(change.section, change.new) for change in changes] == [
        ("host:b.example", False),
        ("component:b.example", True),
    ]


def test_the_newer_file_stays_as_it_was() -> None:
    config, newer = loads("[xmppd]\nc2s_ports = 1\n" + HOST), loads(HOST)
    config.update(newer)
    assert newer.server[PORTS] == (5222,)


def test_warnings_are_those_of_the_newer_file() -> None:
    config, newer = loads(HOST), loads(HOST)
    newer.warnings.append("look out")
    config.update(newer)
    assert config.warnings == ["look out"]


def test_the_options_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="other options"):
        loads(HOST).update(load_bytes(HOST.encode(), "xmppd.cfg", [PORTS]))


def test_changes_as_lines_for_the_log() -> None:
    assert str(Change("xmppd", TIMEOUT, 30.0, 60.0, False)) == "[xmppd] c2s_timeout: 30.0 is now 60.0"
    assert (
        str(Change("xmppd", PORTS, (1,), (), True))
        == "[xmppd] c2s_ports: (1,) would become (); this takes a restart"
    )
    assert str(Change("host:b", None, False, True, True)) == "[host:b] is new; this takes a restart"
    assert str(Change("host:b", None, True, False, True)) == "[host:b] is gone; this takes a restart"


def test_a_secret_stays_out_of_the_log() -> None:
    change = Change("xmppd", SECRET, "hunter2", "hunter3", False)
    assert str(change) == "[xmppd] secret: a new value (not shown)"
    assert "hunter" not in repr(change)
