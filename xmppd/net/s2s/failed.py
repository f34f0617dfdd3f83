"""Why another server was not reached."""

from __future__ import annotations

from xmppd.wire.errors import StanzaError

# What strangers are told; the log says what was wrong, with addresses and with words of peers.
_TOLD = {
    "remote-server-not-found": "there is no XMPP server for that domain",
    "remote-server-timeout": "the XMPP server of that domain cannot be reached now",
    "not-allowed": "this server does not speak to that domain",
    "internal-server-error": "the server of that domain does not accept this one",
}


class Failed(Exception):
    """A stream to another server could not be had, or not for a pair of domains. `condition` is what the senders of
    stanzas are told (RFC 6120 section 8.3.3), `text` says why, to administrators alone. `lasting`: another try soon
    would end like this one."""

    def __init__(self, condition: str, text: str, lasting: bool = False) -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text
        self.lasting = lasting

    def __str__(self) -> str:
        return self.text

    def error(self) -> StanzaError:
        """The error for a stanza."""
        return StanzaError(self.condition, _TOLD[self.condition])


def not_found(text: str) -> Failed:
    """There is no server for a domain."""
    return Failed("remote-server-not-found", text, lasting=True)


def unreachable(text: str) -> Failed:
    """There is one, which cannot be spoken to now."""
    return Failed("remote-server-timeout", text)
