"""Message archives (XEP-0313 1.1.3 with all of ``urn:xmpp:mam:2#extended``), and the ids of messages in them (XEP-0359
0.7.0): what was said is there for every device of a user.

A message is archived once for each account that it is from or to, before anybody gets it, under an id that is stamped
here and nowhere else: the live copy, carbons, what waits for a hibernated session and the archive have the same one.
`rules` says what is kept, `preferences` whose, `query` answers.
"""

from __future__ import annotations

from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from xmppd.config import Duration, Option
from xmppd.core.accounts import Account
from xmppd.core.bus import Stage
from xmppd.core.events import (
    AccountLoading,
    Archived,
    Arriving,
    BoundInline,
    Sent,
    Starting,
    Stopping,
    Undelivered,
)
from xmppd.core.host import Host
from xmppd.core.iq import Target
from xmppd.core.routing import is_refused
from xmppd.core.server import Server
from xmppd.modules.mam import preferences, query
from xmppd.modules.mam.ids import Ids, Randomness, first_at, time_of, to_text
from xmppd.modules.mam.preferences import wanted
from xmppd.modules.mam.rules import worth_archiving
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.delay import stamp
from xmppd.wire.jid import JID
from xmppd.wire.sid import has_stanza_id, with_stanza_id
from xmppd.wire.stanza import Stanza

ARCHIVE_EXPIRES_AFTER = Option(
    "archive_expires_after", Duration(never=True, minimum=3600), "never",
    "How long messages are kept in archives.",
)  # fmt: skip
OPTIONS = (ARCHIVE_EXPIRES_AFTER, *preferences.OPTIONS, *query.OPTIONS)

MAX_AHEAD_MS = 24 * 3600 * 1000  # by which ids may be ahead of the clock before somebody is told
CLEAN_SECONDS = 3600.0  # how often all archives are looked through for what has expired
BATCH = 200  # messages deleted in one transaction
ACCOUNTS = 100  # looked up at once


def setup(host: Host) -> None:
    """Hook archives into a host."""
    host.provide(Ids, Ids(host.server.now_ms, Randomness().bits))
    host.disco.account.features |= {ns.MAM, ns.MAM_EXTENDED, ns.STANZA_ID}
    host.accounts.kinds.append(preferences.KIND)
    host.bus.on(AccountLoading, preferences.load)
    host.bus.on(Sent, sent, Stage.ARCHIVE)
    host.bus.on(Arriving, arriving, Stage.ARCHIVE)
    host.iq.on(Target.OWN, "get", ns.MAM, "prefs", preferences.get)
    host.iq.on(Target.OWN, "set", ns.MAM, "prefs", preferences.change)
    host.iq.on(Target.OWN, "get", ns.MAM, "query", query.form)
    host.iq.on(Target.OWN, "set", ns.MAM, "query", query.query)
    host.iq.on(Target.OWN, "get", ns.MAM, "metadata", query.metadata)
    host.bus.on(BoundInline, query.at_binding)
    host.bus.on(Undelivered, kept, Stage.AFTER)
    host.bus.on(Starting, start)
    host.bus.on(Stopping, lambda event: remember_time(host))
    cleaning = LoopingCall(lambda: host.server.tasks.start(hourly(host), "cleaning archives"))
    cleaning.clock = host.server.clock  # type: ignore[assignment]
    cleaning.start(CLEAN_SECONDS, now=False)


async def start(event: Starting) -> None:
    """Ids go on behind those that there are, even if the clock was put back meanwhile."""
    host = event.host
    newest = await host.server.store.data.server_get(preferences.KIND, host.domain)
    if newest is not None:
        host.service(Ids).continue_after(newest)
        look_at_clock(host)
    await remember_time(host)


def look_at_clock(host: Host) -> None:
    """Say it loudly where the clock was once far ahead: ids do not go back, so what is archived now has that time."""
    ahead = time_of(host.service(Ids).last) - host.server.now_ms()
    if ahead > MAX_AHEAD_MS:
        host.log.error(
            "the clock was {days} days ahead once; until it is there, messages of {host} are archived as of {then}",
            days=ahead // MAX_AHEAD_MS, host=host.domain, then=stamp(time_of(host.service(Ids).last)),
        )  # fmt: skip


async def remember_time(host: Host) -> None:
    """Keep an id that the next process is to continue after."""
    try:
        await host.server.store.data.server_put(preferences.KIND, host.domain, host.service(Ids).make())
    except StorageError as error:
        host.log.error("the time of the archives was not kept: {error}", error=str(error))


# ---- what is kept


def sent(event: Sent) -> None:
    """What a client sends to others is kept for its account; the id is for its own devices alone (section 3.5)."""
    stanza = event.stanza
    if stanza.name != "message" or stanza.to is None or stanza.to.bare == event.session.jid.bare:
        return  # a note to self arrives in the same archive
    event.copy = archive(event.session.account, stanza, stanza.to)


def arriving(event: Arriving) -> None:
    """What arrives is kept, and delivered with its id, unless it is refused (section 5.1)."""
    stanza = event.stanza
    if stanza.name != "message" or stanza.sender is None or is_refused(event.account, stanza):
        return
    event.stanza = archive(event.account, stanza, stanza.sender, incoming=True) or stanza


def archive(account: Account, stanza: Stanza, contact: JID, incoming: bool = False) -> Stanza | None:
    """Keep a message with somebody in an account's archive; what it is with its id there, or None where it is not
    kept. `incoming`: others are told once it is there. Raises `StorageError` where that is known to be impossible."""
    if not worth_archiving(stanza) or not wanted(account, contact):
        return None
    host = account.host
    id = host.service(Ids).make()
    stored = host.server.store.archive.append(account.id, id, contact.bare, contact.resource, stanza.to_bytes())
    if isinstance(getattr(stored, "result", None), Failure):
        stored.addErrback(lambda failure: None)
        raise StorageError("a message cannot be archived now")
    archived = with_stanza_id(stanza, account.jid, to_text(id))

    def told(_: object) -> None:
        if incoming:
            host.server.tasks.start(host.bus.fire(Archived(account, archived)), "an archived message's event")

    def failed(failure: Failure) -> None:
        why = failure.getErrorMessage()
        host.log.error("a message of {user} is not in the archive: {error}", user=account.jid.bare, error=why)

    stored.addCallbacks(told, failed)
    return archived


def kept(event: Undelivered) -> bool | None:
    """Nobody can have a message now, and nobody else keeps it: it is found in the archive, unless that fails."""
    if not has_stanza_id(event.stanza, event.account.jid):
        return None
    server = event.account.host.server
    server.tasks.start(server.or_bounce(event.stanza, _stored(server)), "keeping a message")
    return True


async def _stored(server: Server) -> None:
    """What was asked for in this turn is on disk; raises `StorageError`."""
    await server.store.barrier()


# ---- what is not kept any more


async def hourly(host: Host) -> None:
    """What has to be done from time to time."""
    look_at_clock(host)
    await remember_time(host)
    try:
        await expire(host)
    except StorageError as error:
        host.log.error("archives were not cleaned: {error}", error=str(error))


async def expire(host: Host) -> None:
    """Delete what is too old, a little at a time: others' writes come between."""
    age = host.settings[ARCHIVE_EXPIRES_AFTER]
    if age is None:
        return
    store = host.server.store.archive
    before = first_at(host.server.now_ms() - int(age * 1000))
    last = 0
    while accounts := await store.accounts(host.domain, last, ACCOUNTS):
        for last in accounts:
            while await store.expire(last, before, BATCH) == BATCH:
                pass
