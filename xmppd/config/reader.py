"""Reads the INI form of the configuration, with the line of every value.

The standard library's configparser forgets line numbers as it reads, and an administrator is owed the line
of a mistake; hence this reader. What it takes:

* UTF-8, with or without a byte order mark; lines end with LF or CR LF; tabs are the only control characters.
* ``[section]``, each name once.
* ``option = value``, each option once in a section. White space around both is dropped. No interpolation,
  no quotation marks: what is written is the value.
* An indented line continues the value of the option above it, and becomes a line of its own in it.
* A comment starts at a ``#`` or ``;`` that is the first thing in a line or has white space before it.
  Elsewhere the two are ordinary characters, so that ``password = a#b;c`` means what it says.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from xmppd.config.errors import ConfigError, shown

_COMMENT = re.compile(r"(?:^|[ \t])[#;].*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Not what str.strip() strips: a no-break space may end a password.
_WHITE = " \t"


@dataclass
class Entry:
    """The value of an option: where it starts, counting lines from 1, and what is on each line of it."""

    line: int
    lines: list[str]

    @property
    def text(self) -> str:
        """The whole value, without the empty line that ``option =`` leaves above indented lines."""
        return "\n".join(line for line in self.lines if line)


@dataclass
class Section:
    """A section: its name without the brackets, its line, and its options in the order written."""

    name: str
    line: int
    entries: dict[str, Entry] = field(default_factory=dict)


def read(data: bytes, path: str) -> list[Section]:
    """Return the sections of a file in the order written; `path` is for the messages of ConfigError."""
    sections: dict[str, Section] = {}
    section: Section | None = None
    entry: Entry | None = None
    for number, raw in enumerate(data.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1):
        line = _decode(raw, path, number)
        text = _COMMENT.sub("", line, count=1).strip(_WHITE)
        if not text:
            continue
        if line[0] in _WHITE:
            if entry is None:
                raise ConfigError("an indented line, and no option above it to continue", path, number)
            entry.lines.append(text)
        elif text.startswith("["):
            section, entry = _section(text, sections, path, number), None
            sections[section.name] = section
        else:
            entry = _option(text, section, path, number)
    return list(sections.values())


def _decode(raw: bytes, path: str, number: int) -> str:
    try:
        line = raw.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"byte 0x{raw[error.start]:02x} at column {error.start + 1} is not UTF-8"
        raise ConfigError(problem, path, number) from None
    for char in line:
        if char != "\t" and unicodedata.category(char) == "Cc":
            raise ConfigError(f"control character {char!r}; accepted: text in UTF-8", path, number)
    return line


def _section(text: str, sections: dict[str, Section], path: str, number: int) -> Section:
    name = text[1:-1].strip(_WHITE)
    if not text.endswith("]") or not name:
        raise ConfigError(f"{shown(text)} is not a section; accepted: [name]", path, number)
    if name in sections:
        raise ConfigError(f"section {shown(name)} is already on line {sections[name].line}", path, number)
    return Section(name, number)


def _option(text: str, section: Section | None, path: str, number: int) -> Entry:
    name, equals, value = (part.strip(_WHITE) for part in text.partition("="))
    if not name or not equals:
        # The line is not shown: it may be a piece of a password.
        raise ConfigError("not understood; accepted: [section], option = value, # comment", path, number)
    if section is None:
        raise ConfigError(f"option {shown(name)} is above the first section", path, number)
    if name in section.entries:
        problem = f"option {shown(name)} is already on line {section.entries[name].line} in [{section.name}]"
        raise ConfigError(problem, path, number)
    section.entries[name] = Entry(number, [value])
    return section.entries[name]
