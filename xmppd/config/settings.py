"""What the rest of the server asks for the values of options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from xmppd.config.errors import ConfigError
from xmppd.config.option import Option

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Change:
    """A difference between the running configuration and one that was read again; ``str()`` is for the log.

    ``section`` is as in the file without the brackets. ``old`` and ``new`` are values of ``option``. Where a
    whole host or component came or went, ``option`` is None, and ``old`` and ``new`` say if it is there.
    """

    section: str
    option: Option[Any] | None
    old: Any
    new: Any
    needs_restart: bool

    def __repr__(self) -> str:
        # The usual one would show secrets.
        return f"<Change: {self}>"

    def __str__(self) -> str:
        if self.option is None:
            what = f"[{self.section}] is {'new' if self.new else 'gone'}"
        elif self.option.secret:
            what = f"[{self.section}] {self.option.name}: a new value (not shown)"
        else:
            becomes = "would become" if self.needs_restart else "is now"
            what = f"[{self.section}] {self.option.name}: {self.old!r} {becomes} {self.new!r}"
        return what + ("; this takes a restart" if self.needs_restart else "")


class Settings:
    """The values of all options for the server, or for one host or component.

    A value is the section's own, else that of ``[xmppd]``, else the default. Made by `load`; only
    `Config.update` changes one, in place, so that whoever holds it sees new values at the next lookup.
    """

    def __init__(
        self,
        section: str,
        path: str,
        values: dict[str, Any],
        lines: dict[str, int],
        server: Settings | None = None,
    ) -> None:
        """Keep `values` of all options by name, and `lines` of those that this section of the file sets.

        `server` has the settings of ``[xmppd]``, and is None for these themselves.
        """
        self.section = section
        """The name of the section without its brackets: ``xmppd``, ``host:example.org``."""
        self._path = path
        self._values = values
        self._lines = lines
        self._server = server

    def __getitem__(self, option: Option[T]) -> T:
        """Return the value of `option`; KeyError if it was not among the options given to `load`."""
        # One dictionary has the inherited values as well: this is looked up for each stanza.
        value: T = self._values[option.name]
        return value

    def is_set(self, option: Option[Any]) -> bool:
        """Return whether the file gives `option` a value, in this section or in ``[xmppd]``."""
        return self._line(option) is not None

    def error(self, option: Option[Any], problem: str) -> ConfigError:
        """Return the error to raise when the value of `option` turns out to be of no use, such as a port
        that is taken: it names the file, the line where there is one, and the option."""
        return ConfigError(f"{option.name}: {problem}", self._path, self._line(option))

    def _line(self, option: Option[Any]) -> int | None:
        line = self._lines.get(option.name)
        if line is None and self._server is not None:
            return self._server._line(option)
        return line

    def _update(self, newer: Settings, options: dict[str, Option[Any]]) -> Iterator[Change]:
        """Take over what may change while running, and yield what differs."""
        for name, option in options.items():
            old, new = self._values[name], newer._values[name]
            own = name in self._lines or name in newer._lines
            if old != new and (own or self._server is None):
                # What a host inherits is told once, for [xmppd].
                yield Change(self.section, option, old, new, needs_restart=not option.live)
            if old == new or option.live:
                self._values[name] = new
                self._lines.pop(name, None)
                if name in newer._lines:
                    self._lines[name] = newer._lines[name]


class Config:
    """A configuration file that was read without an error.

    ``path`` is the file as it was named; ``server`` has the settings of ``[xmppd]``; ``hosts`` and
    ``components`` have theirs by domain, in the order of the file; ``warnings`` are lines for the log.
    """

    def __init__(
        self,
        path: str,
        options: dict[str, Option[Any]],
        server: Settings,
        hosts: dict[str, Settings],
        components: dict[str, Settings],
        warnings: list[str],
    ) -> None:
        """Keep what `load` found; `options` has all declarations by name."""
        self.path = path
        self.server = server
        self.hosts = hosts
        self.components = components
        self.warnings = warnings
        self._options = options

    def update(self, newer: Config) -> list[Change]:
        """Take over the values of `newer`, the same file read again with the same options, in place.

        An option that takes a restart keeps its running value. So do the hosts and components themselves:
        one that is gone from the file runs on with all its values, one that is new is not added. Returns
        all differences, those included. ``warnings`` are the newer ones from now on. ValueError if `newer`
        was loaded with other options.
        """
        if newer._options != self._options:
            raise ValueError("the newer configuration was loaded with other options")
        changes: list[Change] = []
        running, read = self._sections(), newer._sections()
        for section, settings in running.items():
            if section in read:
                changes.extend(settings._update(read[section], self._options))
            else:
                changes.append(Change(section, None, old=True, new=False, needs_restart=True))
        for section in read:
            if section not in running:
                changes.append(Change(section, None, old=False, new=True, needs_restart=True))
        self.warnings = newer.warnings
        return changes

    def _sections(self) -> dict[str, Settings]:
        everything = [self.server, *self.hosts.values(), *self.components.values()]
        return {settings.section: settings for settings in everything}
