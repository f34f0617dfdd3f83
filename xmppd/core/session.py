"""A session: one connected resource of an account, whatever carries it.

What the client sends arrives through `receive`, is handled in order, one after the other (RFC 6120 section
10.1), and leaves again through the host's routing; what is for the client goes through `deliver`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xmppd.core.events import Ended, Sent
from xmppd.core.iq import check_iq
from xmppd.storage import StorageError
from xmppd.wire.errors import StanzaError, StreamError
from xmppd.wire.jid import JID, InvalidJID, parse
from xmppd.wire.stanza import LANG, Stanza, error_reply

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from xmppd.core.accounts import Account
    from xmppd.core.host import Host

R = TypeVar("R")
Work = Callable[[], Coroutine[Any, Any, None]]  # something to be done in turn


class Carrier(Protocol):
    """What carries a session's stanzas to its client: a TCP stream, a WebSocket …

    `session` is None until one is bound; `account_name` is the localpart of who has authenticated, None before.
    """

    @property
    def host(self) -> Host | None: ...
    @property
    def session(self) -> Session | None: ...
    @property
    def account_name(self) -> str | None: ...
    @property
    def closed(self) -> bool: ...

    def adopt(self, session: Session) -> None:
        """Carry a session from now on that was bound on another stream."""

    def leave(self, error: StreamError) -> None:
        """Close the stream with an error; the session is somebody else's already."""

    def wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that takes longer; what the client sends meanwhile waits."""

    def send(self, data: bytes) -> None:
        """Send the bytes of one stanza or nonza, together with what else this turn of the reactor has."""

    def when_sent(self, callback: Callable[[bool], None]) -> None:
        """Call back with True when all that was sent has left this process, False when it never will."""

    def end(self, error: StreamError | None) -> None:
        """Close the stream, with an error if there is one."""

    def work_done(self) -> None:
        """The session has handled all it was given: more may be read."""


class Nobody:
    """The `Carrier` of a session that has no stream: what is sent is lost, unless somebody keeps it."""

    host = session = account_name = None
    closed = True

    def adopt(self, session: Session) -> None:
        """See `Carrier`."""

    def leave(self, error: StreamError) -> None:
        """See `Carrier`."""

    def wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """See `Carrier`."""
        work.close()

    def send(self, data: bytes) -> None:
        """See `Carrier`."""

    def when_sent(self, callback: Callable[[bool], None]) -> None:
        """See `Carrier`."""
        callback(False)

    def end(self, error: StreamError | None) -> None:
        """See `Carrier`."""

    def work_done(self) -> None:
        """See `Carrier`."""


NOBODY = Nobody()


class Keeper(Protocol):
    """Answers for what a session is sent until its client has it: stream management (XEP-0198)."""

    def push(self, stanza: Stanza, repeatable: bool) -> None:
        """Take a stanza that is for the client; see `Session.deliver`."""

    def take_over(
        self, stanzas: list[tuple[int, Stanza]], forget: Callable[[Connection], None]
    ) -> Deferred[bool]:
        """Take stanzas, each with when it came in milliseconds since 1970, that somebody else has kept in the store,
        and forgets by `forget` in the same transaction; fires with whether that was done."""

    def handled(self, stanza: Stanza) -> None:
        """A stanza of the client was handled, in this turn."""

    def lost(self) -> bool:
        """The connection is gone without an end of the stream; True when the session lives on without one."""

    @property
    def hibernates(self) -> bool:
        """Whether the session has no stream, and waits for its client."""

    @property
    def overdue(self) -> bool:
        """Whether the client owes an acknowledgement for too long."""

    @property
    def queued(self) -> int:
        """How many stanzas the client has not acknowledged."""

    def unacknowledged(self) -> list[tuple[int, Stanza]]:
        """What the client has not acknowledged, oldest first, each with when it came in milliseconds since 1970;
        without what may not be sent before it is on disk."""

    def saved(self) -> Deferred[None]:
        """Fires when what modules know of the session is on disk as it is now; fails with `StorageError`."""

    def wait(self, seconds: float | None) -> None:
        """Have a session that hibernates wait for its client for so many seconds from now on, or as long as usual
        where that is longer."""


class Gate(Protocol):
    """Holds back what a client does not need now: client state indication (XEP-0352)."""

    def holds(self, stanza: Stanza) -> bool:
        """Whether a stanza waits here. Where it does not, what waited before it has been passed on."""

    def flush(self) -> None:
        """Pass on everything that waits."""


class Session:
    """One bound resource.

    `id` names the session in the log. `presence` is the last available presence that it broadcast, None while it is
    unavailable; `priority` belongs to it. `reachable_since`: when it began to have messages for the bare JID, in
    milliseconds since 1970, None while it has not. `interested`: it asked for the roster and gets pushes (RFC 6121
    section 2.2). Modules keep what they know of a session as records, each under its own class.
    """

    __slots__ = (
        "_busy",
        "_inbox",
        "_records",
        "account",
        "carrier",
        "ended",
        "gate",
        "host",
        "id",
        "interested",
        "jid",
        "keeper",
        "lang",
        "log",
        "presence",
        "priority",
        "reachable_since",
    )  # fmt: skip

    def __init__(self, host: Host, account: Account, jid: JID, id: str, carrier: Carrier, lang: str | None) -> None:
        self.host = host
        self.account = account
        self.jid = jid
        self.id = id
        self.carrier = carrier
        self.lang = lang
        self.log: Logger = host.log
        self.keeper: Keeper | None = None
        self.gate: Gate | None = None
        self.presence: Stanza | None = None
        self.priority = 0
        self.reachable_since: int | None = None
        self.interested = False
        self.ended = False
        self._inbox: deque[Stanza | Work] = deque()
        self._busy = False
        self._records: dict[type[Any], Any] | None = None

    # ---- records of modules

    def put(self, record: object) -> None:
        """Keep a module's record of this session, under its class."""
        if self._records is None:
            self._records = {}
        self._records[type(record)] = record

    def find(self, kind: type[R]) -> R | None:
        """The record of this class, or None."""
        return self._records.get(kind) if self._records else None

    # ---- to the client

    def deliver(self, stanza: Stanza, repeatable: bool = False) -> None:
        """Send a stanza to the client. `repeatable`: it was asked for, and is given again when the question is, so that
        a message need not be on disk before it is sent."""
        if not self.ended and (self.gate is None or not self.gate.holds(stanza)):
            self.pass_on(stanza, repeatable)

    def open_gate(self) -> None:
        """Let out what is held back, and hold nothing back any more."""
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.flush()

    def pass_on(self, stanza: Stanza, repeatable: bool = False) -> None:
        """Send a stanza past the gate; see `deliver`."""
        self.host.stanzas[stanza.name, "out"] += 1
        if self.keeper is None:
            self.carrier.send(stanza.to_bytes())
        else:
            self.keeper.push(stanza, repeatable)

    def take_over(
        self, stanzas: list[tuple[int, Stanza]], forget: Callable[[Connection], None]
    ) -> Deferred[bool]:
        """Send stanzas to the client, each with when it came in milliseconds since 1970, that somebody keeps in the
        store, and have that one forget them, by `forget`, once they cannot be lost any more. Fires with whether they
        were forgotten."""
        if self.gate is not None:
            self.gate.flush()
        if self.keeper is not None:
            return self.keeper.take_over(stanzas, forget)
        for _, stanza in stanzas:
            self.carrier.send(stanza.to_bytes())
        return Deferred.fromCoroutine(self._forget_when_sent(forget))

    async def _forget_when_sent(self, forget: Callable[[Connection], None]) -> bool:
        if not await self.when_drained():
            return False
        try:
            await self.host.server.store.write(forget)
        except StorageError as error:
            self.log.error("{session}: what was sent will come twice: {error}", session=self.id, error=str(error))
            return False
        return True

    def when_drained(self) -> Deferred[bool]:
        """Fires when what was delivered so far has left for the network, or never will; at once where there is no
        connection."""
        drained: Deferred[bool] = Deferred()
        self.carrier.when_sent(drained.callback)
        return drained

    # ---- from the client

    @property
    def backlog(self) -> int:
        """How many stanzas wait for the one that is being handled."""
        return len(self._inbox) + self._busy

    def receive(self, stanza: Stanza) -> None:
        """Take a stanza from the client; it is handled when those before it are. Raises `StreamError`."""
        self._stamp(stanza)
        self.host.stanzas[stanza.name, "in"] += 1
        if self._busy:
            self._inbox.append(stanza)
        else:
            self._start(stanza)

    def in_turn(self, work: Work) -> None:
        """Do `work` when the stanzas received so far are handled; a `StreamError` of it ends the stream."""
        if self._busy:
            self._inbox.append(work)
        else:
            self._start(work)

    def _stamp(self, stanza: Stanza) -> None:
        """Put the addresses in: the true sender (RFC 6120 section 8.1.2.1), the recipient where it is valid."""
        claimed = stanza.attributes.pop("from", None)
        if claimed is not None and claimed not in (self.jid.full, self.jid.bare):
            try:
                valid = parse(claimed) in (self.jid, self.jid.to_bare())
            except InvalidJID:
                valid = False
            if not valid:
                raise StreamError("invalid-from")
        stanza.sender = self.jid
        if self.lang is not None and LANG not in stanza.attributes:
            stanza.attributes[LANG] = self.lang  # RFC 6120 section 8.1.5

    def _start(self, item: Stanza | Work) -> None:
        work = self._handle(item) if isinstance(item, Stanza) else self._do(item)
        running = self.host.server.tasks.start(work, "a stanza of a client")
        if running is not None:
            self._busy = True
            running.addBoth(self._next)

    def _next(self, _: object) -> None:
        self._busy = False
        while self._inbox and not self._busy:
            self._start(self._inbox.popleft())
        if self._busy:
            return
        if self.ended:
            self._say_ended()
        else:
            self.carrier.work_done()

    async def _do(self, work: Work) -> None:
        try:
            await work()
        except StreamError as error:
            self.carrier.end(error)

    async def _handle(self, stanza: Stanza) -> None:
        try:
            await self._handle_checked(stanza)
        except StanzaError as error:
            self._refuse(stanza, error)
        except StorageError as error:
            self.log.error("{session}: a stanza was refused: {error}", session=self.id, error=str(error))
            self._refuse(stanza, StanzaError("resource-constraint", "the server cannot store this now"))
        except Exception:
            self.log.failure("{session}: a stanza could not be handled", session=self.id)
            self._refuse(stanza, StanzaError("internal-server-error"))
        if self.keeper is not None:
            self.keeper.handled(stanza)

    async def _handle_checked(self, stanza: Stanza) -> None:
        if self.account.going:
            raise StanzaError("not-authorized", "the account is being deleted")
        to = stanza.attributes.pop("to", None)
        if to is not None:
            try:
                stanza.to = parse(to)
            except InvalidJID as error:
                raise StanzaError("jid-malformed", str(error)) from None
        if stanza.name == "iq":
            check_iq(stanza)
        elif stanza.name == "message" and stanza.to is None:
            stanza.to = self.account.jid  # RFC 6120 section 10.3.1
        if stanza.name == "message" and stanza.to is not None:
            await self.host.server.meet(stanza.to)  # all that a message does to the store is then asked for in one turn
        event = Sent(self, stanza)
        if await self.host.bus.fire(event) is not None:
            return
        if event.stanza.to is None:  # an iq for the own account (RFC 6120 section 10.3.3)
            await self.host.answer(event.stanza, self.account)
        else:
            await self.host.server.route(event.stanza)

    def _refuse(self, stanza: Stanza, error: StanzaError) -> None:
        """Answer with an error, unless the stanza is an answer itself (RFC 6120 section 8.3.1)."""
        if stanza.type in ("error", "result"):
            return
        self.deliver(error_reply(stanza, error))

    # ---- the end

    def lost(self) -> None:
        """The connection is gone without an end of the stream: the end, unless somebody keeps the session."""
        if self.keeper is None or not self.keeper.lost():
            self.end()

    def end(self) -> None:
        """Leave the registry now, and let modules know when what the client has sent before is handled.

        Called by whoever carries the session, once it is over.
        """
        if self.ended:
            return
        self.ended = True
        self.host.server.sessions.remove(self)
        if not self._busy:
            self._say_ended()

    def _say_ended(self) -> None:
        self.host.server.tasks.start(self.host.bus.fire(Ended(self)), "the end of a session")

    def close(self, condition: str, text: str | None = None) -> None:
        """End the session from this side, with a stream error where a stream carries it."""
        self.carrier.end(StreamError(condition, text))
        self.end()
