"""Application passwords: how they are made, kept and void."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.auth.support import ACCOUNTS, Client, make_exchange, run
from xmppd.auth.credentials import DEFAULT_ITERATIONS, HASHES, SALT_LENGTH, Credentials, ScramKeys, derive
from xmppd.auth.credentials import Grant as Keys
from xmppd.auth.mechanism import Challenge, Success
from xmppd.auth.offer import Offer, create
from xmppd.auth.prepare import prepare_password
from xmppd.core.grants import Grant, from_stored, make_keys, new_password, salt_for, to_stored, usable

ROMEO = ACCOUNTS["romeo"]
OLD = ACCOUNTS["old"]  # has keys for SHA-1 alone
TIMES = st.integers(0, 2**53)
KEYS = st.builds(ScramKeys, st.binary(), st.integers(1, 10**7), st.binary(), st.binary())
GRANTS = st.builds(
    Grant,
    name=st.text(),
    created=TIMES,
    keys=st.dictionaries(st.sampled_from(list(HASHES)), KEYS),
    used=st.none() | TIMES,
    client=st.none() | st.text(),
)
OFFER = Offer((*(f"SCRAM-{name}" for name in HASHES), "PLAIN"), ())


@given(GRANTS)
def test_a_grant_is_read_as_it_was_kept(grant: Grant) -> None:
    assert from_stored(to_stored(grant)) == grant


@given(st.dictionaries(st.text(), GRANTS, max_size=5), TIMES)
def test_grants_made_before_the_password_was_changed_are_void(grants: dict[str, Grant], changed: int) -> None:
    kept = {id: to_stored(grant) for id, grant in grants.items()}
    still = {id: grant for id, grant in grants.items() if grant.created >= changed}
    assert usable(kept, changed) == tuple(Keys(id, grant.keys) for id, grant in still.items())


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["romeo", "old"]))
def test_a_made_password_is_accepted_by_every_mechanism_that_the_account_has_keys_for(
    chance: random.Random, username: str
) -> None:
    password = new_password(chance.choice)
    assert prepare_password(password) == password
    account = ACCOUNTS[username]
    keys = {name: derive(password, name, *salt_for(account, name)) for name in account.keys}
    kept = {"phone": to_stored(Grant("Phone", 7, keys))}
    accounts = {username: Credentials(account.keys, grants=usable(kept, 7))}
    mechanism = create("PLAIN", make_exchange(accounts, offered=OFFER))
    assert run(mechanism.respond(f"\0{username}\0{password}".encode())) == Success(username, grant="phone")
    for hash_name in account.keys:
        mechanism = create(f"SCRAM-{hash_name}", make_exchange(accounts, offered=OFFER))
        client = Client(password, username, hash_name)
        challenge = run(mechanism.respond(client.first()))
        assert isinstance(challenge, Challenge)
        success = run(mechanism.respond(client.final(challenge.data)))
        assert success == Success(username, client.server_signature, grant="phone")


def test_keys_are_made_for_every_hash_with_the_salts_of_the_account() -> None:
    keys = make_keys("a password", ROMEO)
    assert keys == {
        name: derive("a password", name, own.salt, own.iterations) for name, own in ROMEO.keys.items()
    }
    assert keys.keys() == HASHES.keys()


def test_a_salt_is_that_of_the_account_or_else_of_a_grant_or_else_new() -> None:
    grant = Keys("phone", {name: ScramKeys(b"salt", 3, b"", b"") for name in ("SHA-1", "SHA-256")})
    credentials = Credentials(OLD.keys, grants=(Keys("none", {}), grant))
    assert salt_for(credentials, "SHA-1") == (OLD.keys["SHA-1"].salt, OLD.keys["SHA-1"].iterations)
    assert salt_for(credentials, "SHA-256") == (b"salt", 3)
    salts = {salt_for(credentials, "SHA-512") for _ in range(3)}
    assert len(salts) == 3
    assert {(len(salt), iterations) for salt, iterations in salts} == {(SALT_LENGTH, DEFAULT_ITERATIONS)}


@pytest.mark.parametrize("password", ["", "a\nb", "\U0001f600"])
def test_what_cannot_be_a_password_makes_no_keys(password: str) -> None:
    with pytest.raises(ValueError):
        make_keys(password, ROMEO)


def test_nobody_guesses_a_password_and_everybody_can_read_it_aloud() -> None:
    drawn: list[str] = []

    def first(letters: str) -> str:
        drawn.append(letters)
        return letters[0]

    assert new_password(first) == "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa"
    choices = 1
    for letters in drawn:
        assert len(set(letters)) == len(letters)
        assert not set(letters) & set("l1o0")
        choices *= len(letters)
    assert choices >= 2**120
    assert len({new_password() for _ in range(100)}) == 100
