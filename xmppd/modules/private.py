"""Private XML storage (XEP-0049 1.2): an account keeps elements of its own on the server, such as bookmarks.

An element is found again by its name and namespace. An empty one is what everybody has who never stored one,
so that to store it is to delete. The limit is for all that an account keeps, with the names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.internet.defer import DeferredLock
from twisted.words.xish import domish

from xmppd.config import Option, Size
from xmppd.core.accounts import Account
from xmppd.core.events import AccountLoading, PrivateDataChanged
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.core.private_data import PrivateData
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.xml import serialise, tag

PRIVATE_DATA_LIMIT = Option(
    "private_data_limit", Size(), "1M", "How many bytes of private XML an account may keep in all."
)
OPTIONS = (PRIVATE_DATA_LIMIT,)

KIND = "private"  # in the store, under the keys "NAME NAMESPACE"
MAX_KEY = 1024  # bytes; PostgreSQL cannot find keys by more than 2,700, and no name in use is that long


@dataclass(slots=True)
class Sizes:
    """Record of an account: the bytes under each key, once they were counted, and one change at a time."""

    of: dict[str, int] | None = None
    lock: DeferredLock = field(default_factory=DeferredLock)


class Kept(PrivateData):
    """See `PrivateData`."""

    async def holding(self, account: Account, text: bytes) -> list[bytes]:
        """See `PrivateData`."""
        kept = await account.host.server.store.data.all(account.id, KIND)
        return [value for value in kept.values() if text in value]


def setup(host: Host) -> None:
    """Hook private storage into a host."""
    host.disco.server.features.add(ns.PRIVATE)
    host.provide(PrivateData, Kept())
    host.bus.on(AccountLoading, lambda event: event.account.put(Sizes()))
    host.iq.on(Target.OWN, "get", ns.PRIVATE, "query", get)
    host.iq.on(Target.OWN, "set", ns.PRIVATE, "query", change)


async def get(request: Request) -> bytes:
    """Section 2.2: what is kept under a name, or the element as it was sent when nothing is."""
    account = request.account
    assert account is not None
    elements = _elements(request.payload)
    if len(elements) != 1:
        raise StanzaError("not-acceptable", "a request is for one element")
    element = elements[0]
    kept = await account.host.server.store.data.get(account.id, KIND, key_of(element))
    return tag("query", {"xmlns": ns.PRIVATE}, kept or tag(element.name, {"xmlns": str(element.uri)}))


async def change(request: Request) -> None:
    """Section 2.2: keep one element, or several of one namespace (section 2.3)."""
    account = request.account
    assert account is not None
    elements = _elements(request.payload)
    if len({element.uri for element in elements}) != 1:
        raise StanzaError("not-acceptable", "the elements are of different namespaces")
    new: dict[str, bytes] = {}
    for element in elements:
        is_empty = not element.attributes and not element.children
        content = b"" if is_empty else serialise(element, ns.PRIVATE)
        new[key_of(element)] = new.get(key_of(element), b"") + content
    record = account.get(Sizes)
    try:
        async with record.lock:
            await _keep(account, record, new)
    finally:
        await account.host.bus.fire(PrivateDataChanged(account))


async def _keep(account: Account, record: Sizes, new: dict[str, bytes]) -> None:
    data = account.host.server.store.data
    if record.of is None:
        kept = await data.all(account.id, KIND)
        record.of = {key: _size(key, value) for key, value in kept.items()}
    before = sum(record.of.values())
    others = sum(size for key, size in record.of.items() if key not in new)
    after = others + sum(_size(key, value) for key, value in new.items() if value)
    limit = account.host.settings[PRIVATE_DATA_LIMIT]
    if after > limit and after > before:  # who has too much already may still have less
        raise StanzaError("policy-violation", f"an account may keep {limit} bytes of private data")
    for key, value in new.items():
        if value:
            await data.put(account.id, KIND, key, value)
            record.of[key] = _size(key, value)
        else:
            await data.delete(account.id, KIND, key)
            record.of.pop(key, None)


def _elements(query: domish.Element) -> list[domish.Element]:
    """The elements that a request is about; each needs a namespace of its own (section 2.3)."""
    elements = list(query.elements())
    if not elements:
        raise StanzaError("not-acceptable", "there is no element")
    if any(not element.uri or element.uri == ns.PRIVATE for element in elements):
        raise StanzaError("not-acceptable", "an element needs a namespace of its own")
    return elements


def key_of(element: domish.Element) -> str:
    """Under which key an element is kept; raises `StanzaError` for one that is too long."""
    key = f"{element.name} {element.uri}"
    if len(key.encode()) > MAX_KEY:
        raise StanzaError("not-acceptable", f"a name with its namespace has at most {MAX_KEY} bytes")
    return key


def _size(key: str, value: bytes) -> int:
    return len(key.encode()) + len(value)
