"""Stanza errors and stream errors (RFC 6120 sections 8.3 and 4.9): what a peer is told when something is wrong.

Both are exceptions for the peer's mistakes and for refusals. What is wrong with the server itself is any other
exception; whoever catches that logs it and says `internal-server-error`.
"""

from __future__ import annotations

from xmppd.wire import ns
from xmppd.wire.xml import tag

# The conditions of RFC 6120 section 8.3.3 with the type that goes with each.
STANZA_CONDITIONS = {
    "bad-request": "modify",
    "conflict": "cancel",
    "feature-not-implemented": "cancel",
    "forbidden": "auth",
    "gone": "cancel",
    "internal-server-error": "cancel",
    "item-not-found": "cancel",
    "jid-malformed": "modify",
    "not-acceptable": "modify",
    "not-allowed": "cancel",
    "not-authorized": "auth",
    "policy-violation": "modify",
    "recipient-unavailable": "wait",
    "redirect": "modify",
    "registration-required": "auth",
    "remote-server-not-found": "cancel",
    "remote-server-timeout": "wait",
    "resource-constraint": "wait",
    "service-unavailable": "cancel",
    "subscription-required": "auth",
    "undefined-condition": "cancel",
    "unexpected-request": "wait",
}

ERROR_TYPES = frozenset({"auth", "cancel", "continue", "modify", "wait"})  # section 8.3.2

# RFC 6120 section 4.9.3.
STREAM_CONDITIONS = frozenset({
    "bad-format", "bad-namespace-prefix", "conflict", "connection-timeout", "host-gone", "host-unknown",
    "improper-addressing", "internal-server-error", "invalid-from", "invalid-namespace", "invalid-xml",
    "not-authorized", "not-well-formed", "policy-violation", "remote-connection-failed", "reset",
    "resource-constraint", "restricted-xml", "see-other-host", "system-shutdown", "undefined-condition",
    "unsupported-encoding", "unsupported-feature", "unsupported-stanza-type", "unsupported-version",
})  # fmt: skip


class StanzaError(Exception):
    """A stanza is refused: raised by handlers, turned into the answer by whoever called them.

    `condition` is one of `STANZA_CONDITIONS`; `text` is for people; `type` is the condition's own unless
    given; `application` is the bytes of an application-specific condition element.
    """

    def __init__(
        self, condition: str, text: str | None = None, *, type: str | None = None, application: bytes = b""
    ) -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text
        self.type = type or STANZA_CONDITIONS[condition]
        self.application = application

    def to_bytes(self) -> bytes:
        """The ``<error/>`` element."""
        content = [tag(self.condition, {"xmlns": ns.STANZA_ERRORS})]
        if self.text:
            content.append(tag("text", {"xmlns": ns.STANZA_ERRORS, "xml:lang": "en"}, self.text))
        return tag("error", {"type": self.type}, *content, self.application)

    def __str__(self) -> str:
        return f"{self.condition}: {self.text}" if self.text else self.condition


class StreamError(Exception):
    """A stream ends because of an error; `condition` is one of `STREAM_CONDITIONS`."""

    def __init__(self, condition: str, text: str | None = None, application: bytes = b"") -> None:
        super().__init__(condition, text)
        if condition not in STREAM_CONDITIONS:
            raise ValueError(f"no such stream error: {condition}")
        self.condition = condition
        self.text = text
        self.application = application

    def to_bytes(self) -> bytes:
        """The ``<stream:error/>`` element, for a stream that has bound the usual prefix."""
        content = [tag(self.condition, {"xmlns": ns.STREAM_ERRORS})]
        if self.text:
            content.append(tag("text", {"xmlns": ns.STREAM_ERRORS, "xml:lang": "en"}, self.text))
        return tag("stream:error", None, *content, self.application)

    def __str__(self) -> str:
        return f"{self.condition}: {self.text}" if self.text else self.condition
