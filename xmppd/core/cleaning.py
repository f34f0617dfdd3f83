"""What nobody but this server may say is taken out of what arrives: stanza ids and delays in its name.

Source: XEP-0359 section 3.1 (an id that claims to be by the receiving entity is removed, whoever set it), XEP-0203
section 4 (a delay of the own server is believed).
"""

from __future__ import annotations

from xmppd.core.events import Arriving
from xmppd.wire import ns
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import Child, Stanza
from xmppd.wire.xml import parse_tree

# Element and the attribute that says whose word it is.
_CLAIMS = {(ns.STANZA_ID, "stanza-id"): "by", (ns.DELAY, "delay"): "from"}


def clean(event: Arriving) -> None:
    """Remove forged claims, in whatever spelling of the address."""
    stanza = event.stanza
    if stanza.name == "iq" or not any(child[:2] in _CLAIMS for child in stanza.children):
        return
    account = event.account
    if stanza.sender is not None and stanza.sender.bare == account.host.domain:
        return  # the server itself speaks
    own = (account.jid, account.host.jid)
    event.stanza = stanza.without(lambda child: child[:2] in _CLAIMS and _is_forged(stanza, child, own))


def _is_forged(stanza: Stanza, child: Child, own: tuple[JID, ...]) -> bool:
    """Whether a child speaks in one of our own names; a delay in nobody's name would be taken for ours."""
    element = parse_tree(stanza.child_bytes(child), {"": stanza.xmlns, **dict(stanza.prefixes)})
    claim = element.getAttribute(_CLAIMS[child[0], child[1]])
    if claim is None:
        return child[0] == ns.DELAY
    try:
        return parse(str(claim)) in own
    except InvalidJID:
        return False
