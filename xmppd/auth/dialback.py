"""Dialback keys (XEP-0185 1.0): made of a secret and of what they are for, so that none has to be kept."""

from __future__ import annotations

import hashlib
import hmac


def dialback_key(secret: bytes, receiving: str, originating: str, stream_id: str) -> str:
    """The key by which the server of `originating` shows the server of `receiving` that it is that one, on the stream
    that the latter has given `stream_id`; in hexadecimal digits (XEP-0220 section 2.1.1)."""
    hashed = hashlib.sha256(secret).hexdigest().encode()
    return hmac.new(hashed, f"{receiving} {originating} {stream_id}".encode(), hashlib.sha256).hexdigest()


def is_dialback_key(key: str, secret: bytes, receiving: str, originating: str, stream_id: str) -> bool:
    """Whether `key` is the one that `dialback_key` makes; it takes as long whatever is wrong."""
    wanted = dialback_key(secret, receiving, originating, stream_id)
    return hmac.compare_digest(wanted.encode(), key.encode("utf-8", "replace"))
