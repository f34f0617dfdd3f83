"""Presence subscriptions on the wire (RFC 6121 section 3); the tables are in `core.subscriptions`."""

from __future__ import annotations

from xmppd.config import Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.events import AccountRemoving
from xmppd.core.roster import Entry, Roster
from xmppd.core.subscriptions import Move, inbound, outbound
from xmppd.modules.presence.broadcast import unavailable
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, parse
from xmppd.wire.stanza import Stanza

MAX_REQUESTS = Option(
    "max_subscription_requests", Integer(minimum=1), "1000",
    "How many subscription requests may wait for a user's answer; more are refused.",
)  # fmt: skip
OPTIONS = (MAX_REQUESTS,)

MAX_REQUEST_BYTES = 4096  # of one request that is kept; what is longer loses what its sender wrote beside it


async def sent(account: Account, stanza: Stanza) -> None:
    """The user sends a subscription stanza (the "user's server" parts of section 3)."""
    assert stanza.to is not None and stanza.type is not None
    contact = stanza.to.to_bare()
    if contact.bare == account.jid.bare:
        return  # an account sees its own presence anyway
    moves: list[Move] = []

    def move(entry: Entry) -> Entry:
        moves.append(outbound(stanza.type or "", entry.state))
        return entry.with_state(contact.bare, moves[-1].state)

    before, _ = await account.get(Roster).update(contact, move)
    if not moves[-1].passes:
        return
    if stanza.type == "unsubscribed" and before.state.from_:
        await _tell_unavailable(account, contact)  # section 3.2.2: before the contact learns why
    await account.host.server.route(stanza.addressed(sender=account.jid, to=contact))
    if stanza.type == "subscribed":
        await _tell_available(account, contact)  # section 3.1.5


async def arriving(account: Account, stanza: Stanza) -> None:
    """The contact sends a subscription stanza (the "contact's server" parts of section 3)."""
    assert stanza.sender is not None and stanza.type is not None
    contact = stanza.sender.to_bare()
    if contact.bare == account.jid.bare:
        return
    stanza = stanza.addressed(sender=contact, to=account.jid)
    roster = account.get(Roster)
    moves: list[Move] = []

    def move(entry: Entry) -> Entry:
        moves.append(inbound(stanza.type or "", entry.state))
        asked_anew = moves[-1].state.pending_in and not entry.state.pending_in
        if asked_anew and len(roster.requests) >= account.host.settings[MAX_REQUESTS]:
            raise StanzaError("resource-constraint", "too many requests wait for this user's answer")
        return entry.with_state(contact.bare, moves[-1].state, kept_request(stanza))

    def announce() -> None:
        """Before the push, so that clients know what it comes from (sections 3.1.6, 3.2.3 and 3.3.3)."""
        if moves[-1].passes:
            for session in account.sessions:
                if session.presence is not None if stanza.type == "subscribe" else session.interested:
                    session.deliver(stanza)

    before, after = await roster.update(contact, move, announce)
    if before.state.from_ and not after.state.from_:
        await _tell_unavailable(account, contact)  # section 3.3.3
    if moves[-1].reply is not None:
        reply = Stanza("presence", {"type": moves[-1].reply}, sender=account.jid, to=contact)
        await account.host.server.route(reply)
        await _tell_available(account, contact)


def kept_request(stanza: Stanza) -> bytes:
    """A request as it is kept (section 3.1.3 wants the complete stanza)."""
    whole = stanza.to_bytes()
    if len(whole) <= MAX_REQUEST_BYTES:
        return whole
    return Stanza("presence", {"type": "subscribe"}, sender=stanza.sender, to=stanza.to).to_bytes()


async def end_all(event: AccountRemoving) -> None:
    """An account goes: its contacts learn that nothing is to be expected of it any more."""
    account = event.account
    for session in account.sessions:
        await unavailable(session, Stanza("presence", {"type": "unavailable"}, sender=session.jid))
    roster = account.get(Roster)
    route = account.host.server.route
    for jid in {**roster.items, **roster.requests}:
        contact = parse(jid)
        state = roster.entry(contact).state
        if state.to or state.pending_out:
            await route(Stanza("presence", {"type": "unsubscribe"}, sender=account.jid, to=contact))
        if state.from_ or state.pending_in:
            await route(Stanza("presence", {"type": "unsubscribed"}, sender=account.jid, to=contact))


async def _tell_available(account: Account, contact: JID) -> None:
    for session in account.sessions:
        if session.presence is not None:
            await account.host.server.route(session.presence.addressed(sender=session.jid, to=contact))


async def _tell_unavailable(account: Account, contact: JID) -> None:
    for session in account.sessions:
        if session.presence is not None:
            gone = Stanza("presence", {"type": "unavailable"}, sender=session.jid, to=contact)
            await account.host.server.route(gone)
