"""Connections over real sockets: TLS, order, back-pressure, and every way in which they end."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.net.loop import Loop, Peer, Receiver, client_context, records
from xmppd.net import connection as module
from xmppd.net.certificates import Certificates
from xmppd.net.connection import LINGER_SECONDS, Connection, Flusher

MAX_UNSENT = 4 * 1024 * 1024
WRITE_TIMEOUT = 60.0


class Pair:
    """A connection, its receiver, and the client at the other end."""

    def __init__(self, kind: int = socket.SOCK_STREAM, max_unsent: int = MAX_UNSENT) -> None:
        self.loop = Loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.flusher = Flusher(self.loop)
        self.connection = Connection(self.loop, self.flusher, ours, "192.0.2.1", max_unsent, WRITE_TIMEOUT)
        self.receiver = Receiver()
        self.peer = Peer(theirs)

    def start(self) -> Pair:
        self.connection.start(self.receiver)
        return self

    def start_tls(self, certificates: Certificates, version: int | None = None, name: str = "example.org") -> Pair:
        self.connection.start_tls(certificates.context("example.org"))
        self.start()
        self.peer.start_tls(client_context(version), name, [b"xmpp-client"])
        self.until(lambda: self.peer.secured and self.connection.secure)
        return self

    def until(self, condition: object) -> None:
        self.loop.until(condition, self.peer)  # type: ignore[arg-type]

    def rounds(self, number: int = 20) -> None:
        self.loop.rounds(number, self.peer)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made.start()
    made.peer.close()
    made.connection.abort("the test is over")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certs")
    return Certificates(folder, ["example.org", "example.net", "b\u00fccher.example"], lambda: 1.7e9, b"xmpp-client")


def end(pair: Pair) -> None:
    pair.peer.close()
    pair.connection.abort("the test is over")


VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


# ---- in the clear


def test_bytes_go_both_ways(pair: Pair) -> None:
    pair.peer.send(b"hello")
    pair.until(lambda: pair.receiver.data == b"hello")
    pair.connection.write(b"good ")
    pair.connection.write(b"day")
    pair.until(lambda: pair.peer.data == b"good day")
    assert not pair.connection.secure and pair.connection.tls_version == ""
    assert pair.connection.channel_binding("tls-exporter") is None
    assert pair.connection.channel_binding("tls-server-end-point") is None


def test_what_one_turn_has_leaves_in_one_segment() -> None:
    pair = Pair(socket.SOCK_SEQPACKET).start()
    for number in range(100):
        pair.connection.write(b"%d," % number)
    assert pair.connection.unsent == sum(len(b"%d," % number) for number in range(100))
    pair.until(lambda: pair.peer.data.endswith(b"99,"))
    assert len(pair.peer.segments) == 1 and pair.connection.unsent == 0
    pair.connection.write(b"next")
    pair.until(lambda: len(pair.peer.segments) == 2)
    end(pair)


def test_all_connections_are_flushed_in_the_same_turn() -> None:
    one, other = Pair().start(), Pair().start()
    other.connection.flusher = one.flusher
    one.connection.write(b"a")
    other.connection.write(b"b")
    one.loop.advance(0)
    one.peer.pump()
    other.peer.pump()
    assert (one.peer.data, other.peer.data) == (b"a", b"b")
    end(one)
    end(other)


def test_back_pressure(pair: Pair) -> None:
    drained: list[bool] = []
    pair.peer.reading = False
    data = bytes(range(256)) * 4096
    pair.connection.write(data)
    pair.connection.when_drained(drained.append)
    pair.rounds()
    assert 0 < pair.connection.unsent < len(data) and not drained
    pair.connection.write(b"the end")
    pair.peer.reading = True
    pair.until(lambda: pair.peer.data.endswith(b"the end"))
    assert pair.peer.data == data + b"the end"
    pair.until(lambda: drained)
    assert drained == [True] and pair.connection.unsent == 0
    pair.connection.when_drained(drained.append)
    assert drained == [True, True]
    assert not pair.loop.writers and not pair.loop.getDelayedCalls()


def test_who_reads_nothing_is_dropped_when_too_much_waits() -> None:
    pair = Pair(max_unsent=100_000).start()
    pair.peer.reading = False
    drained: list[bool] = []
    pair.connection.write(b"x" * 90_000)
    pair.connection.when_drained(drained.append)
    pair.rounds()
    for _ in range(10):
        pair.connection.write(b"x" * 90_000)
        assert "lost" not in pair.receiver.calls  # not while somebody is writing
    assert drained == [False]
    pair.until(lambda: pair.receiver.lost)
    assert "does not read" in (pair.receiver.lost or "")
    assert not pair.loop.readers and not pair.loop.writers and not pair.loop.getDelayedCalls()
    end(pair)


def test_a_bug_in_what_waits_does_not_keep_a_connection_from_its_end(pair: Pair) -> None:
    pair.peer.reading = False
    drained: list[bool] = []
    pair.connection.write(b"x" * 1_000_000)
    pair.connection.when_drained(lambda gone: 1 / 0)
    pair.connection.when_drained(drained.append)
    pair.connection.abort("the end")
    assert drained == [False]
    pair.until(lambda: pair.receiver.lost)


def test_who_reads_nothing_is_dropped_after_a_while(pair: Pair) -> None:
    pair.peer.reading = False
    pair.connection.write(b"x" * 1_000_000)
    pair.rounds()
    pair.loop.advance(WRITE_TIMEOUT - 1)
    assert pair.receiver.lost is None
    pair.peer.socket.recv(300_000)  # it reads a little: it has its time again
    pair.loop.rounds(20)
    pair.loop.advance(WRITE_TIMEOUT - 1)
    assert pair.receiver.lost is None
    pair.loop.advance(2)
    assert "read nothing" in (pair.receiver.lost or "")
    assert not pair.loop.getDelayedCalls()


def test_reading_can_be_paused(pair: Pair) -> None:
    pair.connection.pause_reading()
    pair.peer.send(b"wait")
    pair.rounds()
    assert pair.receiver.data == b""
    pair.connection.write(b"still writing")
    pair.until(lambda: pair.peer.data)
    pair.connection.resume_reading()
    pair.connection.resume_reading()
    pair.until(lambda: pair.receiver.data == b"wait")


def test_a_peer_that_closes(pair: Pair) -> None:
    drained: list[bool] = []
    pair.peer.reading = False
    pair.connection.write(b"x" * 1_000_000)
    pair.connection.when_drained(drained.append)
    pair.peer.close()
    pair.until(lambda: pair.receiver.lost is not None)
    assert drained == [False]
    pair.connection.write(b"x")
    pair.connection.close()
    pair.connection.resume_reading()
    pair.connection.when_drained(drained.append)
    assert drained == [False, False]
    pair.rounds()
    assert pair.receiver.calls.count("lost") == 1
    assert not pair.loop.readers and not pair.loop.writers and not pair.loop.getDelayedCalls()


def test_what_came_before_the_end_is_received(pair: Pair) -> None:
    pair.peer.send(b"last words")
    pair.peer.socket.shutdown(socket.SHUT_WR)
    pair.until(lambda: pair.receiver.lost is not None)
    assert pair.receiver.data == b"last words"


# ---- closing


def test_closing_sends_what_waits_first(pair: Pair) -> None:
    pair.peer.reading = False
    pair.connection.write(b"x" * 500_000)
    pair.rounds()
    pair.connection.write(b"good-bye")
    pair.connection.close()
    pair.connection.close()
    pair.connection.write(b"too late")
    pair.peer.send(b"who listens?")
    pair.rounds()
    assert not pair.peer.ended
    pair.peer.reading = True
    pair.until(lambda: pair.peer.ended)
    assert pair.peer.data == b"x" * 500_000 + b"good-bye"
    assert pair.receiver.data == b"" and pair.receiver.lost is None
    pair.peer.close()
    pair.until(lambda: pair.receiver.lost is not None)
    assert not pair.loop.getDelayedCalls()


def test_closing_with_nothing_to_send(pair: Pair) -> None:
    pair.connection.close()
    pair.until(lambda: pair.peer.ended)


def test_closing_while_paused(pair: Pair) -> None:
    pair.connection.pause_reading()
    pair.connection.write(b"bye")
    pair.connection.close()
    pair.until(lambda: pair.peer.ended)
    pair.peer.close()
    pair.until(lambda: pair.receiver.lost is not None)


def test_a_peer_that_does_not_close_is_not_waited_for(pair: Pair) -> None:
    pair.connection.close()
    pair.until(lambda: pair.peer.ended)
    pair.loop.advance(LINGER_SECONDS - 0.1)
    assert pair.receiver.lost is None
    pair.loop.advance(0.2)
    assert pair.receiver.lost is not None
    assert not pair.loop.readers and not pair.loop.getDelayedCalls()


def test_closing_does_not_wait_for_one_that_reads_nothing(pair: Pair) -> None:
    pair.peer.reading = False
    pair.connection.write(b"x" * 500_000)
    pair.connection.close()
    pair.rounds()
    pair.loop.advance(WRITE_TIMEOUT + 1)
    assert pair.receiver.lost is not None


def test_aborting(pair: Pair) -> None:
    pair.connection.write(b"never sent")
    pair.connection.abort("because")
    assert pair.receiver.lost is None
    pair.until(lambda: pair.receiver.lost is not None)
    assert "because" in (pair.receiver.lost or "")
    pair.until(lambda: pair.peer.ended)
    assert pair.peer.data == b""
    pair.connection.abort("again")
    pair.connection.connectionLost(Failure(ConnectionDone()))
    pair.rounds()
    assert pair.receiver.calls == ["lost"]


def test_a_connection_that_is_dropped_while_it_is_told_something(pair: Pair) -> None:
    pair.receiver.on_data = lambda data: pair.connection.abort("rubbish")
    pair.peer.send(b"x" * 100)
    pair.until(lambda: pair.receiver.lost is not None)
    assert pair.receiver.calls == ["data", "lost"]


# ---- TLS


@pytest.mark.parametrize("version", VERSIONS)
def test_handshake(version: str, certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates, VERSIONS[version])
    assert pair.receiver.calls == ["secured"]
    assert pair.connection.tls_version == version and pair.connection.server_name == "example.org"
    assert pair.peer.tls is not None and pair.peer.tls.get_alpn_proto_negotiated() == b"xmpp-client"
    pair.peer.send(b"hello")
    pair.until(lambda: pair.receiver.data == b"hello")
    pair.connection.write(b"good day")
    pair.until(lambda: pair.peer.data == b"good day")
    cipher = pair.peer.tls.get_cipher_name() or ""
    assert "GCM" in cipher or "CHACHA20" in cipher
    end(pair)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_one_turn_has_leaves_in_one_record(version: str, certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates, VERSIONS[version])
    pair.rounds()
    before = len(pair.peer.raw)
    for number in range(100):
        pair.connection.write(b"<message id='%d'/>" % number)
    pair.until(lambda: pair.peer.data.endswith(b"'99'/>"))
    assert records(pair.peer.raw[before:]) == [23]
    end(pair)


def hello(version: bytes) -> bytes:
    """A ClientHello of before extensions."""
    body = version + b"\x01" * 32 + b"\x00" + b"\x00\x06\xc0\x13\xc0\x2f\x00\x2f" + b"\x01\x00"
    return b"\x16\x03\x01" + (len(body) + 4).to_bytes(2, "big") + b"\x01" + len(body).to_bytes(3, "big") + body


@pytest.mark.parametrize("version", [b"\x03\x00", b"\x03\x01", b"\x03\x02"])
def test_old_versions_are_refused(version: bytes, certificates: Certificates) -> None:
    pair = Pair()
    pair.connection.start_tls(certificates.context("example.org"))
    pair.start()
    pair.peer.send(hello(version))
    pair.until(lambda: pair.receiver.lost is not None)
    pair.until(lambda: pair.peer.ended)
    assert pair.peer.raw[0] == 21 and pair.peer.raw[5:7] == b"\x02\x46"  # alert: fatal, protocol_version
    assert "secured" not in pair.receiver.calls
    end(pair)


@pytest.mark.parametrize("ciphers", [b"AES128-GCM-SHA256", b"ECDHE-ECDSA-AES128-SHA", b"ECDHE-ECDSA-AES256-SHA384"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    ciphers: bytes, certificates: Certificates
) -> None:
    pair = Pair()
    pair.connection.start_tls(certificates.context("example.org"))
    pair.start()
    context = client_context(SSL.TLS1_2_VERSION)
    context.set_cipher_list(ciphers)
    pair.peer.start_tls(context)
    pair.until(lambda: pair.receiver.lost is not None and pair.peer.error is not None)
    assert not pair.peer.secured
    end(pair)


@pytest.mark.parametrize(
    "garbage", [b"<?xml version='1.0'?>", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 50, b"\x16\x03\x01\xff\xff"]
)
def test_garbage_instead_of_a_handshake(garbage: bytes, certificates: Certificates) -> None:
    pair = Pair()
    pair.connection.start_tls(certificates.context("example.org"))
    pair.start()
    pair.peer.send(garbage)
    pair.until(lambda: pair.receiver.lost is not None)
    assert pair.receiver.calls == ["lost"]
    end(pair)


def test_a_peer_that_goes_in_the_handshake(certificates: Certificates) -> None:
    whole = Peer(socket.socketpair()[0])
    whole.tls = SSL.Connection(client_context(), None)
    whole.tls.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        whole.tls.do_handshake()
    first = whole.tls.bio_read(65536)
    for part in (0, 1, 5, len(first) // 2, len(first)):
        pair = Pair()
        pair.connection.start_tls(certificates.context("example.org"))
        pair.start()
        pair.peer.send(first[:part])
        pair.rounds(3)
        pair.peer.close()
        pair.until(lambda pair=pair: pair.receiver.lost is not None)
        assert pair.receiver.calls == ["lost"] and not pair.loop.readers
    whole.close()


def test_a_peer_that_resets_in_the_handshake(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    loop, receiver = Loop(), Receiver()
    connection = Connection(loop, Flusher(loop), ours, "127.0.0.1", MAX_UNSENT, WRITE_TIMEOUT)
    connection.start_tls(certificates.context("example.org"))
    connection.start(receiver)
    client.send(b"\x16\x03\x01")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    loop.until(lambda: receiver.lost is not None)
    assert receiver.calls == ["lost"]


def test_closing_in_the_handshake(certificates: Certificates) -> None:
    pair = Pair()
    pair.connection.start_tls(certificates.context("example.org"))
    pair.start()
    pair.connection.write(b"never in the clear")
    pair.rounds()
    pair.connection.close()
    pair.until(lambda: pair.receiver.lost is not None and pair.peer.ended)
    assert pair.peer.raw == b""


def test_tls_after_some_plain_text(certificates: Certificates) -> None:
    pair = Pair().start()
    pair.peer.send(b"starttls")
    pair.until(lambda: pair.receiver.data == b"starttls")
    pair.connection.write(b"proceed")
    pair.connection.start_tls(certificates.context("example.org"))
    pair.until(lambda: pair.peer.data == b"proceed")
    assert not pair.connection.secure
    pair.peer.start_tls(client_context())
    pair.until(lambda: pair.connection.secure and pair.peer.secured)
    pair.peer.send(b" under TLS")
    pair.until(lambda: pair.receiver.data == b"starttls under TLS")
    end(pair)


@pytest.mark.parametrize("version", VERSIONS)
def test_much_data_both_ways_under_tls(version: str, certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates, VERSIONS[version])
    data = bytes(range(256)) * 4000
    pair.connection.write(data)
    pair.rounds(3)
    pair.connection.write(b"more")
    pair.peer.send(data)
    pair.until(lambda: len(pair.receiver.data) == len(data) and pair.peer.data.endswith(b"more"))
    assert pair.receiver.data == data and pair.peer.data == data + b"more"
    assert pair.connection.unsent == 0
    end(pair)


def test_what_is_decrypted_already_is_read_after_a_pause(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_SIZE", 100)
    pair = Pair().start_tls(certificates)
    pair.receiver.on_data = lambda data: pair.connection.pause_reading()
    pair.peer.send(b"x" * 350)
    pair.until(lambda: len(pair.receiver.data) == 100)
    pair.rounds()
    for length in (200, 300, 350):
        assert len(pair.receiver.data) < length
        pair.connection.resume_reading()
        pair.until(lambda length=length: len(pair.receiver.data) == length)
        pair.rounds()
        assert len(pair.receiver.data) == length
    end(pair)


def test_without_a_pause_it_is_read_in_one_turn(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_SIZE", 100)
    pair = Pair().start_tls(certificates)
    pair.peer.send(b"x" * 350)
    pair.until(lambda: len(pair.receiver.data) == 350)
    end(pair)


def test_closing_says_good_bye(certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates)
    pair.connection.write(b"bye")
    pair.connection.close()
    pair.until(lambda: pair.peer.ended)
    assert pair.peer.data == b"bye"
    assert pair.peer.tls is not None and pair.peer.tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN
    assert pair.peer.error is None
    end(pair)


def test_a_peer_that_says_good_bye(certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates)
    assert pair.peer.tls is not None
    pair.peer.tls.shutdown()
    pair.until(lambda: pair.receiver.lost is not None)
    end(pair)


# ---- channel binding


@pytest.mark.parametrize("name", ["example.org", "example.net", "", "unknown.example"])
def test_bindings_are_the_clients(name: str, certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates, SSL.TLS1_3_VERSION, name)
    assert pair.peer.tls is not None
    exported = pair.peer.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    assert pair.connection.channel_binding("tls-exporter") == exported and len(exported) == 32
    presented = pair.peer.tls.get_peer_certificate(as_cryptography=True)
    assert isinstance(presented, x509.Certificate)
    assert pair.connection.channel_binding("tls-server-end-point") == presented.fingerprint(hashes.SHA256())
    assert pair.connection.channel_binding("tls-unique") is None
    end(pair)


def test_bindings_under_tls_1_2(certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates, SSL.TLS1_2_VERSION)
    assert pair.peer.tls is not None
    assert pair.connection.channel_binding("tls-exporter") is None
    assert pair.connection.channel_binding("tls-server-end-point") is not None
    assert pair.connection.channel_binding("tls-unique") == pair.peer.tls.get_finished() != b""
    end(pair)


@pytest.mark.parametrize(
    ("asked", "presented"),
    [
        ("example.org", "example.org"),
        ("example.net", "example.net"),
        ("EXAMPLE.NET", "example.net"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("under_score.example", "example.org"),
        ("other.example", "example.org"),
        ("", "example.org"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_name_picks_the_certificate(asked: str, presented: str, version: str, certificates: Certificates) -> None:
    pair = Pair().start_tls(certificates, VERSIONS[version], asked)
    assert pair.peer.tls is not None
    certificate = pair.peer.tls.get_peer_certificate(as_cryptography=True)
    assert isinstance(certificate, x509.Certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [presented]
    assert pair.peer.tls.get_alpn_proto_negotiated() == b"xmpp-client"
    end(pair)


@pytest.mark.parametrize(
    ("offered", "chosen"), [([b"h2", b"xmpp-client"], b"xmpp-client"), ([b"http/1.1"], b""), (None, b"")]
)
def test_alpn(offered: list[bytes] | None, chosen: bytes, certificates: Certificates) -> None:
    """XEP-0368 section 3: ours where the client offers it; who offers nothing, or nothing of ours, goes on without."""
    pair = Pair()
    pair.connection.start_tls(certificates.context("example.org"))
    pair.start()
    pair.peer.start_tls(client_context(), "example.org", offered)
    pair.until(lambda: pair.peer.secured and pair.connection.secure)
    assert pair.peer.tls is not None and pair.peer.tls.get_alpn_proto_negotiated() == chosen
    end(pair)


def test_the_folder_is_where_it_was_said(tmp_path: Path) -> None:
    Certificates(tmp_path / "new" / "folder", ["example.org"], lambda: 1.7e9, b"xmpp-client")
    assert (tmp_path / "new" / "folder" / "example.org.crt").exists()


def test_much_in_one_turn_is_no_reason_to_drop_who_reads_well() -> None:
    pair = Pair(max_unsent=65_536).start()
    pair.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
    pair.peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
    for _ in range(100):
        pair.connection.write(b"x" * 1000)
    assert pair.connection.fileno() >= 0  # it was not closed
