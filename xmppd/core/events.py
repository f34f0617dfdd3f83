"""The events that modules hook, each with who fires it, when, and what an answer means.

Unless a docstring says otherwise a handler may be plain or async, and an answer other than None ends the
event. An event's `stanza` may be replaced by a changed copy: those who come later get that one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from twisted.words.xish import domish

    from xmppd.core.accounts import Account
    from xmppd.core.clients import Login
    from xmppd.core.host import Host
    from xmppd.core.session import Session
    from xmppd.wire.jid import JID
    from xmppd.wire.stanza import Stanza


@dataclass(slots=True)
class Starting:
    """The server starts: the store can be asked, and nobody can connect yet. Answers mean nothing."""

    host: Host


@dataclass(slots=True)
class Stopping:
    """The server stops: nobody is connected any more, and what is asked of the store now is still done. Answers mean
    nothing."""

    host: Host


@dataclass(slots=True)
class Sent:
    """A session of this host has sent a stanza. Fired by the session before it is routed.

    `stanza.sender` is the session's full JID; `stanza.to` is None for presence that is to be broadcast and for
    an iq to the own account. True: taken, it is not routed. A handler may raise `StanzaError` to refuse it. `copy` is
    what the user's other devices get to see of it, where that is more than others may: the id in the own archive.
    """

    session: Session
    stanza: Stanza
    copy: Stanza | None = None


@dataclass(slots=True)
class Leaving:
    """A stanza of an account of this host, to anybody: what a session has sent, and what the server says for
    the account, such as its presence to a contact. Fired by the server before it looks where it is for.

    True: taken, it goes nowhere and nobody is told.
    """

    account: Account
    stanza: Stanza


@dataclass(slots=True)
class Arriving:
    """A stanza for an account of this host, from anywhere. Fired by the host before RFC 6121 section 8.5 is applied.

    True: taken, it is not delivered. A handler may raise `StanzaError` to refuse it: the sender is told.
    """

    account: Account
    stanza: Stanza


@dataclass(slots=True)
class Undelivered:
    """A message for an account of which no resource can have it now (RFC 6121 section 8.5.2.2.1).

    True: somebody keeps it, and tells the sender should that fail. None from everyone: the sender gets
    `service-unavailable`.
    """

    account: Account
    stanza: Stanza


@dataclass(slots=True)
class Archived:
    """A message that came for an account is in its archive, on disk, as `stanza` with its id there. Answers mean
    nothing."""

    account: Account
    stanza: Stanza


@dataclass(slots=True)
class KeptOffline:
    """A message waits on disk for an account of which no resource could have it. Answers mean nothing."""

    account: Account
    stanza: Stanza


@dataclass(slots=True)
class LoggedIn:
    """A client has shown by SASL2 that it may use an account; fired before it is told, and before anything that it
    asked for is done. `request` is its ``<authenticate/>``.

    Handlers may add to `answers` what ``<success/>`` is to say, and to `writes` what has to be done before; one that
    fails with `AuthenticationFailed` ends the login. Other answers mean nothing.
    """

    account: Account
    login: Login
    request: domish.Element
    token_mechanisms: tuple[str, ...] = ()  # that are announced to this client
    answers: list[bytes] = field(default_factory=list)
    writes: list[Deferred[Any]] = field(default_factory=list)


@dataclass(slots=True)
class Bound:
    """A session has its resource and is in the registry. Fired before the client is told."""

    session: Session


@dataclass(slots=True)
class BoundInline:
    """A session was bound together with its login (XEP-0386). Fired after `Bound`, before the client is told: handlers
    may add to `answers` what ``<bound/>`` is to say. What is delivered now waits. `archived`: up to which id one of
    them has said what the archive has, so that the client reads it there. Other answers mean nothing."""

    session: Session
    archived: bytes | None = None
    answers: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Ended:
    """A session is over and no longer in the registry. Answers mean nothing."""

    session: Session


@dataclass(slots=True)
class BecomingAvailable:
    """A session is about to become available for messages to the bare JID: it has sent initial presence, or
    raised its priority, and `priority` is not negative. It becomes available when all handlers are done, in the
    same turn, so that what they deliver comes before anything new."""

    session: Session
    priority: int


@dataclass(slots=True)
class Available:
    """A session has sent initial presence, and it has been broadcast. Answers mean nothing."""

    session: Session


@dataclass(slots=True)
class Unavailable:
    """A session that was available is not any more; `stanza` is its unavailable presence. Answers mean nothing."""

    session: Session
    stanza: Stanza


@dataclass(slots=True)
class AccountLoading:
    """An account is being brought into memory. Each handler adds its own record with `account.put`. `data` has what
    the store keeps of the kinds in ``host.accounts.kinds``, by kind and key."""

    account: Account
    data: dict[str, dict[str, bytes]]


@dataclass(slots=True)
class AccountRemoving:
    """An account is about to be deleted: the last chance to say good-bye for it. Answers mean nothing."""

    account: Account


@dataclass(slots=True)
class AccountRemoved:
    """An account has been deleted, and everything of it in the store. Answers mean nothing."""

    account: Account


@dataclass(slots=True)
class PasswordChanged:
    """An account has another password; `by` is the session that changed it, if one did. Answers mean nothing."""

    account: Account
    by: Session | None


@dataclass(slots=True)
class NewClient:
    """A client has access to an account that was never seen there before. Answers mean nothing."""

    account: Account
    login: Login


@dataclass(slots=True)
class ClientRevoked:
    """Clients, by their keys, and whoever uses some grants, are to have no access any more. Handlers ask the store in
    this turn to forget what lets them in, and add that to `writes`. Other answers mean nothing."""

    account: Account
    keys: frozenset[str]
    grants: frozenset[str]
    writes: list[Deferred[Any]] = field(default_factory=list)


@dataclass(slots=True)
class PushRegistering:
    """A client asks for push notifications (XEP-0357 section 5); `request` is its ``<enable/>``. Handlers put what they
    keep of it into `kept`, under the namespace of their extension, as JSON can hold it. They may raise `StanzaError` to
    refuse it; answers mean nothing."""

    account: Account
    request: domish.Element
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class PushDisabled:
    """A registration for push notifications, by its `id`, is gone, or not that of `client` any more. Answers mean
    nothing."""

    account: Account
    client: str
    id: str


@dataclass(slots=True)
class PushWanted:
    """A stanza is worth a push to a registration; `kept` is what modules have kept of that. True: it is not sent."""

    account: Account
    kept: Mapping[str, Any]
    stanza: Stanza


@dataclass(slots=True)
class Pushing:
    """A push is about to be sent. `stanza` is the newest that it is for, None at a test; `payload` are the elements of
    its ``<notification/>``, which handlers may change, the form under ``summary`` among them. Answers mean nothing."""

    account: Account
    kept: Mapping[str, Any]
    stanza: Stanza | None
    important: bool
    messages: int
    payload: dict[str, bytes]


@dataclass(slots=True)
class PrivateDataChanged:
    """An account keeps other private data than before (XEP-0049), on disk already. Answers mean nothing."""

    account: Account


@dataclass(slots=True)
class CloudNotifyPing:
    """Some module wants a user's phones to be woken: all that are registered, or `registrations`, by their ids.
    `stanza` is what for, None for no more than a sign of life. Answers mean nothing."""

    account: Account
    stanza: Stanza | None = None
    registrations: Collection[str] | None = None


@dataclass(slots=True)
class RosterChanged:
    """The roster of `account` has another item for `contact`, or none any more; on disk already."""

    account: Account
    contact: JID


@dataclass(slots=True)
class AckDelayed:
    """A session's client owes an acknowledgement for longer than ``smacks_max_ack_delay``. Told once, until the client
    acknowledges. Answers mean nothing."""

    session: Session


@dataclass(slots=True)
class Hibernated:
    """A session's connection broke, and the session waits for its client. Answers mean nothing."""

    session: Session


@dataclass(slots=True)
class QueuedWhileAway:
    """A stanza waits for a session that hibernates, or owes an acknowledgement for too long; it came at `received`, in
    milliseconds since 1970. Answers mean nothing."""

    session: Session
    stanza: Stanza
    received: int


@dataclass(slots=True)
class Resumed:
    """A client has taken up its session on another stream; how it got in is the session's `Login`. Answers mean
    nothing."""

    session: Session


@dataclass(slots=True)
class Restored:
    """A session that the last process had is there again, without a stream; its account is being loaded, and modules
    have put their records. Answers mean nothing."""

    session: Session


@dataclass(slots=True)
class HibernationEnded:
    """A hibernated session was `resumed`, or is over; `restarted`: it was hibernating when the process started.
    Answers mean nothing."""

    session: Session
    resumed: bool
    restarted: bool = False
