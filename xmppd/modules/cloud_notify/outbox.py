"""Pushes on their way: collected for a second, sent, and tried again while an app server cannot be reached.

The theory. What a registration is to be told waits here as one important push and one unimportant one, the newest
stanza in each, so that there is little of it however long an app server is away. A row on disk says what waits; when a
push leaves, that row goes and the marks of its stanzas are written, in one transaction, before anything is sent. What
an app server is known not to have, or has not answered, waits again.

A `Push` is in one of three places: it waits in `Waiting.pushes` for the timer; it is under way, in `Waiting.flying`; or
it is gone. Its marks are in the registration's memory all the time, and are taken out again only when it is called off
without having been sent: then its client has to get the stanzas otherwise, and is told again if it does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from xmppd.config import Duration, Integer, Option
from xmppd.core.accounts import Account
from xmppd.core.events import AccountLoading, Pushing
from xmppd.core.host import Host
from xmppd.modules.cloud_notify.registrations import (
    MARK,
    Registration,
    Registrations,
    is_there,
    keep,
    keep_sent,
    remove,
)
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
    "For how many registrations of a host pushes may wait at once; one more, and that is given up which an app server "
    "could not take for longest.",
)  # fmt: skip
OPTIONS = (MAX_ERRORS, TIMEOUT, MAX_RETRY_DELAY, EXPIRES_AFTER, MAX_PENDING)

KIND = "push_waiting"  # in the store: what a registration has not been told yet
BURST_SECONDS = 1.0  # for which stanzas are collected
FIRST_RETRY = 15.0  # seconds; then twice as long each time
RESTART_SECONDS = 10.0  # that clients have to come back by themselves after a restart
RETRIED_AT_ONCE = 20  # registrations that are tried again when their app server has answered somebody else
MAX_FLYING = 8  # pushes of one registration that are not answered yet; what comes then waits for one of them

# Conditions that say nothing of the registration, whatever type they have: the app server was not reached.
_NOT_REACHED = frozenset({"remote-server-not-found", "remote-server-timeout"})


@dataclass(slots=True, eq=False)
class Push:
    """What one push is for: the newest stanza, None for a sign of life; how many messages there were, and the marks of
    all stanzas. `anyway`: it is sent although the client is there. `called_off`: the client has come while it was
    under way."""

    important: bool
    stanza: Stanza | None
    messages: int
    marks: list[bytes]
    anyway: bool = False
    called_off: bool = False

    def merge(self, other: Push) -> None:
        """Stand for what an earlier push was for as well."""
        self.stanza = self.stanza or other.stanza
        self.messages += other.messages
        self.marks = other.marks + self.marks
        self.anyway = self.anyway or other.anyway


@dataclass(slots=True, eq=False)
class Waiting:
    """What one registration, by its id, has not been told: `pushes` by whether they are important, and those that are
    `flying`. `since`: when the newest came, in milliseconds since 1970; `due`: when the timer will fire, in seconds of
    the clock; `tries`: failures in a row."""

    account: Account
    id: str
    jid: str
    since: int
    pushes: dict[bool, Push] = field(default_factory=dict)
    flying: set[Push] = field(default_factory=set)
    tries: int = 0
    due: float = 0.0
    timer: Any = None

    def add(self, push: Push) -> None:
        """Wait; together with what waits already."""
        before = self.pushes.get(push.important)
        if before is not None:
            push.merge(before)
        self.pushes[push.important] = push

    def put_back(self, push: Push) -> None:
        """Wait again; what came meanwhile is newer."""
        newer = self.pushes.get(push.important)
        if newer is not None:
            newer.merge(push)
        else:
            self.pushes[push.important] = push

    def to_stored(self) -> bytes:
        """As it is kept."""
        pushes = [
            [push.important, push.messages, push.stanza.to_bytes().decode() if push.stanza is not None else None,
             b"".join(push.marks).hex(), push.anyway]
            for push in self.pushes.values()
        ]  # fmt: skip
        return json.dumps({"since": self.since, "pushes": pushes}).encode()


def from_stored(account: Account, id: str, jid: str, value: bytes) -> Waiting:
    """What was kept, read back."""
    kept = json.loads(value)
    waiting = Waiting(account, id, jid, kept["since"])
    for important, messages, text, hexed, anyway in kept["pushes"]:
        stanza = read_stored(text.encode()) if text is not None else None
        marks = bytes.fromhex(hexed)
        parts = [marks[start : start + MARK] for start in range(0, len(marks), MARK)]
        waiting.pushes[important] = Push(important, stanza, messages, parts, anyway)
    return waiting


class Outbox:
    """The pushes of one host. `reached` is called when one was sent that the app server was reached by: with the
    account, the registration, and whether it is important."""

    def __init__(self, host: Host, reached: Callable[[Account, Registration, bool], None]) -> None:
        self._host = host
        self._reached = reached
        self._waiting: dict[tuple[int, str], Waiting] = {}
        self._failing: dict[str, dict[Waiting, None]] = {}  # by the app server: those that are tried again later
        self._full = False  # which the log knows
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
        self, account: Account, entry: Registration, stanza: Stanza | None, mark: bytes | None, seconds: float,
        anyway: bool = False,
    ) -> None:  # fmt: skip
        """Push a stanza to a registration within so many seconds, together with what else comes until then. `mark` is
        what it is known by; `anyway`: also to a client that is there."""
        server = self._host.server
        important = stanza is not None and is_important(stanza)
        waiting = self._waiting.get((account.id, entry.id)) or self._new(account, entry)
        if waiting is None:
            self.count(important, "dropped")
            account.get(Registrations).forget(entry.id, [mark] if mark is not None else [])
            return
        waiting.since = server.now_ms()
        messages = int(stanza is not None and stanza.name == "message")
        marks = [mark] if mark is not None else []
        waiting.add(Push(important, slim(stanza) if stanza is not None else None, messages, marks, anyway))
        self._save(waiting)
        self._schedule(waiting, seconds)

    def _new(self, account: Account, entry: Registration) -> Waiting | None:
        """Room for one more registration; None where there is none, not even if others give up."""
        if len(self._waiting) >= self._host.settings[MAX_PENDING]:
            if not self._full:
                self._full = True
                self._host.log.error("push: too many wait (push_max_pending); some are given up")
            oldest = min((each for failing in self._failing.values() for each in failing), key=lambda each: each.since,
                         default=None)  # fmt: skip
            if oldest is None:
                return None
            self._call_off(oldest)
        else:
            self._full = False
        waiting = self._waiting[account.id, entry.id] = Waiting(account, entry.id, entry.jid, 0)
        return waiting

    def forget(self, account: Account, client: str) -> None:
        """A client is here, and gets what it was to be told of: it need not be woken any more."""
        for entry in account.get(Registrations).of_client(client):
            self.drop(account, entry.id)

    def drop(self, account: Account, id: str) -> None:
        """Nothing that waits for a registration is sent."""
        waiting = self._waiting.get((account.id, id))
        if waiting is not None:
            self._call_off(waiting)

    def _call_off(self, waiting: Waiting) -> None:
        record = waiting.account.get(Registrations)
        for push in waiting.pushes.values():
            record.forget(waiting.id, push.marks)
        waiting.pushes.clear()
        for push in waiting.flying:
            push.called_off = True
        self._settle(waiting)

    def waits(self, account: Account, entry: Registration) -> bool:
        """Whether there is something that a registration has not been told."""
        return (account.id, entry.id) in self._waiting

    # ---- what the last process had not sent

    def load(self, event: AccountLoading) -> None:
        """It comes into memory with its account, behind the registrations; as long as something waits that stays."""
        account = event.account
        record = account.get(Registrations)
        for id, value in event.data[KIND].items():
            entry = record.known.get(id)
            waiting = from_stored(account, id, entry.jid if entry is not None else "", value)
            self._waiting[account.id, id] = waiting
            for push in waiting.pushes.values():
                record.sent.setdefault(id, {}).update(dict.fromkeys(push.marks))
            self._schedule(waiting, RESTART_SECONDS)

    async def restore(self) -> None:
        """Load the accounts that have something waiting. Raises `StorageError`."""
        host, after = self._host, 0
        while page := await host.server.store.data.page(host.domain, KIND, after, 100):
            after = page[-1][0]
            for local in {local for _, local, _, _ in page}:
                await host.accounts.load(local)

    # ---- when

    def _schedule(self, waiting: Waiting, seconds: float) -> None:
        """Look at what waits within so many seconds."""
        clock = self._host.server.clock
        due = clock.seconds() + seconds
        if waiting.timer is not None:
            if waiting.due <= due:
                return
            waiting.timer.cancel()
        waiting.due = due
        waiting.timer = clock.callLater(seconds, self._flush, waiting)

    def _flush(self, waiting: Waiting) -> None:
        """Send what waits; but not to a client that is there by now, nor while too much is not answered."""
        waiting.timer = None
        self._not_failing(waiting)
        account = waiting.account
        entry = account.get(Registrations).known.get(waiting.id)
        if self._host.server.stopping:
            return
        if entry is None or entry.suspended or account.going:
            self._call_off(waiting)
            return
        there = is_there(account, entry.client)
        ready = [key for key in (True, False) if key in waiting.pushes and (waiting.pushes[key].anyway or not there)]
        if not ready:
            self._call_off(waiting)
        elif len(waiting.flying) >= MAX_FLYING:
            self._schedule(waiting, BURST_SECONDS)
        else:
            pushes = [waiting.pushes.pop(key) for key in ready]
            waiting.flying.update(pushes)
            self._host.server.tasks.start(self._send(waiting, entry, pushes), "a push")

    def _settle(self, waiting: Waiting) -> None:
        """Something of what waits has been decided: where nothing is left it is over."""
        if waiting.pushes:
            self._save(waiting)
            return
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
        self._not_failing(waiting)
        self._save(waiting)
        if not waiting.flying and self._waiting.get((waiting.account.id, waiting.id)) is waiting:
            del self._waiting[waiting.account.id, waiting.id]

    def _retry(self, waiting: Waiting) -> None:
        """What was not taken is tried again, the later the more often that has failed."""
        settings, server = self._host.settings, self._host.server
        if server.now_ms() - waiting.since > settings[EXPIRES_AFTER] * 1000:
            self._host.log.info("push: what {user} was to be told at {jid} is given up",
                                user=waiting.account.jid.bare, jid=waiting.jid)  # fmt: skip
            self._call_off(waiting)
            return
        self._failing.setdefault(waiting.jid, {})[waiting] = None
        self._schedule(waiting, min(settings[MAX_RETRY_DELAY], FIRST_RETRY * 2.0 ** min(waiting.tries - 1, 20)))

    def _retry_others(self, jid: str) -> None:
        """An app server answers again: some of those that wait for it are tried now, and each lets others follow."""
        for waiting in list(self._failing.get(jid, {}))[:RETRIED_AT_ONCE]:
            self._not_failing(waiting)
            self._schedule(waiting, 0)

    def _not_failing(self, waiting: Waiting) -> None:
        failing = self._failing.get(waiting.jid)
        if failing is not None:
            failing.pop(waiting, None)
            if not failing:
                del self._failing[waiting.jid]

    # ---- what is on disk

    def _save(self, waiting: Waiting) -> Deferred[Any]:
        """Write what waits, or that nothing does."""
        data, account = self._host.server.store.data, waiting.account
        written: Deferred[Any]
        if waiting.pushes and not account.going:
            written = data.put(account.id, KIND, waiting.id, waiting.to_stored())
        else:
            written = data.delete(account.id, KIND, waiting.id)
        return written.addErrback(self._not_saved, account)

    def _not_saved(self, failure: Any, account: Account) -> None:
        """Pushes go out all the same; a restart may send one a second time."""
        if not account.going and self._host.accounts.loaded(account.jid.local) is account:
            self._host.log.error("push: what was pushed to {user} is not kept: {error}",
                                 user=account.jid.bare, error=failure.getErrorMessage())  # fmt: skip

    # ---- pushes under way

    async def _send(self, waiting: Waiting, entry: Registration, pushes: list[Push]) -> None:
        """Send pushes side by side; what is not taken waits again."""
        account = waiting.account
        try:
            sent = keep_sent(account, entry).addErrback(self._not_saved, account)
            await DeferredList([sent, self._save(waiting)])
            sending = [Deferred.fromCoroutine(self._send_one(waiting, entry, push)) for push in pushes]
            outcomes = await DeferredList(sending, consumeErrors=True)
            for _, outcome in outcomes:
                if isinstance(outcome, Failure):
                    self._host.log.failure("a push could not be sent", outcome)
            if any(well and outcome for well, outcome in outcomes):
                waiting.tries = 0
            elif waiting.pushes:
                waiting.tries += 1
        finally:
            waiting.flying.difference_update(pushes)
            self._settle(waiting)
            if waiting.pushes and waiting.tries:
                self._retry(waiting)
            elif waiting.pushes:
                self._schedule(waiting, BURST_SECONDS)

    async def _send_one(self, waiting: Waiting, entry: Registration, push: Push) -> bool:
        """Send one push; False where the app server has not taken it, and may do so later."""
        account, important = waiting.account, push.important
        self.count(important, "sent")
        error, answered = await self.publish(account, entry, push.stanza, important, push.messages)
        if account.going:
            return True
        is_final = answered and (error is None or not is_transient(error))
        if is_final or (error is not None and error.condition == "remote-server-timeout"):
            self._reached(account, entry, important)
        if is_final:
            self.count(important, "answered" if error is None else "refused")
            await self._answered(account, entry, error)
            self._retry_others(entry.jid)
            return True
        self.count(important, "failed")
        self._host.log.info("push: {jid} was not reached for {user}: {error}",
                            jid=entry.jid, user=account.jid.bare, error=str(error))  # fmt: skip
        if self._host.server.stopping:
            return False  # nobody knows whether it has arrived
        if push.called_off:
            if error is not None and error.condition != "remote-server-timeout":
                account.get(Registrations).forget(waiting.id, push.marks)
            return False
        waiting.put_back(push)
        return False

    async def publish(
        self, account: Account, entry: Registration, stanza: Stanza | None, important: bool, messages: int
    ) -> tuple[StanzaError | None, bool]:
        """Send a push now, and wait for what comes of it: None if the app server has taken it, else why not; and
        whether it was the app server that has said so."""
        event = Pushing(account, entry.kept, stanza, important, messages,
                        {SUMMARY: summary(account, stanza, important, messages)})  # fmt: skip
        await self._host.bus.fire(event)
        request = publish(entry, list(event.payload.values()))
        try:
            answer = await self._host.requests.send(
                parse(entry.jid), "set", request, (ns.PUBSUB, "pubsub"), self._host.settings[TIMEOUT]
            )
        except StanzaError as error:
            return error, False
        return error_of(answer) if answer.type == "error" else None, True

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
