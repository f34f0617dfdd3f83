"""The table of commands: what `xmppctl` understands, and what the admin socket carries out.

A command is declared once, in `COMMANDS`. It is given the server, and what the request says; it returns
something that JSON can hold, or raises `CommandError`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from enum import Enum, auto
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from xmppd import __version__
from xmppd import settings as options
from xmppd.core.accounts import Account
from xmppd.core.host import Host
from xmppd.core.server import Server
from xmppd.ctl import access, push, s2s
from xmppd.ctl.portable import exporting, importing
from xmppd.modules.cloud_notify.registrations import Registrations
from xmppd.net.s2s.federation import Federation
from xmppd.net.service import ClientService
from xmppd.storage import AlreadyExists, StorageError
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import JID, InvalidJID, parse, prepare_domain

# Accounts that are made at the same time: enough that all processors work out keys while others wait for the
# disk, and few enough that a client who logs in meanwhile does not wait behind a long queue of them.
CREATED_AT_ONCE = 8 + (os.cpu_count() or 1)
PAGE = 1000  # accounts that are read from the store at a time

Arguments = Mapping[str, Any]


class CommandError(Exception):
    """A command cannot be carried out; one line for the administrator."""


class Where(Enum):
    """What a command needs."""

    STORE = auto()
    """The store: with the server running or stopped."""
    SERVER = auto()
    """A running server."""
    FILES = auto()
    """Only files: `xmppctl` does it by itself, and the admin socket does not know it."""


@dataclass(frozen=True)
class Argument:
    """An argument of `xmppctl`, named as argparse has it: ``jid`` is positional, ``--password`` is not."""

    name: str
    metavar: str
    help: str
    required: bool = True


@dataclass(frozen=True)
class Command:
    """A command. `run` is given the server, its client service (None where no server runs) and the arguments
    of the request by name, without dashes; it is None for one that needs only files."""

    name: str
    help: str
    arguments: tuple[Argument, ...]
    where: Where
    run: Callable[[Server, ClientService | None, Arguments], Awaitable[Any]] | None


async def run(server: Server, clients: ClientService | None, name: str, arguments: Arguments) -> Any:
    """Carry out the command `name` and return its result; raises `CommandError` when that is not possible."""
    command = COMMANDS.get(name)
    if command is None or command.run is None:
        raise CommandError(f"there is no command {name!r}")
    if command.where is Where.SERVER and clients is None:
        raise CommandError("the server is not running")
    try:
        return await command.run(server, clients, arguments)
    except StorageError as error:
        raise CommandError(f"the store failed: {error}") from None


# ---- what arguments mean


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise CommandError(f"the argument {name!r} is missing, or is no text")
    return value


def _host(server: Server, domain: str) -> Host:
    host = server.hosts.get(domain)
    if host is None:
        raise CommandError(f"{domain} is not a host of this server")
    return host


def _domain(arguments: Arguments) -> str:
    """The prepared domain that an argument names."""
    text = _text(arguments, "domain")
    try:
        return prepare_domain(text)
    except InvalidJID as error:
        raise CommandError(f"{text!r} is not a domain: {error}") from None


def _address(server: Server, text: str) -> tuple[Host, JID]:
    """The host and the prepared address of an account that a text names."""
    try:
        jid = parse(text)
    except InvalidJID as error:
        raise CommandError(f"{text!r} is not an address: {error}") from None
    if not jid.local:
        raise CommandError(f"{jid} is no account: give USER@DOMAIN")
    if not jid.is_bare:
        raise CommandError(f"{jid} names a client; an account is {jid.bare}")
    return _host(server, jid.domain), jid


async def _account(server: Server, arguments: Arguments) -> Account:
    host, jid = _address(server, _text(arguments, "jid"))
    account = await host.accounts.load(jid.local)
    if account is None:
        raise CommandError(f"there is no account {jid}")
    return account


# ---- accounts


async def _create(server: Server, text: str, password: str) -> JID:
    host, jid = _address(server, text)
    try:
        await host.accounts.create(jid.local, password)
    except AlreadyExists:
        raise CommandError(f"the account {jid} exists already") from None
    except ValueError as error:  # says what is wrong with it, and does not quote it
        raise CommandError(f"this password cannot be used for {jid}: {error}") from None
    return jid


async def _user_create(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    if "users" in arguments:
        return await _create_many(server, arguments["users"])
    return {"jid": str(await _create(server, _text(arguments, "jid"), _text(arguments, "password")))}


async def _create_many(server: Server, users: Any) -> dict[str, Any]:
    """Create accounts that are given as ``[number, jid, password]``; those that fail do not keep the others
    from being made, and are reported with their number, which is that of a line in a file."""
    if not isinstance(users, list) or not all(_is_entry(entry) for entry in users):
        raise CommandError("'users' is a list of [line number, JID, password]")
    failed: list[dict[str, Any]] = []
    entries = iter(users)
    workers = min(CREATED_AT_ONCE, len(users))
    await gatherResults(
        [Deferred.fromCoroutine(_create_some(server, entries, failed)) for _ in range(workers)]
    )
    failed.sort(key=lambda failure: int(failure["line"]))
    return {"created": len(users) - len(failed), "failed": failed}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and list(map(type, entry)) == [int, str, str]


async def _create_some(server: Server, entries: Iterator[Any], failed: list[dict[str, Any]]) -> None:
    """One of those who work together: each takes the next entry when it is done with the one before."""
    for line, jid, password in entries:
        try:
            await _create(server, jid, password)
        except CommandError as error:
            failed.append({"line": line, "error": str(error)})
        except StorageError as error:
            failed.append({"line": line, "error": f"the store failed: {error}"})


async def _user_password(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    password = _text(arguments, "password")
    account = await _account(server, arguments)
    try:
        await account.host.accounts.set_password(account, password)
    except ValueError as error:
        raise CommandError(f"this password cannot be used for {account.jid}: {error}") from None
    return {"jid": str(account.jid)}


async def _user_delete(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    host, jid = _address(server, _text(arguments, "jid"))
    unfinished = await server.store.accounts.importing(host.domain, jid.local)
    if unfinished is not None:  # an import that was interrupted; nobody has ever used it
        await server.store.accounts.delete(unfinished)
        return {"jid": str(jid)}
    account = await _account(server, arguments)
    await account.host.accounts.delete(account)
    return {"jid": str(account.jid)}


async def _user_list(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    domain = _domain(arguments)
    _host(server, domain)
    accounts: list[dict[str, Any]] = []
    after = ""
    while page := await server.store.accounts.list(domain, after, PAGE):
        for row in page:
            created = (
                datetime.fromtimestamp(row.created // 1000, timezone.utc).isoformat().replace("+00:00", "Z")
            )
            accounts.append({"jid": f"{row.localpart}@{domain}", "created": created, "enabled": row.enabled})
        after = page[-1].localpart
    return accounts


# ---- what has access to an account


async def _user_clients(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    return await access.clients(await _account(server, arguments))


async def _user_revoke_client(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    account = await _account(server, arguments)
    try:
        return await access.revoke(account, _text(arguments, "client"))
    except StanzaError as error:
        raise CommandError(f"{account.jid}: {error.text or error.condition}") from None


async def _user_grant(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    account = await _account(server, arguments)
    try:
        return await access.grant(account, _text(arguments, "name"))
    except ValueError as error:
        raise CommandError(f"{account.jid}: {error}") from None


# ---- push notifications


async def _push_list(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    return await push.listed(await _with_push(server, arguments))


async def _push_remove(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    account = await _with_push(server, arguments)
    id = _text(arguments, "id")
    try:
        return await push.remove(account, id)
    except KeyError:
        raise CommandError(f"{account.jid} has no registration {id!r}; see 'push list'") from None


async def _push_test(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    return await push.test(await _with_push(server, arguments))


async def _with_push(server: Server, arguments: Arguments) -> Account:
    account = await _account(server, arguments)
    if account.find(Registrations) is None:
        raise CommandError(f"the module cloud_notify is disabled for {account.jid.domain}")
    return account


# ---- other servers


def _federation(server: Server) -> Federation:
    if not isinstance(server.remote, Federation):
        raise CommandError("this server does not reach others")
    return server.remote


async def _s2s_list(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    return s2s.listed(_federation(server))


async def _s2s_test(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    local = _host(server, arguments["from"]).domain if "from" in arguments else next(iter(server.hosts))
    domain = _domain(arguments)
    if domain in server.hosts or domain in server.components:
        raise CommandError(f"{domain} is served here")
    return await s2s.test(_federation(server), domain, local)


# ---- users in a file (XEP-0227)


async def _export(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    """A piece of an account, which `xmppctl` writes to the file."""
    host, jid = _address(server, _text(arguments, "jid"))
    position = arguments.get("position")
    xml, position = await exporting.piece(host, jid.local, tuple(position) if position is not None else None)
    return {"xml": xml.decode(), "position": position}


async def _import(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    """A piece of an account, which `xmppctl` has read from the file: the first one makes the account, and the last one
    opens it."""
    host, jid = _address(server, _text(arguments, "jid"))
    elements = arguments.get("elements")
    if not isinstance(elements, list) or not all(_are_texts(element) and len(element) == 3 for element in elements):
        raise CommandError("'elements' is a list of [namespace, name, XML]")
    account_id = arguments.get("account")
    if arguments.get("begin"):
        account_id = await _begin_import(host, jid, arguments)
    if account_id is None or account_id != await server.store.accounts.importing(host.domain, jid.local):
        raise CommandError(f"the account {jid} is not being imported, or somebody else has begun that anew")
    account = importing.Importing(host, jid, account_id)
    await importing.take(account, elements)
    without = await importing.end(account) if arguments.get("end") else []
    return {"account": account_id, "left_out": account.left_out, "without": without}


async def _begin_import(host: Host, jid: JID, arguments: Arguments) -> int:
    try:
        return await importing.begin(host, jid, _text(arguments, "password") if "password" in arguments else None)
    except AlreadyExists:
        raise CommandError(f"the account {jid} exists already") from None
    except ValueError as error:
        raise CommandError(f"this password cannot be used for {jid}: {error}") from None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


# ---- the server


async def _status(server: Server, clients: ClientService | None, arguments: Arguments) -> Any:
    assert clients is not None
    hosts: dict[str, dict[str, int | None]] = {}
    for domain in server.hosts:
        try:
            hosts[domain] = {"accounts": await server.store.accounts.count(domain)}
        except StorageError:
            # What else there is to say matters most when the store fails.
            hosts[domain] = {"accounts": None}
    store = server.store
    return {
        "version": __version__,
        "uptime_seconds": round(server.now() - server.started),
        "sessions": server.sessions.count,
        "streams": clients.counts(),
        "hosts": hosts,
        "store": {
            "groups": store.groups,
            "rows": store.rows,
            "last_commit_seconds": store.last_commit_seconds,
        },
        "components": {domain: component.connected for domain, component in server.components.items()},
        "s2s": _s2s_counts(server),
        "counters": server.metrics.as_json(),
        "listening": _listening(server),
    }


def _s2s_counts(server: Server) -> dict[str, int]:
    federation = server.remote
    if not isinstance(federation, Federation):
        return {}
    streams = [stream for stream in federation.streams if not stream.closed]
    incoming = sum(stream.incoming for stream in streams)
    waiting = sum(len(link.queue) for link in federation.links.values())
    return {"incoming": incoming, "outgoing": len(streams) - incoming, "waiting": waiting}


def _listening(server: Server) -> list[list[Any]]:
    """The addresses and ports of the running configuration, by which `check` knows that they are ours."""
    settings = server.settings
    return [
        [address, port]
        for ports, interfaces in options.listening(settings, bool(server.components))
        for address in settings[interfaces]
        for port in settings[ports]
    ]


_JID = Argument("jid", "JID", "The address of the account, as juliet@example.org.")
_PASSWORD = Argument(
    "--password",
    "PW",
    "Its password; asked for where it is not given. Others on the machine may see it among the processes.",
    required=False,
)
_FILE = Argument(
    "--file",
    "FILE",
    "Lines of JID and password, separated by white space; - for standard input.",
    required=False,
)

_ALL = (
    Command(
        "user create",
        "Create an account, or all those of a file.",
        (replace(_JID, required=False), _PASSWORD, _FILE),
        Where.STORE,
        _user_create,
    ),
    Command(
        "user password", "Give an account another password.", (_JID, _PASSWORD), Where.STORE, _user_password
    ),
    Command(
        "user delete", "Delete an account and all that belongs to it.", (_JID,), Where.STORE, _user_delete
    ),
    Command(
        "user list",
        "List the accounts of a host.",
        (Argument("domain", "DOMAIN", "The host."),),
        Where.STORE,
        _user_list,
    ),
    Command(
        "user clients", "List what has access to an account.", (_JID,), Where.STORE, _user_clients
    ),
    Command(
        "user revoke_client",
        "End the access of a client: its sessions, tokens and application password.",
        (_JID, Argument("client", "CLIENT", "Its id, as 'user clients' shows it, or software/NAME.")),
        Where.STORE,
        _user_revoke_client,
    ),
    Command(
        "user grant",
        "Make an application password, which is shown once and can be revoked alone.",
        (_JID, Argument("--name", "NAME", "What it is for.")),
        Where.STORE,
        _user_grant,
    ),
    Command("push list", "List where an account's clients are notified.", (_JID,), Where.SERVER, _push_list),
    Command(
        "push test",
        "Send a test to each of an account's registrations, and show what each app server answers.",
        (_JID,),
        Where.SERVER,
        _push_test,
    ),
    Command(
        "push remove",
        "End a registration for push notifications.",
        (_JID, Argument("id", "ID", "Its id, as 'push list' shows it.")),
        Where.SERVER,
        _push_remove,
    ),
    Command("s2s list", "List the streams to and from other servers, and what waits.", (), Where.SERVER, _s2s_list),
    Command(
        "s2s test",
        "Reach the server of a domain, and show each step: DNS, TCP, TLS, its certificate, authentication.",
        (
            Argument("domain", "DOMAIN", "The domain."),
            Argument("--from", "HOST", "The host to do it for; the first one otherwise.", required=False),
        ),
        Where.SERVER,
        _s2s_test,
    ),
    Command(
        "export",
        "Write the accounts of all hosts to a file that other servers can read (XEP-0227).",
        (Argument("users", "FILE", "The file; - for standard output."),),
        Where.STORE,
        _export,
    ),
    Command(
        "import",
        "Make the accounts of a file that a server has exported (XEP-0227).",
        (Argument("users", "FILE", "The file, or a folder of such files; - for standard input."),),
        Where.STORE,
        _import,
    ),
    Command(
        "check",
        "Check the configuration, certificates, ports and names; starts nothing.",
        (),
        Where.FILES,
        None,
    ),
    Command("status", "Tell what the running server does.", (), Where.SERVER, _status),
)

COMMANDS: Mapping[str, Command] = {command.name: command for command in _ALL}
