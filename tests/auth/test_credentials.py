"""Keys instead of passwords: RFC 5802 section 3, and accounts that do not exist."""

from __future__ import annotations

import base64
import itertools

import pytest

from xmppd.auth.credentials import (
    DEFAULT_ITERATIONS,
    HASHES,
    SALT_LENGTH,
    ScramKeys,
    derive,
    digest_size,
    made_up,
    make,
    salted_password,
    verify_password,
    verify_salted_password,
)

SALT = base64.b64decode("QSXCR+Q6sek8bf92")


def test_keys_of_the_example_in_rfc_5802() -> None:
    keys = derive("pencil", "SHA-1", SALT, 4096)
    assert salted_password(b"pencil", SALT, 4096, "SHA-1").hex() == "1d96ee3a529b5a5f9e47c01f229a2cb8a6e15f7d"
    assert keys.stored_key.hex() == "e9d94660c39d65c38fbad91c358f14da0eef2bd6"
    assert keys.server_key.hex() == "0fe09258b3ac852ba502cc62ba903eaacdbf7d31"
    assert (keys.salt, keys.iterations) == (SALT, 4096)


def test_the_password_is_prepared() -> None:
    assert derive("I\u00adX", "SHA-256", b"salt", 1) == derive("\u2168", "SHA-256", b"salt", 1)
    with pytest.raises(ValueError):
        derive("\U0001f600", "SHA-256", b"salt", 1)
    with pytest.raises(ValueError):
        make("")


@pytest.mark.parametrize("hash_name", HASHES)
def test_only_the_right_password_verifies(hash_name: str) -> None:
    keys = derive("wherefore", hash_name, b"salt", 3)
    assert verify_password(keys, b"wherefore", hash_name)
    assert not verify_password(keys, b"Wherefore", hash_name)
    assert not verify_password(keys, b"", hash_name)
    assert verify_salted_password(keys, salted_password(b"wherefore", b"salt", 3, hash_name), hash_name)
    assert not verify_salted_password(keys, b"wherefore", hash_name)
    assert len(keys.stored_key) == len(keys.server_key) == digest_size(hash_name)


def test_made_credentials() -> None:
    numbers = itertools.count(1)
    made = make("wherefore", random=lambda size: bytes([next(numbers)]) * size)
    assert made.enabled
    assert made.keys == {
        "SHA-1": derive("wherefore", "SHA-1", b"\1" * SALT_LENGTH, DEFAULT_ITERATIONS),
        "SHA-256": derive("wherefore", "SHA-256", b"\2" * SALT_LENGTH, DEFAULT_ITERATIONS),
        "SHA-512": derive("wherefore", "SHA-512", b"\3" * SALT_LENGTH, DEFAULT_ITERATIONS),
    }
    assert DEFAULT_ITERATIONS >= 4096  # RFC 7677 section 4


def test_every_salt_is_new() -> None:
    salts = {keys.salt for _ in range(2) for keys in make("wherefore", iterations=1).keys.values()}
    assert len(salts) == 2 * len(HASHES)


def test_made_up_keys_look_like_real_ones_and_stay() -> None:
    for hash_name in HASHES:
        keys, real = made_up(b"secret", "nobody", hash_name, 7), derive("x", hash_name, bytes(SALT_LENGTH), 7)
        assert keys == made_up(b"secret", "nobody", hash_name, 7)
        assert [len(part) for part in (keys.salt, keys.stored_key, keys.server_key)] == [
            len(part) for part in (real.salt, real.stored_key, real.server_key)
        ]
        assert keys.iterations == 7


def test_made_up_keys_survive_a_new_version() -> None:
    # A salt that changes with an upgrade tells who does not exist.
    keys = made_up(b"secret", "nobody@example.org", "SHA-1", 4096)
    assert keys.salt.hex() == "7c95c73ca0e42852b6d9ff3661c2e1ed"
    assert keys.stored_key.hex() == "3a9b1f424cba6e8bf16ddd1a54307b8904eecedc"
    assert keys.server_key.hex() == "1901c2a084ab5d2788fc77764a57ea1562832cd6"


def test_made_up_keys_depend_on_secret_name_and_hash() -> None:
    everyone = [
        made_up(secret, name, hash_name, 7)
        for secret in (b"secret", b"other")
        for name in ("nobody", "nobody2")
        for hash_name in HASHES
    ]
    pieces = [piece[:16] for keys in everyone for piece in (keys.salt, keys.stored_key, keys.server_key)]
    assert len(set(pieces)) == len(pieces)


@pytest.mark.parametrize("spelling", ["NOBODY", "NoBody"])
def test_made_up_salts_ignore_case_like_real_accounts(spelling: str) -> None:
    assert made_up(b"secret", spelling, "SHA-1", 7) == made_up(b"secret", "nobody", "SHA-1", 7)


def test_made_up_keys_for_any_name() -> None:
    assert made_up(b"secret", "\ud800\0", "SHA-1", 7) != made_up(b"secret", "", "SHA-1", 7)


def test_keys_are_not_printed() -> None:
    shown = repr(ScramKeys(b"salt", 1, b"stored!", b"server!"))
    assert "stored!" not in shown
    assert "server!" not in shown
