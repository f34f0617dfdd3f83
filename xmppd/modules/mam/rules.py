"""Which messages are kept in an archive."""

from __future__ import annotations

from xmppd.core.encryption import ENCRYPTED
from xmppd.core.routing import is_invitation, message_type
from xmppd.wire import ns
from xmppd.wire.stanza import Stanza

# What is worth keeping in a message without a body: receipts and markers, which other devices show; encrypted content;
# calls; invitations to rooms; reactions and retractions; and a subject, which some send instead of a body.
_WORTH = ENCRYPTED | {
    (ns.CLIENT, "body"), (ns.SERVER, "body"), (ns.CLIENT, "subject"), (ns.SERVER, "subject"),
    (ns.RECEIPTS, "received"), (ns.CHAT_MARKERS, "received"), (ns.CHAT_MARKERS, "displayed"),
    (ns.CHAT_MARKERS, "acknowledged"), (ns.ENCRYPTION, "encryption"), (ns.CONFERENCE, "x"),
    (ns.REACTIONS, "reactions"), (ns.RETRACTION, "retract"),
}  # fmt: skip


def worth_archiving(stanza: Stanza) -> bool:
    """Whether a message belongs into an archive (XEP-0313 section 5.1.1, XEP-0334 sections 4.1, 4.2 and 4.4).

    * An error is, when it is for one resource: it answers what that has sent, and the user's other devices are to see
      that it failed. Its hints do not count (XEP-0334 section 5).
    * Group chat is kept by its room, and not here. Headlines are news of the moment.
    * ``<no-store/>`` and ``<no-permanent-store/>`` keep a message out, ``<store/>`` keeps it in.
    * Otherwise it needs content: a body (also one that corrects another), a subject, a receipt or marker, something
      encrypted, an element of a call (XEP-0353 section 3), an invitation, a reaction, a retraction. Chat states and
      typing alone are of the moment.
    """
    type = message_type(stanza)
    if type == "error":
        return stanza.to is not None and bool(stanza.to.resource)
    if type in ("groupchat", "headline"):
        return False
    if stanza.has(ns.HINTS, "no-store") or stanza.has(ns.HINTS, "no-permanent-store"):
        return False
    if stanza.has(ns.HINTS, "store"):
        return True
    for xmlns, name, _, _ in stanza.children:
        if (xmlns, name) in _WORTH or xmlns == ns.JINGLE_MESSAGE:
            return True
    return is_invitation(stanza)
