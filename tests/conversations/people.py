"""slixmpp clients that take part in conversations."""

from __future__ import annotations

import asyncio
from typing import Any

import slixmpp
from slixmpp import ClientXMPP

from tests.conversations.process import PATIENCE, LoggedProcess, unverified


class Person(ClientXMPP):  # type: ignore[misc]
    """A client that logs in to `server`, and lets a test wait for what it hears."""

    def __init__(
        self, server: LoggedProcess, name: str, resource: str, password: str = "secret",
        direct_tls: bool = False, mechanism: str | None = None, domain: str = "localhost",
        managed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(f"{name}@{domain}/{resource}", password, sasl_mech=mechanism)
        self.ssl_context = unverified()
        self.enable_direct_tls = direct_tls
        self.enable_starttls = not direct_tls
        self.port = server.tls_port if direct_tls else server.port
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.presences: asyncio.Queue[Any] = asyncio.Queue()
        self.rosters: asyncio.Queue[Any] = asyncio.Queue()
        self.register_plugin("xep_0199")
        self.register_plugin("xep_0030")
        if managed:
            self.register_plugin("xep_0198")
        self.add_event_handler("message", self.heard.put_nowait)
        self.add_event_handler("roster_update", self.rosters.put_nowait)
        for kind in ("presence_available", "presence_unavailable", "presence_subscribe", "presence_subscribed"):
            self.add_event_handler(kind, self.presences.put_nowait)
        self.auto_authorize = None
        self.auto_subscribe = False
        self.mechanism = ""

    async def arrives(self, presence: bool = True) -> Person:
        """Connect, log in, get the roster, and say that one is there."""
        started = self.wait_until("session_start", PATIENCE)
        failed = asyncio.ensure_future(self.wait_until("failed_all_auth", PATIENCE))
        self.connect("127.0.0.1", self.port)
        start = asyncio.ensure_future(started)
        done, _ = await asyncio.wait({start, failed}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        assert start in done, "it could not log in"
        failed.cancel()
        await self.get_roster()
        if presence:
            self.send_presence()
        return self

    async def written(self) -> None:
        """Return when what was sent was given to the operating system."""
        await asyncio.wait_for(self.waiting_queue.join(), PATIENCE)

    async def acknowledged(self) -> None:
        """Acknowledge what has come, and return when the server has acknowledged everything that was sent; for one
        that is `managed`."""
        management = self.plugin["xep_0198"]
        management.send_ack()
        await self.written()
        management.request_ack()
        while management.unacked_queue:
            await self.wait_until("stanza_acked", PATIENCE)

    async def hears(self) -> Any:
        """The next message."""
        return await asyncio.wait_for(self.heard.get(), PATIENCE)

    async def sees(self, kind: str, sender: slixmpp.JID | str) -> Any:
        """The next presence of this kind from this account; others in between are passed over."""
        return (await self.sees_all(sender, kind))[0]

    async def sees_all(self, sender: slixmpp.JID | str, *kinds: str) -> list[Any]:
        """The next presence of each kind from this account, in whatever order they come."""
        bare = slixmpp.JID(str(sender)).bare
        seen: dict[str, Any] = {}
        while len(seen) < len(kinds):
            presence = await asyncio.wait_for(self.presences.get(), PATIENCE)
            kind = "available" if presence.get_type() == "chat" else presence.get_type()
            if presence["from"].bare == bare and kind in kinds:
                seen[kind] = presence
        return [seen[kind] for kind in kinds]

    async def leaves(self) -> None:
        """Close the stream in order."""
        gone = asyncio.ensure_future(self.wait_until("disconnected", PATIENCE))
        await self.disconnect()
        await gone
