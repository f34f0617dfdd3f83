"""What a client asks for by iq while it has no session: a resource (RFC 6120 section 7), and before it has logged in
what modules answer then (XEP-0077)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmppd.core.binding import bind
from xmppd.core.clients import Login
from xmppd.core.host import BeforeLogin
from xmppd.core.iq import check_iq
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError, StreamError
from xmppd.wire.stanza import Stanza, error_reply, result
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.net.c2s import ClientStream


def before_login(stream: ClientStream, element: Stanza) -> bool:
    """Give an iq to whoever answers it before authentication; whether somebody does."""
    assert stream.host is not None
    if element.xmlns != ns.CLIENT or element.name != "iq" or len(element.children) != 1:
        return False
    xmlns, name = element.children[0][:2]
    handler = stream.host.before_login.get((element.type or "", xmlns, name))
    if handler is None:
        return False
    stream.wait_for(_answer_before_login(stream, element, handler))
    return True


async def _answer_before_login(stream: ClientStream, element: Stanza, handler: BeforeLogin) -> None:
    element.attributes.pop("from", None)
    element.attributes.pop("to", None)
    try:
        check_iq(element)
        payload = await handler(element, stream.transport.peer)
        stream.write(result(element, payload or b"").to_bytes())
    except StanzaError as error:
        stream.write(error_reply(element, error).to_bytes())


def request(stream: ClientStream, element: Stanza) -> None:
    """Take the request for a resource; a `StreamError` for anything else (section 7.1)."""
    is_bind = (
        element.xmlns == ns.CLIENT and element.name == "iq" and element.type == "set"
        and len(element.children) == 1 and element.children[0][:2] == (ns.BIND, "bind")
    )  # fmt: skip
    if not is_bind:
        raise StreamError("not-authorized", "bind a resource first")
    stream.wait_for(_bind(stream, element))


async def _bind(stream: ClientStream, element: Stanza) -> None:
    """Sections 7.6 and 7.7."""
    assert stream.host is not None and stream.account_name is not None and stream.login is not None
    element.attributes.pop("to", None)
    element.attributes.pop("from", None)
    try:
        check_iq(element)
        wanted = next((str(child) for child in next(element.tree.elements()).elements(ns.BIND, "resource")), None)
        login = _of_resource(stream.login, wanted)
        session = await bind(stream.host, stream.account_name, wanted, stream.id[:8], stream, stream.lang, login)
    except StanzaError as error:
        stream.write(error_reply(element, error).to_bytes())
        return
    if stream.bound(session):
        jid = tag("bind", {"xmlns": ns.BIND}, tag("jid", None, session.jid.full))
        stream.write(result(element, jid).to_bytes())


def _of_resource(login: Login, wanted: str | None) -> Login:
    """The login, of a client that is known by the resource it wants where it has not said which one it is."""
    if login.is_legacy:
        login.resource = wanted or ""
    return login
