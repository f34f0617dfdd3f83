"""SASL2 on a client stream (XEP-0388 1.0.4): one request for all that it takes to be there.

Here are the exchange, the tasks that may follow it, and the version of what is announced, which may come with the
request (XEP-0509). What the client asks for beside that is done by `inline.py` once it has shown who it is, and before
it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.words.xish import domish

from xmppd.auth.mechanism import AuthenticationFailed, Challenge, Mechanism, Success, Token
from xmppd.auth.offer import Offer, create, token_mechanisms
from xmppd.core.clients import Tokens, UserAgent, read_user_agent
from xmppd.core.login_task import LoginTask
from xmppd.net.authentication import (
    CHANNEL_BINDINGS,
    DISABLED_MECHANISMS,
    ENFORCE_CLIENT_IDS,
    NEEDS_CLIENT_ID,
    Authentication,
    decode,
    encode,
)
from xmppd.net.inline import arrive, inline_features
from xmppd.net.upgrade import upgrade_features, wanted_upgrades
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.errors import StreamError
from xmppd.wire.jid import InvalidJID, parse
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag


@dataclass
class _Attempt:
    """One attempt to log in: the request, and how far it has come."""

    request: domish.Element
    agent: UserAgent
    mechanism: Mechanism
    success: Success | None = None  # of the mechanism; tasks may follow
    tasks: list[LoginTask] = field(default_factory=list)  # still to be done, of which the first ...
    under_way: bool = False  # ... has begun


class Sasl2:
    """The profile of one stream."""

    __slots__ = ("_attempt", "_authentication", "_token_offer", "_tokens")

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        self._attempt: _Attempt | None = None
        transport, host = authentication.stream.transport, authentication.host
        self._tokens = host.find(Tokens)
        names: tuple[str, ...] = ()
        if self._tokens is not None:
            bindings = (*CHANNEL_BINDINGS, "tls-unique")
            names = token_mechanisms([type for type in bindings if transport.channel_binding(type)])
        disabled = host.settings[DISABLED_MECHANISMS]
        self._token_offer = Offer(tuple(name for name in names if name not in disabled), ())
        authentication.token_mechanisms = self._token_offer.mechanisms

    def features(self) -> bytes:
        """See `Profile`: section 2.1."""
        host = self._authentication.host
        mechanisms = [tag("mechanism", None, name) for name in self._authentication.offer.mechanisms]
        fast = b""
        if self._token_offer.mechanisms:
            fast = tag("fast", {"xmlns": ns.FAST}, *(tag("mechanism", None, n) for n in self._token_offer.mechanisms))
        inline = tag("inline", None, inline_features(host), fast)
        return tag("authentication", {"xmlns": ns.SASL2}, *mechanisms, inline, *upgrade_features(host))

    async def step(self, element: Stanza) -> None:
        """See `Profile`."""
        name, attempt = element.name, self._attempt
        if name == "authenticate" and attempt is None:
            await self._begin(element)
        elif name == "abort":
            raise AuthenticationFailed("aborted")
        elif name == "response" and attempt is not None and attempt.success is None:
            await self._respond(attempt, decode(element.text()))
        elif name == "next" and attempt is not None and attempt.tasks and not attempt.under_way:
            if element.attributes.get("task") != attempt.tasks[0].name:
                raise AuthenticationFailed("malformed-request", "this task was not offered")
            await self._do(attempt, await attempt.tasks[0].begin(element.tree))
        elif name == "task-data" and attempt is not None and attempt.under_way:
            await self._do(attempt, await attempt.tasks[0].go_on(element.tree))
        else:
            raise StreamError("policy-violation", f"<{name}/> is not expected here")

    def failed(self, failure: AuthenticationFailed) -> bytes:
        """See `Profile`: section 2.6.2."""
        self._attempt = None
        text = [tag("text", None, failure.text)] if failure.text else []
        condition = tag(failure.condition, {"xmlns": ns.SASL})
        return tag("failure", {"xmlns": ns.SASL2}, condition, failure.application, *text)

    # ---- the exchange (sections 2.3 to 2.5)

    async def _begin(self, element: Stanza) -> None:
        authentication = self._authentication
        request = element.tree
        self._check_version(request)
        agent = self._user_agent(request)
        fast = next(request.elements(ns.FAST, "fast"), None)
        name = element.attributes.get("mechanism", "")
        offer = authentication.offer
        if fast is not None and name in self._token_offer.mechanisms:
            offer = self._token_offer
            if not agent.id:
                raise AuthenticationFailed("malformed-request", "a token needs the id of a user agent")

        async def tokens(username: str) -> Sequence[Token]:
            assert self._tokens is not None and fast is not None
            try:
                return await self._tokens.candidates(username, agent.id, name, fast)
            except StorageError:
                raise AuthenticationFailed("temporary-auth-failure") from None

        mechanism = create(name, authentication.exchange(offer, self._same_user, tokens))
        await authentication.begin(self)
        attempt = self._attempt = _Attempt(request, agent, mechanism)
        initial = next(request.elements(ns.SASL2, "initial-response"), None)
        await self._respond(attempt, None if initial is None else decode(str(initial)))

    def _check_version(self, request: domish.Element) -> None:
        """XEP-0509 section 3: what the client knows of the features is what was announced."""
        version = next(request.elements(ns.IAP, "config-version"), None)
        if version is not None and version.getAttribute("value") != self._authentication.stream.config_version:
            mismatch = tag("config-version-mismatch", {"xmlns": ns.IAP})
            raise AuthenticationFailed("aborted", "what is announced has changed", mismatch)

    def _user_agent(self, request: domish.Element) -> UserAgent:
        try:
            agent = read_user_agent(next(request.elements(ns.SASL2, "user-agent"), None))
        except ValueError:
            raise AuthenticationFailed("malformed-request", "the id of a user agent is a UUID of version 4") from None
        if not agent.id and self._authentication.host.settings[ENFORCE_CLIENT_IDS]:
            raise AuthenticationFailed("malformed-request", NEEDS_CLIENT_ID)
        return agent

    def _same_user(self, authzid: str, username: str) -> bool:
        """Also the user that the stream header names (section 2.3)."""
        sender = self._authentication.stream.sender
        try:
            agrees = sender is None or parse(authzid) == sender
        except InvalidJID:
            return False
        return agrees and self._authentication.same_user(authzid, username)

    async def _respond(self, attempt: _Attempt, data: bytes | None) -> None:
        answer = await attempt.mechanism.respond(data)
        if isinstance(answer, Challenge):
            challenge = tag("challenge", {"xmlns": ns.SASL2}, encode(answer.data))
            self._authentication.stream.write(challenge)
            return
        attempt.success = answer
        if answer.token is None:
            tasks = await self._authentication.tasks(answer)
            attempt.tasks = [*tasks, *await wanted_upgrades(self._authentication, attempt.request, answer)]
        additional = b"" if answer.data is None else tag("additional-data", None, encode(answer.data))
        await self._go_on(attempt, answer, additional)

    async def _go_on(self, attempt: _Attempt, success: Success, additional: bytes) -> None:
        """Ask for the next task, or be done."""
        if attempt.tasks:
            task = tag("tasks", None, tag("task", None, attempt.tasks[0].name))
            self._authentication.stream.write(tag("continue", {"xmlns": ns.SASL2}, additional, task))
            return
        name = attempt.mechanism.name
        await arrive(self._authentication, attempt.request, attempt.agent, name, success, additional)
        self._attempt = None

    # ---- tasks (section 2.6.3)

    async def _do(self, attempt: _Attempt, question: bytes | None) -> None:
        """The first task has a question for the client, or is done."""
        if question is not None:
            attempt.under_way = True
            self._authentication.stream.write(tag("task-data", {"xmlns": ns.SASL2}, question))
            return
        assert attempt.success is not None
        attempt.tasks, attempt.under_way = attempt.tasks[1:], False
        await self._go_on(attempt, attempt.success, b"")
