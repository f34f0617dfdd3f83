"""The one exception of the configuration, and how values are shown in it."""

from __future__ import annotations

# Longer values are cut: an error stays one line that fits a terminal.
SHOWN_LENGTH = 80


class ConfigError(Exception):
    """The configuration cannot be used; ``str()`` is one line for the administrator.

    ``problem`` says what is wrong and what would be accepted, ``path`` is the file as the administrator
    named it, ``line`` counts from 1 (``None`` where no line is to blame).
    """

    def __init__(self, problem: str, path: str, line: int | None = None) -> None:
        super().__init__(message(problem, path, line))
        self.problem = problem
        self.path = path
        self.line = line


def message(problem: str, path: str, line: int | None = None) -> str:
    """Return one line that says where and what, with nothing in it that moves a terminal's cursor."""
    where = path if line is None else f"{path}:{line}"
    return escaped(f"{where}: {problem}")


def escaped(text: str) -> str:
    """`text` on one line; characters that are not to be shown, such as ESC, are spelled out."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shown(value: str) -> str:
    """Return `value` in quotation marks, control characters escaped, cut after SHOWN_LENGTH characters."""
    if len(value) > SHOWN_LENGTH:
        return repr(value[:SHOWN_LENGTH] + "...")
    return repr(value)
