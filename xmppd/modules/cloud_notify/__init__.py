"""Push notifications (XEP-0357 0.4.1): the app server of a client that is not there is told when something comes.

A registration is told

a.  when its client's session has owed an acknowledgement for too long, or hibernates: of each stanza that the client
    has not acknowledged, and of each that comes;
b.  of each message that comes into the user's archive, where its client has no session, not even a hibernated one;
c.  of each message that is kept offline, and of each call (XEP-0353), whatever its client does: a call at once;
d.  of what other modules say by `CloudNotifyPing`.

None is told twice of the same stanza, whichever rule comes first. Nobody is told of what they have sent themselves, of
copies, of an archive's answers, of chat states, or of what client state indication keeps from the client.

While a client that can be woken hibernates its session waits for longer, until it is woken for the first time.
`registrations` says who is told, `summary` what, `outbox` how it gets there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

from xmppd.config import Duration, Option
from xmppd.core.accounts import Account
from xmppd.core.bus import Stage
from xmppd.core.client_state import ClientState
from xmppd.core.clients import PushServices
from xmppd.core.events import (
    AccountLoading,
    AckDelayed,
    Archived,
    Arriving,
    Available,
    Bound,
    ClientRevoked,
    CloudNotifyPing,
    Hibernated,
    KeptOffline,
    PasswordChanged,
    PushDisabled,
    PushWanted,
    QueuedWhileAway,
    Restored,
    Resumed,
    Starting,
)
from xmppd.core.host import Host
from xmppd.core.iq import Request, Target
from xmppd.core.routing import is_refused
from xmppd.core.session import Session
from xmppd.modules.cloud_notify import outbox, registrations, summary
from xmppd.modules.cloud_notify.outbox import BURST_SECONDS, RESTART_SECONDS, Outbox
from xmppd.modules.cloud_notify.registrations import Registration, Registrations, Tied, client_of
from xmppd.modules.cloud_notify.summary import IMPORTANT_BODY, is_important, is_urgent, is_worth_a_push, mark_of
from xmppd.wire import ns
from xmppd.wire.stanza import Stanza

MAX_HIBERNATION = Option(
    "push_max_hibernation_timeout", Duration(), "72h",
    "How long a session whose connection broke waits for a client that can be woken, as long as it was not.",
)  # fmt: skip
OPTIONS = (MAX_HIBERNATION, *registrations.OPTIONS, *summary.OPTIONS, *outbox.OPTIONS)


@dataclass(slots=True)
class Away:
    """Record of a session whose client can be woken: whether it was, since it was there last."""

    woken: bool


def setup(host: Host) -> None:
    """Hook push notifications into a host."""
    host.disco.account.features.add(ns.PUSH)
    host.iq.on(Target.OWN, "set", ns.PUSH, "enable", enable)
    host.iq.on(Target.OWN, "set", ns.PUSH, "disable", registrations.disable)
    host.accounts.kinds += [registrations.KIND, registrations.SENT, outbox.KIND]
    pushes = Outbox(host, reached)
    host.provide(Outbox, pushes)
    host.provide(PushServices, registrations.Services())
    host.session_state["cloud_notify"] = (_was_woken, lambda session, was: session.put(Away(was)))
    host.bus.on(AccountLoading, registrations.load)
    host.bus.on(AccountLoading, pushes.load)
    host.bus.on(AckDelayed, ack_delayed)
    host.bus.on(Hibernated, lambda event: hibernated(event.session))
    host.bus.on(QueuedWhileAway, queued)
    host.bus.on(Archived, archived)
    host.bus.on(KeptOffline, kept_offline)
    host.bus.on(Arriving, withdrawn, Stage.COPY)
    host.bus.on(Arriving, arriving, Stage.AFTER)
    host.bus.on(CloudNotifyPing, ping)
    host.bus.on(Bound, registrations.seen)
    host.bus.on(Resumed, resumed)
    host.bus.on(Available, lambda event: _gets(event.session))  # it was sent what had waited, just before
    host.bus.on(PushDisabled, disabled)
    host.bus.on(ClientRevoked, registrations.revoked)
    host.bus.on(PasswordChanged, registrations.password_changed)
    host.bus.on(Starting, start)
    host.bus.on(Restored, restored)


async def enable(request: Request) -> None:
    """Section 5. The connection may have broken meanwhile."""
    await registrations.enable(request)
    session = request.session
    if session is not None and session.keeper is not None and session.keeper.hibernates:
        hibernated(session)


# ---- rule a: a client that does not answer, or is gone


def _own(session: Session) -> list[Registration]:
    """The registrations of a session's client."""
    return session.account.get(Registrations).of_client(client_of(session))


def _is_for(session: Session, stanza: Stanza) -> bool:
    """Whether a session's client may be woken for a stanza."""
    state = session.host.find(ClientState)
    held = state is not None and state.holds_back(session, stanza)
    return not held and is_worth_a_push(session.account, stanza)


def ack_delayed(event: AckDelayed) -> None:
    """The client does not answer."""
    notify_of_all(event.session, BURST_SECONDS)


def hibernated(session: Session, seconds: float = BURST_SECONDS) -> None:
    """The connection is gone: the session waits until the client can have been woken."""
    if _own(session):
        extend(session)
        notify_of_all(session, seconds)


def notify_of_all(session: Session, seconds: float) -> None:
    """Push what the client has not acknowledged."""
    entries = _own(session)
    if entries and session.keeper is not None:
        for received, stanza in session.keeper.unacknowledged():
            if _is_for(session, stanza):
                notify(session.account, entries, stanza, received, seconds)


def queued(event: QueuedWhileAway) -> None:
    """Something more comes."""
    entries = _own(event.session)
    if entries and _is_for(event.session, event.stanza):
        notify(event.session.account, entries, event.stanza, event.received)


# ---- rules b and c: messages


def archived(event: Archived) -> None:
    """A message is there for all of the user's clients."""
    account, stanza = event.account, event.stanza
    record = account.get(Registrations)
    if record.known and is_worth_a_push(account, stanza):
        there = {client_of(session) for session in account.sessions}
        notify(account, [entry for entry in record.usable() if entry.client not in there], stanza)


def kept_offline(event: KeptOffline) -> None:
    """A message waits for whoever comes."""
    if is_worth_a_push(event.account, event.stanza):
        notify(event.account, event.account.get(Registrations).usable(), event.stanza)


def arriving(event: Arriving) -> None:
    """A call rings everywhere; group chat goes to nobody but those who can be woken for it, where a room sends it to a
    user who is not in it."""
    account, stanza = event.account, event.stanza
    record = account.get(Registrations)
    if not record.known or stanza.name != "message" or not is_worth_a_push(account, stanza):
        return
    entries = record.usable()
    if is_urgent(stanza) and not is_refused(account, stanza):
        notify(account, entries, stanza, seconds=0, anyway=True)
    elif stanza.type == "groupchat" and stanza.to is not None and stanza.to.is_bare and not account.sessions:
        notify(account, entries, stanza)


# ---- rule d: other modules


def ping(event: CloudNotifyPing) -> None:
    """Somebody else knows better."""
    account, chosen = event.account, event.registrations
    entries = [entry for entry in account.get(Registrations).usable() if chosen is None or entry.id in chosen]
    if event.stanza is not None:
        notify(account, entries, event.stanza, anyway=True)
        return
    for entry in entries:
        account.host.service(Outbox).add(account, entry, None, None, BURST_SECONDS, anyway=True)


# ---- to whom


def notify(
    account: Account, entries: Iterable[Registration], stanza: Stanza, received: int = 0,
    seconds: float = BURST_SECONDS, anyway: bool = False,
) -> None:  # fmt: skip
    """Push a stanza to those registrations that have not had it, and whose filters let it pass, within so many
    seconds. `received`: when it came, for what is no message; `anyway`: also where the client is there."""
    record, mark = account.get(Registrations), b""
    for entry in entries:
        mark = mark or mark_of(account, stanza, received)
        if record.begin(entry, mark):
            deciding = _decide(account, entry, stanza, mark, seconds, anyway)
            account.host.server.tasks.start(deciding, "a push")


async def _decide(
    account: Account, entry: Registration, stanza: Stanza, mark: bytes, seconds: float, anyway: bool
) -> None:
    record, pushes = account.get(Registrations), account.host.service(Outbox)
    try:
        stopped = await account.host.bus.fire(PushWanted(account, entry.kept, stanza))
    finally:
        record.deciding.discard((entry.id, mark))
    if record.known.get(entry.id) is not entry:
        return
    queued = (session.keeper.queued for session in account.sessions if session.keeper is not None)
    record.remember(entry, mark, sum(queued))
    if stopped:
        pushes.count(is_important(stanza), "filtered")
    else:
        pushes.add(account, entry, stanza, mark, seconds, anyway)


def withdrawn(event: Arriving) -> Awaitable[bool | None] | None:
    """An app server takes a node back (section 8)."""
    account, stanza = event.account, event.stanza
    known = account.get(Registrations).known
    if not known or stanza.name != "message" or not stanza.has(ns.PUBSUB, "pubsub") or stanza.sender is None:
        return None
    if stanza.sender.full not in {entry.jid for entry in known.values()}:
        return None
    return registrations.withdrawn(account, stanza)


# ---- sessions that wait for longer


def extend(session: Session) -> None:
    """Have a session wait until its client was woken, unless it was already for something that it has not got."""
    record, keeper, away = session.account.get(Registrations), session.keeper, session.find(Away)
    assert keeper is not None
    was_woken = away is not None and away.woken and any(
        mark_of(session.account, stanza, received) in record.sent.get(entry.id, {})
        for entry in _own(session)
        for received, stanza in keeper.unacknowledged()
        if _wakes(session.host, is_important(stanza))
    )
    session.put(Away(was_woken))
    if not was_woken:
        keeper.wait(session.host.settings[MAX_HIBERNATION])


def _wakes(host: Host, important: bool) -> bool:
    """Whether a push wakes a client; where important ones cannot be told from others each does."""
    return important or not host.settings[IMPORTANT_BODY]


def reached(account: Account, entry: Registration, important: bool) -> None:
    """An app server has a push, as far as is known: from the first one that matters on the usual time runs."""
    if _wakes(account.host, important):
        _woken(account, entry.client)


def disabled(event: PushDisabled) -> None:
    """What waits for a registration is not sent; and who cannot be woken any more is not waited for."""
    event.account.host.service(Outbox).drop(event.account, event.id)
    if not event.account.get(Registrations).of_client(event.client):
        _woken(event.account, event.client)


def _woken(account: Account, client: str) -> None:
    for session in account.sessions:
        if client_of(session) != client:
            continue
        away = session.find(Away)
        if session.keeper is not None and session.keeper.hibernates and (away is None or not away.woken):
            session.keeper.wait(None)
        session.put(Away(True))


def _was_woken(session: Session) -> bool | None:
    away = session.find(Away)
    hibernates = session.keeper is not None and session.keeper.hibernates
    return away.woken if away is not None and hibernates else None


# ---- clients and processes come back


def resumed(event: Resumed) -> None:
    """A client is here, and is sent what it has not acknowledged."""
    registrations.seen(event)
    event.session.put(Away(woken=False))
    _gets(event.session)


def _gets(session: Session) -> None:
    session.host.service(Outbox).forget(session.account, client_of(session))


async def start(event: Starting) -> None:
    """What the last process had not sent is sent, unless clients come by themselves; so is what it could not know when
    it was killed."""
    host = event.host
    await host.service(Outbox).restore()


def restored(event: Restored) -> None:
    """The same of what waits for a session."""
    session = event.session
    session.put(Tied(client_of(session)))
    if session.find(Away) is None:
        hibernated(session, RESTART_SECONDS)
    else:
        notify_of_all(session, RESTART_SECONDS)
