"""The registry of sessions: the one place that knows who is connected.

Nothing else holds a list of sessions; whoever needs one asks here, by address. That is what a registry shared
by several machines can take the place of one day.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmppd.core.session import Session
    from xmppd.wire.jid import JID


class Sessions:
    """All bound sessions of the server, by account and resource."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Session]] = {}
        self.count = 0
        # Accounts, as bare addresses, with sessions of the last process that are registered when the account is loaded.
        self.dormant: set[str] = set()

    def add(self, session: Session) -> None:
        """Register a session whose full JID is free; `KeyError` when it is not."""
        resources = self._of.setdefault(session.jid.bare, {})
        if session.jid.resource in resources:
            raise KeyError(session.jid.full)
        resources[session.jid.resource] = session
        self.count += 1

    def remove(self, session: Session) -> bool:
        """Take a session out; False when it was not in."""
        resources = self._of.get(session.jid.bare, {})
        if resources.get(session.jid.resource) is not session:
            return False
        del resources[session.jid.resource]
        if not resources:
            del self._of[session.jid.bare]
        self.count -= 1
        return True

    def get(self, jid: JID) -> Session | None:
        """The session with this full JID."""
        resources = self._of.get(jid.bare)
        return resources.get(jid.resource) if resources else None

    def of(self, bare: str) -> list[Session]:
        """The sessions of an account, given as text."""
        resources = self._of.get(bare)
        return list(resources.values()) if resources else []

    def any_of(self, bare: str) -> bool:
        """Whether an account, given as text, has sessions, were it loaded."""
        return bare in self._of or bare in self.dormant

    def __iter__(self) -> Iterator[Session]:
        """Every session, as of now."""
        for resources in list(self._of.values()):
            yield from list(resources.values())
