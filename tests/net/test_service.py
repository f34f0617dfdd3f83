"""Clients over real sockets: from the connection to a session, in the clear, by STARTTLS and by direct TLS."""

from __future__ import annotations

import base64
import re
import socket
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.auth.support import Client
from tests.net.loop import Loop, Peer, client_context
from tests.net.support import BIND, STARTTLS, auth, b64, plain, response
from tests.support.world import HEADER, World
from xmppd.net.certificates import Certificates
from xmppd.net.service import ClientService

OPEN = HEADER.format(host="example.org").encode()
BOUND = b"<jid>romeo@example.org/orchard</jid>"


class Site:
    """A server behind real sockets."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.world.account("romeo@example.org")
        self.loop = Loop()
        certificates = Certificates(folder, self.world.server.hosts, lambda: 1.7e9, b"xmpp-client")
        self.service = ClientService(self.world.server, certificates, self.loop)

    def connect(self, direct_tls: bool = False) -> Peer:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        accept = self.service.accepted_direct_tls if direct_tls else self.service.accepted
        accept(ours, "192.0.2.1")
        return Peer(theirs)

    def expects(self, peer: Peer, text: bytes) -> bytes:
        """Wait until this comes; what came up to there is taken."""

        def there() -> bool:
            self.world.settle()
            return text in peer.data

        self.loop.until(there, peer)
        taken, peer.data = peer.data, b""
        return taken

    def log_in(self, peer: Peer) -> None:
        peer.send(OPEN)
        assert b"tls-exporter" in self.expects(peer, b"</stream:features>")
        assert peer.tls is not None
        exported = peer.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        client = Client("secret", gs2="p=tls-exporter,,", binding=exported)
        peer.send(auth("SCRAM-SHA-256-PLUS", b64(client.first())).encode())
        challenge = re.search(rb">([^<]+)</challenge>", self.expects(peer, b"</challenge>"))
        assert challenge is not None
        peer.send(response(b64(client.final(base64.b64decode(challenge[1])))).encode())
        assert b64(client.server_signature).encode() in self.expects(peer, b"</success>")
        peer.send(OPEN)
        self.expects(peer, b"</stream:features>")
        peer.send(f"<iq type='set' id='b'><bind xmlns='{BIND}'><resource>orchard</resource></bind></iq>".encode())
        assert BOUND in self.expects(peer, b"</iq>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs")


def test_starttls(folder: Path) -> None:
    site = Site(folder)
    peer = site.connect()
    peer.send(OPEN)
    assert b"<required/>" in site.expects(peer, b"</stream:features>")
    peer.send(STARTTLS.encode())
    site.expects(peer, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    peer.start_tls(client_context(), "example.org")
    site.loop.until(lambda: peer.secured, peer)
    site.log_in(peer)
    peer.send(b"</stream:stream>")
    site.expects(peer, b"</stream:stream>")
    site.loop.until(lambda: peer.ended, peer)
    peer.close()
    site.loop.until(lambda: not site.service._streams)
    assert site.world.server.sessions.count == 0


def test_direct_tls(folder: Path) -> None:
    site = Site(folder)
    peer = site.connect(direct_tls=True)
    peer.start_tls(client_context(), "example.org", [b"xmpp-client"])
    site.loop.until(lambda: peer.secured, peer)
    site.log_in(peer)
    peer.close()
    site.loop.until(lambda: not site.service._streams)


def test_a_handshake_behind_starttls_in_the_same_segment_is_refused(folder: Path) -> None:
    site = Site(folder)
    peer = site.connect()
    peer.send(OPEN + STARTTLS.encode() + b"\x16\x03\x01\x02\x00")
    got = site.expects(peer, b"</stream:stream>")
    assert b"<policy-violation" in got and b"<proceed" not in got
    peer.close()


def test_plain_text_to_a_port_with_direct_tls(folder: Path) -> None:
    site = Site(folder)
    peer = site.connect(direct_tls=True)
    peer.send(OPEN)
    site.loop.until(lambda: peer.ended, peer)
    assert b"stream" not in peer.raw
    site.loop.until(lambda: not site.service._streams)


@pytest.mark.parametrize("direct_tls", [True, False])
def test_a_handshake_that_does_not_end(direct_tls: bool, folder: Path) -> None:
    """The deadline of the stream counts in the handshake as well."""
    site = Site(folder)
    peer = site.connect(direct_tls)
    if not direct_tls:
        peer.send(OPEN + STARTTLS.encode())
        site.expects(peer, b"<proceed")
    site.world.advance(29)
    peer.send(b"\x16\x03")
    site.loop.rounds(5, peer)
    assert not peer.ended
    site.world.advance(2)
    site.loop.until(lambda: peer.ended and not site.service._streams, peer)
    assert site.service.addresses._streams == {}
    peer.close()


def test_connections_that_come_and_go_leave_nothing(folder: Path) -> None:
    site = Site(folder)
    for number in range(40):
        peer = site.connect(direct_tls=number % 4 == 0)
        if number % 4:
            peer.send([b"", OPEN, OPEN + b"<!-- -->", OPEN + STARTTLS.encode()][number % 4])
        site.loop.rounds(3, peer)
        peer.close()
    site.loop.until(lambda: not site.service._streams)
    site.loop.advance(10)
    site.world.advance(60)
    assert not site.loop.readers and not site.loop.writers and not site.loop.getDelayedCalls()
    assert site.service.addresses._streams == {}


def test_shutting_down_waits_for_the_last_words(folder: Path) -> None:
    site = Site(folder)
    peers = [site.connect() for _ in range(3)]
    for peer in peers:
        peer.send(OPEN)
        site.expects(peer, b"</stream:features>")
    site.service.shut_down()
    for peer in peers:
        site.expects(peer, b"<system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>")
        site.loop.until(lambda peer=peer: peer.ended, peer)
    peers[0].close()
    closed: list[object] = []
    Deferred.fromCoroutine(site.service.all_closed(2.0)).addCallback(closed.append)
    site.loop.rounds(5)
    assert not closed  # two do not close
    site.world.advance(2.5)
    site.loop.until(lambda: closed)
    assert not site.service._streams


def test_counts(folder: Path) -> None:
    site = Site(folder)
    peer = site.connect()
    assert site.service.counts() == {"c2s": {"header": 1}}
    peer.send(OPEN)
    site.expects(peer, b"</stream:features>")
    assert site.service.counts() == {"c2s": {"open": 1}}
    peer.send(plain().encode())
    assert b"<policy-violation" in site.expects(peer, b"</stream:stream>")
    peer.close()
