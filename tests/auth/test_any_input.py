"""Whatever a client sends, a mechanism answers or refuses; and passwords open their own account only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xmppd.auth.credentials import make
from xmppd.auth.mechanism import AuthenticationFailed, Challenge, Success
from xmppd.auth.offer import create
from xmppd.auth.prepare import prepare_password, prepare_username

from .support import EVERYTHING, Client, failure, make_exchange, run

# Pieces of real messages in any order get deeper than random bytes.
PIECES = [
    *(b"n", b"y", b"p=tls-exporter", b",", b",,", b"a=romeo@example.org", b"n=romeo", b"r=CLIENT", b"m=1"),
    *(b"c=biws", b"r=CLIENTSERVER", b"p=AAAA", b"p=", b"x=1", b"=2C", b"=", b"\0", b"\xff", "é".encode()),
    *(b"romeo", b"wherefore", b"AAAA"),
]
MESSAGES = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.lists(st.sampled_from(PIECES), max_size=6).map(b",".join),
    st.lists(st.text(max_size=5).map(str.encode), min_size=2, max_size=4).map(b"\0".join),
)


@pytest.mark.parametrize("name", EVERYTHING.mechanisms)
@settings(deadline=None)
@given(before=st.booleans(), messages=st.lists(MESSAGES, min_size=1, max_size=4))
def test_any_message_at_any_step_is_answered(name: str, before: bool, messages: list[bytes | None]) -> None:
    mechanism = create(name, make_exchange())
    if before:
        gs2 = "p=tls-exporter,," if name.endswith("-PLUS") else "n,,"
        messages = [f"{gs2}n=romeo,r=CLIENT".encode(), *messages]
    for message in messages:
        try:
            answer = run(mechanism.respond(message))
        except AuthenticationFailed as failed:
            assert failed.condition in {
                "malformed-request",
                "incorrect-encoding",
                "not-authorized",
                "invalid-authzid",
            }
        else:
            # A success is only possible in PLAIN, where the pieces contain a password.
            assert isinstance(answer, Challenge) or (name == "PLAIN" and isinstance(answer, Success))


# Among them what SASLprep maps, composes and removes. Most of Unicode would be refused.
LEFT_TO_RIGHT = st.one_of(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E),
    st.sampled_from("äÅéßΩωЖж漢字ａＡⅨªﬁ\u00ad\u00a0\u0301\u212b"),
)
RIGHT_TO_LEFT = st.sampled_from("אבגابت\ufb1d")


def prepared_by(prepare: Callable[[str], str]) -> st.SearchStrategy[str]:
    """Return texts that SASLprep accepts, and whose prepared form it leaves alone."""

    def works(text: str) -> bool:
        try:
            return prepare(prepare(text)) == prepare(text)
        except ValueError:
            return False

    texts = st.text(LEFT_TO_RIGHT, min_size=1, max_size=12) | st.text(RIGHT_TO_LEFT, min_size=1, max_size=5)
    return texts.filter(works)


USERNAMES = prepared_by(prepare_username)
PASSWORDS = prepared_by(prepare_password)


def play(name: str, username: str, password: str, accounts: dict) -> Success:
    """Log in as a client does; raises AuthenticationFailed."""
    if name == "PLAIN":
        exchange = make_exchange(accounts)
        answer = run(create(name, exchange).respond(f"\0{username}\0{password}".encode()))
    else:
        mechanism = create(name, make_exchange(accounts))
        client = Client(prepare_password(password), username, name.removeprefix("SCRAM-"))
        challenge = run(mechanism.respond(client.first()))
        assert isinstance(challenge, Challenge)
        answer = run(mechanism.respond(client.final(challenge.data)))
        assert isinstance(answer, Success)
        assert answer.data == client.server_signature
    assert isinstance(answer, Success)
    return answer


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
@settings(deadline=None)
@given(username=USERNAMES, password=PASSWORDS)
def test_the_password_opens_the_account(name: str, username: str, password: str) -> None:
    accounts = {prepare_username(username): make(password, iterations=1)}
    assert play(name, username, password, accounts).username == prepare_username(username)


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
@settings(deadline=None)
@given(username=USERNAMES, password=PASSWORDS, other=PASSWORDS)
def test_another_password_does_not(name: str, username: str, password: str, other: str) -> None:
    assume(prepare_password(password) != prepare_password(other))
    accounts = {prepare_username(username): make(password, iterations=1)}
    with pytest.raises(AuthenticationFailed, match="not-authorized"):
        play(name, username, other, accounts)


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "PLAIN"])
@settings(deadline=None)
@given(username=USERNAMES, other=USERNAMES, password=PASSWORDS)
def test_another_name_does_not(name: str, username: str, other: str, password: str) -> None:
    assume(prepare_username(username) != prepare_username(other))
    accounts = {prepare_username(username): make(password, iterations=1)}
    with pytest.raises(AuthenticationFailed, match="not-authorized"):
        play(name, other, password, accounts)


@settings(deadline=None)
@given(text=st.text(max_size=10))
def test_prepared_text_is_what_was_given_or_an_error(text: str) -> None:
    for prepare in (prepare_username, prepare_password):
        try:
            prepared = prepare(text)
        except ValueError:
            continue
        assert prepared
        assert "\0" not in prepared
        prepared.encode()


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_no_two_names_share_a_plain_message(data: bytes) -> None:
    """The fields of PLAIN are split at NUL and nowhere else."""
    if data.count(b"\0") != 2:
        assert failure(create("PLAIN", make_exchange()).respond(data)).condition == "malformed-request"
