"""Starting, stopping, and what an administrator gets wrong: on a real process."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conversations.process import CHECKOUT, PATIENCE, RunningServer, program
from tests.conversations.raw import HEADER, RawClient
from tests.support.ports import free_port
from xmppd.net.certificates import self_signed

Make = Callable[..., RunningServer]


def refused(server: RunningServer) -> str:
    """Start a server that cannot start: its one line."""
    done = subprocess.run(
        server.command(), cwd=server.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "xmppd ready" not in done.stdout
    return done.stderr


def test_sigterm_tells_clients_and_ends_with_0(server: RunningServer) -> None:
    romeo = RawClient(server)
    romeo.login("romeo", "orchard")
    assert server.signal(signal.SIGTERM) is None
    last_words = romeo.read_all()
    assert "<system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" in last_words
    assert last_words.endswith("</stream:stream>")
    romeo.close()
    assert server.wait() == 0


def test_sigint_ends_with_0(make_server: Make) -> None:
    server = make_server().start()
    server.signal(signal.SIGINT)
    assert server.wait() == 0


def test_it_runs_in_the_background_and_beside_another_from_one_folder(make_server: Make, tmp_path: Path) -> None:
    servers = [make_server(), make_server()]
    for server in servers:
        command = [part for part in server.command() if part != "-n"]
        command.insert(1, f"--logfile={server.folder / 'twistd.log'}")
        subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE, capture_output=True)
    for server in servers:
        deadline = time.monotonic() + PATIENCE
        log = server.folder / "twistd.log"
        while not (log.exists() and "xmppd ready" in log.read_text()):
            assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
        romeo = RawClient(server, direct_tls=True)
        romeo.open()
        romeo.close()
        os.kill(int((server.folder / "twistd.pid").read_text()), signal.SIGTERM)
    for server in servers:
        while (server.folder / "twistd.pid").exists():
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("c2s_prots = 1", r"xmppd.cfg:11: unknown option 'c2s_prots' in \[xmppd\]; did you mean 'c2s_ports'"),
        ("c2s_timeout = soon", r"xmppd.cfg:11: c2s_timeout: 'soon' .*accepted: a duration"),
        ("storage = mysql://x/y", r"storage"),
        ("modules_enabled = archive_of_everything", r"xmppd.cfg:11: modules_enabled: .*no module 'archive_of"),
        ("[hosts:example.org]", r"xmppd.cfg:11: unknown section"),
        ("nonsense", r"xmppd.cfg:11"),
        ("proxy_protocol_ports = 1", r"xmppd.cfg:11: proxy_protocol_ports: 1 has to be in c2s_ports or c2s_direct_tls"),
    ],
)
def test_a_wrong_line_is_named(make_server: Make, line: str, complaint: str) -> None:
    server = make_server(extra=line)
    assert re.search(complaint, refused(server)), refused(server)
    assert not (server.folder / "certs").exists()


def test_a_file_that_is_not_there_is_named(make_server: Make) -> None:
    server = make_server()
    server.config.unlink()
    assert "xmppd.cfg" in refused(server)


def test_a_port_in_use_is_named_and_nothing_is_left_behind(make_server: Make) -> None:
    server = make_server()
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.port))
        other.listen()
        line = refused(server)
    assert f"port {server.port}" in line and "c2s_ports" in line and "in use" in line
    server.start()
    assert server.stop() == 0


def test_a_key_that_does_not_fit_is_named(make_server: Make) -> None:
    server = make_server()
    certs = server.folder / "certs"
    certs.mkdir()
    certificate, _ = self_signed("localhost", time.time())
    _, key = self_signed("localhost", time.time())
    (certs / "localhost.crt").write_bytes(certificate)
    (certs / "localhost.key").write_bytes(key)
    assert "localhost.key" in refused(server)


def test_sighup_reads_options_and_certificates_and_drops_nobody(make_server: Make) -> None:
    server = make_server("max_sessions_per_account = 5").start()
    server.user("romeo")
    romeo = RawClient(server)
    romeo.login("romeo", "orchard")
    before = ssl.PEM_cert_to_DER_cert((server.folder / "certs" / "localhost.crt").read_text())
    assert isinstance(romeo.socket, ssl.SSLSocket)
    assert romeo.socket.getpeercert(binary_form=True) == before
    certificate, key = self_signed("localhost", time.time())
    (server.folder / "certs" / "localhost.key").write_bytes(key)
    (server.folder / "certs" / "localhost.crt").write_bytes(certificate)
    changed = f"max_sessions_per_account = 1\nadmins = romeo@localhost\nadmin_socket = elsewhere{free_port()}"
    server.write_config(changed)
    server.signal(signal.SIGHUP)
    server.wait_for("configuration and certificates were read again")
    log = server.log()
    assert re.search(r"max_sessions_per_account: 5 is now 1", log)
    assert re.search(r"admin_socket: .*takes a restart", log)
    assert "administration over XMPP is not part of this version" in log

    second = RawClient(server)
    second.start_tls()
    assert isinstance(second.socket, ssl.SSLSocket)
    assert second.socket.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(certificate.decode())
    with pytest.raises(AssertionError, match="resource-constraint"):
        second.login("romeo", "balcony")
    romeo.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.read_until("id='p'")
    server.config.write_text("[xmppd]\nrubbish\n")
    server.signal(signal.SIGHUP)
    server.wait_for("the configuration was not read again")
    romeo.send("<iq type='get' id='q'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.read_until("id='q'")


def test_what_was_stored_survives_kill_9(server: RunningServer) -> None:
    romeo = RawClient(server)
    romeo.login("romeo", "orchard")
    item = "<item jid='juliet@localhost' name='Juliet'/>"
    romeo.send(f"<iq type='set' id='r'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
    romeo.read_until("id='r'")
    romeo.send("<enable xmlns='urn:xmpp:sm:3'/>")
    for number in range(50):
        romeo.send(f"<message to='juliet@localhost' type='chat'><body>{number}</body></message>")
    romeo.send("<r xmlns='urn:xmpp:sm:3'/>")
    romeo.read_until("<a xmlns='urn:xmpp:sm:3' h='50'/>")
    server.kill()
    romeo.close()
    server.start()
    juliet = RawClient(server)
    juliet.login("juliet", "balcony", presence=False)
    juliet.send("<presence/>")
    got = juliet.read_until("<body>49</body>")
    assert re.findall(r"<body>(\d+)</body>", got) == [str(number) for number in range(50)]
    romeo = RawClient(server)
    romeo.login("romeo", "orchard")
    romeo.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    assert "name='Juliet'" in romeo.read_until("</iq>")


def test_what_waits_for_a_hibernated_session_survives_a_restart(server: RunningServer) -> None:
    juliet = RawClient(server)
    juliet.login("juliet", "balcony")
    juliet.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    juliet.read_until("<enabled")
    found = re.search("id='(.*?)'", juliet.read_until("/>"))
    assert found is not None
    juliet.close()
    server.wait_for("hibernates")
    romeo = RawClient(server)
    romeo.login("romeo", "orchard")
    romeo.send("<message to='juliet@localhost' type='chat'><body>are you there</body></message>")
    romeo.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.read_until("id='p'")
    assert server.stop() == 0
    server.start()
    juliet = RawClient(server)
    juliet.authenticate("juliet")
    juliet.send(f"<resume xmlns='urn:xmpp:sm:3' previd='{found[1]}' h='0'/>")
    juliet.read_until("<resumed ")
    juliet.read_until("are you there")


def test_a_full_disk_refuses_what_needs_it_and_nobody_else(server: RunningServer) -> None:
    assert server.process is not None
    romeo, nurse = RawClient(server), RawClient(server)
    server.user("nurse")
    romeo.login("romeo", "orchard")
    nurse_jid = nurse.login("nurse", "house")
    database = server.folder / "var" / "xmppd.sqlite"
    room = max(database.stat().st_size, Path(f"{database}-wal").stat().st_size) + 4096
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (room, hard))
    body = "x" * 100_000
    romeo.send(f"<message to='juliet@localhost' type='chat' id='m'><body>{body}</body></message>")
    answer = romeo.read_until("</message>")
    assert "type='error'" in answer and "<resource-constraint" in answer and "type='wait'" in answer
    romeo.send(f"<message to='{nurse_jid}' type='chat'><body>still here</body></message>")
    nurse.read_until("still here")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    romeo.send("<message to='juliet@localhost' type='chat' id='n'><body>there is room again</body></message>")
    romeo.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert "type='error'" not in romeo.read_until("id='p'")
    juliet = RawClient(server)
    juliet.login("juliet", "balcony", presence=False)
    juliet.send("<presence/>")
    assert body not in juliet.read_until("there is room again")
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_a_client_that_stops_reading_is_cut_off_and_the_server_does_not_grow(make_server: Make) -> None:
    server = make_server("c2s_max_unsent = 1M\nc2s_rate = 100M\n").start()
    server.user("romeo", "juliet")
    romeo, juliet = RawClient(server), RawClient(server)
    romeo.login("romeo", "orchard")
    juliet_jid = juliet.login("juliet", "balcony")
    stanza = f"<message to='{juliet_jid}' type='chat'><body>{'x' * 100_000}</body></message>"
    for _ in range(200):
        romeo.send(stanza)
    server.wait_for("it does not read what it is sent")
    romeo.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.read_until("id='p'")


@pytest.mark.parametrize("direct_tls", [False, True], ids=["starttls", "direct-tls"])
def test_each_host_shows_its_own_certificate(make_server: Make, direct_tls: bool) -> None:
    server = make_server(sections="[host:localhost]\n[host:example.org]\n").start()
    for domain in ("localhost", "example.org"):
        client = RawClient(server, direct_tls, domain=domain)
        if not direct_tls:
            client.start_tls()
        assert isinstance(client.socket, ssl.SSLSocket)
        shown = client.socket.getpeercert(binary_form=True)
        own = (server.folder / "certs" / f"{domain}.crt").read_text()
        assert shown == ssl.PEM_cert_to_DER_cert(own)
        assert f"from='{domain}'" in client.open()
        client.close()


def test_it_listens_on_ipv6_as_well(make_server: Make) -> None:
    server = make_server()
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return  # a machine without it: what the default does there is tested beside the listeners
    server.config.write_text(server.config.read_text().replace("127.0.0.1", "127.0.0.1, ::1"))
    server.start()
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, server.port), PATIENCE) as client:
            client.sendall(HEADER.encode())
            assert client.recv(4096).startswith(b"<?xml")


@pytest.mark.parametrize("direct_tls", [False, True], ids=["starttls", "direct-tls"])
def test_one_address_cannot_hold_more_than_its_share_of_connections(make_server: Make, direct_tls: bool) -> None:
    server = make_server("max_unauthenticated_per_address = 3").start()
    port = server.tls_port if direct_tls else server.port
    silent = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(4)]
    said = b""
    while data := silent[3].recv(4096):  # it says nothing and is told to go, or just closed
        said += data
    assert direct_tls or b"<policy-violation" in said
    for client in silent:
        client.close()


def test_starttls_injection_is_refused(server: RunningServer) -> None:
    client = RawClient(server)
    client.open()
    client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><presence/>")
    answer = client.read_all()
    assert "<proceed" not in answer and "<policy-violation" in answer


def test_what_follows_starttls_in_the_clear_breaks_the_handshake(server: RunningServer) -> None:
    client = RawClient(server)
    client.open()
    client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    client.read_until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    client.send("<?xml version='1.0'?><stream:stream xmlns='jabber:client'>")
    assert "<stream" not in client.read_all()


def test_twistd_finds_it_from_any_folder(tmp_path: Path) -> None:
    listed = subprocess.run(
        [program("twistd"), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert re.search(r"^\s+xmppd\s", listed.stdout, re.MULTILINE)
    assert (CHECKOUT / "setup.cfg").exists()
