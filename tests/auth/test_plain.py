"""PLAIN: RFC 4616."""

from __future__ import annotations

import pytest

from xmppd.auth.credentials import Credentials, keys_from_salted_password, make, salted_password
from xmppd.auth.mechanism import AuthenticationFailed, Challenge, Success
from xmppd.auth.plain import Plain

from .support import ACCOUNTS, ITERATIONS, decoy, failure, make_exchange, run


@pytest.mark.parametrize(
    ("message", "username"),
    [
        (b"\0romeo\0wherefore", "romeo"),
        (b"romeo@example.org\0romeo\0wherefore", "romeo"),
        (b"\0old\0legacy", "old"),  # has no keys for SHA-256
        ("\0ro\u00admeo\0where\u00adfore".encode(), "romeo"),  # SASLprep
        ("\0ｒｏｍｅｏ\0ｗherefore".encode(), "romeo"),
        (b"\0a,b=c\0comma", "a,b=c"),
    ],
)
def test_accepted(message: bytes, username: str) -> None:
    assert run(Plain(make_exchange()).respond(message)) == Success(username, None)


@pytest.mark.parametrize(
    ("message", "condition"),
    [
        (b"", "malformed-request"),
        (b"\0", "malformed-request"),
        (b"\0\0", "malformed-request"),
        (b"romeo\0wherefore", "malformed-request"),
        (b"\0romeo\0", "malformed-request"),
        (b"\0\0wherefore", "malformed-request"),
        (b"romeo@example.org\0\0wherefore", "malformed-request"),
        (b"\0romeo\0wherefore\0", "malformed-request"),
        (b"\0romeo\0wherefore\0tybalt", "malformed-request"),
        (b"\0\0romeo\0wherefore", "malformed-request"),
        (b"tybalt@example.org\0\0romeo\0wherefore", "malformed-request"),
        (b"\0romeo\0where\xfffore", "malformed-request"),
        (b"\0rom\xc0\xafeo\0wherefore", "malformed-request"),  # overlong
        (b"\xed\xa0\x80\0romeo\0wherefore", "malformed-request"),  # a surrogate
        (b"\0romeo\0Wherefore", "not-authorized"),
        (b"\0romeo\0wherefore ", "not-authorized"),
        (b"\0Romeo\0wherefore", "not-authorized"),  # case is the lookup's business
        (b"\0juliet\0wherefore", "not-authorized"),
        (b"\0romeo\nx\0wherefore", "not-authorized"),  # SASLprep: control character
        (b"\0romeo\0where\x07fore", "not-authorized"),
        ("\0\u00ad\0wherefore".encode(), "not-authorized"),  # nothing is left
        ("\0romeo\0\u00ad".encode(), "not-authorized"),
        ("\0romeo\0\U0001f600".encode(), "not-authorized"),
        (b"tybalt@example.org\0romeo\0wherefore", "invalid-authzid"),
        (b"romeo@example.net\0romeo\0wherefore", "invalid-authzid"),
        (b"romeo\0romeo\0wherefore", "invalid-authzid"),
        (b"romeo@example.org/balcony\0romeo\0wherefore", "invalid-authzid"),
        (b" \0romeo\0wherefore", "invalid-authzid"),
        (b"\0tybalt\0peppercorn", "account-disabled"),
        (b"\0tybalt\0wrong", "not-authorized"),
    ],
)
def test_refused(message: bytes, condition: str) -> None:
    mechanism = Plain(make_exchange())
    assert failure(mechanism.respond(message)).condition == condition
    assert failure(mechanism.respond(b"\0romeo\0wherefore")).condition == "malformed-request"


def test_a_client_without_initial_response_is_asked_once() -> None:
    mechanism = Plain(make_exchange())
    assert run(mechanism.respond(None)) == Challenge(b"")
    assert run(mechanism.respond(b"\0romeo\0wherefore")) == Success("romeo", None)
    mechanism = Plain(make_exchange())
    assert run(mechanism.respond(None)) == Challenge(b"")
    assert failure(mechanism.respond(None)).condition == "malformed-request"
    assert failure(mechanism.respond(b"\0romeo\0wherefore")).condition == "malformed-request"


def test_a_message_after_success_is_refused() -> None:
    mechanism = Plain(make_exchange())
    run(mechanism.respond(b"\0romeo\0wherefore"))
    assert failure(mechanism.respond(b"\0romeo\0wherefore")).condition == "malformed-request"
    assert failure(mechanism.respond(None)).condition == "malformed-request"


def test_an_unknown_user_costs_the_same_derivation() -> None:
    derived = []

    async def derive(password: bytes, salt: bytes, iterations: int, hash_name: str) -> bytes:
        derived.append((salt, iterations, hash_name))
        return salted_password(password, salt, iterations, hash_name)

    answers = []
    for username in ("juliet", "tybalt", "romeo"):
        mechanism = Plain(make_exchange(derive=derive))
        failed = failure(mechanism.respond(f"\0{username}\0wrong".encode()))
        answers.append((failed.condition, failed.text))
    assert len(set(answers)) == 1
    assert derived[0] == (decoy("juliet", "SHA-256").salt, ITERATIONS, "SHA-256")
    assert derived[1:] == [
        (ACCOUNTS[name].keys["SHA-256"].salt, ITERATIONS, "SHA-256") for name in ("tybalt", "romeo")
    ]


def test_an_account_without_usable_keys_is_like_an_unknown_one() -> None:
    accounts = {"romeo": Credentials({}), "tybalt": make("x", hashes=["SHA-512"], iterations=1)}
    for message in (b"\0romeo\0wherefore", b"\0tybalt\0x"):
        exchange = make_exchange(accounts, password_hashes=("SHA-256", "SHA-1"))
        assert failure(Plain(exchange).respond(message)).condition == "not-authorized"


def test_a_password_that_could_not_be_stored_today_still_opens_an_imported_account() -> None:
    password = "\U0001f600"  # newer than Unicode 3.2
    salted = salted_password(password.encode(), b"salt", 1, "SHA-256")
    keys = keys_from_salted_password(salted, "SHA-256", b"salt", 1)
    mechanism = Plain(make_exchange({"romeo": Credentials({"SHA-256": keys})}))
    assert run(mechanism.respond(f"\0romeo\0{password}".encode())) == Success("romeo", None)


def test_a_failing_lookup_is_passed_on() -> None:
    async def lookup(username: str) -> None:
        raise AuthenticationFailed("temporary-auth-failure")

    mechanism = Plain(make_exchange(lookup=lookup))
    assert failure(mechanism.respond(b"\0romeo\0wherefore")).condition == "temporary-auth-failure"
