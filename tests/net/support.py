"""What the tests of client streams share."""

from __future__ import annotations

import base64
from xml.etree import ElementTree

from tests.auth.support import Client
from tests.support.world import Player, World

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
STREAM = "http://etherx.jabber.org/streams"
STARTTLS = f"<starttls xmlns='{TLS}'/>"
BINDINGS = {"tls-exporter": b"exported" * 4, "tls-server-end-point": b"end point"}
PASSWORD = "secret"
CLEAR = "c2s_require_encryption = no"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def auth(mechanism: str, initial: str = "") -> str:
    return f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{initial}</auth>"


def plain(user: str = "romeo", password: str = PASSWORD, authzid: str = "") -> str:
    return auth("PLAIN", b64(f"{authzid}\0{user}\0{password}"))


def response(data: str) -> str:
    return f"<response xmlns='{SASL}'>{data}</response>"


def failure(condition: str) -> str:
    return f"<failure xmlns='{SASL}'><{condition}/></failure>"


def opened(world: World, **connection: object) -> Player:
    """A client that has opened its stream, with the account of romeo to log in to."""
    world.account("romeo@example.org", PASSWORD)
    player = world.connect(**connection)  # type: ignore[arg-type]
    player.opens()
    player.receives_header()
    player.takes()
    return player


def authenticated(world: World) -> Player:
    """A client that has logged in, and has not bound a resource."""
    world.account("romeo@example.org", PASSWORD)
    player = world.connect()
    player.authenticate("romeo", "example.org", PASSWORD)
    return player


def fails(player: Player, sent: str, condition: str) -> ElementTree.Element:
    """Send something to which SASL answers with this failure."""
    player.sends(sent)
    got = player.takes()
    assert got.tag == f"{{{SASL}}}failure", ElementTree.tostring(got)
    assert got[0].tag == f"{{{SASL}}}{condition}", ElementTree.tostring(got)
    return got


def scram(player: Player, mechanism: str, client: Client, initial: bool = True) -> ElementTree.Element:
    """Log in by SCRAM; what came at last."""
    if initial:
        player.sends(auth(mechanism, b64(client.first())))
    else:
        player.sends(auth(mechanism))
        player.receives(f"<challenge xmlns='{SASL}'>=</challenge>")
        player.sends(response(b64(client.first())))
    challenge = player.takes()
    assert challenge.tag == f"{{{SASL}}}challenge", ElementTree.tostring(challenge)
    player.sends(response(b64(client.final(base64.b64decode(challenge.text or "")))))
    return player.takes()


def every_state(world: World) -> dict[str, Player]:
    """A client in each state that a stream can be in."""
    exchange = opened(world)
    exchange.sends(auth("SCRAM-SHA-256"))
    exchange.takes()
    bound = authenticated(world)
    bound.bind("here")
    restarted = opened(world)
    restarted.sends(plain())
    restarted.takes()
    started = opened(world, secure=False)
    started.sends(STARTTLS)
    started.takes()
    half = world.connect()
    half.sends("<?xml version='1.0'?><stream:str")
    return {
        "connected": world.connect(),
        "half a header": half,
        "opened in the clear": opened(world, secure=False),
        "TLS started": started,
        "opened": opened(world),
        "in an exchange": exchange,
        "logged in": restarted,
        "authenticated": authenticated(world),
        "bound": bound,
    }


STATES = (
    "connected", "half a header", "opened in the clear", "TLS started", "opened", "in an exchange", "logged in",
    "authenticated", "bound",
)  # fmt: skip
