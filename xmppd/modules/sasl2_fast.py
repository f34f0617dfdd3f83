"""FAST (XEP-0484 0.2.0): a client that has logged in gets a token, and comes back with it in one round trip.

A client has two slots, so that a new token may get lost on its way (section 5.1): a new one does not take the place of
the one in use before it is used itself. No token is kept: each is made again of what is kept, and of a key that is not
in the store, so that a copy of the store lets nobody in (docs/decisions/0009-tokens.md).
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from xmppd.auth.mechanism import AuthenticationFailed, Token
from xmppd.config import Duration, Option
from xmppd.core.clients import Tokens, client_key
from xmppd.core.events import ClientRevoked, LoggedIn, PasswordChanged
from xmppd.core.host import Host
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.delay import stamp
from xmppd.wire.jid import InvalidJID, prepare_local
from xmppd.wire.xml import tag

TTL = Option("sasl2_fast_token_ttl", Duration(minimum=60), "21d", "How long a token lets a client in.")
MIN_TTL = Option(
    "sasl2_fast_token_min_ttl", Duration(), "1d",
    "How old a token is when a client that logs in with it gets a new one.",
)  # fmt: skip
OPTIONS = (TTL, MIN_TTL)

KIND = "fast"  # in the store, under the key of the client: its slots as JSON
NONCE_BYTES = 18
MAX_COUNT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Slot:
    """What is kept of a token. Times are milliseconds since 1970; `count` is the greatest that was sent with it."""

    nonce: str
    mechanism: str
    issued: int
    expires: int
    count: int = 0
    grant: str | None = None


Slots = dict[str, Slot]  # by "new" and "current"; section 5.1


def setup(host: Host) -> None:
    """Hook tokens into a host."""
    host.provide(Tokens, FastTokens(host))
    host.bus.on(LoggedIn, logged_in)
    host.bus.on(ClientRevoked, revoked)
    host.bus.on(PasswordChanged, forget_all)


class FastTokens(Tokens):
    """The tokens of a host's clients."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.told = False  # that somebody wants a token and does not say who it is

    async def candidates(self, username: str, id: str, mechanism: str, fast: domish.Element) -> Sequence[Token]:
        """See `Tokens`. One under another mechanism, or with a count that does not rise, is none (section 3.4)."""
        server, domain = self.host.server, self.host.domain
        try:
            local = prepare_local(username)
        except InvalidJID:
            local = "\0"  # no account has this name, and looking for it takes the same time
        key = client_key(server.secret, f"{local}@{domain}", id)
        found = await server.store.data.find(domain, local, KIND, key)
        count = _count(fast)
        if found is None or not found[0].enabled or count is None:
            return ()
        account, value = found
        slots = [(name, slot) for name, slot in from_stored(value).items() if slot.mechanism == mechanism]
        now = server.now_ms()
        return [
            FastToken(name, secret(server.token_key, account.id, key, slot), slot.expires <= now, account.id, slot)
            for name, slot in slots
            if slot.issued >= account.password_changed and (not fast.hasAttribute("count") or count > slot.count)
        ]

    async def holders(self, account_id: int, password_changed: int) -> set[str]:
        """See `Tokens`."""
        now = self.host.server.now_ms()
        kept = await self.host.server.store.data.all(account_id, KIND)
        return {
            key
            for key, value in kept.items()
            if any(slot.expires > now and slot.issued >= password_changed for slot in from_stored(value).values())
        }


@dataclass(frozen=True, slots=True)
class FastToken(Token):
    """A token with what is kept of it."""

    slot: Slot | None = None


def secret(key: bytes, account_id: int, client: str, slot: Slot) -> bytes:
    """The token itself."""
    text = f"{account_id}\0{client}\0{slot.mechanism}\0{slot.nonce}"
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")[:27])


def _count(fast: domish.Element) -> int | None:
    """The count of a request, 0 where there is none; None for one that is no number."""
    text = str(fast.getAttribute("count") or "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_COUNT else None


# ---- a login


def logged_in(event: LoggedIn) -> None:
    """Sections 3.3 to 3.6: a token was used, a new one is due, or asked for."""
    host, login, request = event.account.host, event.login, event.request
    used = login.token if isinstance(login.token, FastToken) else None
    fast = next(request.elements(ns.FAST, "fast"), None)
    invalidate = used is not None and fast is not None and fast.getAttribute("invalidate") in ("true", "1")
    mechanism = _wanted_mechanism(event)
    now = host.server.now_ms()
    if used is not None and used.slot is not None:
        login.grant = used.slot.grant
        old_enough = now - used.slot.issued >= host.settings[MIN_TTL] * 1000
        if mechanism is None and old_enough and not invalidate:
            mechanism = used.slot.mechanism
    fresh = None
    if mechanism is not None:
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        fresh = Slot(nonce, mechanism, now, now + int(host.settings[TTL] * 1000), grant=login.grant)
    if used is None and fresh is None:
        return
    count = _count(fast) if fast is not None and used is not None else 0
    event.writes.append(_change(event, used, count or 0, invalidate, fresh))
    if fresh is not None:
        token = secret(host.server.token_key, event.account.id, login.key, fresh).decode()
        attributes = {"xmlns": ns.FAST, "expiry": stamp(fresh.expires), "token": token}
        event.answers.append(tag("token", attributes))


def _wanted_mechanism(event: LoggedIn) -> str | None:
    """Section 3.3: the mechanism that a token is asked for."""
    host = event.account.host
    wanted = next(event.request.elements(ns.FAST, "request-token"), None)
    if wanted is None:
        return None
    if not event.login.agent.id:
        tokens = host.service(Tokens)
        assert isinstance(tokens, FastTokens)
        if not tokens.told:
            tokens.told = True
            host.log.warn("a client wants a token, and gets none: it does not say which one it is (XEP-0484 section 4)")
        return None
    mechanism = str(wanted.getAttribute("mechanism") or "")
    return mechanism if mechanism in event.token_mechanisms else None


def _change(
    event: LoggedIn, used: FastToken | None, count: int, invalidate: bool, fresh: Slot | None
) -> Deferred[None]:
    """Change what is kept, all at once; fails with `AuthenticationFailed` where the token is gone meanwhile, or was
    used with this count."""

    def change(value: bytes | None) -> tuple[bytes | None, bool]:
        slots = from_stored(value)
        if used is not None and used.slot is not None:
            # By its nonce: another login with it may have moved it meanwhile.
            name = next((name for name, slot in slots.items() if slot.nonce == used.slot.nonce), None)
            if name is None or 0 < count <= slots[name].count:
                return value, False
            slots[name] = replace(slots[name], count=max(slots[name].count, count))
            if invalidate:
                slots.clear()
            elif name == "new":  # the one in use before is not needed any more
                slots = {"current": slots["new"]}
        if fresh is not None:
            slots["new"] = fresh
        return to_stored(slots), True

    def check(well: bool) -> None:
        if not well:
            raise AuthenticationFailed("not-authorized")

    data = event.account.host.server.store.data
    return data.change(event.account.id, KIND, event.login.key, change).addCallback(check)


# ---- the end of tokens


def revoked(event: ClientRevoked) -> None:
    """Clients are to get in no more."""
    account = event.account
    data = account.host.server.store.data
    event.writes += [data.delete(account.id, KIND, key) for key in event.keys]


async def forget_all(event: PasswordChanged) -> None:
    """They are void since the change; this is only tidy."""
    account = event.account
    data = account.host.server.store.data
    try:
        for key in await data.all(account.id, KIND):
            await data.delete(account.id, KIND, key)
    except StorageError as error:
        account.host.log.error("void tokens of {user} are kept: {error}", user=account.jid.bare, error=str(error))


# ---- what is kept


def from_stored(value: bytes | None) -> Slots:
    """The slots of a client."""
    kept: dict[str, Any] = json.loads(value) if value is not None else {}
    return {name: Slot(**slot) for name, slot in kept.items()}


def to_stored(slots: Slots) -> bytes | None:
    """What is kept of slots; None for none."""
    return json.dumps({name: asdict(slot) for name, slot in slots.items()}).encode() if slots else None
