"""Requests: who answers which iq, found by a dictionary (RFC 6120 section 8.2.3).

A handler gets a `Request` and returns the payload of the result as bytes, or None for an empty result; it raises
`StanzaError` to refuse. It answers exactly once because it cannot do otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from twisted.words.xish import domish

from xmppd.core.roster import Roster
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID
from xmppd.wire.stanza import Stanza

if TYPE_CHECKING:
    from xmppd.core.accounts import Account
    from xmppd.core.session import Session


class Target(Enum):
    """Whom a request is addressed to."""

    SERVER = "server"  # the host itself
    OWN = "own"  # the sender's own account: no address, or the own bare JID
    ACCOUNT = "account"  # any account, the own one included, by its bare JID


@dataclass(slots=True)
class Request:
    """An iq of type get or set. `account` is the account it is for, None where it is for the server; `session`
    the sender's session where the sender is connected here."""

    stanza: Stanza
    sender: JID
    account: Account | None
    session: Session | None

    @property
    def payload(self) -> domish.Element:
        """The request's one child element."""
        element: domish.Element = next(self.stanza.tree.elements())
        return element

    @property
    def is_own(self) -> bool:
        """Whether the sender asks for its own account."""
        return self.account is not None and self.account.jid.bare == self.sender.bare

    def refuse_strangers(self) -> None:
        """Refuse everybody but the account's owner and the contacts that may see its presence; they are told
        what is said of an account that does not exist."""
        account = self.account
        if account is not None and not self.is_own and not account.get(Roster).is_subscribed(self.sender):
            raise account.host.iq.refusal(self.stanza)


Answer = bytes | None
IQHandler = Callable[[Request], Answer | Awaitable[Answer]]


class IQHandlers:
    """The requests that a host answers."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[Target, str | None, str, str], IQHandler] = {}

    def on(self, target: Target, type: str, xmlns: str, name: str, handler: IQHandler) -> None:
        """Let `handler` answer the requests of `type` whose payload is ``{xmlns}name``; `ValueError` when
        somebody does already."""
        key = (target, type, xmlns, name)
        if key in self._handlers:
            raise ValueError(f"{key} is answered by {self._handlers[key]} already")
        self._handlers[key] = handler

    def find(self, request: Request) -> IQHandler:
        """Who answers; raises `service-unavailable` when nobody does.

        Data of an account that only its owner may see looks to everybody else like data that is not there.
        """
        xmlns, name = request.stanza.children[0][:2]
        type = request.stanza.type or ""
        for target in self._targets(request):
            handler = self._handlers.get((target, type, xmlns, name))
            if handler is not None:
                return handler
        raise self.refusal(request.stanza)

    def refusal(self, stanza: Stanza) -> StanzaError:
        """What a stranger is told: forbidden for what only the owner of an account may ask, else that nobody
        serves this. It is the same for an account that does not exist."""
        xmlns, name = stanza.children[0][:2]
        private = stanza.to is not None and stanza.to.local and (Target.OWN, stanza.type, xmlns, name) in self._handlers
        return StanzaError("forbidden" if private else "service-unavailable")

    @staticmethod
    def _targets(request: Request) -> tuple[Target, ...]:
        if request.account is None:
            return (Target.SERVER,)
        return (Target.OWN, Target.ACCOUNT) if request.is_own else (Target.ACCOUNT,)


def check_iq(stanza: Stanza) -> None:
    """The rules of RFC 6120 section 8.2.3 for one iq; raises `StanzaError` when it breaks one."""
    if stanza.id is None:
        raise StanzaError("bad-request", "an iq needs an id")
    if stanza.type not in ("get", "set", "result", "error"):
        raise StanzaError("bad-request", "the type of an iq is get, set, result or error")
    if stanza.type in ("get", "set") and len(stanza.children) != 1:
        raise StanzaError("bad-request", "a request has exactly one child element")
    if stanza.type == "result" and len(stanza.children) > 1:
        raise StanzaError("bad-request", "a result has at most one child element")
