"""Our server, with one user, and other servers that come to it."""

from __future__ import annotations

from typing import Any

from tests.support.federation import Globe, ServerPeer
from tests.support.world import Player, World

HERE, THERE, EVIL = "montague.example", "capulet.example", "evil.example"
ROMEO = f"romeo@{HERE}/orchard"
SASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
EXTERNAL = f"<auth {SASL} mechanism='EXTERNAL'>{{}}</auth>"
DIALBACK = "{jabber:server:dialback}"
HELLO = f"<message from='juliet@{THERE}/b' to='{ROMEO}' type='chat'><body>hi</body></message>"


class Town:
    """Our server with romeo, and other servers that come to it."""

    def __init__(self, config: str = "", sections: str = "") -> None:
        self.globe = Globe()
        self.world: World = self.globe.world(HERE, config=config, sections=sections)
        self.romeo: Player = self.world.online(ROMEO)

    def peer(self, sender: str = THERE, **how: Any) -> ServerPeer:
        return ServerPeer(self.globe, self.world, sender, **how)

    def opened(self, sender: str = THERE, **how: Any) -> ServerPeer:
        """One that has opened a stream, and has read its features."""
        peer = self.peer(sender, **how)
        peer.opens(HERE)
        peer.features()
        return peer

    def proven(self, bidi: bool = False, **how: Any) -> ServerPeer:
        """One that has shown its certificate."""
        peer = self.peer(certificates=[THERE], **how)
        peer.logs_in(HERE, bidi=bidi)
        return peer

    def asked(self, peer: ServerPeer, sender: str = THERE, to: str = HERE, key: str = "key") -> None:
        """The peer shows a dialback key."""
        peer.sends(f"<db:result from='{sender}' to='{to}'>{key}</db:result>")


def names(features: Any) -> list[str]:
    return [child.tag.rpartition("}")[2] for child in features]


def dialback(peer: ServerPeer, type: str, condition: str | None = None, name: str = "result") -> None:
    """The peer is given an answer."""
    got = peer.takes()
    assert (got.tag, got.get("type")) == (DIALBACK + name, type)
    if condition is not None:
        assert got[0][0].tag == f"{{urn:ietf:params:xml:ns:xmpp-stanzas}}{condition}"
        assert got[0].tag == "{jabber:server}error"
