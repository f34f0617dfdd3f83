"""What may be written for each kind of value, and what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.config import Boolean, Choice, Duration, Integer, Kind, Maybe, PathOf, Size, Text

from .helpers import refuses

KINDS: list[Kind[object]] = [
    Text(),
    Boolean(),
    Integer(-5, 5),
    Duration(never=True, minimum=1),
    Size(minimum=10),
    Choice("a", "b"),
    PathOf(),
    Maybe(Integer()),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@given(text=st.text())
def test_any_text_is_a_value_or_a_value_error(kind: Kind[object], text: str) -> None:
    assert kind.accepts
    try:
        kind.parse(text)
    except ValueError as error:
        assert str(error)


def test_text_is_kept_as_written() -> None:
    assert Text().parse("a, b  = %(c)s") == "a, b  = %(c)s"
    assert Text().parse("") == ""


def test_text_of_several_lines_only_where_it_is_meant() -> None:
    assert "more than one line" in refuses(Text(), "a\nb")
    assert Text(multiline=True).parse("a\nb") == "a\nb"


@pytest.mark.parametrize("text", ["yes", "true", "on", "1", "YES", "True"])
def test_boolean_yes(text: str) -> None:
    assert Boolean().parse(text) is True


@pytest.mark.parametrize("text", ["no", "false", "off", "0", "NO", "Off"])
def test_boolean_no(text: str) -> None:
    assert Boolean().parse(text) is False


@pytest.mark.parametrize("text", ["", "y", "2", "enabled", "yes no"])
def test_boolean_refuses_the_rest(text: str) -> None:
    assert refuses(Boolean(), text) == f"{text!r} is not yes or no"


@given(number=st.integers(-(10**17), 10**17))
def test_integer_round_trip(number: int) -> None:
    assert Integer().parse(str(number)) == number


def test_integer_bounds_are_included() -> None:
    kind = Integer(2, 4)
    assert [kind.parse(text) for text in "234"] == [2, 3, 4]
    assert refuses(kind, "1") == "1 is less than 2"
    assert refuses(kind, "5") == "5 is more than 4"


# Python's int() takes the second to the fifth.
@pytest.mark.parametrize("text", ["", "1_000", "+1", "١", " 1", "1.0", "0x10", "9" * 5000])
def test_integer_takes_plain_digits_only(text: str) -> None:
    assert "is not a whole number" in refuses(Integer(), text)


def test_integer_says_its_bounds() -> None:
    assert Integer().accepts == "a whole number"
    assert Integer(1).accepts == "a whole number of at least 1"
    assert Integer(maximum=9).accepts == "a whole number of at most 9"
    assert Integer(1, 9).accepts == "a whole number from 1 to 9"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("45", 45), ("0.5", 0.5), ("30s", 30), ("10m", 600), ("1.5h", 5400), ("7d", 604800)],
)
def test_duration(text: str, seconds: float) -> None:
    value = Duration().parse(text)
    assert value == seconds
    assert type(value) is float


UNITS = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}


@given(number=st.integers(0, 10**9), unit=st.sampled_from(sorted(UNITS)))
def test_duration_round_trip(number: int, unit: str) -> None:
    assert Duration().parse(f"{number}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(
    "text", ["", "30x", "-1", "1h30m", "s", "10M", "1e3", "inf", "nan", "30 s", ".5", "1" * 13]
)
def test_duration_refuses_the_rest(text: str) -> None:
    assert refuses(Duration(), text) == f"{text!r} is not a duration"


def test_duration_never() -> None:
    assert Duration(never=True).parse("never") is None
    assert Duration(never=True).parse("1m") == 60
    assert "never" in Duration(never=True).accepts
    assert "is not a duration" in refuses(Duration(), "never")
    assert "never" not in Duration().accepts


def test_duration_minimum() -> None:
    kind = Duration(minimum=60)
    assert kind.parse("1m") == 60
    assert refuses(kind, "59s") == "'59s' is too short"
    assert "at least 60 seconds" in kind.accepts


@given(number=st.integers(0, 10**12), unit=st.sampled_from(["", "k", "K", "m", "M", "g", "G"]))
def test_size_round_trip(number: int, unit: str) -> None:
    power = {"": 0, "k": 1, "m": 2, "g": 3}[unit.lower()]
    assert Size().parse(f"{number}{unit}") == number * 1024**power


@pytest.mark.parametrize("text", ["", "k", "1T", "-1", "1.5k", "1 k", "1kB", "1" * 16])
def test_size_refuses_the_rest(text: str) -> None:
    assert refuses(Size(), text) == f"{text!r} is not a size"


def test_size_minimum() -> None:
    kind = Size(minimum=10000)
    assert kind.parse("10000") == 10000
    assert refuses(kind, "9999") == "'9999' is too small"
    assert kind.accepts == Size().accepts + ", of at least 10000 bytes"
    assert Size().accepts == "a size in bytes or as 64k, 10M, 1G"


def test_choice() -> None:
    kind = Choice("always", "roster", "never")
    assert kind.parse("roster") == "roster"
    assert "is not one of the choices" in refuses(kind, "Roster")
    assert kind.accepts == "always, roster or never"
    assert Choice("only").accepts == "only"


def test_path_is_relative_to_the_folder_of_the_file() -> None:
    kind = PathOf().within(Path("/etc/xmppd"))
    assert kind.parse("../var") == Path("/etc/var")
    assert kind.parse("certs/a") == Path("/etc/xmppd/certs/a")
    assert kind.parse("/srv/x/") == Path("/srv/x")
    assert "empty" in refuses(kind, "")


def test_maybe_is_none_or_the_other_kind() -> None:
    kind = Maybe(PathOf())
    assert kind.parse("") is None
    assert kind.within(Path("/etc")).parse("a") == Path("/etc/a")
    assert "is not a whole number" in refuses(Maybe(Integer()), "x")
    assert Maybe(Integer()).accepts == "a whole number, or nothing"


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refuses(Boolean(), "x" * 10000)) < 120
