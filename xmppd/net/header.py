"""Stream headers (RFC 6120 section 4.7): whom a client speaks to and who it says it is, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping

from xmppd.core.host import Host
from xmppd.core.server import Server
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import LANG
from xmppd.wire.xml import escape_attribute

MAX_ADDRESS = 1024  # characters of an address that is repeated
MAX_LANG = 35  # characters of a language, which every stanza may get (RFC 5646 section 4.4.1)


def addressed_host(server: Server, to: str | None) -> Host | None:
    """The host that a client wants, None where it is none of ours."""
    try:
        return server.hosts.get(parse(to).full) if to else None
    except InvalidJID:
        return None


def claimed_sender(sender: str | None, domain: str) -> JID | None:
    """Who a client says it is; raises `StreamError` for somebody of another domain than the one it speaks to (XEP-0388
    section 2.1)."""
    try:
        jid = parse(sender).to_bare() if sender else None
    except InvalidJID:
        return None
    if jid is not None and jid.domain != domain:
        raise StreamError("invalid-from", "the user is of another domain")
    return jid


def language(attributes: Mapping[str, str]) -> str | None:
    """The language of what a client sends, where it does not say another (RFC 6120 section 4.7.4)."""
    lang = attributes.get(LANG, "")
    return lang if 0 < len(lang) <= MAX_LANG else None


def header_bytes(domain: str, to: str | None, id: str | None, xmlns: str = ns.CLIENT) -> bytes:
    """Our own header, from `domain` to whoever is at the other end; `id` is None where we open the stream. One for
    components has no version, for no features follow it (XEP-0114 section 3). One for servers declares the namespace of
    dialback (XEP-0220 section 2.3)."""
    answer = f" to='{escape_attribute(to)}'" if to and len(to) < MAX_ADDRESS else ""
    version = " version='1.0'" if xmlns != ns.COMPONENT else ""
    dialback = f" xmlns:db='{ns.DIALBACK}'" if xmlns == ns.SERVER else ""
    named = f" id='{id}'" if id is not None else ""
    header = (
        f"<?xml version='1.0'?><stream:stream xmlns='{xmlns}' xmlns:stream='{ns.STREAM}'{dialback}{version} "
        f"xml:lang='en'{named} from='{escape_attribute(domain)}'{answer}>"
    )
    return header.encode()
