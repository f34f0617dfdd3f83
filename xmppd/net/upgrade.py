"""Upgrades (XEP-0480 0.2.0): a client that knows the password gives its account keys for a better SCRAM mechanism."""

from __future__ import annotations

from twisted.words.xish import domish

from xmppd.auth.credentials import HASHES, Credentials, digest_size, keys_from_salted_password
from xmppd.auth.mechanism import AuthenticationFailed, Success
from xmppd.core.grants import salt_for
from xmppd.core.host import Host
from xmppd.net.authentication import Authentication, decode, encode
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.xml import tag

_PREFIX = "UPGR-SCRAM-"


def upgrade_features(host: Host) -> list[bytes]:
    """Section 2.1: upgrades to what not every account has keys for, and so is not offered."""
    names = (_PREFIX + name for name in HASHES if name not in host.accounts.hashes)
    return [tag("upgrade", {"xmlns": ns.SASL_UPGRADE}, name) for name in names]


async def wanted_upgrades(
    authentication: Authentication, request: domish.Element, success: Success
) -> list[Upgrade]:
    """Section 2.2: the upgrades that a client asks for, and that its account needs."""
    wanted = {str(element).strip() for element in request.elements(ns.SASL_UPGRADE, "upgrade")}
    if not wanted or success.grant is not None:
        return []
    credentials = await authentication.look_up(success.username)
    if credentials is None or credentials.account[0] != success.account:  # another account has the name now
        return []
    missing = [name for name in HASHES if name not in credentials.keys and _PREFIX + name in wanted]
    return [Upgrade(authentication, credentials, name) for name in missing]


class Upgrade:
    """A `LoginTask`, for the keys of one hash (section 3)."""

    def __init__(self, authentication: Authentication, credentials: Credentials, hash_name: str) -> None:
        self.name = _PREFIX + hash_name
        self._authentication = authentication
        self._credentials = credentials
        self._hash_name = hash_name
        self._salt, self._iterations = salt_for(credentials, hash_name)

    async def begin(self, element: domish.Element) -> bytes | None:
        """See `LoginTask`: what the client has to salt its password with."""
        attributes = {"xmlns": ns.SCRAM_UPGRADE, "iterations": str(self._iterations)}
        return tag("salt", attributes, encode(self._salt))

    async def go_on(self, element: domish.Element) -> bytes | None:
        """See `LoginTask`: the client has; what is kept of that is made here."""
        found = next(element.elements(ns.SCRAM_UPGRADE, "hash"), None)
        salted = decode(str(found)) if found is not None else b""
        if len(salted) != digest_size(self._hash_name):
            raise AuthenticationFailed("malformed-request", f"this is no password salted for SCRAM-{self._hash_name}")
        keys = keys_from_salted_password(salted, self._hash_name, self._salt, self._iterations)
        try:
            await self._authentication.host.accounts.add_keys(self._credentials, self._hash_name, keys)
        except StorageError:
            raise AuthenticationFailed("temporary-auth-failure") from None
        return None
