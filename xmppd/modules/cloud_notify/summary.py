"""What a push says: which stanzas are important, by what one is known again, and the publish request (XEP-0357
section 7)."""

from __future__ import annotations

import hashlib

from xmppd.config import Boolean, Option, Text
from xmppd.core.accounts import Account
from xmppd.core.encryption import ENCRYPTED
from xmppd.core.roster import Roster
from xmppd.core.routing import is_of_the_moment, message_type
from xmppd.modules.cloud_notify.registrations import MARK, Registration
from xmppd.wire import ns
from xmppd.wire.sid import stanza_id
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import parse_tree, tag

WITH_BODY = Option(
    "push_notification_with_body", Boolean(), "no",
    "Whether the text of a message is sent to the app server; whoever runs that can read it.",
)  # fmt: skip
WITH_SENDER = Option(
    "push_notification_with_sender", Boolean(), "no", "Whether the app server is told who has sent a message."
)
IMPORTANT_BODY = Option(
    "push_notification_important_body", Text(), "New Message!",
    "What an important push says in place of the text of a message; empty says nothing.",
)  # fmt: skip
OPTIONS = (WITH_BODY, WITH_SENDER, IMPORTANT_BODY)

SUMMARY = "summary"  # the key of the form among the elements of a notification
MAX_BODY = 4096  # bytes of a text that are sent; what reaches a phone has 4 KiB in all

_IMPORTANT = ENCRYPTED | {(ns.JINGLE_MESSAGE, "propose")}


def is_urgent(stanza: Stanza) -> bool:
    """Whether a stanza rings: a call (XEP-0353 section 3)."""
    return stanza.name == "message" and stanza.type != "error" and stanza.has(ns.JINGLE_MESSAGE, "propose")


def is_important(stanza: Stanza) -> bool:
    """Whether a stanza is something that a user wants to be told of: a text, encrypted content, or a call."""
    if stanza.name != "message" or message_type(stanza) in ("error", "headline"):
        return False
    if any(child[:2] in _IMPORTANT for child in stanza.children):
        return True
    if stanza.type == "groupchat" and stanza.has(ns.CLIENT, "subject"):
        return False
    return bool(body_of(stanza))


def is_worth_a_push(account: Account, stanza: Stanza) -> bool:
    """Whether a client may be woken for a stanza: not for what its user has sent, which copies of messages are as well,
    results of an archive, answers, what the server says for the account, nor for chat states alone."""
    sender = stanza.sender
    if sender is None or sender.bare == account.jid.bare:
        return False
    if stanza.name == "iq":
        return stanza.type in ("get", "set") and sender != account.host.jid
    if stanza.name != "message":
        return True
    from_archive = stanza.has(ns.MAM, "result") and not stanza.has(stanza.xmlns, "body")  # of a room
    if not stanza.children or from_archive:
        return False
    return not is_of_the_moment(child[:2] for child in stanza.children)


def mark_of(account: Account, stanza: Stanza, received: int) -> bytes:
    """What a stanza is known by, whichever way it takes to a client: a message by its id in the archive, or by all that
    it says; anything else, which may well be said twice, also by when it was `received`."""
    id = stanza_id(stanza, account.jid) if stanza.name == "message" else None
    if id is not None:
        return hashlib.sha256(id.encode()).digest()[:MARK]
    plain = stanza.without(lambda child: child[:2] == (ns.DELAY, "delay"))
    parts = [stanza.name, stanza.type or "", stanza.id or "", stanza.sender.full if stanza.sender is not None else ""]
    parts += [] if stanza.name == "message" else [str(received)]
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + plain.inner).digest()[:MARK]


def body_of(stanza: Stanza) -> str:
    """The text of a message, as much of it as is sent: the first, where there are several languages."""
    for child in stanza.children:
        if child[:2] == (stanza.xmlns, "body"):
            text = str(parse_tree(stanza.child_bytes(child), {"": stanza.xmlns, **dict(stanza.prefixes)}))
            if text:
                return text.encode()[:MAX_BODY].decode(errors="ignore")
    return ""


def slim(stanza: Stanza) -> Stanza:
    """A stanza to be kept for a while: a large one with nothing but its text, cut, what makes it important, and how it
    is encrypted, each as far as that is small."""
    if len(stanza.inner) <= MAX_BODY:
        return stanza
    rest = Stanza(stanza.name, stanza.attributes, to=stanza.to, sender=stanza.sender, prefixes=stanza.prefixes)
    text = body_of(stanza)
    if text:
        rest = rest.extended(ns.CLIENT, "body", tag("body", None, text))
    for name in _IMPORTANT | {(ns.ENCRYPTION, "encryption")}:
        child = next((child for child in stanza.children if child[:2] == name), None)
        if child is not None:
            whole = stanza.child_bytes(child)
            short = whole if len(whole) <= MAX_BODY // 4 else tag(name[1], {"xmlns": name[0]})
            rest = rest.extended(name[0], name[1], short)
    return rest


def summary(account: Account, stanza: Stanza | None, important: bool, messages: int) -> bytes:
    """The form about what has come (section 7): `messages` are how many, `stanza` is the newest."""
    settings = account.host.settings
    fields = {
        "FORM_TYPE": ns.PUSH_SUMMARY,
        "message-count": str(messages),
        "pending-subscription-count": str(len(account.get(Roster).requests)),
    }
    if stanza is not None and stanza.sender is not None and settings[WITH_SENDER]:
        fields["last-message-sender"] = stanza.sender.full
    body = body_of(stanza) if stanza is not None and stanza.name == "message" and settings[WITH_BODY] else ""
    if not body and important:
        body = settings[IMPORTANT_BODY]
    if body:
        fields["last-message-body"] = body
    parts = [
        tag("field", {"var": name, "type": "hidden" if name == "FORM_TYPE" else None}, tag("value", None, value))
        for name, value in fields.items()
    ]
    return tag("x", {"xmlns": ns.DATA_FORMS, "type": "submit"}, *parts)


def publish(entry: Registration, payload: list[bytes]) -> bytes:
    """The request to publish a notification that holds `payload` (section 7)."""
    item = tag("item", None, tag("notification", {"xmlns": ns.PUSH}, *payload))
    options = tag("publish-options", None, entry.options.encode()) if entry.options else b""
    return tag("pubsub", {"xmlns": ns.PUBSUB}, tag("publish", {"node": entry.node or None}, item), options)
