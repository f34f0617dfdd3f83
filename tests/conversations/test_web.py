"""Converse.js in Chromium, behind nginx as the documentation configures it: over a WebSocket, and over BOSH."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conversations.converse import RealConverse
from tests.conversations.link import Link
from tests.conversations.peers import RealNginx
from tests.conversations.people import Person
from tests.conversations.process import PATIENCE, RunningServer, unverified
from tests.conversations.resumable import Client, NodeClient, Scene, SlixmppClient
from tests.conversations.test_resume import cut_and_resume
from tests.support.ports import free_port

WAYS = {
    "websocket": ("websocket_url", "wss://127.0.0.1:{}/xmpp-websocket"),
    "bosh": ("bosh_service_url", "https://127.0.0.1:{}/http-bind"),
}


@pytest.fixture
def behind(make_server: Callable[..., RunningServer], tmp_path: Path) -> Iterator[tuple[RunningServer, RealNginx]]:
    """A server with romeo and juliet, and nginx in front of it, which ends TLS."""
    server = make_server("trusted_proxies = 127.0.0.1\nhttp_external_url = https://chat.example.org/\n")
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = RealNginx(folder, server, (free_port(), free_port()))
    server.user("romeo", "juliet")
    server.start()
    nginx.start()
    yield server, nginx
    nginx.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_browser_talks_with_a_phone(
    behind: tuple[RunningServer, RealNginx], converse_js: Path, tmp_path: Path, way: str
) -> None:
    server, nginx = behind
    option, url = WAYS[way]

    async def talk() -> None:
        juliet = await Person(server, "juliet", "balcony").arrives()
        romeo = RealConverse(tmp_path, converse_js, "romeo", {option: url.format(nginx.https_port)})
        try:
            await romeo.arrives()
            assert f"from 127.0.0.1 by {way}, https" in server.wait_for("romeo@localhost/converse is bound")
            await romeo.opens("juliet@localhost")
            juliet.send_message("romeo@localhost/converse", "Good night, <good night> & sweet repose", mtype="chat")
            await romeo.sees("Good night, <good night> & sweet repose")
            await romeo.says("Sleep dwell upon thine eyes \N{ROSE}")
            while not (heard := await juliet.hears())["body"]:
                pass  # somebody is typing
            assert heard["body"] == "Sleep dwell upon thine eyes \N{ROSE}"
            await romeo.leaves()
            await juliet.leaves()
        finally:
            await romeo.close()

    asyncio.run(talk())


def test_a_session_goes_on_after_a_cut_of_its_websocket(
    lasting: RunningServer, couple: tuple[str, str], xmpp_js: Path
) -> None:
    """With TLS that ends in the server itself."""

    def over_websocket(server: RunningServer, link: Link, name: str, resource: str) -> Client:
        return NodeClient(xmpp_js, link, name, resource, "wss://{}/xmpp-websocket")

    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo = await scene.enter(over_websocket, couple[0], "orchard", port=lasting.https_port)
            await cut_and_resume(romeo, juliet)

    asyncio.run(play())


def test_the_way_in_is_found(behind: tuple[RunningServer, RealNginx]) -> None:
    _, nginx = behind
    asking = http.client.HTTPSConnection("127.0.0.1", nginx.https_port, context=unverified(), timeout=PATIENCE)
    asking.request("GET", "/.well-known/host-meta.json", headers={"Host": "localhost"})
    links = json.loads(asking.getresponse().read())["links"]
    assert {link["href"] for link in links} == {
        "wss://chat.example.org/xmpp-websocket", "https://chat.example.org/http-bind",
    }  # fmt: skip
    asking.close()
