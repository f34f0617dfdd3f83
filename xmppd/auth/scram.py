"""SCRAM: client and server prove to each other that they know the password, or keys made from it.

    client-first   n,,n=romeo,r=CLIENT                    ->
                   <-   r=CLIENTSERVER,s=SALT,i=COUNT,h=OFFER                  server-first
    client-final   c=biws,r=CLIENTSERVER,p=PROOF          ->
                   <-   v=SIGNATURE                                            server-final

The -PLUS variants also prove that both see the same TLS connection. An unknown user gets the same messages,
made from keys that nobody can match.
Source: RFC 5802, RFC 7677 (SHA-256), RFC 5929 and RFC 9266 (bindings), XEP-0474 (``h``), XEP-0515 (``t``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping

from xmppd.auth.credentials import HASHES, ScramKeys
from xmppd.auth.downgrade import downgrade_hash
from xmppd.auth.mechanism import (
    Account,
    AuthenticationFailed,
    Challenge,
    Exchange,
    Success,
    check_authzid,
    find_account,
)
from xmppd.auth.prepare import prepare_username
from xmppd.auth.scram_messages import ClientFinal, ClientFirst, parse_client_final, parse_client_first

# A hash that is added to HASHES is a mechanism here at once; offering it is up to offer.py.
MECHANISM_HASHES: Mapping[str, str] = {
    f"SCRAM-{hash_name}{plus}": hash_name for hash_name in HASHES for plus in ("", "-PLUS")
}


class Scram:
    """One attempt to log in with a mechanism of ``MECHANISM_HASHES``.

    ``_step`` is what takes the next message: ``_start``, perhaps ``_client_first``, ``_client_final``,
    ``_finished``.
    """

    # Known from the client's first message on.
    _username: str
    _account: Account
    _binding: bytes  # what c= has to contain
    _nonce: str  # the client's and ours
    _signed_so_far: str  # AuthMessage without its last part

    def __init__(self, name: str, exchange: Exchange) -> None:
        self.name = name
        self._hash_name = MECHANISM_HASHES[name]
        self._exchange = exchange
        self._step: Callable[[bytes | None], Awaitable[Challenge | Success]] = self._start

    async def respond(self, data: bytes | None) -> Challenge | Success:
        """Take the client's next message. A step that fails leaves the exchange finished."""
        step, self._step = self._step, self._finished
        return await step(data)

    async def _start(self, data: bytes | None) -> Challenge | Success:
        if data is not None:
            return await self._client_first(data)
        # The client speaks first; one that did not is asked to (RFC 4422 section 3).
        self._step = self._client_first
        return Challenge(b"")

    async def _finished(self, data: bytes | None) -> Challenge | Success:
        raise AuthenticationFailed("malformed-request")

    async def _client_first(self, data: bytes | None) -> Challenge:
        if data is None:
            raise AuthenticationFailed("malformed-request")
        first = parse_client_first(data)
        self._binding = first.gs2_header.encode() + self._binding_data(first)
        try:
            self._username = prepare_username(first.username)
        except ValueError:
            raise AuthenticationFailed("not-authorized", "invalid-username-encoding") from None
        check_authzid(self._exchange, first.authzid, self._username)
        self._account = await find_account(self._exchange, self._username, [self._hash_name])
        self._nonce = first.nonce + self._exchange.nonce()
        server_first = self._server_first(self._account.keys)
        self._signed_so_far = f"{first.bare},{server_first}"
        self._step = self._client_final
        return Challenge(server_first.encode())

    def _binding_data(self, first: ClientFirst) -> bytes:
        """Return what the client has to know about the connection. Source: RFC 5802 section 6."""
        offered = self._exchange.offered
        if self.name.endswith("-PLUS") != (first.binding_flag == "p"):
            raise AuthenticationFailed("malformed-request", "the flag does not fit the mechanism")
        if first.binding_flag == "y" and offered.has_channel_binding:
            # The client did not see our -PLUS: somebody took it out of the features.
            raise AuthenticationFailed("not-authorized", "server-does-support-channel-binding")
        if first.binding_flag != "p":
            return b""
        data = None
        if first.binding_type in offered.channel_bindings:
            data = self._exchange.channel_binding(first.binding_type)
        if data is None:
            raise AuthenticationFailed("not-authorized", "unsupported-channel-binding-type")
        return data

    def _server_first(self, keys: ScramKeys) -> str:
        message = f"r={self._nonce},s={base64.b64encode(keys.salt).decode()},i={keys.iterations}"
        if self._exchange.downgrade_protection:
            message += f",h={downgrade_hash(self._exchange.offered, self._hash_name)}"
            if self._exchange.tls_version is not None:
                # Only together with h: XEP-0515 section 5.
                message += f",t={self._exchange.tls_version}"
        return message

    async def _client_final(self, data: bytes | None) -> Success:
        if data is None:
            raise AuthenticationFailed("malformed-request")
        final = parse_client_final(data)
        if not hmac.compare_digest(final.nonce.encode(), self._nonce.encode()):
            raise AuthenticationFailed("not-authorized")
        if not hmac.compare_digest(final.binding, self._binding):
            raise AuthenticationFailed("not-authorized", "channel-bindings-dont-match")
        signed = f"{self._signed_so_far},{final.without_proof}".encode()
        keys, grant = self._account.admit(lambda keys: self._proof_matches(keys, final, signed))
        signature = hmac.digest(keys.server_key, signed, HASHES[self._hash_name])
        return Success(
            self._username, b"v=" + base64.b64encode(signature), account=self._account.id, grant=grant
        )

    def _proof_matches(self, keys: ScramKeys, final: ClientFinal, signed: bytes) -> bool:
        """Say whether the ClientKey inside the proof is the right one. Source: RFC 5802 section 3."""
        digest = HASHES[self._hash_name]
        stored_key = keys.stored_key
        client_signature = hmac.digest(stored_key, signed, digest)
        if len(final.proof) != len(client_signature):
            return False
        client_key = bytes(a ^ b for a, b in zip(final.proof, client_signature, strict=True))
        return hmac.compare_digest(hashlib.new(digest, client_key).digest(), stored_key)
