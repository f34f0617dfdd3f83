"""Declarations: a mistake in one shows when the module is imported."""

from __future__ import annotations

import dataclasses

import pytest

from xmppd.config import Duration, Option, Scope


def test_what_a_declaration_says_unless_told() -> None:
    option = Option("c2s_timeout", Duration(), "30s", "From accept to authenticated.")
    assert option.scope is Scope.HOST
    assert option.live
    assert not option.pending
    assert not option.secret


def test_the_default_must_be_a_value_of_the_kind() -> None:
    with pytest.raises(ValueError, match=r"option c2s_timeout: the default .* '30x' is not a duration"):
        Option("c2s_timeout", Duration(), "30x", "From accept to authenticated.")


@pytest.mark.parametrize("name", ["", "C2S", "c2s-timeout", "2s", "a b", "a\n"])
def test_the_name_must_be_one(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        Option(name, Duration(), "30s", "Help.")


@pytest.mark.parametrize("text", ["", "Two\nlines."])
def test_the_help_must_be_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Option("a", Duration(), "30s", text)


def test_a_declaration_cannot_be_changed() -> None:
    option = Option("a", Duration(), "30s", "Help.")
    with pytest.raises(dataclasses.FrozenInstanceError):
        option.default = "1s"  # type: ignore[misc]
    assert option in {option}
