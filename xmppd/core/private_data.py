"""What users keep on the server as XML of their own, for those who can make something of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmppd.core.accounts import Account


class PrivateData:
    """The service that keeps it (XEP-0049)."""

    async def holding(self, account: Account, text: bytes) -> list[bytes]:
        """The elements of an account in which these bytes are. Raises `StorageError`."""
        raise NotImplementedError
