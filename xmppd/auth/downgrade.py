"""What a stream offered, and the hash by which a client sees that nobody shortened the list on the way.

Source: XEP-0474 0.5.0, XEP-0440 1.0.0.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from xmppd.auth.credentials import HASHES


@dataclass(frozen=True, slots=True)
class Offer:
    """The SASL mechanisms and channel-binding types that the stream features announced, in that order.

    Where SASL and SASL2 announce different lists, this is the list of the one that the client uses (XEP-0474
    section 6.1). ``channel_bindings`` is empty when the feature of XEP-0440 was not sent.
    """

    mechanisms: tuple[str, ...]
    channel_bindings: tuple[str, ...]

    @property
    def has_channel_binding(self) -> bool:
        """Whether a client that knows channel binding should have used it."""
        return any(name.endswith("-PLUS") for name in self.mechanisms)


def downgrade_hash(offer: Offer, hash_name: str) -> str:
    """Return the value of the attribute ``h`` of a server-first-message. Source: XEP-0474 section 6.1."""
    listed = _sorted_and_joined(offer.mechanisms)
    if offer.channel_bindings:
        listed += b"\x1f" + _sorted_and_joined(offer.channel_bindings)
    return base64.b64encode(hashlib.new(HASHES[hash_name], listed).digest()).decode()


def _sorted_and_joined(names: Iterable[str]) -> bytes:
    # Sorted as octets (i;octet, RFC 4790 section 9.3), so encoded before they are sorted.
    return b"\x1e".join(sorted(name.encode() for name in names))
