"""What the mechanisms share: failures, accounts, authorization identities."""

from __future__ import annotations

import pytest

from xmppd.auth.credentials import Credentials
from xmppd.auth.mechanism import Account, AuthenticationFailed, check_authzid, find_account

from .support import ACCOUNTS, SECRET, decoy, make_exchange, run


@pytest.mark.parametrize(
    "condition",
    [
        "aborted",
        "account-disabled",
        "credentials-expired",
        "encryption-required",
        "incorrect-encoding",
        "invalid-authzid",
        "invalid-mechanism",
        "malformed-request",
        "mechanism-too-weak",
        "not-authorized",
        "temporary-auth-failure",
    ],
)
def test_a_failure_has_a_condition_of_rfc_6120(condition: str) -> None:
    failed = AuthenticationFailed(condition, "why")
    assert (failed.condition, failed.text) == (condition, "why")
    assert AuthenticationFailed(condition).text is None


def test_a_failure_has_no_other_condition() -> None:
    with pytest.raises(AssertionError):
        AuthenticationFailed("no-such-condition")


@pytest.mark.parametrize(
    ("credentials", "matches", "condition"),
    [
        (ACCOUNTS["romeo"], False, "not-authorized"),
        (None, False, "not-authorized"),
        (None, True, "not-authorized"),  # nobody can do that; if somebody can, there is still no account
        (ACCOUNTS["tybalt"], False, "not-authorized"),
        (ACCOUNTS["tybalt"], True, "account-disabled"),
    ],
)
def test_not_admitted(credentials: Credentials | None, matches: bool, condition: str) -> None:
    account = Account("SHA-1", decoy("juliet", "SHA-1"), credentials)
    with pytest.raises(AuthenticationFailed) as caught:
        account.admit(lambda keys: matches)
    assert (caught.value.condition, caught.value.text) == (condition, None)


def test_admitted() -> None:
    romeo = ACCOUNTS["romeo"]
    Account("SHA-1", romeo.keys["SHA-1"], romeo).admit(lambda keys: True)


@pytest.mark.parametrize(
    ("username", "hash_names", "found"),
    [
        ("romeo", ["SHA-256", "SHA-1"], "SHA-256"),
        ("romeo", ["SHA-1", "SHA-256"], "SHA-1"),
        ("old", ["SHA-256", "SHA-1"], "SHA-1"),
    ],
)
def test_known_account(username: str, hash_names: list[str], found: str) -> None:
    account = run(find_account(make_exchange(), username, hash_names))
    credentials = ACCOUNTS[username]
    assert account == Account(found, credentials.keys[found], credentials)


@pytest.mark.parametrize(
    ("username", "hash_names"), [("juliet", ["SHA-256", "SHA-1"]), ("old", ["SHA-256"]), ("", ["SHA-1"])]
)
def test_unknown_account(username: str, hash_names: list[str]) -> None:
    account = run(find_account(make_exchange(), username, hash_names))
    assert account == Account(hash_names[0], decoy(username, hash_names[0]), None)


def test_hosts_have_their_own_made_up_salts() -> None:
    here = run(find_account(make_exchange(), "juliet", ["SHA-1"]))
    there = run(find_account(make_exchange(host="example.net"), "juliet", ["SHA-1"]))
    assert here.keys.salt != there.keys.salt


def test_the_callable_for_the_authzid_is_asked_unless_it_is_empty() -> None:
    asked = []

    def same_user(authzid: str, username: str) -> bool:
        asked.append((authzid, username))
        return authzid == "ROMEO@example.org"

    exchange = make_exchange(same_user=same_user)
    check_authzid(exchange, "", "romeo")
    assert asked == []
    check_authzid(exchange, "ROMEO@example.org", "romeo")
    with pytest.raises(AuthenticationFailed, match="invalid-authzid"):
        check_authzid(exchange, "juliet@example.org", "romeo")
    assert asked == [("ROMEO@example.org", "romeo"), ("juliet@example.org", "romeo")]


def test_the_secret_is_not_printed() -> None:
    assert SECRET.decode() not in repr(make_exchange())
