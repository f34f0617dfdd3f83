"""What nobody but this server may say is taken out of what arrives: stanza ids and delays in its name.

Source: XEP-0359 section 3.1 (an id that claims to be by the receiving entity is removed, whoever set it), XEP-0203
section 4 (a delay of the own server is believed).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmppd.core.events import Arriving, Sent
from xmppd.wire import ns
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Child, Stanza
from xmppd.wire.xml import parse_tree

if TYPE_CHECKING:
    from xmppd.core.accounts import Account

# Element and the attribute that says whose word it is.
_CLAIMS = {(ns.STANZA_ID, "stanza-id"): "by", (ns.DELAY, "delay"): "from"}


def clean(event: Arriving) -> None:
    """Remove what forges a claim of the recipient's server or account, in whatever spelling of the address."""
    stanza = event.stanza
    if stanza.sender is None or stanza.sender.bare != event.account.host.domain:  # else the server itself speaks
        event.stanza = _without_claims(stanza, event.account)


def clean_sent(event: Sent) -> None:
    """The same of the sender's: its own archive and devices see it."""
    event.stanza = _without_claims(event.stanza, event.session.account)


def _without_claims(stanza: Stanza, account: Account) -> Stanza:
    if stanza.name == "iq" or not any(child[:2] in _CLAIMS for child in stanza.children):
        return stanza
    own = (account.jid, account.host.jid)
    return stanza.without(lambda child: child[:2] in _CLAIMS and _is_forged(stanza, child, own))


def _is_forged(stanza: Stanza, child: Child, own: tuple[JID, ...]) -> bool:
    """Whether a child speaks in one of our own names; a delay in nobody's name would be taken for ours."""
    element = parse_tree(stanza.child_bytes(child), {"": stanza.xmlns, **dict(stanza.prefixes)})
    claim = element.getAttribute(_CLAIMS[child[0], child[1]])
    if claim is None:
        return child[0] == ns.DELAY
    try:
        return parse(str(claim).strip()).to_bare() in own
    except InvalidJID:
        return False
