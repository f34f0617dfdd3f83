"""A client that logs in by SASL2 (XEP-0388), in tests on a `World`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from xml.etree import ElementTree

from tests.support.world import Player, World

SASL2 = "{urn:xmpp:sasl:2}"
FAST = "{urn:xmpp:fast:0}"
BIND2 = "{urn:xmpp:bind:0}"
SM = "{urn:xmpp:sm:3}"
MAM = "{urn:xmpp:mam:2}"
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
IDS = [f"d4565fa7-4d72-4749-b3d3-740edbf8777{digit}" for digit in range(10)]
REQUEST_TOKEN = "<request-token xmlns='urn:xmpp:fast:0' mechanism='{}'/>"
BIND = "<bind xmlns='urn:xmpp:bind:0'>{}</bind>"
SM_ENABLE = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def agent(id: str = IDS[0], software: str = "Awesome", device: str = "Phone") -> str:
    """The ``<user-agent/>`` of a client."""
    named = f" id='{id}'" if id else ""
    return f"<user-agent{named}><software version='1.2'>{software}</software><device>{device}</device></user-agent>"


def authenticate(mechanism: str, initial: bytes | str | None, *more: str) -> str:
    """The request to log in."""
    response = "" if initial is None else f"<initial-response>{b64(initial)}</initial-response>"
    return f"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'>{response}{''.join(more)}</authenticate>"


def plain(*more: str, user: str = "romeo", password: str = "secret", authzid: str = "") -> str:
    """A request to log in by PLAIN."""
    return authenticate("PLAIN", f"{authzid}\0{user}\0{password}", *more)


def initiator(token: str, user: str = "romeo", binding: bytes = b"", digest: str = "sha256") -> bytes:
    """What a client shows of a token."""
    return user.encode() + b"\0" + hmac.digest(token.encode(), b"Initiator" + binding, digest)


def by_token(
    token: str, *more: str, mechanism: str = "HT-SHA-256-NONE", user: str = "romeo", fast: str = "",
    binding: bytes = b"",
) -> str:  # fmt: skip
    """A request to log in by a token."""
    digest = hashlib.new(mechanism.split("-")[1].lower() + mechanism.split("-")[2]).name
    shown = initiator(token, user, binding, digest)
    return authenticate(mechanism, shown, f"<fast xmlns='urn:xmpp:fast:0' {fast}/>", *more)


class Arrived:
    """What came of a login: the answer, its features if any, and the client."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.answer = player.takes()

    @property
    def token(self) -> str:
        """The token that was given."""
        found = self.answer.find(f"{FAST}token")
        assert found is not None, ElementTree.tostring(self.answer)
        return found.get("token") or ""

    @property
    def failure(self) -> str:
        """The condition with which it failed."""
        assert self.answer.tag == f"{SASL2}failure", ElementTree.tostring(self.answer)
        return self.answer[0].tag.removeprefix(SASL)

    @property
    def jid(self) -> str:
        """Who the client is now."""
        assert self.answer.tag == f"{SASL2}success", ElementTree.tostring(self.answer)
        return self.answer.findtext(f"{SASL2}authorization-identifier") or ""

    def find(self, *path: str) -> ElementTree.Element | None:
        """An element of the answer."""
        return self.answer.find("/".join(path))


def arrives(world: World, request: str, *, sender: str = "", **connection: object) -> Arrived:
    """A client connects, and sends a request; what came before its answer is passed over."""
    world.account("romeo@example.org", "secret")
    player = opens(world, sender, **connection)
    return asks(player, request)


def opens(world: World, sender: str = "", **connection: object) -> Player:
    """A client that has opened its stream."""
    player = world.connect(**connection)  # type: ignore[arg-type]
    if sender:
        player.header = player.header.replace(" to=", f" from='{sender}' to=")
    player.opens()
    player.receives_header()
    player.takes()
    return player


def asks(player: Player, request: str) -> Arrived:
    """A client sends a request to log in."""
    player.sends(request)
    arrived = Arrived(player)
    if arrived.answer.tag == f"{SASL2}success":
        player.full = arrived.jid
        player.bare = player.full.partition("/")[0]
    return arrived


def bound(world: World, *more: str, id: str = IDS[0], **request: str) -> Player:
    """A client that has logged in by PLAIN and has a session, with more in its request to bind."""
    arrived = arrives(world, plain(agent(id), BIND.format("".join(more)), **request))
    assert arrived.jid.count("/"), ElementTree.tostring(arrived.answer)
    arrived.player.takes()
    return arrived.player
