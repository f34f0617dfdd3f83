"""The client that all scenarios load the servers with: as many of them as needed, in one process."""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import ssl
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.connection import PATIENCE, STREAM_END, Alarm, Connection, Failed, attribute
from benchmarks.scram import MECHANISM, Scram

TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
SASL2 = "urn:xmpp:sasl:2"
TOKEN = "HT-SHA-256-NONE"  # noqa: S105 - the name of a mechanism
SM = "urn:xmpp:sm:3"
ENABLE_SM = f"<enable xmlns='{SM}' resume='true'/>"
CARBONS = "<enable xmlns='urn:xmpp:carbons:2'/>"
ROSTER = "<query xmlns='jabber:iq:roster'/>"
ASK = f"<r xmlns='{SM}'/>".encode()
AT_A_TIME = 20  # logins
T = TypeVar("T")
OnStanza = Callable[[bytes], None]


def password(user: str) -> str:
    """The password of each account."""
    return f"secret-of-{user}"


@dataclass
class Target:
    """Where the server is that clients connect to. `facts` gets what they negotiate with it."""

    domain: str
    port: int
    tls_port: int
    certificate: str  # in PEM: nobody else's is believed
    host: str = "127.0.0.1"
    alarm: Alarm = field(default_factory=Alarm)
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_3
        # RFC 5280 wants extensions of an authority that a certificate which is only itself does not need.
        self.tls.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        self.tls.load_verify_locations(cadata=self.certificate)


class Client:
    """A client of one account. It counts stanzas both ways (XEP-0198) and answers each ``<r/>`` at once."""

    def __init__(self, target: Target, user: str, resource: str = "bench") -> None:
        self.target = target
        self.user = user
        self.resource = resource
        self.bare = f"{user}@{target.domain}"
        self.jid = ""  # full, once bound
        self.roster = b""
        self.sent = self.acked = self.received = 0
        self.sm_id = b""
        self.token = ""
        self.agent = str(uuid.uuid4())
        self.acknowledges = True
        self.on_message: OnStanza | None = None
        self.on_presence: OnStanza | None = None
        self.on_iq: OnStanza | None = None
        self._counts = self._leaving = False
        self._ids = 0
        self._answers: dict[bytes, asyncio.Future[bytes]] = {}  # to requests
        self._waiting: asyncio.Future[bytes] | None = None
        self._others: list[bytes] = []  # what is no stanza and was not waited for yet
        self._acknowledged: asyncio.Future[None] | None = None
        self._connection = Connection(self._arrived, self._lost)

    # ---- what arrives

    def _arrived(self, element: bytes) -> None:
        try:
            if element.startswith((b"<message", b"<presence", b"<iq")):
                self.received += 1
                self._stanza(element)
            elif element.startswith(b"<r "):
                if self.acknowledges:
                    self._say(f"<a xmlns='{SM}' h='{self.received}'/>")
            elif element.startswith(b"<a "):
                self._has_acknowledged(int(attribute(element, "h")))
            elif element.startswith(b"<stream:error") and not self._leaving:
                raise Failed(element.decode())
            elif self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(element)
            else:
                self._others.append(element)
        except Exception as error:
            self._fails(error)

    def _stanza(self, stanza: bytes) -> None:
        if stanza.startswith(b"<message"):
            handler = self.on_message
        elif stanza.startswith(b"<presence"):
            handler = self.on_presence
        else:
            answer = self._answers.pop(attribute(stanza, "id"), None)
            if answer is not None and not answer.done():
                answer.set_result(stanza)
                return
            handler = self.on_iq
        if handler is not None:
            handler(stanza)

    def _has_acknowledged(self, h: int) -> None:
        if not self.acked <= h <= self.sent:
            raise Failed(f"acknowledges {h} stanzas after {self.acked}, of {self.sent}")
        self.acked = h
        if self.acked == self.sent and self._acknowledged is not None and not self._acknowledged.done():
            self._acknowledged.set_result(None)

    def _fails(self, error: Exception) -> None:
        self.target.alarm.sound(Failed(f"{self.user}: {error if isinstance(error, Failed) else repr(error)}"))

    def _lost(self, error: Exception) -> None:
        if not self._leaving:
            self._fails(error)
        elif self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(STREAM_END)

    # ---- what is sent, and waited for

    def send(self, data: bytes, stanzas: int = 1) -> None:
        """Send something that has so many stanzas in it."""
        if self._counts:
            self.sent += stanzas
        self._connection.send(data)

    def _say(self, text: str) -> None:
        """Send what is no stanza."""
        self._connection.send(text.encode())

    async def _expect(self, start: str) -> bytes:
        """The next element that is no stanza, which has to begin so."""
        if self._others:
            element = self._others.pop(0)
        else:
            self._waiting = asyncio.get_running_loop().create_future()
            element = await self.target.alarm.wait(self._waiting, f"{self.user}: {start}")
        if not element.startswith(start.encode()):
            raise Failed(f"{self.user}: not {start} but {element.decode()}")
        return element

    async def request(self, payload: str, type: str = "get", to: str = "") -> bytes:
        """Send an iq; its result."""
        self._ids += 1
        id = f"q{self._ids}"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[id.encode()] = answer
        target = f" to='{to}'" if to else ""
        self.send(f"<iq type='{type}' id='{id}'{target}>{payload}</iq>".encode())
        result = await self.target.alarm.wait(answer, f"{self.user}: the answer to {payload[:60]}")
        if attribute(result, "type") != b"result":
            raise Failed(f"{self.user}: {payload}: {result.decode()}")
        return result

    async def all_acknowledged(self, seconds: float = PATIENCE) -> None:
        """Wait until the server has acknowledged each stanza that was sent."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acknowledged = future
        self._connection.send(ASK)
        await self.target.alarm.wait(future, f"{self.user}: the acknowledgement of {self.sent} stanzas", seconds)

    # ---- getting in

    def _header(self) -> str:
        target = self.target.domain
        return (
            f"<?xml version='1.0'?><stream:stream to='{target}' from='{self.bare}' version='1.0' "
            "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        )

    async def _open(self) -> bytes:
        self._connection.restart()
        self._say(self._header())
        return await self._expect("<stream:features")

    async def _connect(self, direct_tls: bool = False) -> None:
        target = self.target
        await self._connection.connect(target.host, target.tls_port if direct_tls else target.port)
        if not direct_tls:
            await self._open()
            self._say(f"<starttls xmlns='{TLS}'/>")
            await self._expect("<proceed")
        target.facts["TLS"] = await self._connection.start_tls(target.tls, target.domain)

    async def _authenticate(self) -> bytes:
        """SCRAM by SASL; the features of the stream after it."""
        features = await self._open()
        if f">{MECHANISM}<".encode() not in features:
            raise Failed(f"{MECHANISM} is not offered")
        scram = Scram(self.user, password(self.user))
        self._say(f"<auth xmlns='{SASL}' mechanism='{MECHANISM}'>{_b64(scram.begin())}</auth>")
        challenge = _text(await self._expect("<challenge"))
        self._say(f"<response xmlns='{SASL}'>{_b64(scram.respond(challenge))}</response>")
        scram.check(_text(await self._expect("<success")))
        features = await self._open()
        if SM.encode() not in features:
            raise Failed("stream management is not offered")
        return features

    async def login(self, presence: bool = True) -> None:
        """TCP, STARTTLS, SASL, resource, stream management, roster, carbons and presence, one after the other."""
        await self._connect()
        features = await self._authenticate()
        resource = f"<resource>{self.resource}</resource>"
        bound = await self.request(f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind>", "set")
        self.jid = f"{self.bare}/{self.resource}"
        if f"<jid>{self.jid}</jid>".encode() not in bound:
            raise Failed(f"not {self.jid} but {bound.decode()}")
        # RFC 3921 had a session of its own; ejabberd says that it is optional, and so it is left out.
        if b"xmpp-session" in features and b"<optional" not in features:
            raise Failed("a session has to be established")
        self._say(ENABLE_SM)
        self._enabled(await self._expect("<enabled"))
        self.roster = await self.request(ROSTER)
        await self.request(CARBONS, "set")
        if presence:
            self.send(b"<presence/>")
        await self.all_acknowledged()

    def _enabled(self, enabled: bytes) -> None:
        self._counts, self.sent, self.acked, self.received = True, 0, 0, 0
        self.sm_id = attribute(enabled, "id")
        if not self.sm_id or attribute(enabled, "resume") not in (b"true", b"1"):
            raise Failed(f"a session that cannot be resumed: {enabled.decode()}")

    async def get_token(self) -> None:
        """Authenticate with the password by SASL2, and have a token made for the next logins (FAST)."""
        await self._connect(direct_tls=True)
        await self._open()
        scram = Scram(self.user, password(self.user))
        self._say(
            f"<authenticate xmlns='{SASL2}' mechanism='{MECHANISM}'>"
            f"<initial-response>{_b64(scram.begin())}</initial-response><user-agent id='{self.agent}'/>"
            f"<bind xmlns='urn:xmpp:bind:0'><tag>bench</tag></bind>"
            f"<request-token xmlns='urn:xmpp:fast:0' mechanism='{TOKEN}'/></authenticate>"
        )
        challenge = _text(await self._expect("<challenge"))
        self._say(f"<response xmlns='{SASL2}'>{_b64(scram.respond(challenge))}</response>")
        success = await self._expect("<success")
        found = re.search(rb"<token\b[^>]*\stoken=['\"]([^'\"]+)", success)
        if found is None:
            raise Failed(f"no token: {success.decode()}")
        self.token = found[1].decode()
        await self._expect("<stream:features")

    async def login_by_token(self) -> None:
        """Direct TLS, then all of `login` in one round trip by the token of `get_token`, and roster and presence."""
        await self._connect(direct_tls=True)
        self._connection.restart()
        shown = self.user.encode() + b"\0" + hmac.digest(self.token.encode(), b"Initiator", "sha256")
        self._say(
            f"{self._header()}<authenticate xmlns='{SASL2}' mechanism='{TOKEN}'>"
            f"<initial-response>{_b64(shown)}</initial-response><user-agent id='{self.agent}'/>"
            f"<fast xmlns='urn:xmpp:fast:0'/>"
            f"<bind xmlns='urn:xmpp:bind:0'><tag>bench</tag>{ENABLE_SM}{CARBONS}</bind></authenticate>"
        )
        await self._expect("<stream:features")
        success = await self._expect("<success")
        identifier = re.search(rb"<authorization-identifier>([^<]+)<", success)
        enabled = re.search(rb"<enabled [^>]*urn:xmpp:sm:3[^>]*>", success)
        if identifier is None or enabled is None:
            raise Failed(f"the token did not do all: {success.decode()}")
        self.jid = identifier[1].decode()
        self._enabled(enabled[0])
        await self._expect("<stream:features")
        self.roster = await self.request(ROSTER)
        self.send(b"<presence/>")
        await self.all_acknowledged()

    async def resume(self, old: Client) -> None:
        """TCP, STARTTLS, SASL, and the session of a client whose connection is gone."""
        await self._connect()
        await self._authenticate()
        self.jid, self.sm_id, self._ids = old.jid, old.sm_id, old._ids
        self.sent, self.acked, self.received = old.sent, old.acked, old.received
        self._counts = True
        self._say(f"<resume xmlns='{SM}' h='{self.received}' previd='{self.sm_id.decode()}'/>")
        resumed = await self._expect("<resumed")
        if int(attribute(resumed, "h")) != self.sent:
            raise Failed(f"{self.user}: sent {self.sent} stanzas: {resumed.decode()}")
        self.acked = self.sent

    # ---- going away

    def reset(self) -> None:
        """Cut the connection as networks do. The server keeps the session."""
        self._leaving = True
        self._connection.reset()

    async def logout(self) -> None:
        """Close the stream in order: the session is over."""
        if not self._connection.is_open:
            return
        self._leaving = True
        self.on_message = self.on_presence = self.on_iq = None
        self._others.clear()
        self.send(b"<presence type='unavailable'/></stream:stream>")
        await self._expect(STREAM_END.decode())
        self._connection.close()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _text(element: bytes) -> bytes:
    """What is said in Base64 in the first of the elements that has text: data of SASL."""
    found = re.search(rb">([A-Za-z0-9+/=]+)<", element)
    return base64.b64decode(found[1]) if found else b""


async def at_a_time(number: int, tasks: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Do all, so many at the same time; the results in order."""
    limit = asyncio.Semaphore(number)

    async def one(task: Callable[[], Awaitable[T]]) -> T:
        async with limit:
            return await task()

    running = [asyncio.ensure_future(one(task)) for task in tasks]
    try:
        return await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()


async def login(clients: Sequence[Client]) -> None:
    """Log in all, `AT_A_TIME`."""
    await at_a_time(AT_A_TIME, [client.login for client in clients])


async def logout(clients: Sequence[Client]) -> None:
    """Log out all, `AT_A_TIME`."""
    await at_a_time(AT_A_TIME, [client.logout for client in clients])
