"""The messages that a SCRAM client sends, parsed strictly.

Everything here raises AuthenticationFailed: ``malformed-request`` for what breaks the grammar,
``incorrect-encoding`` for base64 that is none. The texts are the error names of RFC 5802 section 7 where it
has one.
Source: RFC 5802 section 7, "Formal Syntax".
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from xmppd.auth.mechanism import AuthenticationFailed

_ATTRIBUTE = re.compile(r"[A-Za-z]=[^\0,]+")
_BINDING_NAME = re.compile(r"[A-Za-z0-9.-]+")
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_BAD_ESCAPE = re.compile(r"=(?!2C|3D)")

# The attributes of RFC 5802 section 5.1 have their fixed places; extensions may not use the same letters.
_RESERVED = frozenset("anmrcsipve")


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """``client-first-message``, split where its parts go separate ways."""

    gs2_header: str
    """The text up to and with the second comma: it comes back inside ``c=``."""

    binding_flag: str
    """``n``: no channel binding. ``y``: only the client can do it, as far as it knows. ``p``: it is used."""

    binding_type: str
    """The channel-binding type if the flag is ``p``, else empty."""

    authzid: str
    """Who the client wants to be; empty for the user that logs in."""

    bare: str
    """``client-first-message-bare`` as it was sent: a part of what is signed."""

    username: str
    nonce: str


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """``client-final-message``."""

    without_proof: str
    """The text before the proof, as it was sent: a part of what is signed."""

    binding: bytes
    """The value of ``c=``: gs2 header and channel-binding data."""

    nonce: str
    proof: bytes


def parse_client_first(data: bytes) -> ClientFirst:
    """Parse ``gs2-cbind-flag "," [authzid] "," [reserved-mext ","] username "," nonce ["," extensions]``."""
    message = _decode(data)
    parts = message.split(",", 2)
    if len(parts) != 3:
        raise AuthenticationFailed("malformed-request")
    flag, authzid, bare = parts
    binding_type = ""
    if flag.startswith("p="):
        flag, binding_type = "p", flag[2:]
        if not _BINDING_NAME.fullmatch(binding_type):
            raise AuthenticationFailed("malformed-request")
    elif flag not in ("n", "y"):
        raise AuthenticationFailed("malformed-request")
    if authzid:
        [(name, authzid)] = parse_attributes(authzid)
        if name != "a":
            raise AuthenticationFailed("malformed-request")
        authzid = _unescape(authzid)
    attributes = parse_attributes(bare)
    username, nonce = _in_order(attributes[:2], "nr")
    _check_extensions(attributes[2:])
    if not _NONCE.fullmatch(nonce):
        raise AuthenticationFailed("malformed-request")
    gs2_header = message.removesuffix(bare)
    return ClientFirst(gs2_header, flag, binding_type, authzid, bare, _unescape(username), nonce)


def parse_client_final(data: bytes) -> ClientFinal:
    """Parse ``channel-binding "," nonce ["," extensions] "," proof``."""
    message = _decode(data)
    attributes = parse_attributes(message)
    binding, nonce, proof = _in_order(attributes[:2] + attributes[2:][-1:], "crp")
    _check_extensions(attributes[2:-1])
    without_proof = message.removesuffix(f",p={proof}")
    return ClientFinal(without_proof, _decode_base64(binding), nonce, _decode_base64(proof))


def parse_attributes(text: str) -> list[tuple[str, str]]:
    """Split ``a=value,b=value`` into pairs, in order.

    ``m=`` stands for an extension that must be understood, and nobody has defined one: RFC 5802 section 5.1
    wants the exchange to fail wherever it appears.
    """
    attributes = []
    for attribute in text.split(","):
        if not _ATTRIBUTE.fullmatch(attribute):
            raise AuthenticationFailed("malformed-request")
        if attribute.startswith("m="):
            raise AuthenticationFailed("malformed-request", "extensions-not-supported")
        attributes.append((attribute[0], attribute[2:]))
    return attributes


def _in_order(attributes: list[tuple[str, str]], names: str) -> list[str]:
    """Return the values of attributes that have to be just these, in this order."""
    if [name for name, _ in attributes] != list(names):
        raise AuthenticationFailed("malformed-request")
    return [value for _, value in attributes]


def _check_extensions(attributes: list[tuple[str, str]]) -> None:
    """Ignore what we do not know, as RFC 5802 section 5.1 demands, but take no second user name or nonce."""
    if any(name in _RESERVED for name, _ in attributes):
        raise AuthenticationFailed("malformed-request")


def _unescape(saslname: str) -> str:
    if _BAD_ESCAPE.search(saslname):
        raise AuthenticationFailed("malformed-request", "invalid-username-encoding")
    return saslname.replace("=2C", ",").replace("=3D", "=")


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise AuthenticationFailed("malformed-request", "invalid-encoding") from None


def _decode_base64(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:
        decoded = b""
    # Python overlooks wrong bits and signs behind the padding; one value has one spelling here.
    if base64.b64encode(decoded).decode() != text:
        raise AuthenticationFailed("incorrect-encoding", "invalid-encoding")
    return decoded
