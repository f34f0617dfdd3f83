"""Pushes on their way: collected for a second, sent, and tried again while an app server cannot be reached.

The theory. What a registration is to be told waits here as one important push and one unimportant one, the newest
stanza in each, so that there is little of it however long an app server is away. A row on disk says what waits; when a
push leaves, that row goes and the marks of its stanzas are written, in one transaction, before anything is sent. So
whatever happens to the process, a stanza is pushed once: only what an app server is known not to have, or has not
answered, is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults

from xmppd.config import Duration, Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.events import Pushing
from xmppd.core.host import Host
from xmppd.modules.cloud_notify.registrations import MARK, Registration, Registrations, keep, keep_sent, remove
from xmppd.modules.cloud_notify.summary import SUMMARY, is_important, publish, slim, summary
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.errors import StanzaError
from xmppd.wire.jid import parse
from xmppd.wire.stanza import Stanza, error_of
from xmppd.wire.stored import read_stored

MAX_ERRORS = Option(
    "push_max_errors", Integer(minimum=1), "16",
    "After how many permanent errors of an app server in a row a registration is removed.",
)  # fmt: skip
TIMEOUT = Option("push_timeout", Duration(), "30s", "How long an app server may take to answer a push.")
MAX_RETRY_DELAY = Option(
    "push_max_retry_delay", Duration(), "1h",
    "How long at most is waited before a push is tried again that an app server could not take.",
)  # fmt: skip
EXPIRES_AFTER = Option(
    "push_expires_after", Duration(), "3d", "After how long a push is given up that an app server could not take."
)
MAX_PENDING = Option(
    "push_max_pending", Integer(minimum=1), "10000",
    "For how many registrations of a host pushes may wait at once; what comes then is not pushed.",
)  # fmt: skip
OPTIONS = (MAX_ERRORS, TIMEOUT, MAX_RETRY_DELAY, EXPIRES_AFTER, MAX_PENDING)

KIND = "push_waiting"  # in the store: what a registration has not been told yet
BURST_SECONDS = 1.0  # for which stanzas are collected
FIRST_RETRY = 15.0  # seconds; then twice as long each time
RESTART_SECONDS = 10.0  # that clients have to come back by themselves after a restart
RETRIED_AT_ONCE = 20  # registrations that are tried again when their app server has answered somebody else

# Conditions that say nothing of the registration, whatever type they have: the app server was not reached.
_NOT_REACHED = frozenset({"remote-server-not-found", "remote-server-timeout"})


@dataclass(slots=True)
class Push:
    """What one push is for: the newest stanza, and how many messages there were. None: a sign of life."""

    stanza: Stanza | None
    messages: int


@dataclass(slots=True, eq=False)
class Waiting:
    """What one registration has not been told: pushes by whether they are important, when the newest stanza came, in
    milliseconds since 1970, and the marks of stanzas that are not on disk yet as pushed. `due` is when its timer will
    fire, in seconds of the clock; `tries` counts failures in a row."""

    account: Account
    id: str
    since: int
    pushes: dict[bool, Push] = field(default_factory=dict)
    marks: list[bytes] = field(default_factory=list)
    tries: int = 0
    due: float = 0.0
    timer: Any = None
    sending: bool = False
    jid: str = ""

    def add(self, important: bool, push: Push, newer: bool = True) -> None:
        """Collect; where there is one already the newer stanza counts."""
        before = self.pushes.get(important)
        if before is not None:
            stanza = push.stanza if newer and push.stanza is not None else before.stanza
            push = Push(stanza, before.messages + push.messages)
        self.pushes[important] = push

    def to_stored(self) -> bytes:
        """As it is kept."""
        pushes = [
            [important, push.messages, push.stanza.to_bytes().decode() if push.stanza is not None else None]
            for important, push in self.pushes.items()
        ]
        marks = b"".join(self.marks).hex()
        return json.dumps({"since": self.since, "pushes": pushes, "marks": marks}).encode()


def from_stored(account: Account, id: str, value: bytes) -> Waiting:
    """What was kept, read back."""
    kept = json.loads(value)
    marks = bytes.fromhex(kept["marks"])
    waiting = Waiting(account, id, kept["since"])
    waiting.marks = [marks[start : start + MARK] for start in range(0, len(marks), MARK)]
    for important, messages, stanza in kept["pushes"]:
        waiting.pushes[important] = Push(read_stored(stanza.encode()) if stanza is not None else None, messages)
    return waiting


class Outbox:
    """The pushes of one host. `woken` is called when one is sent: with the account, the registration, and whether it is
    important."""

    def __init__(self, host: Host, woken: Callable[[Account, Registration, bool], None]) -> None:
        self._host = host
        self._woken = woken
        self._waiting: dict[tuple[int, str], Waiting] = {}
        self._failing: dict[str, dict[Waiting, None]] = {}  # by the app server, those that are tried again later
        self._counter = host.server.metrics.counter(
            "xmppd_pushes", "Push notifications, by importance and what became of them.",
            ("host", "importance", "outcome"),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._waiting)

    def count(self, important: bool, outcome: str) -> None:
        """Count a push."""
        self._counter.labels(self._host.domain, "important" if important else "unimportant", outcome).inc()

    # ---- what is to be sent

    def add(
        self, account: Account, entry: Registration, stanza: Stanza | None, mark: bytes | None, seconds: float
    ) -> None:
        """Push a stanza to a registration within so many seconds, together with what else comes until then. `mark` is
        what it is known by."""
        server = self._host.server
        important = stanza is not None and is_important(stanza)
        waiting = self._waiting.get((account.id, entry.id))
        if waiting is None:
            if len(self._waiting) >= self._host.settings[MAX_PENDING]:
                self.count(important, "dropped")
                self._host.log.error("push: too many wait; {user} is not notified", user=account.jid.bare)
                return
            waiting = self._waiting[account.id, entry.id] = Waiting(account, entry.id, 0, jid=entry.jid)
        waiting.since = server.now_ms()
        messages = int(stanza is not None and stanza.name == "message")
        waiting.add(important, Push(slim(stanza) if stanza is not None else None, messages))
        if mark is not None:
            waiting.marks.append(mark)
        self._save(waiting)
        self._schedule(waiting, seconds)

    def forget(self, account: Account, client: str) -> None:
        """A client is here: it need not be woken any more."""
        for entry in account.get(Registrations).known.values():
            waiting = self._waiting.get((account.id, entry.id))
            if waiting is not None and entry.client == client:
                waiting.pushes.clear()
                self._done(waiting)

    def waits(self, account: Account, entry: Registration) -> bool:
        """Whether there is something that a registration has not been told."""
        return (account.id, entry.id) in self._waiting

    async def restore(self) -> None:
        """Take up what the last process had not sent. Raises `StorageError`."""
        host, after = self._host, 0
        while page := await host.server.store.data.page(host.domain, KIND, after, 100):
            after = page[-1][0]
            for _, local, id, value in page:
                account = await host.accounts.load(local)
                if account is None:
                    continue
                waiting = from_stored(account, id, value)
                entry = account.get(Registrations).known.get(id)
                if entry is not None:
                    for mark in waiting.marks:
                        account.get(Registrations).remember(entry, mark)
                    waiting.jid = entry.jid
                self._waiting[account.id, id] = waiting
                self._schedule(waiting, RESTART_SECONDS)

    # ---- when

    def _schedule(self, waiting: Waiting, seconds: float) -> None:
        clock = self._host.server.clock
        due = clock.seconds() + seconds
        if waiting.timer is not None:
            if waiting.due <= due:
                return
            waiting.timer.cancel()
        waiting.due = due
        waiting.timer = clock.callLater(seconds, self._flush, waiting)

    def _flush(self, waiting: Waiting) -> None:
        waiting.timer = None
        if not waiting.sending and not self._host.server.stopping:
            self._failing.get(waiting.jid, {}).pop(waiting, None)
            waiting.sending = True
            self._host.server.tasks.start(self._send(waiting), "a push")

    async def _send(self, waiting: Waiting) -> None:
        """Send what waits; what could not be sent waits on."""
        account, pushes = waiting.account, waiting.pushes
        waiting.pushes = {}
        try:
            entry = account.get(Registrations).known.get(waiting.id)
            if entry is not None and not entry.suspended and not account.going:
                await self._keep_sent(waiting, entry)
                sending = [self._send_one(waiting, entry, key, pushes[key]) for key in (True, False) if key in pushes]
                reached = await gatherResults([Deferred.fromCoroutine(one) for one in sending], consumeErrors=True)
                waiting.tries = 0 if all(reached) else waiting.tries + 1
        finally:
            waiting.sending = False
            if waiting.pushes:
                self._retry(waiting)
            else:
                self._done(waiting)

    def _retry(self, waiting: Waiting) -> None:
        """What is left is tried again: soon if it has just come, else the later the more often that has failed."""
        settings, server = self._host.settings, self._host.server
        if server.now_ms() - waiting.since > settings[EXPIRES_AFTER] * 1000:
            self._host.log.info("push: what {user} was to be told at {jid} is given up",
                                user=waiting.account.jid.bare, jid=waiting.jid)  # fmt: skip
            waiting.pushes.clear()
            self._done(waiting)
        elif waiting.tries:
            self._failing.setdefault(waiting.jid, {})[waiting] = None
            self._schedule(waiting, min(settings[MAX_RETRY_DELAY], FIRST_RETRY * 2.0 ** min(waiting.tries - 1, 20)))
        else:
            self._schedule(waiting, BURST_SECONDS)

    def _done(self, waiting: Waiting) -> None:
        """Nothing waits."""
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
        self._failing.get(waiting.jid, {}).pop(waiting, None)
        self._save(waiting)
        if not waiting.sending:
            self._waiting.pop((waiting.account.id, waiting.id), None)

    def _retry_others(self, jid: str) -> None:
        """An app server answers again: some of those that wait for it are tried now, and each lets others follow."""
        failing = self._failing.get(jid, {})
        for waiting in list(failing)[:RETRIED_AT_ONCE]:
            del failing[waiting]
            self._schedule(waiting, 0)
        if not failing:
            self._failing.pop(jid, None)

    # ---- what is on disk

    def _save(self, waiting: Waiting) -> Deferred[Any]:
        """Write what waits, or that nothing does."""
        data, account = self._host.server.store.data, waiting.account
        written: Deferred[Any]
        if waiting.pushes:
            written = data.put(account.id, KIND, waiting.id, waiting.to_stored())
        else:
            written = data.delete(account.id, KIND, waiting.id)
        return written.addErrback(self._not_saved, account)

    def _not_saved(self, failure: Any, account: Account) -> None:
        """Pushes go out all the same; a restart may send one a second time."""
        failure.trap(StorageError)
        self._host.log.error("push: what was pushed to {user} is not kept: {error}",
                             user=account.jid.bare, error=failure.getErrorMessage())  # fmt: skip

    async def _keep_sent(self, waiting: Waiting, entry: Registration) -> None:
        waiting.marks.clear()
        sent = keep_sent(waiting.account, entry).addErrback(self._not_saved, waiting.account)
        await DeferredList([sent, self._save(waiting)])

    # ---- one push

    async def _send_one(self, waiting: Waiting, entry: Registration, important: bool, push: Push) -> bool:
        """Send one push; False where it has to wait."""
        account = waiting.account
        self.count(important, "sent")
        self._woken(account, entry, important)
        error = await self.publish(account, entry, push.stanza, important, push.messages)
        if error is None or not is_transient(error):
            self.count(important, "answered" if error is None else "refused")
            await self._answered(account, entry, error)
            self._retry_others(entry.jid)
            return True
        self.count(important, "failed")
        self._host.log.info("push: {jid} was not reached for {user}: {error}",
                            jid=entry.jid, user=account.jid.bare, error=str(error))  # fmt: skip
        if not self._host.server.stopping:  # else nobody knows whether it has arrived
            waiting.add(important, push, newer=False)
            await self._save(waiting)
        return False

    async def publish(
        self, account: Account, entry: Registration, stanza: Stanza | None, important: bool, messages: int
    ) -> StanzaError | None:
        """Send a push now, and wait for what the app server says: None if it has taken it, else why not."""
        event = Pushing(account, entry.kept, stanza, important, messages,
                        {SUMMARY: summary(account, stanza, important, messages)})  # fmt: skip
        await self._host.bus.fire(event)
        request = publish(entry, list(event.payload.values()))
        try:
            answer = await self._host.requests.send(
                parse(entry.jid), "set", request, (ns.PUBSUB, "pubsub"), self._host.settings[TIMEOUT]
            )
        except StanzaError as error:
            return error
        return error_of(answer) if answer.type == "error" else None

    async def _answered(self, account: Account, entry: Registration, error: StanzaError | None) -> None:
        """Count errors in a row; with too many the registration goes."""
        if account.get(Registrations).known.get(entry.id) is not entry:
            return  # it is gone, or another has its place
        errors = 0 if error is None else entry.errors + 1
        if errors == entry.errors:
            return
        entry.errors = errors
        try:
            if errors >= self._host.settings[MAX_ERRORS]:
                await remove(account, [entry], f"{errors} errors in a row, the last one {error}")
            else:
                await keep(account, entry)
        except StorageError as failure:
            self._host.log.error("push: an error of {jid} is not kept: {error}", jid=entry.jid, error=str(failure))


def is_transient(error: StanzaError) -> bool:
    """Whether an error says that it may be otherwise later, or that the app server was not reached at all."""
    return error.type == "wait" or error.condition in _NOT_REACHED
