"""Result set management (XEP-0059 1.0): which page of a long list is asked for, and which was given."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.words.xish import domish

from xmppd.wire import ns
from xmppd.wire.xml import tag


class UnsupportedPage(ValueError):
    """A page by its number, which need not be supported (section 2.6)."""


@dataclass(frozen=True)
class Page:
    """What is asked for: at most `max` items (None: as many as the server gives), those behind the item `after`, or
    those in front of the item `before`, where "" is the end of the list (section 2.5)."""

    max: int | None = None
    after: str | None = None
    before: str | None = None


def read_page(parent: domish.Element) -> Page:
    """The page that the ``<set/>`` in an element asks for; `ValueError` for what is none, such as both ends."""
    found = next(parent.elements(ns.RSM, "set"), None)
    if found is None:
        return Page()
    values = {child.name: str(child).strip() for child in found.elements() if child.uri == ns.RSM}
    text = values.get("max")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError("max is a number")
    if "index" in values:
        raise UnsupportedPage("pages have no numbers here")
    if "after" in values and "before" in values:
        raise ValueError("a page is after one item or before one")
    return Page(int(text) if text is not None else None, values.get("after"), values.get("before"))


def set_bytes(ends: tuple[str, str] | None, count: int | None = None) -> bytes:
    """The ``<set/>`` that says which page was given (section 2.2), by its first and last item, with the number of all
    items where that is known."""
    content = [tag("first", None, ends[0]), tag("last", None, ends[1])] if ends is not None else []
    if count is not None:
        content.append(tag("count", None, str(count)))
    return tag("set", {"xmlns": ns.RSM}, *content)
