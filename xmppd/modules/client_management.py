"""Clients: what has access to an account, and how that ends (XEP-0494 0.1.0, and the protocol of Prosody that it was
made of, ``xmpp:prosody.im/protocol/manage-clients``).

A client is known by the id of its user agent (XEP-0388), or as far as that goes by the resource that it wants. It has
access while it is connected, has a token (XEP-0484), a grant, or has used the password since that was changed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from xmppd.config import Duration, Integer, Option
from xmppd.core import grants
from xmppd.core.accounts import Account
from xmppd.core.bus import Stage
from xmppd.core.clients import Login, PushServices, Tokens
from xmppd.core.events import (
    AccountLoading,
    Bound,
    ClientRevoked,
    Ended,
    LoggedIn,
    NewClient,
    PasswordChanged,
    Resumed,
    Stopping,
)
from xmppd.core.grants import MAX_GRANTS, Grant
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.core.session import Session
from xmppd.storage import AccountGone, StorageError
from xmppd.wire import ns
from xmppd.wire.delay import stamp
from xmppd.wire.errors import StanzaError
from xmppd.wire.xml import tag

MAX_CLIENTS = Option(
    "max_clients_per_account", Integer(minimum=1), "100",
    "How many clients of an account are known; a new one takes the place of the one that was not seen for longest.",
)  # fmt: skip
RETENTION = Option(
    "client_retention", Duration(never=True, minimum=3600), "90d",
    "How long a client that is not seen any more, and has no token, is known.",
)  # fmt: skip
OPTIONS = (MAX_CLIENTS, RETENTION)

KIND = "clients"  # in the store, under the key of the client
WRITE_SECONDS = 5.0  # after which it is on disk that a client was seen again
CLEAN_SECONDS = 6 * 3600.0
NAMESPACES = (ns.MANAGE_CLIENTS, ns.CAM)


@dataclass(slots=True)
class Client:
    """What is kept of a client. Times are milliseconds since 1970; `password` is when it last used that, `grants` are
    the ids of the grants that it has used."""

    first_seen: int
    last_seen: int
    software: str = ""
    version: str = ""
    uri: str = ""
    device: str = ""
    resource: str = ""
    password: int | None = None
    grants: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Clients:
    """Record of an account: its clients by their keys, as they are on disk or about to be."""

    known: dict[str, Client]


class Unwritten(dict[tuple[int, str], Account]):
    """The accounts of clients of which only the time when they were seen has to be written, by account and key."""


@dataclass(slots=True)
class Access:
    """A client, or a grant that no client is known to use, as it is listed."""

    id: str
    type: str
    client: Client
    connected: bool
    ways: list[str] = field(default_factory=list)
    grants: frozenset[str] = frozenset()  # that there are, of those that it has used
    push: list[str] = field(default_factory=list)  # where it is notified of what comes

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "id": self.id, "type": self.type, "connected": self.connected, "auth": self.ways, "push": self.push,
            **asdict(self.client),
        }  # fmt: skip


def setup(host: Host) -> None:
    """Hook the management of clients into a host."""
    for xmlns in NAMESPACES:
        host.iq.on(Target.OWN, "get", xmlns, "list", list_clients)
        # COMPAT: slixmpp 1.17 revokes by a get.
        for type in ("set", "get"):
            host.iq.on(Target.OWN, type, xmlns, "revoke", revoke_client)
        host.disco.account.features.add(xmlns)
    host.provide(Unwritten, Unwritten())
    host.accounts.kinds.append(KIND)
    host.bus.on(AccountLoading, load)
    host.bus.on(LoggedIn, logged_in)
    host.bus.on(Bound, bound)
    host.bus.on(Resumed, bound)
    host.bus.on(Ended, ended)
    host.bus.on(PasswordChanged, password_changed, Stage.CHECK)
    host.bus.on(PasswordChanged, forget_grants)
    host.bus.on(Stopping, lambda event: write_times(host))
    writing = LoopingCall(write_times, host)
    writing.clock = host.server.clock  # type: ignore[assignment]
    writing.start(WRITE_SECONDS, now=False)
    cleaning = LoopingCall(lambda: host.server.tasks.start(clean(host), "forgetting clients"))
    cleaning.clock = host.server.clock  # type: ignore[assignment]
    cleaning.start(CLEAN_SECONDS, now=False)


def load(event: AccountLoading) -> None:
    """They come into memory with their account."""
    event.account.put(Clients({key: _from_stored(value) for key, value in event.data[KIND].items()}))


def _known(account: Account) -> dict[str, Client]:
    record = account.find(Clients)
    return record.known if record is not None else {}


def _keep(account: Account, key: str) -> Deferred[None]:
    """Write what is known of a client."""
    return account.host.server.store.data.put(account.id, KIND, key, _to_stored(_known(account)[key]))


# ---- clients are seen


def logged_in(event: LoggedIn) -> None:
    """A client that says which one it is logs in; that is on disk before it is told."""
    if event.login.agent.id:
        event.writes.append(_seen(event.account, event.login))


def bound(event: Bound | Resumed) -> None:
    """A client that does not say which one it is has a session."""
    session = event.session
    login = session.find(Login)
    if login is not None and login.is_legacy:
        _seen(session.account, login)


def ended(event: Ended) -> None:
    """Its session is over: it was seen until now."""
    session = event.session
    login = session.find(Login)
    if login is None or session.account.going:
        return
    client = _known(session.account).get(login.key)
    if client is not None:
        client.last_seen = session.host.server.now_ms()
        session.host.service(Unwritten)[session.account.id, login.key] = session.account


def write_times(host: Host) -> None:
    """Write which clients were seen and when, of all at once; what cannot be written is tried again."""
    unwritten = host.service(Unwritten)
    waiting = dict(unwritten)
    unwritten.clear()
    writes = [
        _keep(account, key).addErrback(_not_kept, account, key)
        for (_, key), account in waiting.items() if key in _known(account) and not account.going
    ]  # fmt: skip

    def tell(results: list[tuple[bool, str | None]]) -> None:
        errors = [error for _, error in results if error]
        if errors:  # in one line: a full disk keeps none of them
            host.log.error("when {count} clients were seen is not kept: {error}", count=len(errors), error=errors[0])

    DeferredList(writes).addCallback(tell)


def _not_kept(failure: Failure, account: Account, key: str) -> str:
    """Try it again with the next ones; why that is."""
    if failure.check(AccountGone):
        return ""
    failure.trap(StorageError)
    account.host.service(Unwritten)[account.id, key] = account
    return failure.getErrorMessage()


def _seen(account: Account, login: Login) -> Deferred[None]:
    """Know that a client has logged in, and how. Fires when that is on disk. What only changes a time is not waited
    for, and written with others; so is all of a client that does not say which one it is: it was promised nothing."""
    now = account.host.server.now_ms()
    known, agent = _known(account), login.agent
    before = known.get(login.key)
    client = replace(before, grants=list(before.grants)) if before is not None else Client(now, now)
    if agent.software:
        client.software, client.version = agent.software, agent.version
    client.uri, client.device = agent.uri or client.uri, agent.device or client.device
    client.resource = login.resource
    if login.grant is not None:
        used = [*(grant for grant in client.grants if grant != login.grant), login.grant]
        client.grants = used[-account.host.settings[MAX_GRANTS] :]
    elif login.token is None:
        client.password = client.password or now
    same = client == before
    client.last_seen = now
    if client.password is not None and login.token is None and login.grant is None:
        client.password = now
    known[login.key] = client

    def kept(_: None) -> None:
        if before is None:
            account.host.server.tasks.start(_new(account, login), "a new client")

    if same or login.is_legacy:
        account.host.service(Unwritten)[account.id, login.key] = account
        kept(None)
        return succeed(None)

    def not_kept(failure: Failure) -> Failure:
        if known.get(login.key) is client:
            known.pop(login.key)
            if before is not None:
                known[login.key] = before
        return failure

    return _keep(account, login.key).addCallbacks(kept, not_kept)


async def _new(account: Account, login: Login) -> None:
    """A client is there for the first time: others may want to know, and an old one may have to make room."""
    host = account.host
    await host.bus.fire(NewClient(account, login))
    known = _known(account)
    busy = _connected(account) | {login.key}
    idle = sorted((client.last_seen, key) for key, client in known.items() if key not in busy)
    surplus = {key for _, key in idle[: max(0, len(known) - host.settings[MAX_CLIENTS])]}
    try:
        if surplus:
            await _end(account, surplus, set(), None, forget=True)
    except StorageError as error:
        host.log.error("clients of {user} did not make room: {error}", user=account.jid.bare, error=str(error))


def _connected(account: Account) -> set[str]:
    """The keys of the clients that have a session, hibernated ones included."""
    logins = (session.find(Login) for session in account.sessions)
    return {login.key for login in logins if login is not None}


# ---- the list


async def accesses(account: Account) -> list[Access]:
    """Everything that has access to an account, the one that was not seen for longest first."""
    server = account.host.server
    data = server.store.data
    row = await server.store.accounts.find(account.jid.domain, account.jid.local)
    if row is None:
        return []
    known = _known(account)
    service = account.host.find(Tokens)
    tokens = await service.holders(account.id, row.password_changed) if service is not None else set()
    given = {id: grants.from_stored(value) for id, value in (await data.all(account.id, grants.KIND)).items()}
    given = {id: grant for id, grant in given.items() if grant.created >= row.password_changed}
    connected = _connected(account)
    push = account.host.find(PushServices)
    found = []
    for key, client in known.items():
        ways = ["password"] if client.password is not None and client.password >= row.password_changed else []
        has = frozenset(given.keys() & set(client.grants))
        ways += ["grant"] if has else []
        ways += ["fast"] if key in tokens else []
        if ways or key in connected:
            services = push.of_client(account, key) if push is not None else []
            found.append(Access(f"client/{key}", "session", client, key in connected, ways, has, services))
    used = {grant for client in known.values() for grant in client.grants}
    found += [_unused(id, grant) for id, grant in given.items() if id not in used]
    return sorted(found, key=lambda access: access.client.last_seen)


def _unused(id: str, grant: Grant) -> Access:
    client = Client(grant.created, grant.used or grant.created, software=grant.name)
    return Access(f"grant/{id}", "access", client, False, ["grant"])


async def list_clients(request: Request) -> bytes:
    """XEP-0494 section 3.1."""
    account = _own_account(request)
    xmlns = str(request.payload.uri)
    return tag("clients", {"xmlns": xmlns}, *(_listed(access, xmlns) for access in await accesses(account)))


def _listed(access: Access, xmlns: str) -> bytes:
    client = access.client
    # A grant is as good as the password, but for what only who has that may do.
    status = "normal" if access.ways == ["grant"] else "unrestricted"
    permission = tag("permission", {"status": status}) if xmlns == ns.CAM else b""
    agent = []
    if client.software:
        agent.append(tag("software", {"version": client.version or None}, client.software))
    agent += [tag(name, None, text) for name, text in (("uri", client.uri), ("device", client.device)) if text]
    return tag(
        "client", {"connected": "true" if access.connected else "false", "id": access.id, "type": access.type},
        tag("first-seen", None, stamp(client.first_seen)),
        tag("last-seen", None, stamp(client.last_seen)),
        tag("auth", None, *(tag(way) for way in access.ways)),
        permission,
        tag("user-agent", None, *agent),
        *(tag("push", {"xmlns": ns.PUSH, "jid": jid}) for jid in access.push),
    )  # fmt: skip


def _own_account(request: Request) -> Account:
    """The account of who asks; somebody with an application password may not manage what has access."""
    login = request.session.find(Login) if request.session is not None else None
    if request.account is None or request.session is None:
        raise StanzaError("not-allowed")
    if login is not None and login.grant is not None:
        raise StanzaError("forbidden", "this takes the password of the account")
    return request.account


# ---- revocation


@dataclass(frozen=True, slots=True)
class Revoked:
    """What came of a revocation: whether the client has used the password, which it may still know, and whether the
    session that was to be spared is one of its."""

    password: bool
    own: bool


async def revoke_client(request: Request) -> None:
    """XEP-0494 section 3.2."""
    account = _own_account(request)
    session = request.session
    assert session is not None
    revoked = await revoke(account, str(request.payload.getAttribute("id") or ""), spare=session)
    if revoked.own:
        # Once it has the answer.
        account.host.server.clock.callLater(0, session.close, "not-authorized", "this client's access was revoked")
    if revoked.password:
        reset = tag("password-reset-required", {"xmlns": str(request.payload.uri)})
        raise StanzaError("service-unavailable", "the password has to be changed", type="cancel", application=reset)


async def revoke(account: Account, selector: str, spare: Session | None = None) -> Revoked:
    """End the access of what `selector` names: ``client/ID``, ``grant/ID``, ``software/NAME`` or
    ``software/NAME/VERSION``. The session `spare` is left to the caller. Raises `StanzaError` for what is not there."""
    listed = await accesses(account)
    kind, _, id = selector.partition("/")
    used = {grant for access in listed for grant in access.grants}
    if kind == "grant" and id in used:
        found = None
        ids = {id}
    else:
        found = _find(listed, selector)
        ids = {found.id.partition("/")[2]} if found.type == "access" else set(found.grants)
    # Whoever else uses one of these grants has tokens because of it.
    mine = [a for a in listed if a is found or ids & a.grants]
    keys = {access.id.partition("/")[2] for access in mine if access.type == "session"}
    login = spare.find(Login) if spare is not None else None
    own = login is not None and (login.key in keys or login.grant in ids)
    before = None if found is None else replace(found.client, grants=list(found.client.grants))
    await _end(account, keys, ids, spare)
    account.host.log.info("access of {user} was revoked: {selector}", user=account.jid.bare, selector=selector)
    if found is None or found.type == "access":
        return Revoked(False, own)
    key = found.id.partition("/")[2]
    if "password" not in found.ways and found.client == before and (own or key not in _connected(account)):
        await _forget(account, key)
    return Revoked("password" in found.ways, own)


def _find(listed: list[Access], selector: str) -> Access:
    kind, _, rest = selector.partition("/")
    for access in listed:
        software = access.client.software
        named = (software, f"{software}/{access.client.version}") if software else ()
        if access.id == selector or (kind == "software" and rest in named):
            return access
    raise StanzaError("item-not-found", "there is no such client")


async def _end(account: Account, keys: set[str], ids: set[str], spare: Session | None, forget: bool = False) -> None:
    """End sessions, tokens and grants, and `forget` clients, all asked for in one turn."""
    if not forget:
        account.host.accounts.access_changed(account.jid.local)  # for whoever is logging in
    data = account.host.server.store.data
    event = ClientRevoked(account, frozenset(keys), frozenset(ids))
    await account.host.bus.fire(event)
    writes: list[Any] = [*event.writes, *(data.delete(account.id, grants.KIND, id) for id in ids)]
    if forget:
        writes += [_forget(account, key) for key in keys]
    for session in account.sessions:
        login = session.find(Login)
        if session is not spare and login is not None and (login.key in keys or login.grant in ids):
            session.close("not-authorized", "this client's access was revoked")
    for well, outcome in await DeferredList(writes, consumeErrors=True):
        if not well:
            outcome.raiseException()


def _forget(account: Account, key: str) -> Deferred[bool]:
    """A client is not known any more."""
    _known(account).pop(key, None)
    return account.host.server.store.data.delete(account.id, KIND, key)


def password_changed(event: PasswordChanged) -> None:
    """Everything that had access by the old password has none any more; the client that changed it stays."""
    account = event.account
    for session in account.sessions:
        if session is not event.by:
            session.close("not-authorized", "the password was changed")
    for key, client in _known(account).items():
        client.password = None
        account.host.service(Unwritten)[account.id, key] = account


async def forget_grants(event: PasswordChanged) -> None:
    """They are void since the change; and who changed the password knows it."""
    account = event.account
    data = account.host.server.store.data
    login = event.by.find(Login) if event.by is not None else None
    now = account.host.server.now_ms()
    try:
        if login is not None:
            client = _known(account).setdefault(login.key, Client(now, now))
            client.last_seen = client.password = now
            await _keep(account, login.key)
        for id in await data.all(account.id, grants.KIND):
            await data.delete(account.id, grants.KIND, id)
    except StorageError as error:
        account.host.log.error("void grants of {user} are kept: {error}", user=account.jid.bare, error=str(error))


async def clean(host: Host) -> None:
    """Forget the clients that have not been seen for long, and have neither a session nor a token nor a grant."""
    age = host.settings[RETENTION]
    if age is None:
        return
    before = host.server.now_ms() - int(age * 1000)
    last = 0
    try:
        while page := await host.server.store.data.page(host.domain, KIND, last, 100):
            last = page[-1][0]
            old = {local for _, local, _, value in page if _from_stored(value).last_seen < before}
            for local in old:
                await _clean_account(host, local, before)
    except StorageError as error:
        host.log.error("old clients were not forgotten: {error}", error=str(error))


async def _clean_account(host: Host, local: str, before: int) -> None:
    account = await host.accounts.load(local)
    if account is None:
        return
    old: set[str] = set()
    useful = {access.id for access in await accesses(account) if access.connected or set(access.ways) - {"password"}}
    for key, client in list(_known(account).items()):
        if client.last_seen < before and f"client/{key}" not in useful:  # nothing of it was seen meanwhile
            old.add(key)
    if old:
        await _end(account, old, set(), None, forget=True)


# ---- what is kept


def _from_stored(value: bytes) -> Client:
    return Client(**json.loads(value))


def _to_stored(client: Client) -> bytes:
    return json.dumps(asdict(client)).encode()
