"""The type of a value follows from its declaration."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

SNIPPET = """\
from xmppd.config import *

def values(settings: Settings) -> None:
    reveal_type(settings[Option("a", Duration(), "1", "Help.")])
    reveal_type(settings[Option("a", Duration(never=True), "1", "Help.")])
    reveal_type(settings[Option("a", Maybe(ListOf(Boolean())), "1", "Help.")])
    reveal_type(settings[Option("a", Mapping(Integer()), "", "Help.")])
    reveal_type(settings[Option("a", BareJids(), "", "Help.")])
    reveal_type(settings[Option("a", BareJids(int), "", "Help.")])
    reveal_type(settings[Option("a", Ports(), "", "Help.")])
"""


def test_mypy_infers_the_type_of_a_value(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    output, errors, _ = api.run(["--strict", str(snippet)])
    assert not errors
    types = re.findall(r'Revealed type is "(.*)"', output)
    assert [found.replace("builtins.", "").replace("typing.", "") for found in types] == [
        "float",
        "float | None",
        "tuple[bool, ...] | None",
        "Mapping[str, int]",
        "tuple[str, ...]",
        "tuple[int, ...]",
        "tuple[int, ...]",
    ], output
