"""Phones that are woken by push notifications, and the app server that wakes them, in tests on a `World`."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from tests.support.world import Component, Player, World

APP = "push.example.org"
SECTIONS = f"[host:example.org]\n[component:{APP}]\nsecret = secret\n"
PUBSUB = "{http://jabber.org/protocol/pubsub}"
PUSH = "{urn:xmpp:push:0}"
DATA = "{jabber:x:data}"
SM = "{urn:xmpp:sm:3}"
ROMEO = "romeo@example.org"
PHONE = f"{ROMEO}/phone"


@dataclass
class Push:
    """A push as its app server sees it."""

    iq: ElementTree.Element
    node: str | None
    fields: dict[str, str]
    notification: ElementTree.Element
    options: ElementTree.Element | None

    @property
    def important(self) -> bool:
        """Whether it has a text."""
        return "last-message-body" in self.fields


class AppServer:
    """An app server that takes what it is sent, unless a test says otherwise."""

    def __init__(self, world: World, domain: str = APP, secret: str = "secret") -> None:
        self.world = world
        self.component: Component = world.component(domain, secret)
        self.answering = True

    def pushes(self) -> list[Push]:
        """What has come since the last look; answered, where it is answering."""
        found = [read(iq) for iq in self.component.all_that_came()]
        if self.answering:
            for push in found:
                self.component.answers(push.iq)
        return found

    def push(self) -> Push:
        """The one push that has come."""
        found = self.pushes()
        assert len(found) == 1, [push.fields for push in found]
        return found[0]

    def nothing(self) -> None:
        """Nothing has come, and nothing does within two seconds."""
        assert self.pushes() == []
        self.world.advance(2)
        assert self.pushes() == []

    def fails(self, condition: str, type: str, push: Push | None = None) -> None:
        """Refuse the push that has come."""
        self.answering = False
        push = push or self.push()
        self.answering = True
        error = f"<error type='{type}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        self.component.answers(push.iq, "error", error)


def read(iq: ElementTree.Element) -> Push:
    """A publish request (XEP-0357 section 7)."""
    assert iq.tag == "{jabber:client}iq" and iq.get("type") == "set", ElementTree.tostring(iq)
    publish = iq.find(f"{PUBSUB}pubsub/{PUBSUB}publish")
    assert publish is not None
    notification = publish.find(f"{PUBSUB}item/{PUSH}notification")
    assert notification is not None
    form = notification.find(f"{DATA}x")
    fields = {}
    if form is not None:
        assert form.get("type") == "submit"
        fields = {field.get("var") or "": field.findtext(f"{DATA}value") or "" for field in form}
        assert fields.pop("FORM_TYPE") == "urn:xmpp:push:summary"
    return Push(iq, publish.get("node"), fields, notification, iq.find(f"{PUBSUB}pubsub/{PUBSUB}publish-options"))


def enable(player: Player, node: str = "node", inner: str = "", jid: str = APP) -> None:
    """Ask for push notifications."""
    request = f"<enable xmlns='urn:xmpp:push:0' jid='{jid}' node='{node}'>{inner}</enable>"
    player.sends(f"<iq type='set' id='push'>{request}</iq>")
    player.receives(f"<iq type='result' id='push' to='{player.full}'/>")


def disable(player: Player, node: str = "", jid: str = APP) -> None:
    """Ask for no more of them."""
    named = f" node='{node}'" if node else ""
    player.sends(f"<iq type='set' id='push'><disable xmlns='urn:xmpp:push:0' jid='{jid}'{named}/></iq>")
    player.receives(f"<iq type='result' id='push' to='{player.full}'/>")


def managed(player: Player) -> str:
    """Enable stream management; the id by which the session can be resumed."""
    player.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    enabled = player.takes()
    assert enabled.tag == f"{SM}enabled", ElementTree.tostring(enabled)
    return enabled.get("id") or ""


def phone(world: World, full: str = PHONE, node: str = "node", inner: str = "") -> tuple[Player, str]:
    """A phone that is there, can be woken and can resume its session; and the id of that."""
    player = world.online(full)
    id = managed(player)
    enable(player, node, inner)
    acknowledge(player, 1)
    return player, id


def acknowledge(player: Player, h: int) -> None:
    """Say how many stanzas were handled."""
    player.sends(f"<a xmlns='urn:xmpp:sm:3' h='{h}'/>")
    player.forget()


def resume(world: World, id: str, h: int, user: str = "romeo") -> Player:
    """The phone comes back on another stream, and goes on with its session."""
    player = world.connect()
    player.authenticate(user, "example.org", "secret")
    player.sends(f"<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")
    resumed = player.takes()
    assert resumed.tag == f"{SM}resumed", ElementTree.tostring(resumed)
    return player


def passes(world: World, seconds: int) -> None:
    """Time passes, second by second."""
    for _ in range(seconds):
        world.advance(1)


def says(player: Player, text: str = "hi", to: str = ROMEO, inner: str = "", id: str = "") -> None:
    """Send a chat message."""
    body = f"<body>{text}</body>" if text else ""
    named = f" id='{id}'" if id else ""
    player.sends(f"<message to='{to}' type='chat'{named}>{body}{inner}</message>")
