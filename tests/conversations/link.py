"""A way to the server that a test can make lossy, cut, and make whole again."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Literal

Direction = Literal["up", "down"]  # to the server, and from it


class Link:
    """Carries the connections of one client to a port; `cut` resets them on both sides: nobody sees an orderly end."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._whole = True
        self._lost: set[Direction] = set()  # of the newest connection
        self._ends: set[asyncio.StreamWriter] = set()

    async def open(self) -> Link:
        """Listen, on a port of its own."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def lose(self, *directions: Direction) -> None:
        """Lose what is sent from now on over the connection of now; nobody notices until it ends."""
        self._lost.update(directions)

    def cut(self) -> None:
        """Reset what is connected, and whoever tries to connect."""
        self._whole = False
        for end in list(self._ends):
            self._reset(end)

    def mend(self) -> None:
        """Let connections through again."""
        self._whole = True

    def close(self) -> None:
        """The test is over."""
        self.cut()
        self._listener.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # the server is down
            self._reset(writer)
            return
        self._ends.add(far_writer)
        if not self._whole:
            self._reset(writer)
            self._reset(far_writer)
            return
        self._lost = lost = set[Direction]()
        up = self._carry("up", lost, reader, far_writer)
        down = self._carry("down", lost, far_reader, writer)
        await asyncio.gather(up, down)

    async def _carry(
        self, direction: Direction, lost: set[Direction], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65536):
                if direction not in lost:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            self._reset(writer)
        else:
            self._ends.discard(writer)
            writer.close()

    def _reset(self, end: asyncio.StreamWriter) -> None:
        self._ends.discard(end)
        if not end.transport.is_closing():
            # Without lingering a close is a reset, and what was not sent yet is dropped.
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()
