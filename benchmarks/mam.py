"""Reading a message archive (XEP-0313), for the scenarios that measure it or check by it what was kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.client import Client

PAGE = 50  # messages
FIRST = re.compile(rb"<first[^>]*>([^<]+)</first>")
COMPLETE = re.compile(rb"<fin\b[^>]*\scomplete=['\"](?:true|1)['\"]")


@dataclass(frozen=True)
class Page:
    """What a query brought: messages as they came, the id of the first, and whether there is nothing before it."""

    messages: list[bytes]
    first: str
    complete: bool


async def page(client: Client, before: str = "", form: Mapping[str, str] | None = None) -> Page:
    """The page before an id, of all messages or those that `form` lets pass; without an id, the last one."""
    fields = "".join(
        f"<field var='{name}'><value>{value}</value></field>"
        for name, value in {"FORM_TYPE": "urn:xmpp:mam:2", **(form or {})}.items()
    )
    messages: list[bytes] = []
    previous, client.on_message = client.on_message, messages.append
    answer = await client.request(
        f"<query xmlns='urn:xmpp:mam:2' queryid='q'><x xmlns='jabber:x:data' type='submit'>{fields}</x>"
        f"<set xmlns='http://jabber.org/protocol/rsm'><max>{PAGE}</max><before>{before}</before></set></query>",
        "set",
    )
    client.on_message = previous
    first = FIRST.search(answer)
    results = [each for each in messages if b"urn:xmpp:mam:2" in each]
    return Page(results, first[1].decode() if first else "", COMPLETE.search(answer) is not None)


async def all_messages(client: Client) -> list[bytes]:
    """The whole archive, the oldest message first."""
    pages = [await page(client)]
    while not pages[-1].complete and pages[-1].messages:
        pages.append(await page(client, pages[-1].first))
    return [message for each in reversed(pages) for message in each.messages]
