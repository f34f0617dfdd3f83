"""Chat notification settings (XEP-0492 0.2.0): a user who has said once how to be notified of a chat is notified so by
push, whichever client that wakes.

The settings are read where users can keep them: in the bookmarks of their private data (XEP-0049, XEP-0048), or in any
other element there that names a chat by its ``jid``. What is woken by push is taken for a ``client`` of type ``phone``.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.words.xish import domish

from xmppd.core.accounts import Account
from xmppd.core.bus import Stage
from xmppd.core.events import AccountLoading, PrivateDataChanged, PushWanted
from xmppd.core.host import Host
from xmppd.core.mentions import mentions
from xmppd.core.private_data import PrivateData
from xmppd.storage import StorageError
from xmppd.wire import ns
from xmppd.wire.jid import InvalidJID, parse
from xmppd.wire.xml import parse_tree

IDENTITY = ("client", "phone")  # of what is woken, by category and type (XEP-0030 section 3.1)
NAMES = ("never", "on-mention", "always")


@dataclass(frozen=True, slots=True)
class Setting:
    """How to notify of one chat: one of `NAMES`, and the user's nickname there, if known."""

    when: str
    nick: str


@dataclass(slots=True)
class Chats:
    """Record of an account: its settings by the chats' bare JIDs, None where they have to be looked up; and how often
    they have changed."""

    of: dict[str, Setting] | None = None
    changes: int = 0


def setup(host: Host) -> None:
    """Hook the settings into a host."""
    host.bus.on(AccountLoading, lambda event: event.account.put(Chats()))
    host.bus.on(PrivateDataChanged, changed)
    host.bus.on(PushWanted, wanted, Stage.BLOCK)


def changed(event: PrivateDataChanged) -> None:
    """They may be others now."""
    chats = event.account.get(Chats)
    chats.of = None
    chats.changes += 1


async def wanted(event: PushWanted) -> bool | None:
    """True: the user does not want to be notified of this."""
    sender, account = event.stanza.sender, event.account
    if sender is None or event.stanza.name != "message":
        return None
    try:
        setting = (await settings(account)).get(sender.bare)
    except StorageError as error:
        account.host.log.error("notification settings of {user} could not be read: {error}",
                               user=account.jid.bare, error=str(error))  # fmt: skip
        return None
    if setting is None or setting.when == "always":
        return None
    if setting.when == "on-mention":
        who = [account.jid]
        if setting.nick and event.stanza.type == "groupchat":
            who.append(sender.to_bare().with_resource(setting.nick))
        return None if mentions(event.stanza, who, setting.nick) else True
    return True


async def settings(account: Account) -> dict[str, Setting]:
    """The settings of an account, by the chats' bare JIDs. Raises `StorageError`."""
    chats = account.get(Chats)
    if chats.of is not None:
        return chats.of
    changes = chats.changes
    service = account.host.find(PrivateData)
    elements = await service.holding(account, ns.NOTIFICATION_SETTINGS.encode()) if service is not None else []
    found: dict[str, Setting] = {}
    for element in elements:
        found.update(_read(parse_tree(element, ns.PRIVATE)))
    if chats.changes == changes:
        chats.of = found
    return found


def _read(root: domish.Element) -> dict[str, Setting]:
    """The settings in an element: a ``<notify/>`` belongs to the nearest element around it that has a ``jid``."""
    found: dict[str, Setting] = {}
    todo: list[tuple[domish.Element, str, str]] = [(root, "", "")]
    while todo:
        element, jid, nick = todo.pop()
        if element.getAttribute("jid"):
            try:
                jid = parse(str(element.getAttribute("jid"))).bare
            except InvalidJID:
                jid = ""
            nick = next((str(child) for child in element.elements() if child.name == "nick"), "")
        if (element.uri, element.name) == (ns.NOTIFICATION_SETTINGS, "notify"):
            when = _chosen(element)
            if jid and when:
                found[jid] = Setting(when, nick)
            continue
        todo += [(child, jid, nick) for child in element.elements()]
    return found


def _chosen(notify: domish.Element) -> str:
    """The most specific setting for `IDENTITY`; ``""`` where there is none (section 3)."""
    best, rank = "", -1
    for child in notify.elements():
        if child.uri != ns.NOTIFICATION_SETTINGS or child.name not in NAMES:
            continue
        category, type = child.getAttribute("identity-category"), child.getAttribute("identity-type")
        if category not in (None, IDENTITY[0]) or type not in (None, IDENTITY[1]) or (type and not category):
            continue
        specific = (category is not None) + (type is not None)
        if specific > rank:
            best, rank = str(child.name), specific
    return best
