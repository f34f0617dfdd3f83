"""What a stream is given until it is authenticated: a place among those of its address, and a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from OpenSSL import SSL

from xmppd.config import Option, Settings
from xmppd.net.addresses import MAX_UNAUTHENTICATED, TOO_MANY, Addresses
from xmppd.net.connection import Connection, Receiver
from xmppd.net.limits import C2S_TIMEOUT
from xmppd.wire.errors import StreamError


class Admitted(Receiver, Protocol):
    """A stream that somebody has opened."""

    @property
    def admitted(self) -> bool:
        """Whether its address may have one more stream that is not authenticated."""

    def end(self, error: StreamError | None) -> None:
        """Close the stream."""


def begin(connection: Connection, stream: Admitted, tls: Callable[[], SSL.Context] | None = None) -> None:
    """Start a stream on a connection that was accepted, with a context of `tls` where TLS comes first; a stream that
    has no place among those of its address is sent away."""
    connection.start(stream)
    if stream.admitted:
        if tls is not None:
            connection.start_tls(tls())
    elif tls is not None:
        connection.abort(TOO_MANY)
    else:
        stream.end(StreamError("policy-violation", TOO_MANY))


class Admission:
    """The place and the time of one stream from `peer`; `too_late` is called when the time is over, which is that of
    the option `timeout`. `granted` is false where the address has no place left."""

    __slots__ = ("_addresses", "_deadline", "_peer", "_too_late", "granted")

    def __init__(
        self, addresses: Addresses, peer: str, settings: Settings, clock: Any, too_late: Callable[[], None],
        timeout: Option[float] = C2S_TIMEOUT,
    ) -> None:  # fmt: skip
        self._addresses = addresses
        self._peer = peer
        self._too_late = too_late
        self.granted = addresses.enter(peer, settings[MAX_UNAUTHENTICATED])
        self._deadline: Any = clock.callLater(settings[timeout], self._is_too_late)

    def leave_address(self) -> None:
        """It is known who the client is, or it is gone: the place is free for another."""
        if self.granted:
            self.granted = False
            self._addresses.leave(self._peer)

    def cancel_deadline(self) -> None:
        """The stream has arrived, or is over."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_too_late(self) -> None:
        self._deadline = None
        self._too_late()
