"""Resource binding (RFC 6120 section 7): an authenticated client becomes a session."""

from __future__ import annotations

from xmppd.config import Integer, Option
from xmppd.core import grants
from xmppd.core.accounts import Account
from xmppd.core.clients import Login, client_key
from xmppd.core.events import Bound
from xmppd.core.host import Host
from xmppd.core.session import Carrier, Session
from xmppd.storage import StorageError
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import InvalidJID

MAX_SESSIONS = Option(
    "max_sessions_per_account", Integer(minimum=1), "50", "How many resources of one account may be connected."
)
OPTIONS = (MAX_SESSIONS,)


async def bind(
    host: Host, local: str, wanted: str | None, id: str, carrier: Carrier, lang: str | None, login: Login,
    ends_others: bool = False,
) -> Session:  # fmt: skip
    """Make a session of the account `local`, at the resource that the client wants or one of ours. `login` becomes a
    record of the session. `ends_others`: the caller ends the earlier sessions of the same client.

    A session that has the resource already ends with a `conflict` (section 7.7.2.2, the second way: the client
    that comes back knows best). Raises `StanzaError`: bad-request for a resource that is none, resource-constraint
    for one session too many or while the store fails, not-allowed when the account is gone.
    """
    try:
        account = await host.accounts.load(local)
    except StorageError as error:
        host.log.error("{session}: not bound: {error}", session=id, error=str(error))
        raise StanzaError("resource-constraint", "the account cannot be loaded now") from None
    if account is None or login.account not in (0, account.id):
        raise StanzaError("not-allowed", "the account does not exist any more")
    if login.grant is not None and not await _is_usable(account, login):
        raise StanzaError("not-allowed", "the application password was revoked")
    try:
        jid = account.jid.with_resource(wanted or host.server.token())
    except InvalidJID as error:
        raise StanzaError("bad-request", str(error)) from None
    sessions = host.server.sessions
    others = [other for other in account.sessions if not (ends_others and is_of(other, login))]
    if sessions.get(jid) is None and len(others) >= host.settings[MAX_SESSIONS]:
        raise StanzaError("resource-constraint", "too many resources of this account are connected")
    old = sessions.get(jid)
    if old is not None:
        old.close("conflict", "another client has taken this resource")
    session = Session(host, account, jid, id, carrier, lang)
    if not login.key:
        login.key = client_key(host.server.secret, account.jid.bare, f"resource {login.resource}")
    session.put(login)
    sessions.add(session)
    try:
        await host.bus.fire(Bound(session))
    except BaseException:
        session.end()
        raise
    return session


def is_of(session: Session, login: Login) -> bool:
    """Whether a session is of the client that logs in, which has said which one it is."""
    its = session.find(Login)
    return bool(login.agent.id) and its is not None and its.key == login.key


async def _is_usable(account: Account, login: Login) -> bool:
    """Whether the application password that was shown is still one; that it was used is kept."""
    try:
        return await grants.use(account.host.server.store, account.id, login, account.host.server.now_ms())
    except StorageError:
        raise StanzaError("resource-constraint", "the server cannot look at this now") from None
