"""Questions to an archive (XEP-0313 sections 4 to 6): pages of it, the form that they are asked with, and its ends."""

from __future__ import annotations

import contextlib

from xmppd.config import Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.events import BoundInline
from xmppd.core.iq import Request
from xmppd.core.session import Session
from xmppd.modules.mam.ids import Ids, first_at, from_text, time_of, to_text
from xmppd.storage import Archived, Range, StorageError
from xmppd.wire import ns
from xmppd.wire.delay import parse_stamp, stamp
from xmppd.wire.errors import StanzaError
from xmppd.wire.forms import form_bytes, read_form
from xmppd.wire.jid import InvalidJID, parse
from xmppd.wire.rsm import Page, UnsupportedPage, read_page, set_bytes
from xmppd.wire.stanza import Stanza
from xmppd.wire.stored import in_own_namespace
from xmppd.wire.xml import escape_attribute, tag

MAX_RESULTS = Option(
    "max_archive_query_results", Integer(minimum=1, maximum=1000), "50",
    "How many messages one answer of an archive has at most.",
)  # fmt: skip
OPTIONS = (MAX_RESULTS,)

CHUNK_BYTES = 64 * 1024  # of results after which the client has to have read what it was sent
MAX_IDS = 200  # that a query may ask for

_FIELDS = (("with", "jid-single"), ("start", "text-single"), ("end", "text-single"),
           ("before-id", "text-single"), ("after-id", "text-single"))  # fmt: skip
_OPEN = tag("validate", {"xmlns": ns.FORM_VALIDATION, "datatype": "xs:string"}, tag("open"))


def form(request: Request) -> bytes:
    """Section 4.1.5: every field that a query may have."""
    fields = [tag("field", {"var": name, "type": type}) for name, type in _FIELDS]
    fields.append(tag("field", {"var": "ids", "type": "list-multi"}, _OPEN))
    return tag("query", {"xmlns": ns.MAM}, form_bytes(ns.MAM, fields))


async def metadata(request: Request) -> bytes:
    """Section 5: the ends of the archive; nothing for one that is empty."""
    account = request.account
    assert account is not None
    return await ends_until(account, account.host.service(Ids).last)


async def at_binding(event: BoundInline) -> None:
    """XEP-0386 section 3.2: the ends of the archive at the moment of the binding. What comes after the last one is
    delivered."""
    account = event.session.account
    event.archived = account.host.service(Ids).last
    event.answers.append(await ends_until(account, event.archived))


async def ends_until(account: Account, until: bytes) -> bytes:
    """The ends of the archive as it was when `until` was its host's last id."""
    await _committed(account)
    ends = await account.host.server.store.archive.ends(account.id, until)
    if ends is None:
        return tag("metadata", {"xmlns": ns.MAM})
    return tag("metadata", {"xmlns": ns.MAM}, _end("start", ends[0]), _end("end", ends[1]))


def _end(name: str, id: bytes) -> bytes:
    return tag(name, {"id": to_text(id), "timestamp": stamp(time_of(id))})


async def query(request: Request) -> bytes:
    """Section 4: the results as messages, in their order or flipped, then how far they go."""
    account, session = request.account, request.session
    assert account is not None
    if session is None:
        raise StanzaError("not-allowed", "only a connected client can read an archive")
    payload = request.payload
    try:
        page = read_page(payload)
        fields = read_form(payload, ns.MAM) or {}
    except UnsupportedPage as error:
        raise StanzaError("feature-not-implemented", str(error)) from None
    except ValueError as error:
        raise StanzaError("bad-request", str(error)) from None
    range, known = _range(account, fields)
    range, known = _from_page(range, known, page)
    most = account.host.settings[MAX_RESULTS]
    limit = min(page.max, most) if page.max is not None else most
    await _committed(account)
    backwards = page.before is not None
    answer = await account.host.server.store.archive.page(account.id, range, limit, backwards, known)
    if answer is None:
        raise StanzaError("item-not-found", "there is no message with this id in the archive")
    found, complete = answer
    flip = next(payload.elements(ns.MAM, "flip-page"), None) is not None
    await _send(session, found[::-1] if flip else found, payload.getAttribute("queryid"))
    ends = (to_text(found[0].id), to_text(found[-1].id)) if found else None
    # Only where this page is all that matches is the number of all known without counting.
    count = len(found) if complete and page.after is None and not page.before else None
    return tag("fin", {"xmlns": ns.MAM, "complete": "true" if complete else None}, set_bytes(ends, count))


async def _committed(account: Account) -> None:
    """Wait for what was archived before the question, so that an id which the client has seen is there."""
    with contextlib.suppress(StorageError):  # what was not stored cannot be found, and the rest can
        await account.host.server.store.barrier()


# ---- what is asked for


def _range(account: Account, fields: dict[str, list[str]]) -> tuple[Range, list[bytes]]:
    """What the fields of the form allow, and the ids that have to exist (section 4.1)."""
    unknown = fields.keys() - {"ids", *(name for name, _ in _FIELDS)}
    if unknown:
        raise StanzaError("feature-not-implemented", f"there is no field {sorted(unknown)[0]!r}")
    # A field without a value is one that the client has left empty.
    value = {name: values[0].strip() for name, values in fields.items() if values and values[0].strip()}
    contact, resource = _contact(value.get("with"))
    after, before = _times(value)
    known = []
    if "after-id" in value:
        known.append(_id(value["after-id"]))
        after = max(after or b"", known[-1])
    if "before-id" in value:
        known.append(_id(value["before-id"]))
        before = min(before, known[-1]) if before is not None else known[-1]
    ids = None
    if "ids" in value:
        if len(fields["ids"]) > MAX_IDS:
            raise StanzaError("policy-violation", f"at most {MAX_IDS} ids can be asked for")
        ids = tuple(_id(text.strip()) for text in fields["ids"])
        known += ids
    return Range(contact, resource, after, before, ids), known


def _contact(text: str | None) -> tuple[str | None, str]:
    """Section 4.1.1. A bare address stands for all of its resources; the own one for notes to self alone, since what
    is with others has their address."""
    if not text:
        return None, ""
    try:
        jid = parse(text)
    except InvalidJID as error:
        raise StanzaError("jid-malformed", str(error)) from None
    return jid.bare, jid.resource


def _times(value: dict[str, str]) -> tuple[bytes | None, bytes | None]:
    """Section 4.1.2: from `start` to `end`, both included; ids begin with the time in milliseconds."""
    try:
        start = parse_stamp(value["start"]) if value.get("start") else None
        end = parse_stamp(value["end"]) if value.get("end") else None
    except ValueError as error:
        raise StanzaError("bad-request", str(error)) from None
    # No id ends with nothing but zeros, so "greater" and "not less" are the same here.
    after = first_at(-(-start // 1000)) if start is not None else None
    before = first_at(end // 1000 + 1) if end is not None else None
    return after, before


def _id(text: str) -> bytes:
    id = from_text(text)
    if id is None:
        raise StanzaError("item-not-found", "there is no message with this id in the archive")
    return id


def _from_page(range: Range, known: list[bytes], page: Page) -> tuple[Range, list[bytes]]:
    """The part of a range that a page begins or ends at (section 4.3, XEP-0059 section 2)."""
    after, before = range.after, range.before
    if page.after:
        known = [*known, _id(page.after)]
        after = max(after or b"", known[-1])
    if page.before:
        known = [*known, _id(page.before)]
        before = min(before, known[-1]) if before is not None else known[-1]
    return Range(range.contact, range.resource, after, before, range.ids), known


# ---- the answer


async def _send(session: Session, found: list[Archived], queryid: str | None) -> None:
    """Section 4.2: each message in its wrapping, no faster than the client reads."""
    size = 0
    for message in found:
        session.deliver(_result(session, message, queryid), repeatable=True)
        size += len(message.stanza)
        if size > CHUNK_BYTES:
            size = 0
            await session.when_drained()
            if session.ended:
                return


def _result(session: Session, message: Archived, queryid: str | None) -> Stanza:
    result = result_bytes(message, queryid)
    children = [(ns.MAM, "result", 0, len(result))]
    return Stanza("message", {}, result, children, sender=session.account.jid, to=session.jid)


def result_bytes(message: Archived, queryid: str | None = None) -> bytes:
    """Section 4.2: a message in its wrapping."""
    query = f" queryid='{escape_attribute(queryid)}'" if queryid is not None else ""
    head = (
        f"<result xmlns='{ns.MAM}'{query} id='{to_text(message.id)}'><forwarded xmlns='{ns.FORWARD}'>"
        f"<delay xmlns='{ns.DELAY}' stamp='{stamp(time_of(message.id))}'/>"
    )
    return b"%b%b</forwarded></result>" % (head.encode(), in_own_namespace(message.stanza))
