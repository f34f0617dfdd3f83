"""What every stream is held to, from clients and from components: how long it may take to log in, and how large an
element may be."""

from __future__ import annotations

from xmppd.config import Duration, Integer, Option, Scope, Settings, Size
from xmppd.wire.parser import Limits

C2S_TIMEOUT = Option(
    "c2s_timeout", Duration(), "30s",
    "How long a client may take from connecting until it is authenticated and bound.", scope=Scope.SERVER,
)  # fmt: skip
STANZA_SIZE_LIMIT = Option(
    "stanza_size_limit", Size(minimum=10_000), "256k", "The largest stanza, in bytes, that a client may send."
)
STANZA_DEPTH_LIMIT = Option(
    "stanza_depth_limit", Integer(minimum=8, maximum=1000), "128", "How deep the elements of a stanza may nest."
)
STANZA_ELEMENTS_LIMIT = Option(
    "stanza_elements_limit", Integer(minimum=64), "10000", "How many elements a stanza may have."
)
OPTIONS = (C2S_TIMEOUT, STANZA_SIZE_LIMIT, STANZA_DEPTH_LIMIT, STANZA_ELEMENTS_LIMIT)

MAX_ATTRIBUTES = 256  # of one element after login; the most that any specification uses is about ten


def after_login(settings: Settings) -> Limits:
    """What a stream may send once it is authenticated; `settings` are those of its host or of the server."""
    depth = settings[STANZA_DEPTH_LIMIT] + 1  # the stream itself is one level
    return Limits(settings[STANZA_SIZE_LIMIT], depth, settings[STANZA_ELEMENTS_LIMIT], MAX_ATTRIBUTES)
