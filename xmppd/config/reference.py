"""The reference page of all options, made from their declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from xmppd.config.option import Option

_INTRODUCTION = """\
Options
=======

Every option of the configuration file. An option that may stand in several sections takes its value from the
section of its own host or component, else from ``[xmppd]``, else the default.
"""


def reference(options_by_group: Mapping[str, Iterable[Option[Any]]]) -> str:
    """Return a page in reStructuredText, with a heading for each group, in the order given."""
    parts = [_INTRODUCTION]
    for group, options in options_by_group.items():
        parts.append(f"{group}\n{'-' * len(group)}\n")
        parts.extend(_describe(option) for option in options)
    return "\n".join(parts)


def _describe(option: Option[Any]) -> str:
    lines = [
        f"``{option.name}``",
        f"    {option.help}",
        "",
        f"    :Section: {option.scope.value}",
        f"    :Accepts: {_plain(option.kind.accepts)}",
        f"    :Default: {_literal(option.default)}",
        f"    :Change: {'at SIGHUP' if option.live else 'takes a restart'}",
    ]
    if option.pending:
        lines.append(f"    :Note: no effect yet; {option.pending} is not part of this version")
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """The default as a literal, one for each of its lines."""
    return ", ".join(f"``{line.strip()}``" for line in text.splitlines() if line.strip()) or "nothing"


def _plain(text: str) -> str:
    """Escape what has a meaning in reStructuredText."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)
