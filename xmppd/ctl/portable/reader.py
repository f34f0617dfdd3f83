"""Reads a file of users (XEP-0227 sections 4 and 5) piece by piece, with the files that it includes.

What comes out is flat: a `User`, then each `Element` of it. The messages of an archive and those that wait come one by
one, whatever they are wrapped in, so that only one message or one roster is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

from xmppd.wire import ns
from xmppd.wire.xml import TreeBuilder, serialise

MAX_ELEMENT = 12 * 1024 * 1024  # bytes of one message, vCard or roster, with some more for each element in it
ELEMENT_OVERHEAD = 32  # that each element in it counts for, however short it is
MAX_DEPTH = 200
MAX_INCLUDED = 8  # files that include one another
CHUNK = 64 * 1024

_CONTAINERS = frozenset({f"{ns.PIE} offline-messages", f"{ns.PIE_MAM} archive"})
_INCLUDE = f"{ns.XINCLUDE} include"


class Unreadable(Exception):
    """A file cannot be read any further; one line that says which, where and why."""


@dataclass(frozen=True)
class User:
    """A user begins; `password` is None where the file does not have it."""

    host: str
    name: str
    password: str | None


@dataclass(frozen=True)
class Element:
    """Something of the user that began last; `data` is to be read where no default namespace holds."""

    xmlns: str
    name: str
    data: bytes


@dataclass(frozen=True)
class LeftOut:
    """Something that is not read, as a line of text; whether it is of the user that began last."""

    what: str
    of_user: bool = False


@dataclass(frozen=True)
class _Include:
    """Another file, whose root stands here."""

    href: str
    inside: str
    host: str


Piece = User | Element | LeftOut


def read(path: Path, file: BinaryIO, progress: Callable[[int, int], None]) -> Iterator[Piece]:
    """The users in an open file and in those that it includes, in order. `progress` is told how many more bytes there
    are, and how many more were read. Raises `Unreadable`."""
    yield from _read(path, file, None, "", (path.resolve(),), progress)


def _read(
    path: Path,
    file: BinaryIO,
    inside: str | None,
    host: str,
    including: tuple[Path, ...],
    progress: Callable[[int, int], None],
) -> Iterator[Piece]:
    """`inside` is the name of what the root of the file stands in, None for the main file."""
    document = _Document(inside, host)
    try:
        while data := file.read(CHUNK):
            document.parser.Parse(data, False)
            progress(0, len(data))
            yield from _with_includes(path, document, including, progress)
        document.parser.Parse(b"", True)
        yield from _with_includes(path, document, including, progress)
    except expat.ExpatError as error:
        raise Unreadable(f"{path}, line {error.lineno}: {expat.ErrorString(error.code)}") from None
    except _Unexpected as error:
        raise Unreadable(f"{path}, line {document.parser.CurrentLineNumber}: {error}") from None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from None
    except (LookupError, ValueError) as error:  # an encoding that expat does not know
        raise Unreadable(f"{path}: {error}") from None


def _with_includes(
    path: Path, document: _Document, including: tuple[Path, ...], progress: Callable[[int, int], None]
) -> Iterator[Piece]:
    pieces, document.pieces = document.pieces, []
    for piece in pieces:
        if not isinstance(piece, _Include):
            yield piece
            continue
        target = path.parent / unquote(urlsplit(piece.href).path)
        try:
            resolved = target.resolve()
            file = target.open("rb")
        except (OSError, RuntimeError, ValueError) as error:  # also a link to itself, and a NUL
            reason = getattr(error, "strerror", None) or error
            raise Unreadable(f"{target}, included in {path}: {reason}") from None
        with file:
            if resolved in including:
                raise Unreadable(f"{path}: {target} includes itself")
            if len(including) > MAX_INCLUDED:
                raise Unreadable(f"{path}: more than {MAX_INCLUDED} files include one another")
            progress(target.stat().st_size, 0)
            yield from _read(target, file, piece.inside, piece.host, (*including, resolved), progress)


class _Unexpected(Exception):
    """The file is well-formed, and still cannot be read on."""


class _Document:
    """One file while it is parsed: fills `pieces`."""

    def __init__(self, inside: str | None, host: str) -> None:
        self.pieces: list[Piece | _Include] = []
        self.host = host
        self.parser = expat.ParserCreate(None, " ")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.buffer_text = True
        # The frame around users and what they have; what stands in it is a tree of its own.
        self._frame = [] if inside is None else [inside]
        self._tree: TreeBuilder | None = None
        self._size = 0
        self._skipping = 0  # elements that are open and not wanted

    def _doctype(self, *declaration: object) -> None:
        raise _Unexpected("a document type declaration is not read; remove it")  # entities could grow without end

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._skipping:
            self._skipping += 1
        elif self._tree is not None:
            self._into_tree(name, attributes)
        elif self._is_frame(name, attributes):
            self._frame.append(name)
        elif name == _INCLUDE and self._frame and self._frame[-1] not in _CONTAINERS:
            self._include(attributes)
        elif self._frame and self._frame[-1] in (f"{ns.PIE} user", *_CONTAINERS):
            self._tree, self._size = TreeBuilder(), 0
            self._into_tree(name, attributes)
        elif not self._frame:
            raise _Unexpected(f"this is no file of users: its root is not <server-data xmlns='{ns.PIE}'>")
        else:
            self._leave_out(_readable(name))

    def _is_frame(self, name: str, attributes: dict[str, str]) -> bool:
        """Whether an element is part of the frame; a host and a user are looked at."""
        around = self._frame[-1] if self._frame else ""
        if (around, name) == (f"{ns.PIE} server-data", f"{ns.PIE} host"):
            self.host = self._attribute(attributes, "host", "jid")
        elif (around, name) == (f"{ns.PIE} host", f"{ns.PIE} user"):
            user = self._attribute(attributes, "user", "name")
            self.pieces.append(User(self.host, user, attributes.get("password")))
        else:
            is_container = around == f"{ns.PIE} user" and name in _CONTAINERS
            return is_container or (not self._frame and name == f"{ns.PIE} server-data")
        return True

    @staticmethod
    def _attribute(attributes: dict[str, str], element: str, name: str) -> str:
        if name not in attributes:
            raise _Unexpected(f"<{element}/> has no {name!r}")
        return attributes[name]

    def _include(self, attributes: dict[str, str]) -> None:
        href = attributes.get("href", "")
        try:
            parts = urlsplit(href)
        except ValueError:
            parts = urlsplit("")
        path = unquote(parts.path)
        others = parts.scheme or parts.netloc or parts.query or parts.fragment or path.startswith("/") or "\0" in path
        if not path or others or "xpointer" in attributes or attributes.get("parse", "xml") != "xml":
            raise _Unexpected(f"only a relative file name can be included, not {href!r}")
        self.pieces.append(_Include(href, self._frame[-1], self.host))
        self._skipping = 1

    def _into_tree(self, name: str, attributes: dict[str, str]) -> None:
        assert self._tree is not None
        values = sum(len(key) + len(value.encode()) for key, value in attributes.items())
        self._size += ELEMENT_OVERHEAD + len(name) + values
        if self._size > MAX_ELEMENT or self._tree.depth >= MAX_DEPTH:
            self._too_large()
            self._skipping += 1
        else:
            self._tree.start(name, attributes)

    def _too_large(self) -> None:
        """Forget the tree that is being built, and skip the rest of it."""
        assert self._tree is not None
        self._skipping = self._tree.depth
        self._tree = None
        self.pieces.append(LeftOut(f"an element of more than {MAX_ELEMENT} bytes, or deeper than {MAX_DEPTH}", True))

    def _leave_out(self, what: str) -> None:
        self._skipping = 1
        self.pieces.append(LeftOut(what))

    def _characters(self, text: str) -> None:
        if self._tree is not None:
            self._size += len(text.encode())
            if self._size > MAX_ELEMENT:
                self._too_large()
            else:
                self._tree.characters(text)

    def _end(self, name: str) -> None:
        if self._skipping:
            self._skipping -= 1
        elif self._tree is not None:
            element = self._tree.end()
            if self._tree.depth == 0:
                self._tree = None
                self.pieces.append(Element(str(element.uri), element.name, serialise(element, "")))
        else:
            self._frame.pop()


def _readable(name: str) -> str:
    """A name of expat's as a line of text has it."""
    uri, _, local = name.rpartition(" ")
    return f"<{local} xmlns='{uri}'/>" if uri else f"<{local}/>"
