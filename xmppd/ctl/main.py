"""The program `xmppctl`."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, Protocol

from xmppd import settings as options
from xmppd.config import Config, ConfigError
from xmppd.config.errors import escaped
from xmppd.ctl import output
from xmppd.ctl.client import Client, NotRunning
from xmppd.ctl.commands import COMMANDS, Arguments, Command, CommandError, Where
from xmppd.ctl.portable import files
from xmppd.ctl.users import Entry, Failed, read_users

CONFIG_FILES = ("etc/xmppd.cfg", "/etc/xmppd/xmppd.cfg")
BATCH = 100  # accounts that are sent in one request: a second's work, after which there is progress to show
INTERRUPTED = 130  # what a shell expects of a program that ended by Ctrl-C: 128 and the number of SIGINT


class Connection(Protocol):
    """Something that carries out commands: a running server, or this program on the store."""

    def call(self, name: str, arguments: Arguments) -> Any:
        """Carry out a command and return the result; raises `CommandError`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `xmppctl` with `argv`, by default the arguments of the process; returns its exit status."""
    try:
        return _run(_parser().parse_args(argv))
    except (CommandError, ConfigError) as error:
        output.error(str(error))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads this has seen enough. Standard output is replaced, or Python would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(given: argparse.Namespace) -> int:
    command: Command = given.command
    as_json: bool = getattr(given, "json", False)
    path = _config_file(getattr(given, "config", None), os.environ)
    if command.where is Where.FILES:
        return _check(path, as_json)
    config = options.read(path)
    arguments = _arguments(command, given)
    users: list[Entry | Failed] | None = None
    if "file" in arguments:
        users = read_users(arguments["file"])
    elif "--password" in (argument.name for argument in command.arguments) and "password" not in arguments:
        arguments["password"] = _ask_password(arguments["jid"])
    with _connect(config, command) as connection:
        if users is not None:
            return _create_users(connection, command, users, as_json)
        if command.name in ("export", "import"):
            return _port(connection, config, command, arguments["users"], as_json)
        result = connection.call(command.name, arguments)
    output.as_json(result) if as_json else output.show(command.name, result)
    sys.stdout.flush()
    return 1 if command.name == "s2s test" and result["error"] else 0


def _check(path: Path, as_json: bool) -> int:
    from xmppd.ctl.check import check  # it imports the whole server

    findings = [asdict(finding) for finding in check(path)]
    output.as_json(findings) if as_json else output.show("check", findings)
    sys.stdout.flush()
    return 1 if any(finding["level"] == "error" for finding in findings) else 0


def _connect(config: Config, command: Command) -> Any:
    """The running server; where there is none, this program itself for what it can do."""
    try:
        return Client(options.admin_socket(config.server))
    except NotRunning:
        if command.where is Where.SERVER:
            raise CommandError("the server is not running") from None
    from xmppd.ctl.direct import Direct  # it imports the whole server, and the reactor

    return Direct(config)


def _create_users(
    connection: Connection, command: Command, users: list[Entry | Failed], as_json: bool
) -> int:
    """Create the accounts of a file, report each line that is not usable, and go on with the others."""
    entries = [entry for entry in users if isinstance(entry, Entry)]
    failed = [asdict(entry) for entry in users if isinstance(entry, Failed)]
    created = 0
    with output.progress("creating accounts", len(entries)) as advance:
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            result = connection.call(command.name, {"users": [[e.line, e.jid, e.password] for e in batch]})
            created += result["created"]
            failed += result["failed"]
            advance(len(batch))
    failed.sort(key=lambda failure: int(failure["line"]))
    result = {"created": created, "failed": failed}
    for failure in failed:
        output.error(f"line {failure['line']}: {failure['error']}")
    output.as_json(result) if as_json else output.show(command.name, result)
    sys.stdout.flush()
    return 1 if failed else 0


def _port(connection: Connection, config: Config, command: Command, name: str, as_json: bool) -> int:
    """Write a file of users, or read one, and say what was left out."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that half a file is taken away
    if command.name == "export":
        result = files.export(connection, config.hosts, name, output.progress)
        shown = sys.stderr if name == "-" else sys.stdout  # not into the file
    else:
        result, shown = files.import_(connection, name, output.progress), sys.stdout
    with contextlib.redirect_stdout(shown):
        output.as_json(result) if as_json else output.show(command.name, result)
        sys.stdout.flush()
    return 1 if result.get("failed") or result.get("error") else 0


# ---- arguments


class _Parser(argparse.ArgumentParser):
    """An argparse that says in one line what is wrong, with the exit status of everything that fails here."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse."""
        raise CommandError(f"{message} (try: {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    # Suppressed: left out where they are not given, so that they may come before the command or after it.
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "-c",
        "--config",
        metavar="CFG",
        help=f"the configuration ($XMPPD_CONFIG, {' or '.join(CONFIG_FILES)})",
    )
    common.add_argument("--json", action="store_true", help="write the result as JSON")
    parser = _Parser(prog="xmppctl", description="Administers an XMPP server.", parents=[common])
    words = parser.add_subparsers(metavar="COMMAND", required=True)
    groups: dict[str, Any] = {}
    for command in COMMANDS.values():
        group, _, word = command.name.rpartition(" ")
        if group and group not in groups:
            inner = words.add_parser(group, help=f"commands for each {group}", parents=[common])
            groups[group] = inner.add_subparsers(metavar="COMMAND", required=True)
        own = groups.get(group, words).add_parser(
            word,
            help=command.help,
            description=command.help,
            parents=[common],
            argument_default=argparse.SUPPRESS,
        )
        for argument in command.arguments:
            more: dict[str, Any] = {} if argument.required else {"nargs": "?"}
            if argument.name.startswith("-"):
                more = {"required": argument.required}
            own.add_argument(argument.name, metavar=argument.metavar, help=argument.help, **more)
        own.set_defaults(command=command)
    return parser


def _arguments(command: Command, given: argparse.Namespace) -> dict[str, str]:
    """What was given for a command; raises `CommandError` when that does not go together."""
    names = (argument.name.lstrip("-") for argument in command.arguments)
    arguments: dict[str, str] = {
        name: value for name in names if (value := getattr(given, name, None)) is not None
    }
    if "jid" not in arguments and "file" not in arguments and "jid" in {a.name for a in command.arguments}:
        raise CommandError(f"{command.name} takes a JID, or --file FILE")
    if "file" in arguments and ("jid" in arguments or "password" in arguments):
        raise CommandError("--file takes the place of JID and --password")
    return arguments


def _config_file(given: str | None, environment: Mapping[str, str]) -> Path:
    named = given or environment.get("XMPPD_CONFIG")
    if named:
        return Path(named)
    for name in CONFIG_FILES:
        if Path(name).exists():
            return Path(name)
    raise CommandError(f"there is no configuration: neither {' nor '.join(CONFIG_FILES)}; use -c")


def _ask_password(jid: str) -> str:
    if not sys.stdin.isatty():
        raise CommandError("no password is given, and there is no terminal to ask for it; use --password")
    try:
        password = getpass.getpass(f"Password of {escaped(jid)}: ")
        again = getpass.getpass("The same again: ")
    except EOFError:
        raise CommandError("no password was given") from None
    if password != again:
        raise CommandError("these are two different passwords")
    return password


if __name__ == "__main__":
    sys.exit(main())
