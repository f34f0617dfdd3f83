"""nbxmpp, the library of Gajim, for tests: says what happens in lines of JSON, and says again what it is told.

python3 nbxmpp_client.py PORT USERNAME RESOURCE; it runs where PyGObject and libsoup are, with nbxmpp on its path. It
comes back when its connection breaks, and leaves when somebody tells it to, or when it is not let in.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gi.repository import GLib
from nbxmpp.client import Client
from nbxmpp.const import ConnectionProtocol, ConnectionType, StreamError
from nbxmpp.protocol import Message, Presence


def tell(event: str, **more: str) -> None:
    """Say what happens."""
    print(json.dumps({"event": event, **more}), flush=True)


class Gajim:
    """One client, whose main loop ends when it has left."""

    def __init__(self, port: str, username: str, resource: str) -> None:
        self.loop = GLib.MainLoop()
        self.leaving = False
        self.client = Client("test")
        self.client.set_domain("localhost")
        self.client.set_username(username)
        self.client.set_resource(resource)
        self.client.set_password("secret")
        self.client.set_custom_host(f"127.0.0.1:{port}", ConnectionProtocol.TCP, ConnectionType.START_TLS)
        self.client.set_ignore_tls_errors(True)
        self.client.subscribe("connected", self.connected)
        self.client.subscribe("resume-successful", lambda *_: tell("resumed"))
        self.client.subscribe("resume-failed", lambda *_: self.loop.quit())
        self.client.subscribe("connection-failed", self.disconnected)
        self.client.subscribe("disconnected", self.disconnected)
        self.client.subscribe("stanza-sent", lambda _client, _name, data: tell("sent", xml=str(data)))
        self.client.subscribe("stanza-received", self.received)

    def run(self) -> None:
        """Connect, and be there until somebody says to leave."""
        self.client.connect()
        self.loop.run()

    def connected(self, *_: Any) -> None:
        """A new session."""
        tell("connected", jid=str(self.client.get_bound_jid()))
        self.client.send_stanza(Presence())

    def disconnected(self, *_: Any) -> None:
        """The connection is gone, or there is none."""
        tell("disconnected")
        if self.leaving or self.client.get_error()[0] is StreamError.SASL:
            self.loop.quit()
        else:
            GLib.timeout_add(100, self.client.connect)

    def received(self, _client: Client, _name: str, stanza: Any) -> None:
        """Something came."""
        tell("received", xml=str(stanza))
        body = stanza.getTagData("body") if stanza.getName() == "message" else None
        if body == "leave":
            self.leaving = True
            self.client.disconnect()
        elif body:
            self.client.send_stanza(Message(stanza.getAttr("from"), f"You said: {body}", typ="chat"))


if __name__ == "__main__":
    Gajim(*sys.argv[1:]).run()
