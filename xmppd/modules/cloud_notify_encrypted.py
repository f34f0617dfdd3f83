"""Encrypted push notifications (Tigase's ``tigase:push:encrypt:0``), and calls in them (``tigase:push:jingle:0``).

A client gives a key when it enables push; what its phone shows is then sent as JSON under that key, and the app server
in between learns nothing of it. Clients that want calls without encryption get the call's id and media in an element.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xmppd.core.bus import Stage
from xmppd.core.encryption import ENCRYPTED
from xmppd.core.events import Pushing, PushRegistering
from xmppd.core.host import Host
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

ALGORITHM = "aes-128-gcm"
KEY_BYTES, IV_BYTES, TAG_BYTES = 16, 12, 16
BODY_BYTES = 255  # of a text, unless the client says how much it can take
MAX_SIZE = 4096  # bytes that it may ask for: no push service takes more
MAX_DIGITS = 9  # of that number
SECURE_MESSAGE = "You have received an encrypted message"  # what is shown of one that only the client can read

_ENCRYPTED = ENCRYPTED | {(ns.ENCRYPTION, "encryption")}


def setup(host: Host) -> None:
    """Hook encryption into a host."""
    host.disco.account.features |= {ns.PUSH_ENCRYPT, ns.PUSH_ENCRYPT_AES, ns.PUSH_JINGLE}
    host.bus.on(PushRegistering, registering)
    host.bus.on(Pushing, pushing, Stage.AFTER)


def registering(event: PushRegistering) -> None:
    """Keep the client's key; refuse one that cannot be used."""
    if any(True for _ in event.request.elements(ns.PUSH_JINGLE, "jingle")):
        event.kept[ns.PUSH_JINGLE] = True
    element = next(event.request.elements(ns.PUSH_ENCRYPT, "encrypt"), None)
    if element is None:
        return
    if element.getAttribute("alg") != ALGORITHM:
        raise StanzaError("feature-not-implemented", f"the one algorithm is {ALGORITHM}", type="modify")
    text = "".join(str(element).split())
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise StanzaError("bad-request", f"a key has {KEY_BYTES} bytes, in base64")
    size = element.getAttribute("max-size")
    if size is not None and not (str(size).isascii() and str(size).isdigit() and len(str(size)) <= MAX_DIGITS):
        raise StanzaError("bad-request", "max-size is a number of bytes")
    event.kept[ns.PUSH_ENCRYPT] = {"key": text, "max_size": min(int(size), MAX_SIZE) if size else None}


def pushing(event: Pushing) -> None:
    """The encrypted text takes the place of the summary. It comes after everything else that may be said."""
    call = _call(event.stanza)
    encryption = event.kept.get(ns.PUSH_ENCRYPT)
    if encryption is None:
        if call is not None and event.kept.get(ns.PUSH_JINGLE):
            event.payload[ns.PUSH_JINGLE] = _jingle(call)
        return
    iv = secrets.token_bytes(IV_BYTES)
    data = content(event.stanza, event.messages, call, encryption["max_size"])
    text = AESGCM(base64.b64decode(encryption["key"])).encrypt(iv, data, None)  # with the tag at its end
    event.payload.pop("summary", None)
    event.payload[ns.PUSH_ENCRYPT] = tag(
        "encrypted",
        {"xmlns": ns.PUSH_ENCRYPT, "type": "voip" if call is not None else None, "iv": base64.b64encode(iv).decode()},
        base64.b64encode(text),
    )


def content(stanza: Stanza | None, messages: int, call: dict[str, Any] | None, max_size: int | None) -> bytes:
    """What the phone shows, as JSON; at most `max_size` bytes once it is encrypted and in base64, as far as a shorter
    text does it."""
    shown: dict[str, Any] = {"unread": messages}
    if stanza is not None and stanza.sender is not None:
        shown["sender"] = stanza.sender.bare if call is None else stanza.sender.full
    kind = _kind(stanza) if call is None else "call"
    if kind:
        shown["type"] = kind
    if call is not None:
        shown |= {"sid": call["sid"], "media": call["media"]}
    elif kind == "groupchat" and stanza is not None and stanza.sender is not None and stanza.sender.resource:
        shown["nickname"] = stanza.sender.resource
    body = _text(stanza)
    if body and max_size is None:
        shown["message"] = _first(body, BODY_BYTES)
    elif body and max_size is not None:
        room = max_size // 4 * 3 - TAG_BYTES - len(_json(shown | {"message": ""}))
        shown["message"] = _cut(body, room)
    return _json(shown)


def _first(text: str, size: int) -> str:
    """The first so many bytes of a text, as whole characters."""
    return text.encode()[: max(size, 0)].decode(errors="ignore")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _cut(text: str, room: int) -> str:
    """As much of a text as has room in JSON, in bytes."""
    text = _first(text, room)
    while text and len(_json(text)) - 2 > room:
        text = text[:-1]
    return text


def _kind(stanza: Stanza | None) -> str:
    if stanza is None:
        return ""
    if stanza.name == "presence":
        return "subscribe" if stanza.type == "subscribe" else ""
    if stanza.name != "message" or stanza.type == "error":
        return ""
    return "groupchat" if stanza.type == "groupchat" else "chat"


def _text(stanza: Stanza | None) -> str:
    if stanza is None or stanza.name != "message" or stanza.type == "error":
        return ""
    if any(child[:2] in _ENCRYPTED for child in stanza.children):
        return SECURE_MESSAGE
    return next((text for body in stanza.tree.elements(stanza.xmlns, "body") if (text := str(body))), "")


def _call(stanza: Stanza | None) -> dict[str, Any] | None:
    """The id and the media of a call that a stanza proposes (XEP-0353)."""
    if stanza is None or stanza.type == "error" or not stanza.has(ns.JINGLE_MESSAGE, "propose"):
        return None
    propose = next(stanza.tree.elements(ns.JINGLE_MESSAGE, "propose"))
    media = [str(each.getAttribute("media")) for each in propose.elements(ns.JINGLE_RTP, "description")
             if each.getAttribute("media")]  # fmt: skip
    return {"sid": str(propose.getAttribute("id") or ""), "media": media}


def _jingle(call: dict[str, Any]) -> bytes:
    media = [tag("media", None, each) for each in call["media"]]
    return tag("jingle", {"xmlns": ns.PUSH_JINGLE, "action": "propose", "sid": call["sid"]}, *media)
