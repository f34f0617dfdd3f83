"""Where a stanza for an account goes: RFC 6121 section 8.5, as a table beside the code that applies it.

For a message, by its type and by what its address finds (section 8.5.4 sums it up; where the RFC leaves a choice
between silence and an error, whatever somebody wrote comes back as an error rather than vanish):

    =====================  ========  ========  =========  ========  =====
    to                     normal    chat      groupchat  headline  error
    =====================  ========  ========  =========  ========  =====
    no such account        refuse    refuse    refuse     drop      drop
    bare, some available   deliver   deliver   refuse     deliver   drop
    bare, none available   keep      keep      refuse     drop      drop
    full, resource there   hand      hand      hand       hand      hand
    full, resource gone    refuse    as bare   refuse     drop      drop
    =====================  ========  ========  =========  ========  =====

*deliver*: to every available resource with a priority that is not negative; "available" counts these alone.
*hand*: to that resource. *keep*: offline, or refuse when nobody keeps it. *refuse*: service-unavailable.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xmppd.core.events import Undelivered
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.stanza import Stanza

if TYPE_CHECKING:
    from xmppd.core.accounts import Account
    from xmppd.core.session import Session

MESSAGE_TYPES = frozenset({"normal", "chat", "groupchat", "headline", "error"})
SUBSCRIPTION_TYPES = frozenset({"subscribe", "subscribed", "unsubscribe", "unsubscribed"})
PRESENCE_TYPES = SUBSCRIPTION_TYPES | {"unavailable", "probe", "error"}


def message_type(stanza: Stanza) -> str:
    """The type of a message; one that is unknown counts as normal (RFC 6121 section 5.2.2)."""
    type = stanza.type
    return type if type in MESSAGE_TYPES else "normal"


def is_invitation(stanza: Stanza) -> bool:
    """Whether a message is an invitation that a room passes on (XEP-0045 section 7.8.2)."""
    if not stanza.has(ns.MUC_USER, "x"):
        return False
    marks = stanza.tree.elements(ns.MUC_USER, "x")
    return any(True for mark in marks for _ in mark.elements(ns.MUC_USER, "invite"))


# What a message may hold beside chat states to be of the moment alone.
_BESIDE = frozenset({(ns.CLIENT, "thread"), (ns.STANZA_ID, "stanza-id"), (ns.STANZA_ID, "origin-id")})


def is_of_the_moment(children: Iterable[tuple[str, str]]) -> bool:
    """Whether a message with these children, by namespace and name, says nothing but a chat state (XEP-0085)."""
    names = set(children)
    states = {name for name in names if name[0] in (ns.CHAT_STATES, ns.HINTS)}
    return any(name[0] == ns.CHAT_STATES for name in states) and names - states <= _BESIDE


def no_such_account(stanza: Stanza) -> None:
    """A message or presence for nobody (section 8.5.1)."""
    if stanza.name == "message" and message_type(stanza) not in ("headline", "error"):
        raise StanzaError("service-unavailable")


async def deliver_message(account: Account, stanza: Stanza) -> None:
    """Deliver a message to an account; raises `StanzaError` where it is refused."""
    to = stanza.to
    assert to is not None
    type = message_type(stanza)
    if to.resource:
        session = account.host.server.sessions.get(to)
        if session is not None:
            session.deliver(stanza)
            return
        if type in ("normal", "groupchat"):
            raise StanzaError("service-unavailable")
        if type in ("headline", "error"):
            return
    await _deliver_to_bare(account, stanza, type)


async def _deliver_to_bare(account: Account, stanza: Stanza, type: str) -> None:
    if type == "groupchat":
        raise StanzaError("service-unavailable")
    if type == "error":
        return
    available = reachable(account)
    for session in available:
        session.deliver(stanza)
    if available or type == "headline":
        return
    if await account.host.bus.fire(Undelivered(account, stanza)) is None:
        raise StanzaError("service-unavailable")


def is_refused(account: Account, stanza: Stanza) -> bool:
    """Whether a message for an account is refused or dropped, by the table above; one that `Undelivered` would be told
    of is not."""
    to = stanza.to
    assert to is not None
    type = message_type(stanza)
    if not to.resource:
        return type in ("groupchat", "error")
    return type in ("normal", "groupchat", "headline") and account.host.server.sessions.get(to) is None


def reachable(account: Account) -> list[Session]:
    """The resources that have messages for the bare JID: available, and their priority is not negative."""
    return [session for session in account.sessions if session.presence is not None and session.priority >= 0]


def deliver_presence(account: Account, stanza: Stanza) -> None:
    """Deliver presence without a type, or of type unavailable or error (sections 8.5.2.1.2 and 8.5.3.1)."""
    to = stanza.to
    assert to is not None
    if to.resource:
        session = account.host.server.sessions.get(to)
        if session is not None:
            session.deliver(stanza)
    else:
        # An error as well: it answers what was sent from the bare JID, a subscription request (section 3.1.2).
        for session in account.sessions:
            if session.presence is not None:
                session.deliver(stanza)
