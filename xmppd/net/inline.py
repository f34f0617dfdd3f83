"""What a client asks for together with its login (XEP-0388 section 2.6.1): done in one go, and told in one answer.

A session that it had is resumed (XEP-0198 section 9.2), or else a resource bound with all that the session is to have
(XEP-0386 1.1.0). What the session is sent meanwhile waits until the client knows that it has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import DeferredList
from twisted.words.xish import domish

from xmppd.auth.mechanism import AuthenticationFailed, Success
from xmppd.core import grants
from xmppd.core.binding import bind, is_of
from xmppd.core.clients import Login, UserAgent, client_key, stable_part
from xmppd.core.events import BoundInline, LoggedIn
from xmppd.core.host import Host
from xmppd.core.session import Session
from xmppd.net.authentication import Authentication
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import InvalidJID, prepare_resource
from xmppd.wire.xml import tag

MAX_TAG = 64  # characters of what a client wants its resource to begin with


def inline_features(host: Host) -> bytes:
    """What may come with a login: binding, with what a session may begin with, and resumption."""
    features = [tag("feature", {"var": var}) for var in sorted(set(host.bind_features.values()))]
    resume = b"" if host.inline_resume is None else tag("sm", {"xmlns": ns.SM})
    return tag("bind", {"xmlns": ns.BIND2}, tag("inline", None, *features)) + resume


async def arrive(
    authentication: Authentication,
    request: domish.Element,
    agent: UserAgent,
    mechanism: str,
    success: Success,
    additional: bytes,
) -> None:
    """The client is who it says: do what it asked for, and tell it everything."""
    stream, host = authentication.stream, authentication.host
    local = authentication.local_part(success)
    jid = f"{local}@{host.domain}"
    key = client_key(host.server.secret, jid, agent.id) if agent.id else ""
    login = Login(key, mechanism, agent, not agent.id, success.grant, success.token, account=success.account)
    answers = [additional, *await _announce(authentication, local, login, request)]
    authentication.local_part(success)  # that may have changed meanwhile
    authentication.learned(local, success)
    authentication.active = None
    stream.logged_in(local, login)
    stream.log.info("{session}: {user} has logged in by {mechanism}", session=stream.id[:8], user=jid,
                    mechanism=mechanism)  # fmt: skip
    stream.withhold()
    resume = next(request.elements(ns.SM, "resume"), None)
    if resume is not None and host.inline_resume is not None:

        def tell(resumed: bytes, who: str) -> None:
            stream.speak(_success([*answers, resumed], who))

        failed = await host.inline_resume(stream, resume, tell)
        if failed is None:
            return
        answers.append(failed)
    who = jid
    wanted = next(request.elements(ns.BIND2, "bind"), None)
    if wanted is not None and not stream.closed:
        session, bound = await _bind(authentication, local, wanted, login)
        answers.append(bound)
        who = session.jid.full if session is not None else jid
    stream.speak(_success(answers, who), stream.features())


def _success(answers: Sequence[bytes], who: str) -> bytes:
    return tag("success", {"xmlns": ns.SASL2}, *answers, tag("authorization-identifier", None, who))


async def _announce(
    authentication: Authentication, local: str, login: Login, request: domish.Element
) -> list[bytes]:
    """Let modules know, and wait until what they keep of it is on disk."""
    host = authentication.host
    try:
        account = await host.accounts.load(local)
        if account is None or login.account not in (0, account.id):
            raise AuthenticationFailed("not-authorized")
        event = LoggedIn(account, login, request, authentication.token_mechanisms)
        await host.bus.fire(event)
        if login.grant is not None:
            event.writes.append(grants.use(host.server.store, account.id, login, host.server.now_ms()))
        for well, outcome in await DeferredList(event.writes, consumeErrors=True):
            if not well:
                outcome.raiseException()
            if outcome is False:  # the application password was revoked meanwhile
                raise AuthenticationFailed("not-authorized")
    except StorageError as error:
        host.log.error("{session}: nobody can log in: {error}", session=authentication.stream.id[:8], error=str(error))
        raise AuthenticationFailed("temporary-auth-failure") from None
    return event.answers


async def _bind(
    authentication: Authentication, local: str, wanted: domish.Element, login: Login
) -> tuple[Session | None, bytes]:
    """XEP-0386 section 3.2: a session with all that it is to begin with."""
    stream, host = authentication.stream, authentication.host
    resource = _resource(host, wanted, login)
    try:
        session = await bind(host, local, resource, stream.id[:8], stream, stream.lang, login, ends_others=True)
    except StanzaError as error:
        return None, tag("failed", {"xmlns": ns.BIND2}, error.to_bytes())
    if not stream.bound(session):
        return None, b""
    # All of this in one turn: whatever the session is sent is sent as it will be.
    answers = []
    for element in wanted.elements():
        feature = host.bind_handlers.get((str(element.uri), element.name))
        answers.append(feature(session, element) if feature is not None else None)
    for other in session.account.sessions:
        if other is not session and is_of(other, login):
            other.close("conflict", "the client has a new session")
    event = BoundInline(session)
    try:
        await host.bus.fire(event)
    except StorageError as error:
        host.log.error("{session}: bound without all: {error}", session=session.id, error=str(error))
    return session, tag("bound", {"xmlns": ns.BIND2}, *event.answers, *filter(None, answers))


def _resource(host: Host, wanted: domish.Element, login: Login) -> str:
    """Section 3.2.1: what the client wants it to begin with, and what makes it unique: the same each time for the same
    client, though nobody can tell its id from it."""
    element = next(wanted.elements(ns.BIND2, "tag"), None)
    begin = str(element).strip()[:MAX_TAG] if element is not None else ""
    try:
        begin = prepare_resource(begin) if begin else ""
    except InvalidJID:
        begin = ""
    unique = stable_part(host.server.secret, login.key, begin) if login.agent.id else host.server.token()
    return f"{begin}/{unique}" if begin else unique
