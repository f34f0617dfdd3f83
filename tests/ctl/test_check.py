"""``xmppctl check`` as a process of its own: what it finds, and that it changes nothing."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from xmppd.ctl.admin import AdminSocket
from xmppd.net.certificates import self_signed

from .conftest import World
from .program import beside, xmppctl


def everything(folder: Path) -> dict[str, Any]:
    """All files below a folder, with what is in them."""
    return {str(path): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def check(config_path: Path) -> tuple[int, str]:
    """The status and the findings; nothing may be made or changed by it."""
    before = everything(config_path.parent)
    done = xmppctl(config_path, "check")
    assert everything(config_path.parent) == before
    return done.status, done.out or done.err


def certify(config_path: Path, domain: str, names: str = "", now: float = 0.0) -> Path:
    """Put a certificate there for a domain, in the name of another if that is given."""
    folder = config_path.parent / "var" / "certs"
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = self_signed(names or domain, now)
    (folder / f"{domain}.crt").write_bytes(certificate)
    (folder / f"{domain}.key").write_bytes(key)
    return folder


@pytest.fixture
def now() -> float:
    """Certificates of the tests count from here."""
    return time.time()


def test_check_of_a_new_configuration(config_path: Path, free_port: int) -> None:
    status, found = check(config_path)
    assert status == 0, found
    assert "the configuration is valid; hosts: example.org, example.com" in found
    assert "note   example.org: there is no certificate" in found
    assert "note   the server is not running" in found
    assert f"ok     127.0.0.1 port {free_port} is free" in found
    assert "there is no such file yet" in found


def test_check_of_one_that_is_in_use(config_path: Path, now: float) -> None:
    xmppctl(config_path, "user", "create", "a@example.org", "--password", "pw")
    certify(config_path, "example.org", now=now)
    status, found = check(config_path)
    assert status == 0, found
    assert "its key fits" in found
    assert "is self-signed" in found
    assert "xmppd.sqlite: it can be used" in found


def test_check_as_json(config_path: Path) -> None:
    done = xmppctl(config_path, "check", "--json")
    assert {"level": "note", "text": "the server is not running"} in json.loads(done.out)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[host:a b]", "not a domain"),
        ("[host:example.net]\nno_such_option = 1", "unknown option"),
        ("[host:example.net]\nmodules_enabled = no_such_module", "no_such_module"),
    ],
)
def test_check_finds_a_configuration_that_cannot_be_used(config_path: Path, more: str, says: str) -> None:
    config_path.write_text(config_path.read_text() + more)
    status, found = check(config_path)
    assert status == 1
    assert found.startswith("error  ")
    assert says in found


def test_check_finds_certificates_that_clients_refuse(config_path: Path, now: float) -> None:
    certify(config_path, "example.org", now=now - 4000 * 86400)
    certify(config_path, "example.com", names="example.net", now=now)
    status, found = check(config_path)
    assert status == 1
    assert "error  example.org: the certificate" in found
    assert " expired on " in found
    assert "error  example.com: the certificate" in found
    assert "is not for this host" in found


def test_check_finds_certificates_that_end_soon_or_begin_later(config_path: Path, now: float) -> None:
    certify(config_path, "example.org", now=now - 3640 * 86400)
    certify(config_path, "example.com", now=now + 10 * 86400)
    status, found = check(config_path)
    assert status == 1
    assert "note   example.org: the certificate" in found
    assert " expires soon, on " in found
    assert "error  example.com: the certificate" in found
    assert " is valid only from " in found


@pytest.mark.parametrize("broken", ["key of another", "no key", "no certificate", "nonsense"])
def test_check_finds_certificates_that_cannot_be_loaded(config_path: Path, now: float, broken: str) -> None:
    folder = certify(config_path, "example.org", now=now)
    if broken == "key of another":
        certify(config_path, "example.com", now=now)
        shutil.copy(folder / "example.com.key", folder / "example.org.key")
    elif broken == "no key":
        (folder / "example.org.key").unlink()
    elif broken == "no certificate":
        (folder / "example.org.crt").unlink()
    else:
        (folder / "example.org.crt").write_text("nonsense")
    status, found = check(config_path)
    assert status == 1
    assert "error  example.org: " in found


def test_check_finds_a_port_that_another_program_has(config_path: Path, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        status, found = check(config_path)
    assert status == 1
    assert f"c2s_ports: cannot listen on 127.0.0.1 port {free_port}: Address already in use" in found


def test_check_finds_a_store_that_cannot_be_used(config_path: Path) -> None:
    data_path = config_path.parent / "var"
    data_path.mkdir()
    (data_path / "xmppd.sqlite").write_text("this is no database, but a text" * 100)
    status, found = check(config_path)
    assert status == 1
    assert "error  storage " in found
    assert "not a database" in found


def test_check_finds_a_store_of_a_newer_version(config_path: Path) -> None:
    xmppctl(config_path, "user", "create", "a@example.org", "--password", "pw")
    database = sqlite3.connect(config_path.parent / "var" / "xmppd.sqlite")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.execute("PRAGMA journal_mode = DELETE")
    database.close()
    status, found = check(config_path)
    assert status == 1
    assert "made by a newer xmppd (schema 9999" in found


def test_check_does_not_show_the_password_of_a_database(config_path: Path) -> None:
    url = "postgresql://xmppd:s3cr3t@127.0.0.1:1/xmppd"
    config_path.write_text(config_path.read_text().replace("[xmppd]", f"[xmppd]\nstorage = {url}"))
    done = xmppctl(config_path, "check")
    assert done.status == 1
    assert "error  storage postgresql://xmppd:***@127.0.0.1:1/xmppd" in done.out
    assert "s3cr3t" not in done.out + done.err


def test_check_knows_the_ports_of_the_running_server(
    world: World, admin: AdminSocket, config_path: Path, free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        done = beside(world, config_path, "check")
    assert done.status == 0, done.out
    assert f"ok     127.0.0.1 port {free_port} is held by the running server" in done.out
    assert f"the server is running; it answers on {admin.path}" in done.out


def test_authorities_that_cannot_be_read(config_path: Path) -> None:
    config_path.write_text(config_path.read_text().replace("[xmppd]\n", "[xmppd]\ns2s_ca_file = none.pem\n", 1))
    status, found = check(config_path)
    assert status == 1 and "s2s_ca_file" in found and "none.pem" in found
