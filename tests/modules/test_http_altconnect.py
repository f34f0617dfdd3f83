"""Where web clients find a domain's WebSocket and BOSH (XEP-0156)."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.support.http import Answer, ask, request
from tests.support.world import World
from xmppd.config import ConfigError

TWO_HOSTS = "[host:example.org]\n[host:example.net]\nhttp_external_url = https://chat.example.net/xmpp/\n"


def get(world: World, path: str, host: str = "example.org") -> Answer:
    return ask(world, request("GET", f"/.well-known/{path}", host=host), peer="192.0.2.1")


def links(world: World, host: str = "example.org") -> dict[str, str]:
    """What both documents say."""
    xrd, jrd = get(world, "host-meta", host), get(world, "host-meta.json", host)
    assert (xrd.headers["content-type"], jrd.headers["content-type"]) == (
        "application/xrd+xml; charset=utf-8", "application/json",
    )  # fmt: skip
    assert {xrd.headers["access-control-allow-origin"], jrd.headers["access-control-allow-origin"]} == {"*"}
    root = ElementTree.fromstring(xrd.body)
    assert root.tag == "{http://docs.oasis-open.org/ns/xri/xrd-1.0}XRD"
    found = {link.get("rel", ""): link.get("href", "") for link in root}
    assert jrd.json == {"links": [{"rel": rel, "href": href} for rel, href in found.items()]}
    return {rel.rpartition(":")[2]: href for rel, href in found.items()}


def test_both_ways_are_named() -> None:
    assert links(World()) == {
        "websocket": "wss://example.org:5281/xmpp-websocket", "xbosh": "https://example.org:5281/http-bind",
    }  # fmt: skip


def test_the_port_of_https_needs_no_word() -> None:
    assert links(World("https_ports = 443, 5281\n"))["xbosh"] == "https://example.org/http-bind"


def test_the_administrator_says_how_the_world_reaches_it() -> None:
    world = World("https_ports =\nhttp_external_url = https://chat.example.org\n", TWO_HOSTS)
    assert links(world)["websocket"] == "wss://chat.example.org/xmpp-websocket"
    assert links(world, "example.net")["xbosh"] == "https://chat.example.net/xmpp/http-bind"
    assert get(world, "host-meta", "elsewhere.example").status == 421


def test_a_domain_beyond_ascii_is_asked_for_and_named_in_ascii() -> None:
    world = World(sections="[host:example.org]\n[host:b\u00fccher.example]\n")
    assert links(world, "xn--bcher-kva.example")["xbosh"] == "https://xn--bcher-kva.example:5281/http-bind"
    assert get(world, "host-meta", "xn--\u00ff.example").status == 421


def test_without_tls_there_is_nothing_to_name() -> None:
    world = World("https_ports =\n")
    assert [get(world, path).status for path in ("host-meta", "host-meta.json")] == [404, 404]


@pytest.mark.parametrize(
    "url", ["http://example.org/", "example.org", "https://", "https://a/?x", "https://a b/", "wss://a"]
)
def test_other_addresses_are_an_error_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="http_external_url"):
        World(f"http_external_url = {url}\n")
