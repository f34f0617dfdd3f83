"""PLAIN: user name and password as they are. Source: RFC 4616."""

from __future__ import annotations

from xmppd.auth.credentials import verify_salted_password
from xmppd.auth.mechanism import (
    AuthenticationFailed,
    Challenge,
    Exchange,
    Success,
    check_authzid,
    find_account,
)
from xmppd.auth.prepare import prepare_password, prepare_username


class Plain:
    """One attempt to log in with PLAIN."""

    name = "PLAIN"

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._asked = False  # for the message that did not come with <auth/>
        self._finished = False

    async def respond(self, data: bytes | None) -> Challenge | Success:
        """Take the only message there is; a client that sent none with ``<auth/>`` is asked for it, once."""
        if self._finished:
            raise AuthenticationFailed("malformed-request")
        if data is None and not self._asked:
            self._asked = True
            return Challenge(b"")
        self._finished = True
        if data is None:
            raise AuthenticationFailed("malformed-request")
        return await self._check(data)

    async def _check(self, data: bytes) -> Success:
        authzid, authcid, password = _parse(data)
        try:
            username = prepare_username(authcid)
            prepared = prepare_password(password, stored=False).encode()
        except ValueError:
            # RFC 4616 section 2: verification fails. The account is not looked up, so this tells nothing.
            raise AuthenticationFailed("not-authorized") from None
        check_authzid(self._exchange, authzid, username)
        account = await find_account(self._exchange, username, self._exchange.password_hashes)
        keys = account.keys
        salted = await self._exchange.derive(prepared, keys.salt, keys.iterations, account.hash_name)
        _, grant = account.admit(lambda keys: verify_salted_password(keys, salted, account.hash_name))
        return Success(username, account=account.id, grant=grant, password=prepared)


def _parse(data: bytes) -> tuple[str, str, str]:
    """Return authzid, authcid and password of ``[authzid] NUL authcid NUL passwd``.

    Exactly three fields: servers that took more or fewer let one user in as another.
    Source: RFC 4616 section 2.
    """
    try:
        fields = data.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise AuthenticationFailed("malformed-request", "not UTF-8") from None
    if len(fields) != 3:
        raise AuthenticationFailed("malformed-request")
    authzid, authcid, password = fields
    if not authcid or not password:
        raise AuthenticationFailed("malformed-request")
    return authzid, authcid, password
