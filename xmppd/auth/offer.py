"""Which mechanisms a stream offers, and the mechanism that a client chose from them.

A mechanism of our own is added here: its name to ``STRONGEST_FIRST``, what makes it to ``_MAKERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from xmppd.auth.credentials import HASHES
from xmppd.auth.downgrade import Offer, downgrade_hash
from xmppd.auth.hashed_token import TOKEN_MECHANISMS, HashedToken
from xmppd.auth.mechanism import AuthenticationFailed, Exchange, Mechanism
from xmppd.auth.plain import Plain
from xmppd.auth.scram import MECHANISM_HASHES, Scram

__all__ = ["STRONGEST_FIRST", "Offer", "create", "downgrade_hash", "make_offer", "token_mechanisms"]

# Channel binding before a better hash: it is what shows somebody in the middle.
STRONGEST_FIRST = (
    "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN",
)  # fmt: skip

_MAKERS: Mapping[str, Callable[[Exchange], Mechanism]] = {
    "PLAIN": Plain,
    **{name: partial(Scram, name) for name in MECHANISM_HASHES},
    **{name: partial(HashedToken, name) for name in TOKEN_MECHANISMS},
}


def make_offer(
    secure: bool,
    channel_bindings: Sequence[str],
    allow_plain: bool = False,
    disabled: Collection[str] = (),
    *,
    allow_insecure: bool = False,
    hashes: Collection[str] = tuple(HASHES),
) -> Offer:
    """Return what to announce on a stream, strongest mechanism first.

    ``secure`` says whether the stream is encrypted, ``channel_bindings`` which types this connection can do,
    ``disabled`` which mechanisms the administrator does not want, ``hashes`` for which ones accounts have keys.
    On a stream that is not encrypted nothing is offered (RFC 6120 section 13.8.3), unless ``allow_insecure`` permits
    SCRAM there, or ``allow_plain`` SCRAM and PLAIN. Types are announced if and only if a -PLUS mechanism is, since
    clients have to give up on one without the other (XEP-0440 section 3).
    """
    if not secure and not (allow_insecure or allow_plain):
        return Offer((), ())
    bindable = secure and bool(channel_bindings)
    mechanisms = tuple(
        name
        for name in STRONGEST_FIRST
        if name not in disabled
        and (name == "PLAIN" or MECHANISM_HASHES[name] in hashes)
        and (bindable or not name.endswith("-PLUS"))
        and (secure or allow_plain or name != "PLAIN")
    )
    offer = Offer(mechanisms, tuple(channel_bindings))
    return offer if offer.has_channel_binding else Offer(mechanisms, ())


def token_mechanisms(channel_bindings: Collection[str]) -> tuple[str, ...]:
    """Return the mechanisms for tokens (XEP-0484) on a stream with these channel-binding types, strongest first."""
    names = sorted(TOKEN_MECHANISMS, key=lambda name: (name.endswith("-NONE"), "-256-" in name))
    return tuple(name for name in names if TOKEN_MECHANISMS[name][1] in ("", *channel_bindings))


def create(name: str, exchange: Exchange) -> Mechanism:
    """Return the mechanism that a client asked for, ready for its first message.

    Raises AuthenticationFailed ``invalid-mechanism`` for one that was not offered.
    Source: RFC 6120 section 6.5.7.
    """
    if name not in exchange.offered.mechanisms or name not in _MAKERS:
        raise AuthenticationFailed("invalid-mechanism")
    return _MAKERS[name](exchange)
