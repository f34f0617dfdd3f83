"""Kinds of values: how the text of an option becomes a typed value.

A kind has ``parse``, and ``accepts``, the words that the error message and the reference page use for what
may be written. Modules may derive kinds of their own from `Kind`. Lists are in `xmppd.config.lists`.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, Literal, TypeVar, cast, overload

from xmppd.config.errors import shown

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
SecondsT = TypeVar("SecondsT", bound="float | None")

_TRUE = frozenset({"yes", "true", "on", "1"})
_FALSE = frozenset({"no", "false", "off", "0"})
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}

# [0-9] and not \d, which takes the digits of every script. The lengths are bounded because int() refuses
# numbers of thousands of digits with a message of its own.
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smhdw]?)")
_SIZE = re.compile(r"([0-9]{1,15})([kmgKMG]?)")


class Kind(ABC, Generic[T_co]):
    """What an option's value may be."""

    accepts: str
    """What may be written, in words that follow "accepted: "."""

    @abstractmethod
    def parse(self, text: str) -> T_co:
        """Return the value of `text`, which has no white space around it; ValueError says what is wrong."""

    def within(self, folder: Path) -> Kind[T_co]:
        """Return the kind for a configuration file in `folder`; only paths, and what holds them, differ."""
        return self


class Text(Kind[str]):
    """Any text, as written; on one line unless `multiline`. May be empty."""

    def __init__(self, *, multiline: bool = False) -> None:
        self._multiline = multiline
        self.accepts = "text" if multiline else "text on one line"

    def parse(self, text: str) -> str:
        """Return `text`."""
        # Without this an option that was indented by mistake would become part of the value above it.
        if "\n" in text and not self._multiline:
            raise ValueError(f"{shown(text)} has more than one line")
        return text


class Boolean(Kind[bool]):
    """Yes or no, in upper or lower case."""

    accepts = "yes, no, true, false, on, off, 1 or 0"

    def parse(self, text: str) -> bool:
        """Return whether `text` means yes."""
        word = text.lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError(f"{shown(text)} is not yes or no")


class Integer(Kind[int]):
    """A whole number of at most 18 digits, from `minimum` to `maximum`, both included."""

    def __init__(self, minimum: int | None = None, maximum: int | None = None) -> None:
        self._minimum = minimum
        self._maximum = maximum
        if minimum is not None and maximum is not None:
            self.accepts = f"a whole number from {minimum} to {maximum}"
        elif minimum is not None:
            self.accepts = f"a whole number of at least {minimum}"
        elif maximum is not None:
            self.accepts = f"a whole number of at most {maximum}"
        else:
            self.accepts = "a whole number"

    def parse(self, text: str) -> int:
        """Return the number."""
        if not _INTEGER.fullmatch(text):
            raise ValueError(f"{shown(text)} is not a whole number")
        number = int(text)
        if self._minimum is not None and number < self._minimum:
            raise ValueError(f"{number} is less than {self._minimum}")
        if self._maximum is not None and number > self._maximum:
            raise ValueError(f"{number} is more than {self._maximum}")
        return number


class Duration(Kind[SecondsT]):
    """A time span, as float seconds of at least `minimum`; with ``never=True`` the word never is None."""

    @overload
    def __init__(self: Duration[float], *, never: Literal[False] = ..., minimum: float = ...) -> None: ...

    @overload
    def __init__(self: Duration[float | None], *, never: Literal[True], minimum: float = ...) -> None: ...

    def __init__(self, *, never: bool = False, minimum: float = 0.0) -> None:
        self._never = never
        self._minimum = minimum
        self.accepts = "a duration in seconds or as 30s, 10m, 6h, 7d, 2w"
        if minimum > 0:
            self.accepts += f", of at least {minimum:g} seconds"
        if never:
            self.accepts += ", or never"

    def parse(self, text: str) -> SecondsT:
        """Return the seconds, or None for never."""
        if self._never and text == "never":
            return cast(SecondsT, None)
        match = _DURATION.fullmatch(text)
        if match is None:
            raise ValueError(f"{shown(text)} is not a duration")
        seconds = float(match[1]) * _SECONDS[match[2]]
        if seconds < self._minimum:
            raise ValueError(f"{shown(text)} is too short")
        return cast(SecondsT, seconds)


class Size(Kind[int]):
    """A number of bytes of at least `minimum`; k, M and G (in either case) are powers of 1024."""

    def __init__(self, minimum: int = 0) -> None:
        self._minimum = minimum
        self.accepts = "a size in bytes or as 64k, 10M, 1G"
        if minimum > 0:
            self.accepts += f", of at least {minimum} bytes"

    def parse(self, text: str) -> int:
        """Return the bytes."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError(f"{shown(text)} is not a size")
        size = int(match[1]) * _BYTES[match[2].lower()]
        if size < self._minimum:
            raise ValueError(f"{shown(text)} is too small")
        return size


class Choice(Kind[str]):
    """One of the given words, in just this spelling."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.accepts = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))

    def parse(self, text: str) -> str:
        """Return the word."""
        if text not in self._words:
            raise ValueError(f"{shown(text)} is not one of the choices")
        return text


class PathOf(Kind[Path]):
    """A file or folder; a relative one starts at the configuration file's own folder.

    The folder is only known once a file is read, so ``within`` gives it. Nothing is looked up on the disk.
    """

    accepts = "a path, relative to the folder of the configuration file"

    def __init__(self) -> None:
        self._folder = Path()

    def parse(self, text: str) -> Path:
        """Return the path, ``..`` worked out; it is absolute once ``within`` had an absolute folder."""
        if not text:
            raise ValueError("the path is empty")
        return Path(os.path.normpath(self._folder / text))

    def within(self, folder: Path) -> PathOf:
        """Return the kind whose relative paths start at `folder`."""
        located = PathOf()
        located._folder = folder
        return located


class Maybe(Kind[T | None], Generic[T]):
    """Another kind, or nothing: an empty value is None."""

    def __init__(self, kind: Kind[T]) -> None:
        self._kind = kind
        self.accepts = f"{kind.accepts}, or nothing"

    def parse(self, text: str) -> T | None:
        """Return the other kind's value, or None for an empty text."""
        return self._kind.parse(text) if text else None

    def within(self, folder: Path) -> Maybe[T]:
        """Return the kind whose relative paths start at `folder`."""
        return Maybe(self._kind.within(folder))
