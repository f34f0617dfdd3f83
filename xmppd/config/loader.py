"""From a file to a `Config`: which sections and options there are, and every value parsed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from xmppd.config.errors import ConfigError, message, shown
from xmppd.config.option import Option, Scope
from xmppd.config.reader import Entry, Section, read
from xmppd.config.settings import Config, Settings

_SECTIONS = {"xmppd": "[xmppd]", "host": "[host:DOMAIN]", "component": "[component:DOMAIN]"}

_SCOPES = {
    "xmppd": {Scope.SERVER, Scope.HOST},
    "host": {Scope.HOST},
    "component": {Scope.HOST, Scope.COMPONENT},
}


def lower_domain(text: str) -> str:
    """Return `text` in lower case; ValueError if it cannot be a domain. Nothing else is normalised.

    It stands in where the real check, which belongs to the type of JIDs, was not given.
    """
    if not text or re.search(r"[\s/@]", text):
        raise ValueError("a domain is not empty and has no white space, / or @")
    return text.lower()


def load(
    path: str | os.PathLike[str],
    options: Iterable[Option[Any]],
    normalise_domain: Callable[[str], str] = lower_domain,
) -> Config:
    """Read the configuration file at `path` and parse all that is in it.

    `options` are the declarations of all modules that might be enabled; one may come more than once, but two
    of one name are a ValueError. `normalise_domain` returns the normal form of a section's domain, or raises
    ValueError. ConfigError for everything that an administrator has to put right, the first in the file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(error.strerror or str(error), os.fspath(path)) from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError(str(error), os.fspath(path)) from error
    return load_bytes(data, path, options, normalise_domain)


def load_bytes(
    data: bytes,
    path: str | os.PathLike[str],
    options: Iterable[Option[Any]],
    normalise_domain: Callable[[str], str] = lower_domain,
) -> Config:
    """Do as `load` does with a file that holds `data`; relative paths start at the folder of `path`."""
    return _Loader(os.fspath(path), _by_name(options), normalise_domain).load(read(data, os.fspath(path)))


def _by_name(options: Iterable[Option[Any]]) -> dict[str, Option[Any]]:
    known: dict[str, Option[Any]] = {}
    for option in options:
        if known.setdefault(option.name, option) is not option:
            raise ValueError(f"option {option.name} is declared twice")
    return known


@dataclass(frozen=True)
class _Part:
    """What one section gives: values and lines by the names of its options; no domain in [xmppd]."""

    word: str
    domain: str
    values: dict[str, Any]
    lines: dict[str, int]


class _Loader:
    """Builds one Config; holds what each step of that needs."""

    def __init__(self, path: str, options: dict[str, Option[Any]], normalise: Callable[[str], str]) -> None:
        self.path = path
        self.options = options
        self.normalise = normalise
        # Resolved now: a daemon changes its working directory.
        folder = Path(path).absolute().parent.resolve()
        self.kinds = {name: option.kind.within(folder) for name, option in options.items()}
        self.warnings: list[str] = []

    def load(self, sections: list[Section]) -> Config:
        """Return the configuration of a file with `sections`."""
        parts: list[_Part] = []
        domains: dict[str, int] = {}  # with their lines
        for section in sections:
            part = self._part(section)
            if part.domain in domains:
                problem = f"[{section.name}]: the domain is already on line {domains[part.domain]}"
                raise ConfigError(problem, self.path, section.line)
            if part.domain:
                domains[part.domain] = section.line
            parts.append(part)
        if not any(part.word == "host" for part in parts):
            raise ConfigError("no virtual host; add a section [host:DOMAIN]", self.path)
        return self._config(parts)

    def _config(self, parts: list[_Part]) -> Config:
        defaults = {name: self.kinds[name].parse(option.default) for name, option in self.options.items()}
        own = next((part for part in parts if part.word == "xmppd"), _Part("xmppd", "", {}, {}))
        inherited = defaults | own.values
        server = Settings("xmppd", self.path, inherited.copy(), own.lines)
        hosts: dict[str, Settings] = {}
        components: dict[str, Settings] = {}
        for part in parts:
            if part.domain:
                section = f"{part.word}:{part.domain}"
                settings = Settings(section, self.path, inherited | part.values, part.lines, server)
                (hosts if part.word == "host" else components)[part.domain] = settings
        return Config(self.path, self.options, server, hosts, components, self.warnings)

    def _part(self, section: Section) -> _Part:
        word, colon, domain = section.name.partition(":")
        if word not in _SECTIONS or (word == "xmppd" and colon):
            self._refuse_section(section)
        if word != "xmppd":
            try:
                domain = self.normalise(domain.strip())
            except ValueError as error:
                problem = f"[{section.name}]: not a domain: {error}; accepted: {_SECTIONS[word]}"
                raise ConfigError(problem, self.path, section.line) from error
        values = {name: self._value(word, section, name, entry) for name, entry in section.entries.items()}
        lines = {name: entry.line for name, entry in section.entries.items()}
        return _Part(word, domain, values, lines)

    def _refuse_section(self, section: Section) -> NoReturn:
        word, _, domain = section.name.partition(":")
        nearest = difflib.get_close_matches(word.lower(), _SECTIONS, n=1)
        if not nearest:
            hint = "accepted: " + ", ".join(_SECTIONS.values())
        elif nearest[0] == "xmppd" or not domain:
            hint = f"did you mean {_SECTIONS[nearest[0]]}?"
        else:
            hint = f"did you mean [{nearest[0]}:{domain}]?"
        raise ConfigError(f"unknown section [{section.name}]; {hint}", self.path, section.line)

    def _value(self, word: str, section: Section, name: str, entry: Entry) -> Any:
        """Return the value of an option in a section that starts with `word`."""
        option = self.options.get(name)
        if option is None:
            nearest = difflib.get_close_matches(name.lower(), self.options, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "no option has a name like it"
            problem = f"unknown option {shown(name)} in [{section.name}]; {hint}"
            raise ConfigError(problem, self.path, entry.line)
        if option.scope not in _SCOPES[word]:
            problem = f"{name}: not an option of [{section.name}]; it belongs in {option.scope.value}"
            raise ConfigError(problem, self.path, entry.line)
        kind = self.kinds[name]
        try:
            value = kind.parse(entry.text)
        except ValueError as error:
            what = "the value (not shown) is wrong" if option.secret else str(error)
            raise ConfigError(f"{name}: {what}; accepted: {kind.accepts}", self.path, entry.line) from error
        if option.pending and entry.text:
            problem = f"{name}: {option.pending} is not part of this version; the option has no effect"
            self.warnings.append(message(problem, self.path, entry.line))
        return value
