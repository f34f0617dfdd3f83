"""In-band registration (XEP-0077 2.4): a new account, another password, the end of an account.

A new account is made before login, where `allow_registration` says so (section 3.1.1); a client that has
logged in changes its own password (section 3.3) or deletes its account (section 3.2), always, unless it came in by
an application password.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.words.xish import domish

from xmppd.config import Boolean, Duration, Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.clients import Login
from xmppd.core.events import AccountRemoved
from xmppd.core.host import Host, StreamFeature
from xmppd.core.iq import Request, Target
from xmppd.core.peers import network
from xmppd.core.session import Session
from xmppd.storage import AlreadyExists, StorageError
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError, StreamError
from xmppd.wire.jid import InvalidJID, parse, prepare_local
from xmppd.wire.stanza import Stanza, result
from xmppd.wire.xml import tag

ALLOW_REGISTRATION = Option(
    "allow_registration",
    Boolean(),
    "no",
    "Whether anybody may make an account, from a client that offers it.",
)
THROTTLE_MAX = Option(
    "registration_throttle_max", Integer(minimum=0), "5",
    "How many accounts one address (of IPv6: one /64 network) may try to make within "
    "``registration_throttle_period``; 0 for any number.",
)  # fmt: skip
THROTTLE_PERIOD = Option(
    "registration_throttle_period",
    Duration(),
    "1h",
    "How long an attempt to make an account is held against its address.",
)
OPTIONS = (ALLOW_REGISTRATION, THROTTLE_MAX, THROTTLE_PERIOD)

REMEMBERED = 10_000  # addresses that have tried to make an account; beyond it the oldest is forgotten
CHANGE_FORM = f"{ns.REGISTER}:changepassword"

_INSTRUCTIONS = "Choose a username and a password for this server."
_FORM = tag(
    "query", {"xmlns": ns.REGISTER},
    tag("instructions", None, _INSTRUCTIONS), tag("username"), tag("password"),
    tag(
        "x", {"xmlns": ns.DATA_FORMS, "type": "form"},
        tag("title", None, "A new account"),
        tag("instructions", None, _INSTRUCTIONS),
        tag("field", {"type": "hidden", "var": "FORM_TYPE"}, tag("value", None, ns.REGISTER)),
        tag("field", {"type": "text-single", "label": "Username", "var": "username"}, tag("required")),
        tag("field", {"type": "text-private", "label": "Password", "var": "password"}, tag("required")),
    ),
)  # fmt: skip


def setup(host: Host) -> None:
    """Hook registration into a host."""
    Registration(host)


class Registration:
    """Registration with one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._throttle = Throttle(host.server.clock.seconds)
        self._cancelling: dict[Session, Stanza] = {}  # who is deleting the own account, and the request
        host.disco.server.features.add(ns.REGISTER)
        host.features.append(StreamFeature("register", False, self._feature))
        host.before_login["get", ns.REGISTER, "query"] = self.offer
        host.before_login["set", ns.REGISTER, "query"] = self.create
        for target in (Target.SERVER, Target.OWN):
            host.iq.on(target, "get", ns.REGISTER, "query", self.get)
            host.iq.on(target, "set", ns.REGISTER, "query", self.change)
        host.bus.on(AccountRemoved, self._say_removed)

    # ---- before login

    def _feature(self) -> bytes:
        """Section 7."""
        allowed = self._host.settings[ALLOW_REGISTRATION]
        return tag("register", {"xmlns": ns.REGISTER_FEATURE}) if allowed else b""

    def _check_allowed(self) -> None:
        """Where nobody may register it is as with any other request of who has not logged in."""
        if not self._host.settings[ALLOW_REGISTRATION]:
            raise StreamError("not-authorized", "log in first")

    async def offer(self, stanza: Stanza, peer: str) -> bytes:
        """Section 3.1: what a new account needs."""
        self._check_allowed()
        return _FORM

    async def create(self, stanza: Stanza, peer: str) -> None:
        """Section 3.1: make an account."""
        self._check_allowed()
        host = self._host
        query: domish.Element = next(stanza.tree.elements())
        if any(query.elements(ns.REGISTER, "remove")):
            raise StanzaError("unexpected-request", "log in to delete an account")
        fields = _fields(query, ns.REGISTER)
        try:
            local = prepare_local(fields.get("username", ""))
        except InvalidJID as error:
            raise StanzaError("not-acceptable", f"this cannot be a username: {error}") from None
        password = fields.get("password", "")
        if not password:
            raise StanzaError("not-acceptable", "a password is needed")
        maximum, period = host.settings[THROTTLE_MAX], host.settings[THROTTLE_PERIOD]
        if maximum and not self._throttle.allow(peer, maximum, period):
            raise StanzaError(
                "not-acceptable", "too many accounts were asked for from this address", type="wait"
            )
        try:
            await host.accounts.create(local, password)
        except AlreadyExists:
            raise StanzaError("conflict", "this username is taken") from None
        except ValueError as error:
            raise StanzaError("not-acceptable", f"this cannot be a password: {error}") from None
        except StorageError as error:
            host.log.error("an account was not made: {error}", error=str(error))
            raise StanzaError("resource-constraint", "the server cannot store this now") from None
        host.log.info("{user}@{host} was registered, from {peer}", user=local, host=host.domain, peer=peer)

    # ---- after login

    def get(self, request: Request) -> bytes:
        """Section 3.1: who has logged in is registered."""
        account = self._account(request)
        return tag(
            "query",
            {"xmlns": ns.REGISTER},
            tag("registered"),
            tag("username", None, account.jid.local),
            tag("password"),
        )

    async def change(self, request: Request) -> None:
        """Sections 3.2 and 3.3: the end of the own account, or another password for it."""
        account = self._account(request)
        query = request.payload
        login = request.session.find(Login) if request.session is not None else None
        if login is not None and login.grant is not None:
            raise StanzaError("forbidden", "this takes the password of the account")
        if any(query.elements(ns.REGISTER, "remove")):
            if len(list(query.elements())) != 1:
                raise StanzaError("bad-request", "<remove/> stands alone")
            await self._cancel(request, account)
        else:
            await self._change_password(request, account, _fields(query, CHANGE_FORM, ns.REGISTER))

    def _account(self, request: Request) -> Account:
        """The account of who asks, which is the only one that anybody may change."""
        session = request.session
        if session is None or session.host is not self._host:
            raise StanzaError("service-unavailable")
        return session.account

    async def _change_password(self, request: Request, account: Account, fields: dict[str, str]) -> None:
        username, password = fields.get("username", ""), fields.get("password", "")
        if not username or not password:
            raise StanzaError("bad-request", "a username and a password are needed")
        if not _is_name_of(account, username):
            raise StanzaError("not-allowed", "only the own password can be changed")
        try:
            await self._host.accounts.set_password(account, password, request.session)
        except ValueError as error:
            raise StanzaError("not-acceptable", f"this cannot be a password: {error}") from None
        self._host.log.info("{user} has another password", user=account.jid.bare)

    async def _cancel(self, request: Request, account: Account) -> None:
        session = request.session
        assert session is not None
        self._cancelling[session] = request.stanza
        try:
            await self._host.accounts.delete(account)
        finally:
            self._cancelling.pop(session, None)
        self._host.log.info("{user} has deleted the account", user=account.jid.bare)

    def _say_removed(self, event: AccountRemoved) -> None:
        """Answer who wanted it so, before the stream ends with the account (section 3.2)."""
        for session in event.account.sessions:
            request = self._cancelling.get(session)
            if request is not None:
                session.deliver(result(request))


def _is_name_of(account: Account, username: str) -> bool:
    """Whether this is the account's name; the examples of section 3.3 have it with and without the domain."""
    try:
        if "@" in username:
            return parse(username) == account.jid
        return prepare_local(username) == account.jid.local
    except InvalidJID:
        return False


def _fields(query: domish.Element, *form_types: str) -> dict[str, str]:
    """What was filled in: the data form, if there is one, else the elements (section 6)."""
    form = next(query.elements(ns.DATA_FORMS, "x"), None)
    if form is None:
        found = [(child.name, str(child)) for child in query.elements() if child.uri == ns.REGISTER]
    else:
        if form.getAttribute("type") != "submit":
            raise StanzaError("bad-request", "the form is not of type submit")
        found = [
            (str(field.getAttribute("var") or ""), "".join(map(str, field.elements(ns.DATA_FORMS, "value"))))
            for field in form.elements(ns.DATA_FORMS, "field")
        ]
    fields = dict(found)
    if len(fields) != len(found):
        raise StanzaError("bad-request", "a field is there twice")
    if form is not None and fields.get("FORM_TYPE", form_types[0]) not in form_types:
        raise StanzaError("bad-request", "this is another form")
    return fields


class Throttle:
    """How often an address has tried; `seconds` is a clock that only goes forward."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._tries: dict[str, deque[float]] = {}

    def allow(self, peer: str, maximum: int, period: float) -> bool:
        """Whether `peer` may try once more; that is then counted against it for `period` seconds."""
        key = network(peer)
        now = self._seconds()
        tries = self._tries.pop(key, None) or deque()
        while tries and tries[0] <= now - period:
            tries.popleft()
        allowed = len(tries) < maximum
        if allowed:
            tries.append(now)
        self._tries[key] = tries  # put in again at the end: the first of the dict is the oldest
        if len(self._tries) > REMEMBERED:
            del self._tries[next(iter(self._tries))]
        return allowed
