"""The client's part of SCRAM-SHA-1 (RFC 5802), which also checks the server's."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os

from benchmarks.connection import Failed

MECHANISM = "SCRAM-SHA-1"  # the one that all servers offer with the passwords that they keep by default
_HASH = "sha1"


@functools.cache
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    """Once for each account: how many iterations a server asks for costs it nothing, and us a lot."""
    return hashlib.pbkdf2_hmac(_HASH, password.encode(), salt, iterations)


class Scram:
    """One exchange."""

    def __init__(self, user: str, password: str) -> None:
        self._password = password
        self._nonce = base64.b64encode(os.urandom(18)).decode()
        self._first = f"n={user},r={self._nonce}"
        self._signature = b""

    def begin(self) -> bytes:
        """What the client says first."""
        return f"n,,{self._first}".encode()

    def respond(self, challenge: bytes) -> bytes:
        """What the client answers to the challenge."""
        values = dict(part.split("=", 1) for part in challenge.decode().split(","))
        if not values["r"].startswith(self._nonce):
            raise Failed("SCRAM: the server's nonce does not begin with ours")
        salted = _salted(self._password, base64.b64decode(values["s"]), int(values["i"]))
        without_proof = f"c=biws,r={values['r']}"
        signed = f"{self._first},{challenge.decode()},{without_proof}".encode()
        client_key = hmac.digest(salted, b"Client Key", _HASH)
        mask = hmac.digest(hashlib.new(_HASH, client_key).digest(), signed, _HASH)
        proof = bytes(a ^ b for a, b in zip(client_key, mask, strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", _HASH), signed, _HASH)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def check(self, final: bytes) -> None:
        """Look at the server's signature."""
        if final != b"v=" + base64.b64encode(self._signature):
            raise Failed("SCRAM: the server's signature is wrong")
