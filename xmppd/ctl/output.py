"""What `xmppctl` writes: tables and progress for people, JSON for programs, nothing that moves a cursor."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from xmppd.config.errors import escaped

Rows = Iterable[Sequence[str]]


def line(text: str, file: TextIO | None = None) -> None:
    """Write a line of `text`, whatever is in it, to `file` or standard output."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    file.write(escaped(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def error(text: str) -> None:
    """Say on standard error what is wrong."""
    sys.stdout.flush()
    line(f"xmppctl: {text}", sys.stderr)


def as_json(value: Any) -> None:
    """Write a value as JSON in one line, in ASCII, which has no control characters either."""
    sys.stdout.write(json.dumps(value) + "\n")


def table(headers: Sequence[str], rows: Rows) -> None:
    """A table. Where it does not go to a terminal: columns without a head or lines, never cut nor folded."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    drawn = Table(*headers)
    for row in cells:
        # As Text, in which square brackets mean nothing.
        drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console(file=sys.stdout).print(drawn)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show on a terminal how far `what` has come; gives a function to call with how many more are done, and perhaps
    how many more there are. `total` is None for bytes, of which nobody knows at first how many there are. It goes to
    standard error, so that the result stays clean."""
    if not sys.stderr.isatty():
        yield lambda count, more=0: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn() if total is not None else DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(escaped(what), total=total)

        def advance(count: int, more: int = 0) -> None:
            bar.update(task, advance=count, total=(bar.tasks[0].total or 0) + more if more else None)

        yield advance


# ---- what each command shows


def show(name: str, result: Any) -> None:
    """Write the result of the command `name` for a person."""
    _SHOWN[name](result)


def _created(result: Any) -> None:
    line(f"created {result['jid']}" if "jid" in result else f"created {result['created']} accounts")


def _accounts(result: Any) -> None:
    if not sys.stdout.isatty():
        for account in result:
            line(account["jid"])  # and nothing else: it is a script that reads this
        return
    table(
        ["account", "created", ""],
        ([a["jid"], a["created"], "" if a["enabled"] else "disabled"] for a in result),
    )


def _clients(result: Any) -> None:
    table(
        ["client", "software", "device", "first seen", "last seen", "access", "push", ""],
        (
            [c["id"], f"{c['software']} {c['version']}".strip(), c["device"], _minute(c["first_seen"]),
             _minute(c["last_seen"]), ", ".join(c["auth"]), ", ".join(c["push"]),
             "connected" if c["connected"] else ""]
            for c in result
        ),
    )  # fmt: skip


def _minute(time: str) -> str:
    """A time as people read it in a table; UTC."""
    return time[:16].replace("T", " ")


def _revoked(result: Any) -> None:
    line(f"revoked {result['revoked']} of {result['jid']}")
    if result["password_reset_required"]:
        line("it has used the password and may log in again: 'xmppctl user password' gives the account another one")


def _granted(result: Any) -> None:
    line(f"{result['id']}: application password {result['name']!r} of {result['jid']}, shown only now:")
    line(result["password"])


def _pushes(result: Any) -> None:
    table(
        ["id", "app server", "node", "client", "enabled", ""],
        (
            [p["id"], p["jid"], p["node"], p["resource"], _minute(p["enabled"]), ", ".join(_push_state(p))]
            for p in result
        ),
    )


def _push_state(push: Any) -> list[str]:
    state = [f"{push['errors']} errors"] if push["errors"] else []
    state += ["a push waits"] if push["waiting"] else []
    return state + (["suspended until its client logs in"] if push["suspended"] else [])


def _push_tested(result: Any) -> None:
    if not result:
        line("there is no registration")
    for push in result:
        line(f"{push['id']}  {push['jid']}: {push['error'] or 'the app server has taken it'}")


def _s2s(result: Any) -> None:
    table(
        ["stream", "", "domain", "address", "pairs", "TLS", "for", "in", "out", ""],
        (
            [s["id"], s["direction"], s["domain"], s["address"],
             ", ".join(f"{pair['from']} > {pair['to']} ({pair['by']})" for pair in s["pairs"]) or "none is proven",
             s["tls"] or "none", duration(s["seconds"]), str(s["received"]), str(s["sent"]),
             ", ".join(_s2s_state(s))]
            for s in result["streams"]
        ),
    )  # fmt: skip
    for link in result["waiting"]:
        state = "connecting" if link["connecting"] else f"next try in {link['next_try_seconds']} s"
        why = f": {link['failure']}" if link["failure"] else ""
        line(f"{link['from']} > {link['to']}: {link['stanzas']} stanzas wait, {state}{why}")


def _s2s_state(stream: Any) -> list[str]:
    state = ["both directions"] if stream["bidirectional"] else []
    state += ["acknowledged"] if stream["acknowledged"] else []
    return state + ([f"{stream['unacknowledged']} under way"] if stream["unacknowledged"] else [])


def _s2s_tested(result: Any) -> None:
    for step in result["steps"]:
        line(step)
    taken = f"{result['to']} takes stanzas of {result['from']}"
    line(f"{result['to']} cannot be reached: {result['error']}" if result["error"] else taken)


def _exported(result: Any) -> None:
    line(f"exported {result['accounts']} accounts")


def _imported(result: Any) -> None:
    for failure in result["failed"]:
        error(f"{failure['jid']}: {failure['error']}")
    for left_out in result["left_out"]:
        first = f", first of {left_out['first']}" if left_out["first"] else ""
        line(f"left out {left_out['count']} x {left_out['what']}{first}")
    for mechanism, count in result["without"].items():
        line(f"{count} accounts have no keys for {mechanism}, which is not offered as long as that is so")
    if result["error"]:
        error(result["error"])
    else:
        line(f"imported {result['created']} accounts")


def _status(result: Any) -> None:
    hosts = result["hosts"].items()
    store = result["store"]
    rows = [
        ["version", result["version"]],
        ["uptime", duration(result["uptime_seconds"])],
        ["sessions", str(result["sessions"])],
        *([f"streams {kind} {state}", str(count)] for kind, states in sorted(result["streams"].items())
          for state, count in sorted(states.items())),
        *([f"accounts of {host}", _known(figures["accounts"])] for host, figures in hosts),
        *([f"component {domain}", "connected" if there else "not connected"]
          for domain, there in sorted(result["components"].items())),
        *([f"other servers: {name}", str(count)] for name, count in result["s2s"].items()),
        *([name, f"{count:.0f}"] for name, count in sorted(result["counters"].items())),
        ["store: commits", str(store["groups"])],
        ["store: rows", str(store["rows"])],
        ["store: last commit", f"{store['last_commit_seconds'] * 1000:.1f} ms"],
    ]
    table(["", ""], rows)


def _known(count: int | None) -> str:
    return "unknown: the store does not answer" if count is None else str(count)


def duration(seconds: int) -> str:
    """So many seconds as ``3d 04:05:06``."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{f'{days}d ' if days else ''}{hour:02}:{minute:02}:{second:02}"


def _findings(result: Any) -> None:
    for finding in result:
        line(f"{finding['level']:5}  {finding['text']}")


_SHOWN: Mapping[str, Callable[[Any], None]] = {
    "user create": _created,
    "user password": lambda result: line(f"{result['jid']} has a new password"),
    "user delete": lambda result: line(f"deleted {result['jid']}"),
    "user list": _accounts,
    "user clients": _clients,
    "user revoke_client": _revoked,
    "user grant": _granted,
    "push list": _pushes,
    "push test": _push_tested,
    "push remove": lambda result: line(f"{result['jid']} is not notified at {result['from']} any more"),
    "s2s list": _s2s,
    "s2s test": _s2s_tested,
    "export": _exported,
    "import": _imported,
    "status": _status,
    "check": _findings,
}
