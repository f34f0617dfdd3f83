"""The INI form: what is read, with which lines, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xmppd.config import ConfigError
from xmppd.config.reader import read


def values(text: str | bytes) -> list[tuple[str, int, dict[str, tuple[str, int]]]]:
    """Return what is read from `text`, as plain values."""
    data = text.encode() if isinstance(text, str) else text
    return [
        (section.name, section.line, {k: (entry.text, entry.line) for k, entry in section.entries.items()})
        for section in read(data, "xmppd.cfg")
    ]


def value(text: str) -> str:
    """Return the value of the option ``a`` in a section with the lines `text`."""
    [(_, _, entries)] = values("[s]\n" + text)
    return entries["a"][0]


def refuses(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        values(text)
    return str(caught.value)


def test_sections_and_options_with_their_lines() -> None:
    text = "# about\n\n[xmppd]\na = 1\n\nb=2\n; more\n[ host:example.org ]  # comment\na = 3"
    assert values(text) == [
        ("xmppd", 3, {"a": ("1", 4), "b": ("2", 6)}),
        ("host:example.org", 8, {"a": ("3", 9)}),
    ]


def test_an_empty_file_has_no_sections() -> None:
    assert values("") == []
    assert values("\n# nothing\n") == []


def test_windows_line_ends_and_byte_order_mark() -> None:
    assert values(b"\xef\xbb\xbf[s]\r\na = x\r\n  y\r\n") == [("s", 1, {"a": ("x\ny", 2)})]


def test_indented_lines_continue_the_value() -> None:
    assert value("a = x\n  y\n\tz") == "x\ny\nz"
    assert value("a =\n  x\n  b = y") == "x\nb = y"


def test_comments_and_empty_lines_do_not_end_a_value() -> None:
    assert value("a = x\n# one\n\n  ; two\n  y # three\n") == "x\ny"


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("a = x # y", "x"),
        ("a = x ;y", "x"),
        ("a = x\t#y", "x"),
        ("a = # y", ""),
        ("a = x#y", "x#y"),
        ("a = x;y", "x;y"),
        ("a =#y", "#y"),
        ("a = p#w;x # y", "p#w;x"),
    ],
)
def test_a_comment_needs_white_space_before_it(written: str, read_as: str) -> None:
    assert value(written) == read_as


@pytest.mark.parametrize("text", ["", "x", "%(b)s ${b} %", '"x"', "x = y", "ф ☃", "\u00a0x\u00a0"])
def test_values_are_what_is_written(text: str) -> None:
    assert value(f"a = {text}  ") == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[s]\na = 1\n\na = 2", "xmppd.cfg:4: option 'a' is already on line 2 in [s]"),
        ("[s]\n[t]\n[s]", "xmppd.cfg:3: section 's' is already on line 1"),
        ("a = 1", "xmppd.cfg:1: option 'a' is above the first section"),
        ("[s]\n  a = 1", "xmppd.cfg:2: an indented line, and no option above it to continue"),
        ("[s]\na = 1\n[t]\n  x", "xmppd.cfg:4: an indented line, and no option above it to continue"),
        ("[s", "xmppd.cfg:1: '[s' is not a section; accepted: [name]"),
        ("[s] x", "xmppd.cfg:1: '[s] x' is not a section; accepted: [name]"),
        ("[ ]", "xmppd.cfg:1: '[ ]' is not a section; accepted: [name]"),
        ("[", "xmppd.cfg:1: '[' is not a section; accepted: [name]"),
        ("[s]\n= 1", "xmppd.cfg:2: not understood; accepted: [section], option = value, # comment"),
        (b"[s]\na = \xff", "xmppd.cfg:2: byte 0xff at column 5 is not UTF-8"),
        (b"[s]\na = \x00", "xmppd.cfg:2: control character '\\x00'; accepted: text in UTF-8"),
        ("[s]\na = \x1b[2J", "xmppd.cfg:2: control character '\\x1b'; accepted: text in UTF-8"),
        ("[s]\ra = 1", "xmppd.cfg:1: control character '\\r'; accepted: text in UTF-8"),
    ],
)
def test_mistakes_have_one_line_that_says_where(text: str | bytes, message: str) -> None:
    assert refuses(text) == message


def test_a_line_that_may_be_a_piece_of_a_password_is_not_shown() -> None:
    assert "hunter2" not in refuses("[s]\na =\nhunter2")


@given(data=st.binary())
@example(data=b"[s]\n\xc3")
@example(data=b"\xff\xfe[\x00s\x00]\x00")
def test_any_bytes_are_read_or_refused_in_one_line(data: bytes) -> None:
    try:
        read(data, "xmppd.cfg")
    except ConfigError as error:
        assert str(error).isprintable()
        assert error.line is not None


@given(text=st.text(alphabet="[]=#; \tab\n\u2028\u202e", max_size=60))
def test_any_text_of_the_characters_that_mean_something(text: str) -> None:
    try:
        sections = read(text.encode(), "xmppd.cfg")
    except ConfigError as error:
        assert str(error).isprintable()
    else:
        lines = text.split("\n")
        for section in sections:
            assert section.name in lines[section.line - 1]
            for name, entry in section.entries.items():
                assert lines[entry.line - 1].startswith(name)


NAMES = st.text(alphabet="abcdefghij_", min_size=1)
VALUES = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="#; ")).filter(
    lambda text: text == text.strip()
)


@given(written=st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES)))
def test_round_trip(written: dict[str, dict[str, str]]) -> None:
    text = "".join(
        f"[{name}]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())
        for name, options in written.items()
    )
    sections = read(text.encode(), "xmppd.cfg")
    assert {section.name: {k: e.text for k, e in section.entries.items()} for section in sections} == written
