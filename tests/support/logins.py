"""Clients that log in by SASL2 (XEP-0388), with what may come along: Bind 2, a token, a session to resume."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.auth.support import Client
from tests.support.world import HEADER, Player, World

ROMEO = "romeo@example.org"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
SASL2 = "urn:xmpp:sasl:2"
BIND2 = "urn:xmpp:bind:0"
FAST = "urn:xmpp:fast:0"
SM = "urn:xmpp:sm:3"
CAM = "urn:xmpp:cam:0"
ID = "d4565fa7-4d72-4749-b3d3-740edbf87770"
OTHER_ID = "6f2b6b66-9f0c-4b5d-8c57-6b3a2c0d1e4f"
BIND = f"<bind xmlns='{BIND2}'/>"
MANAGED = f"<bind xmlns='{BIND2}'><tag>App</tag><enable xmlns='{SM}' resume='true'/></bind>"
NONE = "HT-SHA-256-NONE"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def agent(id: str = ID, software: str = "Awesome", version: str = "1.2") -> str:
    return f"<user-agent id='{id}'><software version='{version}'>{software}</software></user-agent>"


def wants(mechanism: str = NONE) -> str:
    """The request for a token."""
    return f"<request-token xmlns='{FAST}' mechanism='{mechanism}'/>"


def authenticate(mechanism: str, initial: bytes | str | None, *children: str) -> str:
    data = "" if initial is None else f"<initial-response>{b64(initial)}</initial-response>"
    return f"<authenticate xmlns='{SASL2}' mechanism='{mechanism}'>{data}{''.join(children)}</authenticate>"


def by_password(*children: str, user: str = "romeo", password: str = "secret", authzid: str = "") -> str:
    return authenticate("PLAIN", f"{authzid}\0{user}\0{password}", *children)


def by_token(
    token: str, *children: str, user: str = "romeo", mechanism: str = NONE, id: str = ID, fast: str = "",
    binding: bytes = b"",
) -> str:  # fmt: skip
    digest = "sha512" if "SHA-512" in mechanism else "sha256"
    shown = hmac.digest(token.encode(), b"Initiator" + binding, digest)
    return authenticate(
        mechanism, user.encode() + b"\0" + shown, agent(id), f"<fast xmlns='{FAST}' {fast}/>", *children
    )


def opened(world: World, sender: str = "", **connection: object) -> Player:
    """A client that has opened its stream and read the features."""
    player = world.connect(**connection)  # type: ignore[arg-type]
    if sender:
        player.header = HEADER.replace("<stream:stream ", f"<stream:stream from='{sender}' ")
    player.opens()
    player.receives_header()
    player.takes()
    return player


def succeeds(player: Player, sent: str) -> ElementTree.Element:
    """Send a request to log in that works; what ``<success/>`` says. What came behind it is still there."""
    player.sends(sent)
    got = player.takes()
    assert got.tag == f"{{{SASL2}}}success", ElementTree.tostring(got)
    player.full = got.findtext(f"{{{SASL2}}}authorization-identifier") or ""
    player.bare = player.full.partition("/")[0]
    return got


def fails(player: Player, sent: str, condition: str) -> ElementTree.Element:
    """Send a request to log in that is refused in this way."""
    player.sends(sent)
    got = player.takes()
    assert got.tag == f"{{{SASL2}}}failure", ElementTree.tostring(got)
    assert got[0].tag == f"{{{SASL}}}{condition}", ElementTree.tostring(got)
    return got


def token_of(success: ElementTree.Element) -> str:
    """The token that a client was given."""
    found = success.find(f"{{{FAST}}}token")
    assert found is not None, ElementTree.tostring(success)
    return found.get("token") or ""


def has_token(success: ElementTree.Element) -> bool:
    return success.find(f"{{{FAST}}}token") is not None


def a_token(world: World, *children: str, password: str = "secret", mechanism: str = NONE, id: str = ID) -> str:
    """A token for romeo, of a client that went away again."""
    world.account("romeo@example.org")
    player = opened(world, bindings={"tls-exporter": b"exported", "tls-server-end-point": b"end point"})
    token = token_of(succeeds(player, by_password(agent(id), wants(mechanism), *children, password=password)))
    player.disconnects()
    return token


def online(world: World, *children: str, id: str = ID, software: str = "Awesome", **login: str) -> Player:
    """A client that is bound by Bind 2."""
    world.account("romeo@example.org")
    player = opened(world)
    succeeds(player, by_password(agent(id, software), *(children or (BIND,)), **login))
    player.takes()
    return player


def listed(player: Player) -> dict[str, ElementTree.Element]:
    """What has access to the account of who asks, by id, in order."""
    player.forget()
    player.sends(f"<iq type='get' id='list'><list xmlns='{CAM}'/></iq>")
    answer = player.takes()
    assert answer.get("type") == "result", ElementTree.tostring(answer)
    return {client.get("id") or "": client for client in answer[0]}


def revoke(id: str, xmlns: str = CAM) -> str:
    return f"<iq type='set' id='revoke'><revoke xmlns='{xmlns}' id='{id}'/></iq>"


@contextmanager
def exceptions() -> Iterator[list[str]]:
    """What is logged meanwhile as a failure of the server's own."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical or "log_failure" in event:
            found.append(event["log_failure"].getTraceback() if "log_failure" in event else str(event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        yield found
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


def world_of_romeo(config: str = "") -> World:
    world = World(config)
    world.account(ROMEO)
    return world


def changes_password(world: World, password: str) -> Deferred[Any]:
    """The administrator gives romeo another password."""
    account = world.run(world.host.accounts.load("romeo"))
    return Deferred.fromCoroutine(world.host.accounts.set_password(account, password))


def is_in(player: Player) -> bool:
    """Whether a stream is logged in: bound, or it can bind a resource."""
    if player.wire.closed:
        return False
    if player.stream.session is None:
        player.forget()
        bind = "urn:ietf:params:xml:ns:xmpp-bind"
        player.sends(f"<iq type='set' id='b'><bind xmlns='{bind}'/></iq>")
    return player.stream.session is not None and not player.stream.session.ended


def scram_first(player: Player, *children: str, password: str = "secret") -> str:
    """Begin with SCRAM; what ends it."""
    client = Client(password, hash_name="SHA-256")
    player.sends(authenticate("SCRAM-SHA-256", client.first(), *children))
    challenge = player.takes()
    assert challenge.tag == f"{{{SASL2}}}challenge", challenge.tag
    final = client.final(base64.b64decode(challenge.text or ""))
    return f"<response xmlns='{SASL2}'>{b64(final)}</response>"


def is_in_by(world: World, token: str, fast: str = "") -> bool:
    player = opened(world)
    player.sends(by_token(token, BIND, fast=fast))
    return is_in(player)
