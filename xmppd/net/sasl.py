"""SASL on a client stream (RFC 6120 section 6)."""

from __future__ import annotations

from xmppd.auth.mechanism import AuthenticationFailed, Challenge, Mechanism
from xmppd.auth.offer import create
from xmppd.core.clients import Login
from xmppd.net.authentication import (
    ENFORCE_CLIENT_IDS,
    NEEDS_CLIENT_ID,
    Authentication,
    decode,
    encode,
)
from xmppd.wire import ns
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag


class Sasl:
    """The profile of one stream."""

    __slots__ = ("_authentication", "_mechanism")

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        self._mechanism: Mechanism | None = None

    def features(self) -> bytes:
        """See `Profile`."""
        if self._authentication.host.settings[ENFORCE_CLIENT_IDS]:
            return b""
        mechanisms = [tag("mechanism", None, name) for name in self._authentication.offer.mechanisms]
        return tag("mechanisms", {"xmlns": ns.SASL}, *mechanisms)

    async def step(self, element: Stanza) -> None:
        """See `Profile`: ``<auth/>``, ``<response/>`` or ``<abort/>``."""
        authentication = self._authentication
        stream = authentication.stream
        if element.name == "auth" and self._mechanism is None:
            if authentication.host.settings[ENFORCE_CLIENT_IDS]:
                raise AuthenticationFailed("malformed-request", NEEDS_CLIENT_ID)
            exchange = authentication.exchange(authentication.offer, authentication.same_user)
            mechanism = create(element.attributes.get("mechanism", ""), exchange)
            await authentication.begin(self)
        elif element.name == "response" and self._mechanism is not None:
            mechanism = self._mechanism
        elif element.name == "abort":
            raise AuthenticationFailed("aborted")
        else:
            raise AuthenticationFailed("malformed-request", f"<{element.name}/> is not expected here")
        self._mechanism = mechanism
        answer = await mechanism.respond(_data(element))
        if isinstance(answer, Challenge):
            stream.write(tag("challenge", {"xmlns": ns.SASL}, encode(answer.data) or "="))
            return
        self._mechanism = None
        local = authentication.local_part(answer)
        if await authentication.tasks(answer):
            raise AuthenticationFailed("not-authorized", "this account takes more than a password, by SASL2")
        content = [encode(answer.data) or "="] if answer.data is not None else []
        stream.write(tag("success", {"xmlns": ns.SASL}, *content))
        stream.log.info("{session}: {user} has logged in by {mechanism}", session=stream.id[:8],
                        user=f"{local}@{authentication.host.domain}", mechanism=mechanism.name)  # fmt: skip
        authentication.learned(local, answer)
        login = Login("", mechanism.name, is_legacy=True, grant=answer.grant, account=answer.account)
        stream.authenticated(local, login)

    def failed(self, failure: AuthenticationFailed) -> bytes:
        """See `Profile`."""
        self._mechanism = None
        text = [tag("text", {"xmlns": ns.SASL, "xml:lang": "en"}, failure.text)] if failure.text else []
        return tag("failure", {"xmlns": ns.SASL}, tag(failure.condition), *text)


def _data(element: Stanza) -> bytes | None:
    """What an element carries (RFC 6120 section 6.4.2): nothing, ``=`` for empty data, or base64."""
    text = element.text()
    if not text:
        return None if element.name == "auth" else b""
    return b"" if text == "=" else decode(text)
