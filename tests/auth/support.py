"""What the tests of the mechanisms share: a server's side with a few accounts, and a small SCRAM client."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from xmppd.auth.credentials import Credentials, made_up, make, salted_password
from xmppd.auth.mechanism import AuthenticationFailed, Exchange, Token
from xmppd.auth.offer import Offer

T = TypeVar("T")

SECRET = b"a secret of the server's own"
ITERATIONS = 2  # the tests are about the exchange, not about guessing
EVERYTHING = Offer(
    ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
    ("tls-exporter", "tls-server-end-point"),
)
NO_BINDING = Offer(("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"), ())
BINDINGS = {"tls-exporter": b"exported,\0\xff", "tls-server-end-point": b"end point"}
DIGESTS = {"SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}

ACCOUNTS = {
    "romeo": make("wherefore", iterations=ITERATIONS),
    "a,b=c": make("comma", iterations=ITERATIONS),
    "old": make("legacy", hashes=["SHA-1"], iterations=ITERATIONS),
    "tybalt": Credentials(make("peppercorn", iterations=ITERATIONS).keys, enabled=False),
}


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def failure(coroutine: Coroutine[Any, Any, object]) -> AuthenticationFailed:
    """Run a coroutine that has to fail, and return how."""
    try:
        answer = run(coroutine)
    except AuthenticationFailed as failed:
        return failed
    raise AssertionError(f"accepted: {answer}")


def make_exchange(
    accounts: Mapping[str, Credentials] = ACCOUNTS,
    bindings: Mapping[str, bytes] = BINDINGS,
    **changes: Any,
) -> Exchange:
    async def lookup(username: str) -> Credentials | None:
        return accounts.get(username)

    async def derive(password: bytes, salt: bytes, iterations: int, hash_name: str) -> bytes:
        return salted_password(password, salt, iterations, hash_name)

    async def tokens(username: str) -> Sequence[Token]:
        return ()

    parts: dict[str, Any] = {
        "tokens": tokens,
        "host": "example.org",
        "offered": EVERYTHING,
        "lookup": lookup,
        "derive": derive,
        "same_user": lambda authzid, username: authzid == f"{username}@example.org",
        "nonce": lambda: "SERVER",
        "channel_binding": bindings.get,
        "secret": SECRET,
        "iterations": ITERATIONS,
    }
    return Exchange(**{**parts, **changes})


def decoy(username: str, hash_name: str) -> Any:
    """Return the keys that an unknown user of ``make_exchange`` is given."""
    return made_up(SECRET, f"{username}@example.org", hash_name, ITERATIONS)


class Client:
    """A SCRAM client that can also be told to do things wrongly."""

    def __init__(
        self,
        password: str,
        username: str = "romeo",
        hash_name: str = "SHA-256",
        gs2: str = "n,,",
        binding: bytes = b"",
        nonce: str = "CLIENT",
    ) -> None:
        self.password, self.hash_name = password, hash_name
        self.binding_value = base64.b64encode(gs2.encode() + binding).decode()
        saslname = username.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={saslname},r={nonce}"
        self.gs2 = gs2
        self.server_signature = b""

    def first(self) -> bytes:
        return f"{self.gs2}{self.bare}".encode()

    def final(self, server_first: bytes, extensions: str = "", **replace: str) -> bytes:
        """Return the signed final message; ``c``, ``r`` or ``p`` replace what an honest client sends."""
        digest = DIGESTS[self.hash_name]
        fields = dict(part.split("=", 1) for part in server_first.decode().split(","))
        salt = base64.b64decode(fields["s"])
        salted = hashlib.pbkdf2_hmac(digest, self.password.encode(), salt, int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", digest)
        binding, nonce = replace.get("c", self.binding_value), replace.get("r", fields["r"])
        without_proof = f"c={binding},r={nonce}{extensions}"
        signed = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.new(digest, client_key).digest(), signed, digest)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        server_key = hmac.digest(salted, b"Server Key", digest)
        self.server_signature = b"v=" + base64.b64encode(hmac.digest(server_key, signed, digest))
        return f"{without_proof},p={replace.get('p', proof)}".encode()
