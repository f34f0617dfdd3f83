"""Application passwords: other passwords of an account, each made for one program, that can be taken back alone.

A grant is void once the password of its account has changed after it was made.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from xmppd.auth.credentials import DEFAULT_ITERATIONS, HASHES, SALT_LENGTH, Credentials, ScramKeys, derive
from xmppd.auth.credentials import Grant as Keys
from xmppd.config import Integer, Option
from xmppd.core.clients import Login
from xmppd.storage import Store

MAX_GRANTS = Option(
    "max_grants_per_account", Integer(minimum=1, maximum=1000), "50",
    "How many application passwords an account may have; each is tried at a login.",
)  # fmt: skip
OPTIONS = (MAX_GRANTS,)

KIND = "grants"  # in the store, under the id of the grant
_GROUPS, _LETTERS = 6, 4  # of the password: 120 random bits, in letters that are told apart when they are read aloud
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(slots=True)
class Grant:
    """A grant as it is kept. Times are milliseconds since 1970; `used` is None before the first login, `client` the key
    of the client that logged in last."""

    name: str
    created: int
    keys: Mapping[str, ScramKeys]
    used: int | None = None
    client: str | None = None


def new_password(choice: Callable[[str], str] = secrets.choice) -> str:
    """A password that nobody chose."""
    return "-".join("".join(choice(_ALPHABET) for _ in range(_LETTERS)) for _ in range(_GROUPS))


def make_keys(password: str, credentials: Credentials) -> dict[str, ScramKeys]:
    """Keys for each hash, with the salt that the account has or will have for it; takes long.

    Raises ValueError for a password that cannot be one."""
    return {name: derive(password, name, *salt_for(credentials, name)) for name in HASHES}


def salt_for(credentials: Credentials, hash_name: str) -> tuple[bytes, int]:
    """The salt and the iterations of an account for a hash: those of its keys, or of one of its grants, or new ones."""
    for keys in (credentials.keys, *(grant.keys for grant in credentials.grants)):
        if hash_name in keys:
            return keys[hash_name].salt, keys[hash_name].iterations
    return secrets.token_bytes(SALT_LENGTH), DEFAULT_ITERATIONS


def use(store: Store, account_id: int, login: Login, now: int) -> Deferred[bool]:
    """Keep that a grant was used; fires with whether it is still there. Fails with `StorageError`."""

    def change(value: bytes | None) -> tuple[bytes | None, bool]:
        if value is None:
            return None, False
        grant = from_stored(value)
        grant.used, grant.client = now, login.key
        return to_stored(grant), True

    return store.data.change(account_id, KIND, login.grant or "", change)


def to_stored(grant: Grant) -> bytes:
    """A grant as it is kept."""
    keys = {
        name: [_text(k.salt), k.iterations, _text(k.stored_key), _text(k.server_key)] for name, k in grant.keys.items()
    }
    kept = {"name": grant.name, "created": grant.created, "used": grant.used, "client": grant.client, "keys": keys}
    return json.dumps(kept).encode()


def from_stored(value: bytes) -> Grant:
    """A grant, read back."""
    kept = json.loads(value)
    keys = {
        name: ScramKeys(_bytes(salt), iterations, _bytes(stored), _bytes(server))
        for name, (salt, iterations, stored, server) in kept["keys"].items()
    }
    return Grant(kept["name"], kept["created"], keys, kept["used"], kept["client"])


def usable(kept: Mapping[str, bytes], password_changed: int) -> tuple[Keys, ...]:
    """What of the grants that are kept lets somebody in."""
    grants = ((id, from_stored(value)) for id, value in kept.items())
    return tuple(Keys(id, grant.keys) for id, grant in grants if grant.created >= password_changed)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
