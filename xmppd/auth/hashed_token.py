"""HT-*: a client shows in one message that it has a token, perhaps bound to its TLS connection.

    user NUL HMAC(token, "Initiator" || binding)   ->
                                                   <-   HMAC(token, "Responder" || binding)

Source: draft-schmaus-kitten-sasl-ht-09, XEP-0484 (which tokens there are).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from xmppd.auth.credentials import HASHES
from xmppd.auth.mechanism import AuthenticationFailed, Challenge, Exchange, Success, Token
from xmppd.auth.prepare import prepare_username

_BINDINGS = {"NONE": "", "UNIQ": "tls-unique", "ENDP": "tls-server-end-point", "EXPR": "tls-exporter"}

# Of each mechanism the hash, and the type of channel binding, which is "" for none.
TOKEN_MECHANISMS: Mapping[str, tuple[str, str]] = {
    f"HT-{hash_name}-{suffix}": (hash_name, binding)
    for hash_name in ("SHA-256", "SHA-512")
    for suffix, binding in _BINDINGS.items()
}

SLOTS = 2  # tokens that a client may have at once (XEP-0484 section 5.1); so many are compared, also where none is


class HashedToken:
    """One attempt to log in with a mechanism of ``TOKEN_MECHANISMS``."""

    def __init__(self, name: str, exchange: Exchange) -> None:
        self.name = name
        self._exchange = exchange
        self._finished = False

    async def respond(self, data: bytes | None) -> Challenge | Success:
        """Take the only message there is, which comes with the request."""
        if self._finished or data is None:
            raise AuthenticationFailed("malformed-request")
        self._finished = True
        # The hash may contain NUL as well.
        name, separator, shown = data.partition(b"\0")
        if not separator or not name:
            raise AuthenticationFailed("malformed-request")
        try:
            username = prepare_username(name.decode())
        except ValueError:
            raise AuthenticationFailed("not-authorized") from None
        hash_name, binding_type = TOKEN_MECHANISMS[self.name]
        binding = self._exchange.channel_binding(binding_type) if binding_type else b""
        if binding is None:
            raise AuthenticationFailed("not-authorized", "unsupported-channel-binding-type")
        digest = HASHES[hash_name]
        token = self._find(await self._exchange.tokens(username), shown, binding, digest)
        if token.expired:
            raise AuthenticationFailed("credentials-expired")
        shown_back = hmac.digest(token.secret, b"Responder" + binding, digest)
        return Success(username, shown_back, account=token.account, token=token)

    def _find(self, tokens: Sequence[Token], shown: bytes, binding: bytes, digest: str) -> Token:
        """Return the token that the client has shown. Source: XEP-0484 sections 5.1 and 6.1."""
        nothing = Token("", self._exchange.secret)
        known = [*tokens, nothing, nothing][:SLOTS]
        found = None
        for token in known:
            expected = hmac.digest(token.secret, b"Initiator" + binding, digest)
            if hmac.compare_digest(expected, shown) and token is not nothing and found is None:
                found = token
        if found is None:
            raise AuthenticationFailed("not-authorized")
        return found
