"""What an account keeps instead of its password, and how it is made and checked.

Source: RFC 5802 section 3 (the keys), section 9 (why nothing else is stored); RFC 7677 (SHA-256).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from xmppd.auth.prepare import prepare_password

# The names that SCRAM uses, and hashlib's names for them.
HASHES: Mapping[str, str] = {"SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}

# RFC 7677 section 4 asks for at least 4096.
DEFAULT_ITERATIONS = 10_000

# Bytes. Made-up salts are as long, so that they look like real ones.
SALT_LENGTH = 16


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """The keys of one account for one hash, with the salt and the iterations of PBKDF2 that made them.

    Nobody can log in with them, but whoever has them can try passwords in private.
    Source: RFC 5802 sections 3 and 9.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """Another password of an account, made for one application. Its keys have the salt and the iterations of the
    account's own, so that a SCRAM exchange is the same until the client shows which password it has."""

    id: str
    keys: Mapping[str, ScramKeys]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is known about an account when somebody wants to log in to it.

    ``keys`` has an entry for each hash by its SCRAM name (``"SHA-256"``). An account with ``enabled=False``
    exists and its password is right or wrong as before, but nobody gets in (``account-disabled``, RFC 6120
    section 6.5.2). ``account`` says which account that is, and when its password was changed, for whoever keeps them.
    """

    keys: Mapping[str, ScramKeys]
    enabled: bool = True
    grants: tuple[Grant, ...] = ()
    account: tuple[int, int] = (0, 0)


def digest_size(hash_name: str) -> int:
    """Return the length in bytes of a hash, and so of each key and proof made with it."""
    return hashlib.new(HASHES[hash_name]).digest_size


def salted_password(password: bytes, salt: bytes, iterations: int, hash_name: str) -> bytes:
    """Return SaltedPassword (PBKDF2) of a prepared password in UTF-8.

    Takes milliseconds, so it is not for the main thread.
    Source: RFC 5802 section 2.2 (Hi) and section 3.
    """
    return hashlib.pbkdf2_hmac(HASHES[hash_name], password, salt, iterations)


def keys_from_salted_password(salted: bytes, hash_name: str, salt: bytes, iterations: int) -> ScramKeys:
    """Return the keys to store for a SaltedPassword. Source: RFC 5802 section 3."""
    digest = HASHES[hash_name]
    client_key = hmac.digest(salted, b"Client Key", digest)
    server_key = hmac.digest(salted, b"Server Key", digest)
    return ScramKeys(salt, iterations, hashlib.new(digest, client_key).digest(), server_key)


def derive(password: str, hash_name: str, salt: bytes, iterations: int) -> ScramKeys:
    """Return the keys to store for a password, which is prepared here; ValueError when that is not possible.

    Source: RFC 5802 section 3.
    """
    prepared = prepare_password(password).encode()
    salted = salted_password(prepared, salt, iterations, hash_name)
    return keys_from_salted_password(salted, hash_name, salt, iterations)


def make(
    password: str,
    hashes: Collection[str] = tuple(HASHES),
    iterations: int = DEFAULT_ITERATIONS,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Credentials:
    """Return new credentials for a password, each hash with its own salt; ValueError as in ``derive``."""
    return Credentials({name: derive(password, name, random(SALT_LENGTH), iterations) for name in hashes})


def verify_password(keys: ScramKeys, password: bytes, hash_name: str) -> bool:
    """Say whether a prepared password in UTF-8 belongs to these keys. Derives, so not for the main thread."""
    salted = salted_password(password, keys.salt, keys.iterations, hash_name)
    return verify_salted_password(keys, salted, hash_name)


def verify_salted_password(keys: ScramKeys, salted: bytes, hash_name: str) -> bool:
    """Say in constant time whether a SaltedPassword belongs to these keys."""
    presented = keys_from_salted_password(salted, hash_name, keys.salt, keys.iterations)
    return hmac.compare_digest(presented.stored_key, keys.stored_key)


def made_up(secret: bytes, username: str, hash_name: str, iterations: int) -> ScramKeys:
    """Return keys for an account that does not exist: the same for the same name, and nobody can match them.

    ``secret`` is random and must outlive restarts, or a changing salt tells which accounts are made up. Upper
    and lower case give the same keys, since all spellings of a real account have one salt as well.
    Source: RFC 5802 section 9, RFC 6120 section 6.5.10.
    """
    account = unicodedata.normalize("NFC", username.lower()).encode("utf-8", "surrogatepass")

    def piece(label: bytes, size: int) -> bytes:
        # SHA-512 is long enough for every piece. No part contains NUL, so no two messages are the same.
        return hmac.digest(secret, b"\0".join((label, hash_name.encode(), account)), "sha512")[:size]

    size = digest_size(hash_name)
    return ScramKeys(piece(b"salt", SALT_LENGTH), iterations, piece(b"stored", size), piece(b"server", size))
