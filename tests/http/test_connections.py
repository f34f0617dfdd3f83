"""HTTP over real connections: what twisted.web asks of them, and what becomes of one that is handed on or slow."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from tests.net.loop import Loop, Peer, client_context
from tests.support.http import request
from tests.support.web import web_world
from tests.support.world import World
from xmppd.core.http import HttpResponse
from xmppd.http.site import HttpService, Site
from xmppd.net.certificates import Certificates, self_signed
from xmppd.net.connection import Connection, Flusher

HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Protocol": "xmpp",
}  # fmt: skip


class AnyCertificate:
    """Enough for a handshake that nobody begins."""

    def context(self, domain: str) -> SSL.Context:
        return SSL.Context(SSL.TLS_METHOD)


class Ends:
    """A server, and both ends of a connection to it; `max_unsent` is that of the server's."""

    def __init__(self, config: str = "", max_unsent: int = 1_000_000) -> None:
        self.loop = Loop()
        self.world: World = web_world(config, clock=self.loop)
        self.site = Site(self.world.server)
        ours, self.theirs = socket.socketpair()
        for end in (ours, self.theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.connection = Connection(self.loop, Flusher(self.loop), ours, "192.0.2.1", max_unsent, 60.0)
        self.channel = self.site.connect(self.connection)

    def asks(self, data: bytes) -> None:
        self.theirs.send(data)
        self.loop.rounds(3)

    def reads(self, size: int = 65536) -> bytes | None:
        """What has come; None where nothing is there to be read."""
        self.loop.rounds(3)
        try:
            return self.theirs.recv(size)
        except BlockingIOError:
            return None


def test_requests_are_answered_and_an_end_is_an_end() -> None:
    ends = Ends()
    assert len(ends.site.connections) == 1
    ends.asks(request("GET", "/.well-known/host-meta.json", host="example.org"))
    assert (ends.reads() or b"").startswith(b"HTTP/1.1 200 ")
    ends.theirs.close()
    ends.loop.rounds(3)
    assert not (ends.site.connections or ends.loop.readers)


def test_a_request_that_does_not_come_is_refused() -> None:
    ends = Ends()
    ends.asks(b"GET / HTTP/1.1\r\n")
    ends.loop.advance(31)
    assert (ends.reads() or b"").startswith(b"HTTP/1.1 408 ")
    assert ends.reads() == b""


def test_a_connection_that_asks_nothing_is_closed() -> None:
    ends = Ends()
    ends.loop.advance(61)
    assert ends.reads() == b""


LARGE = bytes(500_000)


def large(ends: Ends) -> None:
    """A large answer is on its way."""
    ends.world.server.http.on("GET", "/large", lambda request: HttpResponse(200, LARGE))
    ends.asks(request("GET", "/large"))


def test_who_reads_slowly_has_its_answer() -> None:
    ends = Ends()
    large(ends)
    got = b""
    while not got.endswith(LARGE):
        assert len(ends.site.connections) == 1
        got += ends.reads(20_000) or b""
        ends.loop.advance(10)


def test_who_does_not_read_is_dropped() -> None:
    ends = Ends()
    large(ends)
    ends.loop.advance(61)
    ends.loop.rounds(3)
    assert not ends.site.connections


def test_a_producer_waits_for_who_reads_slowly() -> None:
    ends = Ends()
    told: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            told.append("pause")

        def resumeProducing(self) -> None:
            told.append("resume")

    transport: Any = ends.channel.transport
    transport.registerProducer(Producer(), True)
    transport.writeSequence([b"x" * 100_000, b"y" * 100_000])
    assert told == ["pause"]
    while ends.reads():
        pass
    assert told == ["pause", "resume"]
    transport.unregisterProducer()
    transport.write(b"z" * 100_000)
    assert told == ["pause", "resume"]


def test_nothing_is_said_in_the_clear_where_there_is_to_be_tls() -> None:
    loop = Loop()
    world = web_world("http_max_connections = 1\n", clock=loop)
    service = HttpService(world.server, AnyCertificate(), loop)  # type: ignore[arg-type]
    clients = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        service.accepted_tls(ours, "192.0.2.1")
        clients.append(theirs)
    loop.rounds(3)
    assert clients[1].recv(100) == b""
    assert len(service.connections) == 1
    clients[0].send(b"\x16")  # and never more of a handshake
    loop.rounds(3)
    loop.advance(61)
    loop.rounds(3)
    assert clients[0].recv(100) == b"" and not service.connections


def asked_over_tls(service: HttpService, loop: Loop, name: str) -> tuple[x509.Certificate, bytes, bytes]:
    """The certificate that a client gets who asks for `name`, the protocol, and what it is answered."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    service.accepted_tls(ours, "192.0.2.1")
    peer = Peer(theirs)
    peer.start_tls(client_context(), name, [b"h2", b"http/1.1"])
    loop.until(lambda: peer.secured, peer)
    peer.send(request("GET", "/.well-known/host-meta.json", host=name))
    loop.until(lambda: peer.data.endswith(b"}\n"), peer)
    assert peer.tls is not None
    certificate, protocol = peer.tls.get_peer_certificate(), peer.tls.get_alpn_proto_negotiated()
    peer.close()
    loop.rounds(3)
    assert certificate is not None
    return certificate.to_cryptography(), protocol, peer.data


def test_https_has_the_certificate_of_the_name_that_is_asked_for(tmp_path: Path) -> None:
    loop = Loop()
    loop.advance(1_700_000_000)
    domains = ["example.org", "example.net"]
    world = web_world("", "".join(f"[host:{domain}]\n" for domain in domains), clock=loop)
    certificates = Certificates(tmp_path, domains, loop.seconds, b"http/1.1")
    service = HttpService(world.server, certificates, loop)
    serials = {}
    for domain in domains:
        certificate, protocol, answer = asked_over_tls(service, loop, domain)
        assert certificate.subject.rfc4514_string() == f"CN={domain}" and protocol == b"http/1.1"
        assert answer.startswith(b"HTTP/1.1 200 ") and domain.encode() in answer
        serials[domain] = certificate.serial_number
    for path, content in zip(("crt", "key"), self_signed("example.net", loop.seconds()), strict=True):
        (tmp_path / f"example.net.{path}").write_bytes(content)
    certificates.reload()
    assert asked_over_tls(service, loop, "example.net")[0].serial_number != serials["example.net"]
    assert asked_over_tls(service, loop, "example.org")[0].serial_number == serials["example.org"]


def test_a_websocket_on_a_connection_that_is_lost_already_is_gone() -> None:
    ends = Ends()
    preflight = request("OPTIONS", "/http-bind")
    ends.channel.dataReceived(preflight)
    ends.connection.max_unsent = 5 * ends.connection.unsent
    ends.theirs.close()
    ends.channel.dataReceived(4 * preflight + request("GET", "/xmpp-websocket", **HANDSHAKE))
    ends.loop.rounds(3)
    assert ends.world.service.counts() == {} and not ends.site.connections
