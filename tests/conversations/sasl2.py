"""Clients that log in by SASL2 (XEP-0388) and say exactly what a test wants, in as few flights as they can."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import uuid
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from tests.auth.support import Client as Scram
from tests.conversations.process import RunningServer
from tests.conversations.raw import HEADER, RawClient
from tests.conversations.resumable import NodeClient

SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
SASL2 = "{urn:xmpp:sasl:2}"
FAST = "{urn:xmpp:fast:0}"
BIND2 = "{urn:xmpp:bind:0}"
SM = "{urn:xmpp:sm:3}"
CAM = "{urn:xmpp:cam:0}"
FEATURES = "{http://etherx.jabber.org/streams}features"

MECHANISM = "HT-SHA-256-NONE"
REQUEST_TOKEN = f"<request-token xmlns='urn:xmpp:fast:0' mechanism='{MECHANISM}'/>"
BIND = "<bind xmlns='urn:xmpp:bind:0'><tag>raw</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>"


class Listed(NamedTuple):
    """A client as the list of clients has it (XEP-0494)."""

    id: str
    software: str
    device: str
    connected: bool
    ways: tuple[str, ...]


class Stream(RawClient):
    """A stream over TLS from the start. `flights` is how often it has sent something since the handshake."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(server, direct_tls=True)
        self.flights = 0

    def send(self, text: str | bytes) -> None:
        self.flights += 1
        super().send(text)

    def read_record(self) -> str:
        """What one record of TLS brings."""
        assert not self.buffer
        return self.socket.recv(65536).decode()

    def read_answer(self) -> ElementTree.Element:
        """The next answer to what was sent by SASL2."""
        return self.read_answers()[-1]

    def read_answers(self) -> list[ElementTree.Element]:
        """The next answer, and what comes before it."""
        while not (found := re.search(rb"</(success|failure|continue|challenge|task-data)>", self.buffer)):
            data = self.socket.recv(65536)
            assert data, f"closed before an answer: {self.buffer!r}"
            self.buffer += data
        got, self.buffer = self.buffer[: found.end()], self.buffer[found.end() :]
        return parsed(got.decode())

    def respond(self, name: str, data: bytes) -> None:
        """Send an element of SASL2 with data."""
        self.send(f"<{name} xmlns='urn:xmpp:sasl:2'>{base64.b64encode(data).decode()}</{name}>")

    def ask(self, type: str, payload: str) -> ElementTree.Element:
        """Ask for something; the answer."""
        id = uuid.uuid4().hex
        self.send(f"<iq type='{type}' id='{id}'>{payload}</iq>")
        while True:
            self.read_until("<iq ")
            head = self.read_until(">")
            answer = head if head.endswith("/>") else head + self.read_until("</iq>")
            if f"id='{id}'" in head:
                return ElementTree.fromstring(f"<iq {answer}")

    def clients(self) -> dict[str, Listed]:
        """The clients of the account, by their devices."""
        answer = self.ask("get", "<list xmlns='urn:xmpp:cam:0'/>")
        listed = [
            Listed(
                client.get("id", ""), client.findtext(f"{CAM}user-agent/{CAM}software", ""),
                client.findtext(f"{CAM}user-agent/{CAM}device", ""), client.get("connected") == "true",
                tuple(sorted(way.tag.removeprefix(CAM) for way in client.iterfind(f"{CAM}auth/*"))),
            )
            for client in answer.iterfind(f"{CAM}clients/{CAM}client")
        ]  # fmt: skip
        return {client.device: client for client in listed}

    def revoke(self, id: str) -> ElementTree.Element:
        """End the access of a client; the answer."""
        return self.ask("set", f"<revoke xmlns='urn:xmpp:cam:0' id={quoteattr(id)}/>")


def parsed(text: str) -> list[ElementTree.Element]:
    """The elements of a stream, whose header may be there or not."""
    if not text.startswith("<?xml"):
        text = HEADER + text
    return list(ElementTree.fromstring(f"{text}</stream:stream>"))


class Device:
    """A client of a person, which keeps what a client keeps: who it is, the token, and how to resume."""

    def __init__(self, server: RunningServer, name: str, device: str) -> None:
        self.server = server
        self.name = name
        self.device = device
        self.id = str(uuid.uuid4())
        self.token = self.session = self.version = self.jid = ""

    def user_agent(self) -> str:
        """What it says of itself."""
        return (
            f"<user-agent id='{self.id}'><software>Raw &amp; Co.</software>"
            f"<device>{escape(self.device)}</device></user-agent>"
        )

    def request(self, mechanism: str, initial: bytes, *more: str) -> str:
        """A stream header, and behind it the request to log in."""
        data = base64.b64encode(initial).decode()
        version = f"<config-version xmlns='urn:xmpp:iap:0' value='{self.version}'/>" if self.version else ""
        return (
            f"{HEADER}<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'>"
            f"<initial-response>{data}</initial-response>{self.user_agent()}{version}{''.join(more)}</authenticate>"
        )

    def token_request(self, *more: str) -> str:
        """The request to log in with the token."""
        shown = hmac.digest(self.token.encode(), b"Initiator", "sha256")
        return self.request(MECHANISM, f"{self.name}\0".encode() + shown, "<fast xmlns='urn:xmpp:fast:0'/>", *more)

    def enters(self, password: str | None = None) -> Stream:
        """Log in, by the token or by a password, which gets a token, and bind a resource."""
        stream = Stream(self.server)
        if password is None:
            stream.send(self.token_request(BIND))
        else:
            stream.send(self.request("PLAIN", f"\0{self.name}\0{password}".encode(), REQUEST_TOKEN, BIND))
        features, success = stream.read_answers()
        self.version = features.find("{urn:xmpp:iap:0}config-version").attrib["value"]  # type: ignore[union-attr]
        self.keep(success)
        assert self.token
        return stream

    def refused(self) -> ElementTree.Element:
        """Try to log in by the token, which must not do; the failure."""
        stream = Stream(self.server)
        stream.send(self.token_request(BIND))
        failure = stream.read_answer()
        assert failure.tag == f"{SASL2}failure", ElementTree.tostring(failure)
        stream.close()
        return failure

    def keep(self, success: ElementTree.Element) -> None:
        """Remember what a success brings."""
        assert success.tag == f"{SASL2}success", ElementTree.tostring(success)
        token = success.find(f"{FAST}token")
        if token is not None:
            self.token = token.get("token", "")
        enabled = success.find(f"{BIND2}bound/{SM}enabled")
        if enabled is not None:
            self.session = enabled.get("id", "")
        self.jid = success.findtext(f"{SASL2}authorization-identifier", "")

    def shown_by(self, success: ElementTree.Element) -> bool:
        """Whether the server has shown that it has the token as well."""
        expected = base64.b64encode(hmac.digest(self.token.encode(), b"Responder", "sha256")).decode()
        return success.findtext(f"{SASL2}additional-data") == expected


class TokenClient(NodeClient):
    """@xmpp/client with SASL2, Bind 2 and tokens."""

    id = ""

    async def arrives(self, priority: int, status: str) -> None:
        self.id = str(uuid.uuid4())
        self.command.append(self.id)
        await super().arrives(priority, status)

    def logins(self) -> list[tuple[str, set[str]]]:
        """How it has tried to log in: the mechanisms, and what it asked for with each."""
        told = [json.loads(line) for line in self.lines]
        return [(event["mechanism"], set(event["asked"])) for event in told if event["event"] == "authenticate"]


def scram(stream: Stream, device: Device, client: Scram, *more: str) -> ElementTree.Element:
    """Log in by SCRAM, without binding; the answer to the proof."""
    stream.send(device.request(f"SCRAM-{client.hash_name}", client.first(), *more))
    challenge = stream.read_answer()
    assert challenge.tag == f"{SASL2}challenge", ElementTree.tostring(challenge)
    stream.respond("response", client.final(base64.b64decode(challenge.text or "")))
    answer = stream.read_answer()
    additional = base64.b64decode(answer.findtext(f"{SASL2}additional-data", ""))
    assert additional == client.server_signature, ElementTree.tostring(answer)
    return answer


def upgrade(stream: Stream, password: str, hash_name: str) -> ElementTree.Element:
    """The task by which an account gets keys for another hash (XEP-0480); the answer to it."""
    stream.send(f"<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-{hash_name}'/>")
    salt = stream.read_answer().find("{urn:xmpp:scram-upgrade:0}salt")
    assert salt is not None
    name, iterations = hash_name.replace("-", "").lower(), int(salt.get("iterations", ""))
    salted = hashlib.pbkdf2_hmac(name, password.encode(), base64.b64decode(salt.text or ""), iterations)
    content = f"<hash xmlns='urn:xmpp:scram-upgrade:0'>{base64.b64encode(salted).decode()}</hash>"
    stream.send(f"<task-data xmlns='urn:xmpp:sasl:2'>{content}</task-data>")
    return stream.read_answer()


def grant(server: RunningServer, name: str, program: str) -> str:
    """Make an application password for somebody."""
    made = json.loads(server.xmppctl("user", "grant", f"{name}@localhost", "--name", program, "--json"))
    return str(made["password"])
