"""HT-*: draft-schmaus-kitten-sasl-ht-09, with the tokens of XEP-0484."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.auth.hashed_token import SLOTS, TOKEN_MECHANISMS, HashedToken
from xmppd.auth.mechanism import AuthenticationFailed, Exchange, Success, Token
from xmppd.auth.offer import Offer, create, token_mechanisms

from .support import BINDINGS, DIGESTS, SECRET, failure, make_exchange, run

TOKEN = Token("new", b"a token")
OTHER = Token("current", b"another one")
EXPIRED = Token("current", b"an old one", expired=True)
CONNECTION = {**BINDINGS, "tls-unique": b"finished"}
NAME = "HT-SHA-256-NONE"


def exchange(known: Mapping[str, Sequence[Token]] | None = None, **changes: Any) -> Exchange:
    """Romeo has a token, or who has which ones."""

    async def tokens(username: str) -> Sequence[Token]:
        return ({"romeo": [TOKEN]} if known is None else known).get(username, ())

    return make_exchange(**{"bindings": CONNECTION, "tokens": tokens, **changes})


def binding_of(name: str) -> bytes:
    """What the end of the name says about the connection."""
    return CONNECTION.get(TOKEN_MECHANISMS[name][1], b"")


def proof(secret: bytes, name: str = NAME, binding: bytes | None = None, role: bytes = b"Initiator") -> bytes:
    """What shows that somebody has a token, on this connection or another one."""
    data = role + (binding_of(name) if binding is None else binding)
    return hmac.digest(secret, data, DIGESTS[TOKEN_MECHANISMS[name][0]])


def shows(secret: bytes, username: str = "romeo", name: str = NAME) -> bytes:
    return username.encode() + b"\0" + proof(secret, name)


def test_the_mechanisms_of_a_connection_strongest_first() -> None:
    assert token_mechanisms(()) == ("HT-SHA-512-NONE", "HT-SHA-256-NONE")
    assert token_mechanisms(["tls-exporter"]) == (
        "HT-SHA-512-EXPR",
        "HT-SHA-256-EXPR",
        "HT-SHA-512-NONE",
        "HT-SHA-256-NONE",
    )
    assert set(token_mechanisms(CONNECTION)) == set(TOKEN_MECHANISMS)


# printf Initiator | openssl dgst -sha256 -hmac 'a token' -binary | base64; for the answer Responder, and behind
# both of them what the connection exports.
@pytest.mark.parametrize(
    ("name", "shown", "answer"),
    [
        (
            "HT-SHA-256-NONE",
            "c+LUwPRmgEpqXwj9JAEuI0m1hy089RsbvA6nwM18mT0=",
            "JqweuS2sNAgjGJU1ikQsQumIUtTC86q67ieHZqxC1cg=",
        ),
        (
            "HT-SHA-256-EXPR",
            "M6TvJ69+D5W8MzHfiN/tooLhLrNmNyIFprp0JlsfG8Q=",
            "NccrBHe+A80ekvsEcik7lQj8tRhXPmx1OH+ruAuK5gw=",
        ),
        (
            "HT-SHA-512-NONE",
            "Z3Ff5Jx6zaxM9USB88QY0ojSz8kGKAm19kFLm16AXTDqKiz99gTTyJ7kzW6rV4zgY7Rpw0i/ZRqmSWZV8DHbHA==",
            "N0EW2Wvr84MdwtoSghhAVdlHE7up4VYgmn49kHapbavn3XvxAZdwTqbhlQn5jei9DbWFyrEYPkwLx4QcOwSKCw==",
        ),
        (
            "HT-SHA-512-EXPR",
            "uQgq8c4Ywgr8vv3SX5o68s8hxmc/U4ia8KrQDnx8DmZQb+vlwhJMvEiGOgVIwFI0YVwobBwTZgliI8S3rIV18Q==",
            "WJo+8+TJX3Y8SGeQLnzhetfY3k3y3ul7d41RA5GSA9zpF8ZuGCKTM8v//4CMgegt0BMObSw4xH20nyfIOnvGhQ==",
        ),
    ],
)
def test_what_is_shown_is_the_hash_of_the_draft(name: str, shown: str, answer: str) -> None:
    mechanism = HashedToken(name, exchange(bindings={"tls-exporter": b"exported"}))
    success = run(mechanism.respond(b"romeo\0" + base64.b64decode(shown)))
    assert success == Success("romeo", base64.b64decode(answer), token=TOKEN)


@pytest.mark.parametrize("name", TOKEN_MECHANISMS)
def test_both_sides_show_that_they_have_the_token(name: str) -> None:
    mechanism = create(name, exchange(offered=Offer((name,), tuple(CONNECTION))))
    assert mechanism.name == name
    success = run(mechanism.respond(shows(TOKEN.secret, name=name)))
    assert success == Success("romeo", proof(TOKEN.secret, name, role=b"Responder"), token=TOKEN)


@pytest.mark.parametrize("name", TOKEN_MECHANISMS)
@pytest.mark.parametrize("secret", [OTHER.secret, b"", SECRET])  # the last one stands in where there is no token
def test_another_token_is_refused(name: str, secret: bytes) -> None:
    failed = failure(HashedToken(name, exchange()).respond(shows(secret, name=name)))
    assert (failed.condition, failed.text) == ("not-authorized", None)


@given(st.integers(0, 31), st.integers(1, 255))
def test_a_hash_with_any_wrong_byte_is_refused(place: int, difference: int) -> None:
    shown = bytearray(proof(TOKEN.secret))
    shown[place] ^= difference
    failed = failure(HashedToken(NAME, exchange()).respond(b"romeo\0" + shown))
    assert failed.condition == "not-authorized"


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        proof(TOKEN.secret)[:-1],
        proof(TOKEN.secret) + b"\0",
        b"\0" + proof(TOKEN.secret),
        proof(TOKEN.secret, "HT-SHA-512-NONE"),
        proof(TOKEN.secret, role=b"Responder"),  # which is what the server has sent to somebody else
        proof(TOKEN.secret, binding=b"exported,\0\xff"),
        TOKEN.secret,
    ],
)
def test_what_is_no_hash_of_this_mechanism_is_refused(shown: bytes) -> None:
    assert failure(HashedToken(NAME, exchange()).respond(b"romeo\0" + shown)).condition == "not-authorized"


def test_the_name_ends_at_the_first_nul_and_the_hash_may_contain_more() -> None:
    secrets = (b"%d" % number for number in range(1000))
    token = next(Token("new", secret) for secret in secrets if b"\0" in proof(secret))
    success = run(HashedToken(NAME, exchange({"romeo": [token]})).respond(shows(token.secret)))
    assert isinstance(success, Success)
    assert (success.username, success.token) == ("romeo", token)


@pytest.mark.parametrize("message", [None, b"", b"romeo", b"romeo" + b"\xff" * 32, b"\0", b"\0" + proof(TOKEN.secret)])
def test_a_message_without_a_name_and_a_nul_is_malformed(message: bytes | None) -> None:
    assert failure(HashedToken(NAME, exchange()).respond(message)).condition == "malformed-request"


@pytest.mark.parametrize("first", [b"romeo", shows(b"wrong"), shows(TOKEN.secret)])
def test_nothing_comes_after_the_first_message(first: bytes) -> None:
    mechanism = HashedToken(NAME, exchange())
    try:
        run(mechanism.respond(first))
    except AuthenticationFailed:
        assert first != shows(TOKEN.secret)
    assert failure(mechanism.respond(shows(TOKEN.secret))).condition == "malformed-request"


@pytest.mark.parametrize("username", ["ro\u00admeo", "ｒｏｍｅｏ"])
def test_the_name_is_prepared(username: str) -> None:
    success = run(HashedToken(NAME, exchange()).respond(shows(TOKEN.secret, username)))
    assert isinstance(success, Success)
    assert success.username == "romeo"


@pytest.mark.parametrize("username", [b"\xff", b"\xc0\xaf", "\u0007".encode(), "\u00ad".encode()])
def test_what_cannot_be_a_name_is_refused_like_an_unknown_one(username: bytes) -> None:
    failed = failure(HashedToken(NAME, exchange()).respond(username + b"\0" + proof(TOKEN.secret)))
    assert (failed.condition, failed.text) == ("not-authorized", None)


@pytest.mark.parametrize("name", [name for name, (_, binding) in TOKEN_MECHANISMS.items() if binding])
def test_a_hash_of_another_connection_is_refused(name: str) -> None:
    for binding in (b"", b"another connection"):
        shown = proof(TOKEN.secret, name, binding)
        assert failure(HashedToken(name, exchange()).respond(b"romeo\0" + shown)).condition == "not-authorized"


@pytest.mark.parametrize("name", [name for name, (_, binding) in TOKEN_MECHANISMS.items() if binding])
def test_a_connection_without_such_a_binding_lets_nobody_in(name: str) -> None:
    for binding in (b"", binding_of(name)):
        message = b"romeo\0" + proof(TOKEN.secret, name, binding)
        failed = failure(HashedToken(name, exchange(bindings={})).respond(message))
        assert (failed.condition, failed.text) == ("not-authorized", "unsupported-channel-binding-type")


def test_only_who_has_a_token_learns_that_it_has_expired() -> None:
    known = {"romeo": [EXPIRED]}
    assert failure(HashedToken(NAME, exchange(known)).respond(shows(EXPIRED.secret))).condition == "credentials-expired"
    assert failure(HashedToken(NAME, exchange(known)).respond(shows(b"wrong"))).condition == "not-authorized"


def test_an_unknown_user_gets_the_answer_of_a_known_one() -> None:
    answers = []
    for username, known in (("romeo", [TOKEN]), ("romeo", [EXPIRED]), ("romeo", [TOKEN, OTHER]), ("juliet", [])):
        failed = failure(HashedToken(NAME, exchange({username: known})).respond(shows(b"wrong", username)))
        answers.append((failed.condition, failed.text, failed.application))
    assert set(answers) == {("not-authorized", None, b"")}


@pytest.mark.parametrize("tokens", [(TOKEN, OTHER), (OTHER, TOKEN), (EXPIRED, TOKEN)])
def test_each_of_two_slots_lets_its_client_in_and_is_told(tokens: tuple[Token, ...]) -> None:
    assert len(tokens) == SLOTS
    for token in tokens:
        mechanism = HashedToken(NAME, exchange({"romeo": tokens}))
        if token.expired:
            assert failure(mechanism.respond(shows(token.secret))).condition == "credentials-expired"
        else:
            answer = proof(token.secret, role=b"Responder")
            assert run(mechanism.respond(shows(token.secret))) == Success("romeo", answer, token=token)


def test_a_token_of_another_user_is_none() -> None:
    known = {"romeo": [TOKEN], "juliet": [OTHER]}
    for message in (shows(OTHER.secret), shows(TOKEN.secret, "juliet")):
        assert failure(HashedToken(NAME, exchange(known)).respond(message)).condition == "not-authorized"


def test_a_failing_lookup_is_passed_on() -> None:
    async def tokens(username: str) -> Sequence[Token]:
        raise AuthenticationFailed("temporary-auth-failure")

    failed = failure(HashedToken(NAME, exchange(tokens=tokens)).respond(shows(TOKEN.secret)))
    assert failed.condition == "temporary-auth-failure"


@given(st.binary(max_size=80))
def test_any_message_is_refused(message: bytes) -> None:
    assert failure(HashedToken(NAME, exchange()).respond(message)).condition in ("malformed-request", "not-authorized")


def test_a_token_is_not_printed() -> None:
    assert "a token" not in repr(TOKEN)
