"""SASLprep: RFC 4013 section 3 has the first examples."""

from __future__ import annotations

import pytest

from xmppd.auth.prepare import prepare_password, prepare_username


@pytest.mark.parametrize(
    ("given", "prepared"),
    [
        ("I\u00adX", "IX"),  # soft hyphen mapped to nothing
        ("user", "user"),
        ("USER", "USER"),  # case is kept
        ("\u00aa", "a"),  # NFKC
        ("\u2168", "IX"),
        ("a\u00a0b\u3000c", "a b c"),  # spaces
        ("a\u200bb", "a b"),  # in the tables of spaces and of nothing
        ("pa\ufe00ss\u2060", "pass"),
        ("e\u0301", "é"),
        ("ｐａｓｓ", "pass"),
        ("\u05d0\u05d1", "\u05d0\u05d1"),
        ("\u06271\u0628", "\u06271\u0628"),
        (" ", " "),
        ("a=b,c", "a=b,c"),
    ],
)
def test_prepared(given: str, prepared: str) -> None:
    assert prepare_username(given) == prepared
    assert prepare_password(given) == prepared


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="empty"),
        pytest.param("\u00ad", id="nothing left"),
        pytest.param("\u0007", id="ASCII control, RFC 4013 section 3"),
        pytest.param("\u06271", id="bidi, RFC 4013 section 3"),
        pytest.param("1\u0627", id="right-to-left has to come first"),
        pytest.param("\u0627a\u0628", id="both directions"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("\x7f", id="DEL"),
        pytest.param("\u0085", id="C.2.2"),
        pytest.param("\ue000", id="private use"),
        pytest.param("\ufffe", id="non-character"),
        pytest.param("\ud800", id="surrogate"),
        pytest.param("\ufffd", id="not plain text"),
        pytest.param("\u2ff0", id="not canonical"),
        pytest.param("\u200e", id="display"),
        pytest.param("\U000e0041", id="tag"),
        pytest.param("\u202e", id="override"),
    ],
)
def test_refused(given: str) -> None:
    with pytest.raises(ValueError):
        prepare_username(given)
    with pytest.raises(ValueError):
        prepare_password(given)
    with pytest.raises(ValueError):
        prepare_password(given, stored=False)


def test_code_points_newer_than_unicode_3_2_are_for_comparing_only() -> None:
    assert prepare_username("\U0001f600") == "\U0001f600"
    assert prepare_password("\U0001f600", stored=False) == "\U0001f600"
    with pytest.raises(ValueError):
        prepare_password("\U0001f600")


def test_normalisation_is_that_of_unicode_3_2() -> None:
    # U+2F868 was corrected later (Corrigendum 4): a password of that time must not change.
    assert prepare_username("\U0002f868") == "\U0002136a"


def test_the_error_does_not_quote_the_password() -> None:
    with pytest.raises(ValueError) as caught:
        prepare_password("hunter2\0")
    assert "hunter2" not in str(caught.value)
