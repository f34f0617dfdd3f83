"""What a client is to the server: who it says it is (XEP-0388 section 2.3), and how it got in."""

from __future__ import annotations

import base64
import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.words.xish import domish

from xmppd.auth.mechanism import Token

if TYPE_CHECKING:
    from xmppd.core.accounts import Account
    from xmppd.core.session import Session

MAX_TEXT = 200  # characters of what a client says of itself


@dataclass(frozen=True, slots=True)
class UserAgent:
    """What a client says of itself; texts are empty where it does not. `id` is its UUID: it goes to nobody else."""

    id: str = ""
    software: str = ""
    version: str = ""
    uri: str = ""
    device: str = ""


@dataclass(slots=True)
class Login:
    """How a client got in; also a record of its session.

    `key` stands for the client among those of its account; it is made of the id of its user agent, or where that has
    none, which `is_legacy` says, of the `resource` that it wanted. `grant` is the id of the grant whose password it
    used, `token` the token. `account` is the id of the account that it has shown to be; the name may be another's soon.
    """

    key: str
    mechanism: str = ""
    agent: UserAgent = UserAgent()
    is_legacy: bool = False
    grant: str | None = None
    token: Token | None = None
    resource: str = ""
    account: int = 0

    def take_place_of(self, earlier: Login | None) -> None:
        """The client takes up a session; one that does not say which client it is, is the one that had it."""
        if earlier is not None and not self.key:
            self.key, self.resource = earlier.key, earlier.resource


def save_login(session: Session) -> dict[str, Any] | None:
    """What of a session's `Login` outlives the process."""
    login = session.find(Login)
    if login is None:
        return None
    return {"key": login.key, "grant": login.grant, "legacy": login.is_legacy, "resource": login.resource}


def restore_login(session: Session, kept: dict[str, Any]) -> None:
    """What `save_login` gave."""
    session.put(Login(kept["key"], grant=kept["grant"], is_legacy=kept["legacy"], resource=kept.get("resource", "")))


class Tokens:
    """The service that knows the tokens which clients may log in with (XEP-0484)."""

    async def candidates(self, username: str, id: str, mechanism: str, fast: domish.Element) -> Sequence[Token]:
        """The tokens of a client, by the id of its user agent, that the mechanism may use; see `Exchange.tokens`.
        `fast` is the element of its request. Raises `StorageError`."""
        raise NotImplementedError

    async def holders(self, account_id: int, password_changed: int) -> set[str]:
        """The keys of an account's clients that have a token which lets them in. Raises `StorageError`."""
        raise NotImplementedError


class PushServices:
    """The service that knows where clients are notified of what comes (XEP-0357)."""

    def of_client(self, account: Account, key: str) -> list[str]:
        """The addresses of the app servers of one client, by its key."""
        raise NotImplementedError


def read_user_agent(element: domish.Element | None) -> UserAgent:
    """The ``<user-agent/>`` of a request; `ValueError` for an id that is no UUID of version 4."""
    if element is None:
        return UserAgent()
    id = str(element.getAttribute("id") or "")
    if id:
        parsed = uuid.UUID(id)
        if parsed.version != 4 or str(parsed) != id.lower():
            raise ValueError("not a UUID of version 4")
        id = str(parsed)
    texts = {name: _child(element, name) for name in ("software", "uri", "device")}
    software = next(element.elements(element.uri, "software"), None)
    version = str(software.getAttribute("version") or "")[:MAX_TEXT] if software is not None else ""
    return UserAgent(id, texts["software"], version, texts["uri"], texts["device"])


def _child(element: domish.Element, name: str) -> str:
    child = next(element.elements(element.uri, name), None)
    return "" if child is None else str(child).strip()[:MAX_TEXT]


def client_key(secret: bytes, jid: str, id: str) -> str:
    """The key of the client with this id of an account. Nobody who does not know the server's secret can tell it from
    the id, or the id from it."""
    return _digest(secret, f"client\0{jid}\0{id}")


def stable_part(secret: bytes, key: str, tag: str) -> str:
    """What makes a resource unique that the server makes for a client: the same each time (XEP-0386 section 3.2.1)."""
    return _digest(secret, f"resource\0{key}\0{tag}")


def _digest(secret: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), "sha256")[:12]).decode()
