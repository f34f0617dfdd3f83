"""BOSH (XEP-0124 1.11.2, XEP-0206 1.4): the same streams as over TCP, in the bodies of HTTP requests and answers.

A client asks; while there is nothing for it the answer waits, as long as the client allows. What it sends is handled in
the order of its ``rid``, however the requests arrive, and answers are kept for whoever did not get them. TLS is that of
HTTP, ended here or by a trusted proxy in front.

Sessions of several streams, and the HTTP status codes of before version 1.6, are not spoken.
"""

from __future__ import annotations

from xmppd.core.http import BOSH_PATH, HttpRequest, HttpResponse
from xmppd.net.bosh.body import MAX_RID, attributes_of, number, terminate
from xmppd.net.bosh.session import OPTIONS, Asked, BoshSession
from xmppd.net.header import addressed_host
from xmppd.net.service import ClientService

__all__ = ["OPTIONS", "Bosh"]

MAX_BODY = 16 * 1024 * 1024  # beside ``http_max_content_size``


class Bosh:
    """The sessions of BOSH clients, by their ``sid``."""

    def __init__(self, clients: ClientService) -> None:
        self.clients = clients
        self.server = clients.server
        self.sessions: dict[str, BoshSession] = {}
        self.server.http.on("POST", BOSH_PATH, self._answer, max_body=MAX_BODY, cors=True)

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        attributes = attributes_of(request.body)
        rid = number(attributes.get("rid"), MAX_RID)
        if not rid:
            return _response(terminate("bad-request"))
        if "sid" in attributes:
            session = self.sessions.get(attributes["sid"])
        elif not self.server.ready:
            return _response(terminate("system-shutdown"))
        elif addressed_host(self.server, attributes.get("to")) is None:
            return _response(terminate("host-unknown" if attributes.get("to") else "improper-addressing"))
        else:
            session = BoshSession(self, rid, attributes, request)
            self.sessions[session.sid] = session
        if session is None:
            return _response(terminate("item-not-found"))
        if session.secure and not request.secure:  # section 19.1; to end the session would help an attacker
            return HttpResponse(403, b"this session is for https\n")
        asked = Asked(rid, attributes, request.body)
        request.body = b""  # it may wait for long
        request.lost = lambda: session.nobody_waits(asked)
        session.asked(asked)
        return _response(await asked.answer, session.type)


def _response(body: bytes, type: str = "text/xml; charset=utf-8") -> HttpResponse:
    return HttpResponse(200, body, type)
