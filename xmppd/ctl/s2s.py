"""The commands for other servers: what goes between them and this one, and why something does not."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from xmppd.net.s2s.failed import Failed
from xmppd.net.s2s.federation import Federation
from xmppd.net.s2s.link import Link
from xmppd.net.s2s.options import TIMEOUT, is_blocked
from xmppd.net.s2s.outgoing import OutgoingStream
from xmppd.net.s2s.stream import ServerStream


def listed(federation: Federation) -> dict[str, list[dict[str, Any]]]:
    """The streams that are open, and the pairs of domains that something waits for."""
    streams = sorted(federation.streams, key=lambda stream: stream.began)
    waiting = [link for link in federation.links.values() if link.stream is None]
    return {
        "streams": [_stream(federation, stream) for stream in streams if not stream.closed],
        "waiting": [_link(federation, link) for link in waiting],
    }


def _stream(federation: Federation, stream: ServerStream) -> dict[str, Any]:
    now = federation.clock.seconds()
    pairs = [{"from": remote, "to": local, "by": stream.how[remote, local]} for remote, local in stream.proven]
    pairs += [{"from": local, "to": remote, "by": stream.how[local, remote]} for local, remote in stream.carried]
    return {
        "id": stream.id[:8], "direction": "in" if stream.incoming else "out", "domain": stream.remote,
        "address": stream.transport.peer, "tls": stream.transport.tls_version, "pairs": sorted(pairs, key=str),
        "bidirectional": stream.bidi, "acknowledged": stream.is_managed, "seconds": round(now - stream.began),
        "received": stream.received, "sent": stream.sent, "unacknowledged": stream.sending.unconfirmed,
    }  # fmt: skip


def _link(federation: Federation, link: Link) -> dict[str, Any]:
    pause = max(0.0, link.retry_at - federation.clock.seconds())
    return {
        "from": link.local, "to": link.remote, "stanzas": len(link.queue), "connecting": link.connecting,
        "failure": str(link.failure) if link.failure is not None else None, "next_try_seconds": round(pause),
    }  # fmt: skip


async def test(federation: Federation, domain: str, local: str) -> dict[str, Any]:
    """Open a stream to the server of a prepared domain, and close it again: each step, and whether a stanza from
    `local` would be taken there. Nothing that waits is sent by it."""
    steps: list[str] = []
    if is_blocked(federation.settings_of(local), domain):
        error: str | None = f"{domain} is not spoken to: s2s_blacklist or s2s_whitelist"
        return {"from": local, "to": domain, "steps": steps, "error": error}
    error = None
    opened: list[OutgoingStream] = []
    waiting = Deferred.fromCoroutine(_test(federation, domain, local, steps, opened))
    timer = federation.clock.callLater(federation.settings[TIMEOUT], waiting.cancel)
    try:
        await waiting
    except Failed as failed:
        error = failed.text
    except CancelledError:
        error = f"it takes longer than s2s_timeout, {federation.settings[TIMEOUT]:g} seconds"
    finally:
        if timer.active():
            timer.cancel()
        for stream in opened:
            stream.end(None, "it was a test")
    return {"from": local, "to": domain, "steps": steps, "error": error}


async def _test(
    federation: Federation, domain: str, local: str, steps: list[str], opened: list[OutgoingStream]
) -> None:
    stream = await federation.opening.open(local, domain, steps.append)
    opened.append(stream)
    await stream.test(local)
