"""Application passwords in SCRAM and PLAIN: each lets in as the account's own does, and is told from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xmppd.auth.credentials import HASHES, Credentials, Grant, ScramKeys, derive, make
from xmppd.auth.mechanism import Account, AuthenticationFailed, Challenge, Success
from xmppd.auth.offer import Offer, create
from xmppd.auth.plain import Plain

from .support import ITERATIONS, Client, failure, make_exchange, run

OWN = make("wherefore", iterations=ITERATIONS)
OFFER = Offer(tuple(f"SCRAM-{name}" for name in HASHES), ())


def grant(id: str, password: str, **changes: Any) -> Grant:
    """A grant of the account; the keys of one that does not fit to it are changed."""
    made = {name: derive(password, name, keys.salt, keys.iterations) for name, keys in OWN.keys.items()}
    return Grant(id, {name: replace(keys, **changes) for name, keys in made.items()})


PHONE, LAPTOP = grant("phone", "ear"), grant("laptop", "lap")
ROMEO = Credentials(OWN.keys, grants=(PHONE, LAPTOP))
UNFIT = [grant("phone", "ear", salt=b"other"), grant("phone", "ear", iterations=ITERATIONS + 1), Grant("phone", {})]


def scram(credentials: Credentials, hash_name: str, password: str) -> Success:
    """Log in by SCRAM, and check the server's signature."""
    mechanism = create(f"SCRAM-{hash_name}", make_exchange({"romeo": credentials}, offered=OFFER))
    client = Client(password, hash_name=hash_name)
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    success = run(mechanism.respond(client.final(challenge.data)))
    assert isinstance(success, Success)
    assert success.data == client.server_signature
    return success


def plain(credentials: Credentials, password: str, *hashes: str) -> Success:
    """Log in by PLAIN."""
    mechanism = Plain(make_exchange({"romeo": credentials}, password_hashes=hashes or tuple(HASHES)))
    success = run(mechanism.respond(f"\0romeo\0{password}".encode()))
    assert isinstance(success, Success)
    return success


@pytest.mark.parametrize("hash_name", HASHES)
@pytest.mark.parametrize(("password", "id"), [("wherefore", None), ("ear", "phone"), ("lap", "laptop")])
def test_scram_says_whose_password_it_was(hash_name: str, password: str, id: str | None) -> None:
    assert scram(ROMEO, hash_name, password).grant == id


@pytest.mark.parametrize("hash_name", HASHES)
@pytest.mark.parametrize(("password", "id"), [("wherefore", None), ("ear", "phone"), ("lap", "laptop")])
def test_plain_says_whose_password_it_was(hash_name: str, password: str, id: str | None) -> None:
    success = plain(ROMEO, password, hash_name)
    assert success == Success("romeo", grant=id)
    assert success.password == password.encode()


def test_a_password_that_is_also_the_accounts_own_is_that() -> None:
    credentials = Credentials(OWN.keys, grants=(grant("phone", "wherefore"),))
    assert plain(credentials, "wherefore").grant is None
    assert scram(credentials, "SHA-256", "wherefore").grant is None


@pytest.mark.parametrize("other", UNFIT, ids=["another salt", "other iterations", "no keys"])
def test_a_grant_that_does_not_fit_to_the_accounts_keys_is_ignored(other: Grant) -> None:
    credentials = Credentials(OWN.keys, grants=(other, LAPTOP))
    for hash_name in HASHES:
        with pytest.raises(AuthenticationFailed, match="not-authorized"):
            scram(credentials, hash_name, "ear")
        with pytest.raises(AuthenticationFailed, match="not-authorized"):
            plain(credentials, "ear", hash_name)
        assert scram(credentials, hash_name, "lap").grant == "laptop"
        assert plain(credentials, "lap", hash_name).grant == "laptop"


def test_a_grant_of_somebody_else_is_none() -> None:
    juliet = make("my ears", iterations=ITERATIONS)
    mechanism = Plain(make_exchange({"romeo": ROMEO, "juliet": juliet}))
    assert failure(mechanism.respond(b"\0juliet\0ear")).condition == "not-authorized"


@pytest.mark.parametrize("password", ["wherefore", "ear"])
def test_an_account_that_is_disabled_lets_nobody_in_by_a_grant(password: str) -> None:
    closed = Credentials(OWN.keys, enabled=False, grants=(PHONE,))
    with pytest.raises(AuthenticationFailed, match="account-disabled"):
        plain(closed, password)
    with pytest.raises(AuthenticationFailed, match="account-disabled"):
        scram(closed, "SHA-512", password)
    with pytest.raises(AuthenticationFailed, match="not-authorized"):
        plain(closed, "wrong")


@pytest.mark.parametrize("hash_name", HASHES)
def test_a_login_looks_the_same_with_grants_and_without_until_the_proof(hash_name: str) -> None:
    exchanges = [make_exchange({"romeo": credentials}, offered=OFFER) for credentials in (OWN, ROMEO)]
    answers = [run(create(f"SCRAM-{hash_name}", each).respond(b"n,,n=romeo,r=CLIENT")) for each in exchanges]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("hash_name", HASHES)
def test_admitted_are_the_first_keys_that_match(hash_name: str) -> None:
    account = Account(hash_name, OWN.keys[hash_name], ROMEO)
    own, phone, laptop = (each.keys[hash_name] for each in (OWN, PHONE, LAPTOP))
    asked: list[ScramKeys] = []

    def matches(keys: ScramKeys) -> bool:
        asked.append(keys)
        return keys == wanted

    for wanted, id, looked_at in (
        (own, None, [own]), (phone, "phone", [own, phone]), (laptop, "laptop", [own, phone, laptop]),
    ):  # fmt: skip
        asked.clear()
        assert account.admit(matches) == (wanted, id)
        assert asked == looked_at
