"""Dialback keys: as XEP-0185 makes them, and good for one secret, one pair of domains and one stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.auth.dialback import dialback_key, is_dialback_key

SECRET = b"s3cr3tf0rd14lb4ck"
FIELDS = ("montague.example", "capulet.example", "D60000229F")  # receiving, originating, stream
KEY = "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3"

# Of few characters, so that fields which are different often look alike where they meet.
DOMAINS = st.one_of(st.text("ab.-", min_size=1, max_size=4), st.text("äβ漢.", min_size=1, max_size=3))
STREAM_IDS = st.text("ab. -", max_size=6)
TRIPLES = st.tuples(DOMAINS, DOMAINS, STREAM_IDS)


@pytest.mark.parametrize(
    ("secret", "fields", "key"),
    [
        (SECRET, FIELDS, KEY),
        (
            b"d14lb4ck43v3r", ("capulet.example", "montague.example", "417GAF25"),
            "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d",
        ),
    ],
)  # fmt: skip
def test_the_keys_of_the_specification(secret: bytes, fields: tuple[str, str, str], key: str) -> None:
    """XEP-0220 sections 2.1.1 and 2.2.2."""
    assert dialback_key(secret, *fields) == key
    assert is_dialback_key(key, secret, *fields)


@pytest.mark.parametrize(
    ("secret", "fields"),
    [
        (b"s3cr3tf0rd14lb4cK", FIELDS),
        (b"", FIELDS),
        (SECRET, ("montague.example.", "capulet.example", "D60000229F")),
        (SECRET, ("montague.example", "capulet.exampl", "D60000229F")),
        (SECRET, ("montague.example", "capulet.example", "D60000229f")),
        (SECRET, ("montague.example", "capulet.example", "")),
        (SECRET, ("capulet.example", "montague.example", "D60000229F")),
    ],
)
def test_a_key_is_good_for_nothing_else(secret: bytes, fields: tuple[str, str, str]) -> None:
    assert not is_dialback_key(KEY, secret, *fields)


@pytest.mark.parametrize(
    "key",
    [
        "", " ", KEY[:-1], KEY[1:], f"{KEY}0", f" {KEY}", f"{KEY}\n", f"{KEY[:-1]}4", "0" * 64,
        "\u00e9", f"{KEY[:-1]}\uff13", f"{KEY}\u0301", "\u6f22" * 64, "\udcff" * 64, "\0" * 64,
    ],
)  # fmt: skip
def test_another_key_is_refused_whatever_its_script(key: str) -> None:
    assert not is_dialback_key(key, SECRET, *FIELDS)


@given(key=st.text(st.characters(exclude_categories=()), max_size=70))
def test_any_text_is_refused_without_an_exception(key: str) -> None:
    assert is_dialback_key(key, SECRET, *FIELDS) == (key == KEY)


@given(made=TRIPLES, shown=TRIPLES)
def test_a_key_is_good_for_the_fields_it_was_made_of(made: tuple[str, str, str], shown: tuple[str, str, str]) -> None:
    assert is_dialback_key(dialback_key(SECRET, *made), SECRET, *shown) == (made == shown)


@given(made=TRIPLES, cuts=st.tuples(st.integers(0, 20), st.integers(0, 20)))
def test_nothing_can_be_shifted_from_one_field_into_the_next(
    made: tuple[str, str, str], cuts: tuple[int, int]
) -> None:
    """Domains have no spaces: the same letters, cut elsewhere, are another pair of domains."""
    letters = "".join(made)
    first, second = sorted(cuts)
    shifted = letters[:first], letters[first:second], letters[second:]
    if not any(" " in domain for domain in shifted[:2]):
        assert is_dialback_key(dialback_key(SECRET, *made), SECRET, *shifted) == (made == shifted)


@given(one=st.binary(max_size=40), other=st.binary(max_size=40))
def test_a_key_is_good_for_one_secret(one: bytes, other: bytes) -> None:
    assert is_dialback_key(dialback_key(one, *FIELDS), other, *FIELDS) == (one == other)
