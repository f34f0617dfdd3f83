"""People who talk, one after the other, so that what was said has an order; and what their devices know of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from tests.conversations.resumable import Client, Message


class Line(NamedTuple):
    """Something that was said."""

    sender: str
    to: str
    body: str


class Talk:
    """Clients that take turns: each of `turns` is who says something, and to which address. `said` is all of it."""

    def __init__(self, *turns: tuple[Client, str]) -> None:
        self.turns = turns
        self.said: list[Line] = []

    async def go_on(self, count: int) -> None:
        """Say some more lines; each is acknowledged, so stored, before the next one is said."""
        for _ in range(count):
            client, to = self.turns[len(self.said) % len(self.turns)]
            await client.says(to, self.line(client, to))
            await client.acknowledged()

    async def blurt(self, client: Client, to: str, count: int) -> None:
        """One client says some lines, and waits for nothing."""
        await client.says(to, *(self.line(client, to) for _ in range(count)))

    def line(self, client: Client, to: str) -> str:
        """A text that nobody has said, and that has to be escaped."""
        body = f'line {len(self.said)} <b>&amp;</b>\n"ſo schön" \N{ROSE}'
        self.said.append(Line(client.jid, to, body))
        return body


def lines(messages: Iterable[Message]) -> list[Line]:
    """What messages say."""
    return [Line(message.sender, message.to, message.body) for message in messages]


async def hear(client: Client, count: int) -> list[Message]:
    """The next messages, of this moment or as copies."""
    return [(await client.gets())[1] for _ in range(count)]


async def hear_up_to(client: Client, last: Line) -> list[Message]:
    """The next messages, until this one."""
    heard = await hear(client, 1)
    while lines(heard[-1:]) != [last]:
        heard += await hear(client, 1)
    return heard


async def all_of(pages: AsyncIterator[list[Message]]) -> list[Message]:
    """Pages of an archive as one."""
    return [message async for page in pages for message in page]


async def catch_up(client: Client, after: Message, talk: Talk, count: int, size: int = 3) -> list[Message]:
    """What the archive has after a message, in pages; while each is asked for, until they have said `count` more lines,
    people go on talking."""
    found: list[Message] = []
    pages = client.pages(size, after=after.id)
    while True:
        page, _ = await asyncio.gather(anext(pages, None), talk.go_on(min(count, 1)))
        count = max(count - 1, 0)
        if page is None:
            await talk.go_on(count)
            return found
        found += page


def merged(caught_up: list[Message], heard: list[Message]) -> list[Message]:
    """What a device has that has caught up while it heard more: what the archive gave, then what it did not give yet;
    either has a message once, and both have the same."""
    by_id = {message.id: message for message in caught_up}
    assert len(by_id) == len(caught_up)
    assert len({message.id for message in heard}) == len(heard)
    assert [message for message in heard if by_id.get(message.id, message) != message] == []
    return caught_up + [message for message in heard if message.id not in by_id]


async def hear_rest(client: Client) -> list[Message]:
    """Everything that was sent to a client until now, and was not heard yet."""
    await client.acknowledged()
    heard: list[Message] = []
    while not client.quiet():
        heard += await hear(client, 1)
    return heard
