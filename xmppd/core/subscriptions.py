"""Presence subscriptions: the tables of RFC 6121 appendix A, as functions from one state to the next.

A user's state towards a contact is what the roster says of it:

    to        the user has a subscription to the contact's presence ("to", "both")
    from_     the contact has one to the user's presence ("from", "both")
    pending_out   the user has asked and waits for an answer (``ask='subscribe'``)
    pending_in    the contact has asked and waits for an answer
    approved  the user has approved a request that has not come yet (section 3.4)

Of the nine states that appendix A.1 counts, each is one combination of the first four.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class State:
    """One user's side of a subscription; see the head of the file."""

    to: bool = False
    from_: bool = False
    pending_out: bool = False
    pending_in: bool = False
    approved: bool = False

    @property
    def subscription(self) -> str:
        """The value of a roster item's ``subscription``."""
        if self.to:
            return "both" if self.from_ else "to"
        return "from" if self.from_ else "none"


@dataclass(frozen=True)
class Move:
    """What a stanza does: the state after it; whether it goes on (to the contact, or to the user's clients); and
    what the server answers to it by itself."""

    state: State
    passes: bool
    reply: str | None = None


def outbound(type: str, state: State) -> Move:
    """The user sends a stanza of this type to the contact (appendix A.2)."""
    if type == "subscribe":
        return Move(replace(state, pending_out=state.pending_out or not state.to), True)
    if type == "unsubscribe":
        return Move(replace(state, to=False, pending_out=False), True)
    if type == "subscribed":
        if state.pending_in:
            return Move(replace(state, from_=True, pending_in=False, approved=False), True)
        # Nobody has asked: it is an approval in advance (section 3.4.2), unless the contact is subscribed.
        return Move(replace(state, approved=not state.from_), False)
    if type == "unsubscribed":
        after = replace(state, from_=False, pending_in=False, approved=False)
        return Move(after, state.from_ or state.pending_in)
    raise ValueError(type)


def inbound(type: str, state: State) -> Move:
    """The contact sends a stanza of this type to the user (appendix A.3)."""
    if type == "subscribe":
        if state.from_:
            return Move(state, False, "subscribed")  # section 3.1.3, first rule
        if state.approved:
            return Move(replace(state, from_=True, pending_in=False, approved=False), False, "subscribed")
        return Move(replace(state, pending_in=True), not state.pending_in)
    if type == "unsubscribe":
        return Move(replace(state, from_=False, pending_in=False), state.from_ or state.pending_in)
    if type == "subscribed":
        if not state.pending_out:
            return Move(state, False)
        return Move(replace(state, to=True, pending_out=False), True)
    if type == "unsubscribed":
        return Move(replace(state, to=False, pending_out=False), state.to or state.pending_out)
    raise ValueError(type)
