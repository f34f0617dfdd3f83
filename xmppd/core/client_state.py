"""Whether somebody looks at a client (XEP-0352), for those who would wake it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmppd.core.session import Session
    from xmppd.wire.stanza import Stanza


class ClientState:
    """The service that knows what clients have said of that."""

    def holds_back(self, session: Session, stanza: Stanza) -> bool:
        """Whether a stanza is one that waits for this session's client, which was inactive when it was there last."""
        raise NotImplementedError
