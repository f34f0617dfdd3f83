"""Streams of ours to other servers, for links and to verify dialback keys: those that are there, or new ones, each in
its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from xmppd.core.peers import network
from xmppd.net.s2s import options
from xmppd.net.s2s.connecting import Unreachable
from xmppd.net.s2s.failed import Failed, not_found, unreachable
from xmppd.net.s2s.link import Link
from xmppd.net.s2s.options import is_blocked
from xmppd.net.s2s.outgoing import OutgoingStream
from xmppd.net.s2s.stream import ServerStream

if TYPE_CHECKING:
    from xmppd.net.s2s.federation import Federation

T = TypeVar("T")

SHARES = 5  # that part of the dialback keys that are verified at once may be one address's


def silent(text: str) -> None:
    """Take note of nothing."""


class Opening:
    """What is under way to other servers."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._opening: dict[tuple[str, str], list[Deferred[OutgoingStream]]] = {}
        self._under_way: set[Deferred[Any]] = set()
        self._connecting = DeferredSemaphore(federation.settings[options.MAX_CONNECTING])
        self._verifying: Counter[str] = Counter()  # by the address that wants it

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._under_way)

    def stop(self) -> None:
        """The server stops: give up what is under way."""
        for waiting in list(self._under_way):
            waiting.cancel()

    async def _in_time(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What some work comes to within ``s2s_timeout``; raises `Failed`."""
        if self._federation.stopping:
            work.close()
            raise unreachable("the server stops")
        waiting: Deferred[Any] = Deferred.fromCoroutine(work)
        timer = self._federation.clock.callLater(self._federation.settings[options.TIMEOUT], waiting.cancel)
        self._under_way.add(waiting)
        try:
            return await waiting
        except CancelledError:
            raise unreachable("the server stops" if self._federation.stopping else "this took too long") from None
        finally:
            self._under_way.discard(waiting)
            if timer.active():
                timer.cancel()

    async def for_link(self, link: Link) -> None:
        """Have a stream carry a link, when it is its turn. Raises `Failed`."""
        async with self._connecting:
            if is_blocked(self._federation.settings_of(link.local), link.remote):
                raise Failed("not-allowed", f"this server does not speak to {link.remote}", lasting=True)
            if link.stream is None and not self._federation.stopping:
                await self._in_time(self._stream_for(link))

    async def _stream_for(self, link: Link) -> None:
        """Have a stream carry a link: one that is there (XEP-0220 section 2.5), or a new one. Raises `Failed`."""
        for stream in list(self._outgoing(link.remote)):
            if stream.takes_more and self._suits(stream, link.local):
                try:
                    await self._soon(stream, stream.authorize(link.local))
                except Failed:
                    continue  # it may be accepted on a stream of its own
                return
        stream = await self.negotiated(link.local, link.remote)
        try:
            await stream.authorize(link.local)
        except (Failed, CancelledError) as error:
            if not stream.carried:
                stream.end(None, str(error) or "this took too long")
            raise

    async def _soon(self, stream: OutgoingStream, work: Coroutine[Any, Any, T]) -> T:
        """What some work on a stream that was there before comes to; there is to be time for a new one. Raises
        `Failed`."""
        waiting: Deferred[T] = Deferred.fromCoroutine(work)
        timer = self._federation.clock.callLater(self._federation.settings[options.CONNECT_TIMEOUT], waiting.cancel)
        try:
            return await waiting
        except CancelledError:
            stream.hangs = True
            if timer.active():
                raise
            raise unreachable("the stream that there is does not answer") from None
        finally:
            if timer.active():
                timer.cancel()

    def _outgoing(self, remote: str) -> Iterator[OutgoingStream]:
        for stream in self._federation.streams:
            if isinstance(stream, OutgoingStream) and stream.remote == remote and not stream.is_over:
                yield stream

    def _suits(self, stream: OutgoingStream, local: str) -> bool:
        """Whether a stream that was opened for another domain of ours is good enough for this one."""
        settings = self._federation.settings_of(local)
        if len(stream.carried) >= self._federation.settings[options.MAX_PAIRS]:
            return False
        if settings[options.REQUIRE_ENCRYPTION] and not stream.transport.secure:
            return False
        needed = options.needs_certificate(settings, stream.remote)
        return not needed or self._federation.certificate_problem(stream, stream.remote) is None

    async def negotiated(self, local: str, remote: str) -> OutgoingStream:
        """A new stream between two domains, on which neither is proven yet; who asks while one is being opened gets the
        same. Raises `Failed`."""
        pair = local, remote
        if pair in self._opening:
            waiting = self._opening[pair]
            opened: Deferred[OutgoingStream] = Deferred(waiting.remove)
            waiting.append(opened)
            return await opened
        others = self._opening[pair] = []
        failure = unreachable("it was given up")
        stream: OutgoingStream | None = None
        try:
            stream = await self.open(local, remote, silent)
            return stream
        except Failed as failed:
            failure = failed
            raise
        finally:
            del self._opening[pair]
            for each in list(others):
                each.callback(stream) if stream is not None else each.errback(failure)

    async def open(self, local: str, remote: str, note: Callable[[str], None]) -> OutgoingStream:
        """A new stream between two domains, negotiated as far as TLS and features; `note` is told of each step. Raises
        `Failed`, which says what was wrong with the last address that answered."""
        failure: Failed | None = None
        for group in await self._federation.network.find(remote, note):
            tried: frozenset[Any] = frozenset()
            while True:
                try:
                    transport, endpoint = await self._federation.network.connect(group, tried, note)
                except Unreachable as error:
                    text = f"{remote} has no XMPP server that answers: {error}"
                    failure = failure or (not_found(text) if error.nowhere else unreachable(text))
                    break
                tried |= {endpoint}
                stream = OutgoingStream(self._federation, transport, local, remote, endpoint, note)
                self._federation.streams.add(stream)
                stream.start()
                try:
                    await self._negotiate(stream)
                except Failed as failed:
                    note(f"{endpoint}: {failed}")
                    failure = failed
                    stream.end(None, failed.text)
                except Exception:  # it is given up, or there is a bug
                    stream.end(None, "it was given up")
                    raise
                else:
                    return stream
        raise failure or unreachable("it has no address")

    async def _negotiate(self, stream: OutgoingStream) -> None:
        """Negotiate in the time that one address has; raises `Failed`."""
        waiting: Deferred[None] = Deferred.fromCoroutine(stream.negotiate())
        timer = self._federation.clock.callLater(self._federation.settings[options.CONNECT_TIMEOUT], waiting.cancel)
        try:
            await waiting
        except CancelledError:
            if timer.active():
                raise
            raise unreachable(f"{stream.endpoint} takes too long") from None
        finally:
            if timer.active():
                timer.cancel()

    async def verify(self, asking: ServerStream, remote: str, local: str, id: str, key: str) -> bool:
        """Ask the server of `remote` whether a dialback key is its own, on another stream than the `asking` one
        (XEP-0288 section 2). Raises `Failed`."""
        most = self._federation.settings[options.MAX_VERIFYING]
        address = network(asking.transport.peer)
        if self._verifying.total() >= most or self._verifying[address] >= max(1, most // SHARES):
            raise unreachable("too many dialback keys are being verified")
        self._verifying[address] += 1
        try:
            return bool(await self._in_time(self._verify(asking, remote, local, id, key)))
        finally:
            self._verifying[address] -= 1
            if not self._verifying[address]:
                del self._verifying[address]

    async def _verify(self, asking: ServerStream, remote: str, local: str, id: str, key: str) -> bool:
        for stream in list(self._outgoing(remote)):
            if stream.ready and stream is not asking and not stream.hangs and self._suits(stream, local):
                try:
                    return await self._soon(stream, stream.ask(local, id, key))
                except Failed:
                    continue
        stream = await self.negotiated(local, remote)
        return await stream.ask(local, id, key)
