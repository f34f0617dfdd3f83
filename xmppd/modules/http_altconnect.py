"""Where web clients find the WebSocket and BOSH of a domain: ``host-meta`` and ``host-meta.json`` (XEP-0156 1.4.0,
RFC 6415). Only addresses with TLS are named (section 2.2)."""

from __future__ import annotations

from urllib.parse import urlsplit

from xmppd.config import Kind, Option
from xmppd.core.host import Host
from xmppd.core.http import BOSH_PATH, HTTPS_PORTS, WEBSOCKET_PATH, HttpRequest, HttpResponse, json_response
from xmppd.wire.jid import ascii_domain
from xmppd.wire.xml import tag

HTTPS = 443
XRD = "http://docs.oasis-open.org/ns/xri/xrd-1.0"
XBOSH_LINK = "urn:xmpp:alt-connections:xbosh"
WEBSOCKET_LINK = "urn:xmpp:alt-connections:websocket"


class _ExternalUrl(Kind[str]):
    """Where the site is for the world."""

    accepts = "an address of https, such as https://chat.example.org/, or nothing"

    def parse(self, text: str) -> str:
        """Return `text` without a slash at its end."""
        if not text:
            return ""
        parts = urlsplit(text)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or not text.isascii():
            raise ValueError("it is no address of https")
        if any(character <= " " for character in text):
            raise ValueError("it has white space in it")
        return text.rstrip("/")


EXTERNAL_URL = Option(
    "http_external_url", _ExternalUrl(), "",
    "How web clients reach the HTTP site, such as ``https://chat.example.org/``; where it is empty, at the domain "
    "itself and the first of ``https_ports``.",
)  # fmt: skip
OPTIONS = (EXTERNAL_URL,)


def setup(host: Host) -> None:
    """Answer at both addresses."""
    host.http.on("GET", "/.well-known/host-meta", lambda request: as_xrd(host, request), cors=True)
    host.http.on("GET", "/.well-known/host-meta.json", lambda request: as_jrd(host, request), cors=True)


def links(host: Host) -> dict[str, str]:
    """The ways in, by their relation; none where there is none with TLS."""
    base = host.settings[EXTERNAL_URL]
    if not base:
        ports = host.server.settings[HTTPS_PORTS]
        if not ports:
            return {}
        base = f"https://{ascii_domain(host.domain)}" + (f":{ports[0]}" if ports[0] != HTTPS else "")
    return {XBOSH_LINK: base + BOSH_PATH, WEBSOCKET_LINK: f"wss{base.removeprefix('https')}{WEBSOCKET_PATH}"}


def as_xrd(host: Host, request: HttpRequest) -> HttpResponse:
    """In XML (section 2.3)."""
    found = [tag("Link", {"rel": rel, "href": href}) for rel, href in links(host).items()]
    if not found:
        return HttpResponse(404, b"there is no https here\n")
    document = b"<?xml version='1.0' encoding='utf-8'?>\n" + tag("XRD", {"xmlns": XRD}, *found)
    return HttpResponse(200, document, "application/xrd+xml; charset=utf-8")


def as_jrd(host: Host, request: HttpRequest) -> HttpResponse:
    """In JSON."""
    found = [{"rel": rel, "href": href} for rel, href in links(host).items()]
    return json_response(200, {"links": found}) if found else HttpResponse(404, b"there is no https here\n")
