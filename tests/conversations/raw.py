"""A client that says exactly what a test wants, over a real socket."""

from __future__ import annotations

import base64
import re
import socket
import ssl

from tests.conversations.process import PATIENCE, RunningServer, unverified

HEADER = (
    "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)


class RawClient:
    """A socket; `read_until` returns what has come up to and including a piece of text."""

    def __init__(self, server: RunningServer, direct_tls: bool = False, domain: str = "localhost") -> None:
        self.context = unverified()
        self.domain = domain
        port = server.tls_port if direct_tls else server.port
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.buffer = b""
        if direct_tls:
            self.socket = self.context.wrap_socket(self.socket, server_hostname=self.domain)

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def read_until(self, text: str) -> str:
        """What comes, up to and including `text`; AssertionError when the connection ends before."""
        wanted = text.encode()
        while wanted not in self.buffer:
            data = self.socket.recv(65536)
            assert data, f"closed before {text!r}: {self.buffer!r}"
            self.buffer += data
        end = self.buffer.index(wanted) + len(wanted)
        got, self.buffer = self.buffer[:end], self.buffer[end:]
        return got.decode()

    def read_all(self) -> str:
        """What comes until the server closes."""
        while True:
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                data = b""
            if not data:
                return self.buffer.decode()
            self.buffer += data

    def open(self) -> str:
        """Open a stream; the features."""
        self.send(HEADER.replace("localhost", self.domain))
        return self.read_until("</stream:features>")

    def start_tls(self) -> None:
        """STARTTLS, and the handshake."""
        self.open()
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.read_until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.socket = self.context.wrap_socket(self.socket, server_hostname=self.domain)

    def authenticate(self, name: str, password: str = "secret") -> None:
        """Get in with PLAIN, and open the stream that follows."""
        if not isinstance(self.socket, ssl.SSLSocket):
            self.start_tls()
        self.open()
        initial = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>")
        self.read_until("<success")
        self.read_until("/>")
        self.open()

    def login(self, name: str, resource: str, password: str = "secret", presence: bool = True) -> str:
        """Authenticate and bind; the full JID."""
        self.authenticate(name, password)
        bind = "urn:ietf:params:xml:ns:xmpp-bind"
        self.send(f"<iq type='set' id='bind'><bind xmlns='{bind}'><resource>{resource}</resource></bind></iq>")
        answer = self.read_until("</iq>")
        found = re.search("<jid>(.*)</jid>", answer)
        assert found is not None, answer
        if presence:
            self.send("<presence/>")
            self.read_until("<presence ")
            self.read_until("/>")
        return found[1]

    def close(self) -> None:
        self.socket.close()
