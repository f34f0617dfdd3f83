"""What romeo and juliet own on a server: put there, and read again, by slixmpp as any client would."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Literal, NamedTuple
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from slixmpp.xmlstream.handler import Collector
from slixmpp.xmlstream.matcher import MatchXPath

from tests.conversations.people import Person
from tests.conversations.process import PATIENCE, LoggedProcess

MUSKETEER = "d\\27artagnan"  # d'artagnan, by XEP-0106
NAMES = ("romeo", "juliet", MUSKETEER, "jörg", "benvolio", "tybalt")
PASSWORD = "O 'happy' <dagger> & ünicode"


class Contact(NamedTuple):
    """An item of a roster."""

    name: str
    groups: frozenset[str]
    subscription: str
    ask: str = ""


# Of romeo's. That tybalt asks, and waits for an answer, is in no roster.
ROSTER = {
    "juliet@localhost": Contact(
        'Juliet <Capulet> & "Co."', frozenset({"Love & <War>", "\"double\" and 'single'", "Лучшие друзья"}), "both"
    ),
    f"{MUSKETEER}@localhost": Contact("D'Artagnan", frozenset({"Musketeers"}), "to"),
    "jörg@localhost": Contact("Jörg 🐎", frozenset(), "from"),
    "benvolio@localhost": Contact("", frozenset({"Cousins"}), "none", "subscribe"),
    "paris@example.net": Contact("", frozenset({"Love & <War>"}), "none"),
}
PHOTO = base64.encodebytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4).decode()
VCARD = (
    "<vCard xmlns='vcard-temp'><FN>Ромео Монтекки</FN><N><FAMILY>Монтекки</FAMILY><GIVEN>Ромео</GIVEN></N>"
    '<NICKNAME>&lt;romeo&gt; &amp; "Co" 🌹</NICKNAME>'
    f"<PHOTO><TYPE>image/png</TYPE><BINVAL>{PHOTO}</BINVAL></PHOTO></vCard>"
)
PRIVATE = {
    "<exodus xmlns='exodus:prefs'/>": "<exodus xmlns='exodus:prefs'><nick>Ромео &amp; &lt;Co&gt;</nick></exodus>",
    "<roster xmlns='roster:delimiter'/>": "<roster xmlns='roster:delimiter'>::</roster>",
}
ITEMS = (
    (
        "http://jabber.org/protocol/nick", "current",
        "<nick xmlns='http://jabber.org/protocol/nick'>Ромео</nick>",
    ),
    (
        "urn:xmpp:bookmarks:1", "theplay@conference.example.net",
        "<conference xmlns='urn:xmpp:bookmarks:1' name='Oberon &amp; Co.' autojoin='true'><nick>P</nick></conference>",
    ),
)  # fmt: skip
TALK = ("Art thou not Romeo, and a Montague?", "Neither, fair saint <&>\n\"'", "How camest thou hither? 🧱")
WAITING = ("line one\nline two\n\nline four", "a rose 🌹 by any other name", "<b>no</b> &amp; markup ]]>", "  spaces  ")
ENEMY = "enemy@example.net"


class Kept(NamedTuple):
    """A message as an archive has it: its id there, when it came, who wrote to whom, and what."""

    id: str
    stamp: datetime
    sender: str
    recipient: str
    body: str


async def ask(person: Person, kind: Literal["get", "set"], content: str, to: str | None = None) -> ET.Element | None:
    """Send an IQ with this content; the content of the result, if it has any."""
    iq = person.make_iq(ito=to, itype=kind)
    iq.append(ET.fromstring(content))
    return next(iter((await iq.send(timeout=PATIENCE)).xml), None)  # type: ignore[no-untyped-call]


async def synchronised(person: Person) -> None:
    """Return when the server has done what this client sent before."""
    await ask(person, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", "localhost")


async def fill(server: LoggedProcess, pep: bool = True) -> None:
    """Put everything there. Afterwards nobody is connected, and juliet has messages that wait."""
    romeo = await Person(server, "romeo", "orchard", PASSWORD).arrives()
    juliet = await Person(server, "juliet", "balcony", PASSWORD).arrives()
    await _fill_roster(server, romeo, juliet)
    await _fill_account(romeo)
    if pep:
        await _publish(romeo)
    for number, line in enumerate(TALK):
        speaker, hearer = (juliet, romeo) if number % 2 == 0 else (romeo, juliet)
        speaker.send_message(hearer.boundjid, line, mtype="chat")
        assert (await hearer.hears())["body"] == line
    await juliet.leaves()
    await romeo.sees("unavailable", "juliet@localhost")
    for line in WAITING:
        romeo.send_message("juliet@localhost", line, mtype="chat")
    await synchronised(romeo)
    await romeo.leaves()


async def _fill_roster(server: LoggedProcess, romeo: Person, juliet: Person) -> None:
    """The roster, and the states of its subscriptions, by asking and agreeing."""
    for jid, contact in ROSTER.items():
        groups = "".join(f"<group>{escape(group)}</group>" for group in sorted(contact.groups))
        name = f" name={quoteattr(contact.name)}" if contact.name else ""
        item = f"<item jid={quoteattr(jid)}{name}>{groups}</item>"
        await ask(romeo, "set", f"<query xmlns='jabber:iq:roster'>{item}</query>")
    musketeer = await Person(server, MUSKETEER, "paris", PASSWORD).arrives()
    joerg = await Person(server, "jörg", "köln", PASSWORD).arrives()
    tybalt = await Person(server, "tybalt", "street", PASSWORD).arrives()
    for one, other in ((romeo, juliet), (juliet, romeo), (romeo, musketeer), (joerg, romeo)):
        one.send_presence_subscription(other.boundjid.bare)
        await other.sees("subscribe", one.boundjid.bare)
        other.send_presence_subscription(one.boundjid.bare, ptype="subscribed")
        await one.sees("subscribed", other.boundjid.bare)
    romeo.send_presence_subscription("benvolio@localhost")
    tybalt.send_presence_subscription("romeo@localhost")
    await romeo.sees("subscribe", "tybalt@localhost")
    for person in (musketeer, joerg, tybalt):
        await person.leaves()


async def _fill_account(romeo: Person) -> None:
    """What romeo's account has besides contacts and messages."""
    await ask(romeo, "set", VCARD)
    for element in PRIVATE.values():
        await ask(romeo, "set", f"<query xmlns='jabber:iq:private'>{element}</query>")
    await ask(romeo, "set", f"<block xmlns='urn:xmpp:blocking'><item jid='{ENEMY}'/></block>")


async def _publish(romeo: Person) -> None:
    """Romeo's nick and his bookmark."""
    for node, item, payload in ITEMS:
        publish = f"<publish node='{node}'><item id='{item}'>{payload}</item></publish>"
        await ask(romeo, "set", f"<pubsub xmlns='http://jabber.org/protocol/pubsub'>{publish}</pubsub>")


async def roster(person: Person) -> dict[str, Contact]:
    """A person's roster."""
    query = await ask(person, "get", "<query xmlns='jabber:iq:roster'/>")
    assert query is not None
    return {
        item.attrib["jid"]: Contact(
            item.get("name", ""), frozenset(group.text or "" for group in item),
            item.get("subscription", "none"), item.get("ask", ""),
        )
        for item in query
    }  # fmt: skip


async def vcard(person: Person) -> dict[str, str]:
    """A person's vCard: the texts of its fields, in whatever order they came."""
    card = await ask(person, "get", "<vCard xmlns='vcard-temp'/>")
    assert card is not None
    return fields(card)


def fields(card: ET.Element) -> dict[str, str]:
    """The texts in a vCard; what is base64 may be broken into lines or not."""
    found = {field.tag.rpartition("}")[2]: field.text or "" for field in card.iter() if not len(field)}
    return {name: "".join(text.split()) if name == "BINVAL" else text for name, text in found.items()}


async def private(person: Person) -> list[str]:
    """What a person has in private storage under the names that were put there, in canonical form."""
    found = []
    for name in PRIVATE:
        query = await ask(person, "get", f"<query xmlns='jabber:iq:private'>{name}</query>")
        assert query is not None
        found.append(canonical(ET.tostring(query[0], "unicode")))
    return found


def canonical(xml: str) -> str:
    """XML in the one form that all ways to write it have in common."""
    return ET.canonicalize(xml, rewrite_prefixes=True)


async def blocked(person: Person) -> list[str]:
    """Whom a person has blocked."""
    blocklist = await ask(person, "get", "<blocklist xmlns='urn:xmpp:blocking'/>")
    return [item.attrib["jid"] for item in blocklist or ()]


async def archive(person: Person, page: int = 3) -> list[Kept]:
    """A person's archive from its beginning, read in pages."""
    kept: list[Kept] = []
    complete = False
    while not complete:
        after = f"<after>{escape(kept[-1].id)}</after>" if kept else ""
        paging = f"<set xmlns='http://jabber.org/protocol/rsm'><max>{page}</max>{after}</set>"
        results = Collector("archive", MatchXPath("{jabber:client}message/{urn:xmpp:mam:2}result"))
        person.register_handler(results)
        end = await ask(person, "set", f"<query xmlns='urn:xmpp:mam:2'>{paging}</query>")
        assert end is not None and end.tag == "{urn:xmpp:mam:2}fin"
        complete = end.get("complete") == "true"
        found = [_result(message.xml) for message in results.stop()]
        assert found or complete, "a page with nothing in it, and it is not the last"
        kept += found
    return kept


def _result(message: ET.Element) -> Kept:
    result = message.find("{urn:xmpp:mam:2}result")
    forwarded = message.find(".//{urn:xmpp:forward:0}forwarded")
    assert result is not None and forwarded is not None, ET.tostring(message)
    original = forwarded.find("{jabber:client}message")
    assert original is not None
    return Kept(
        result.attrib["id"], stamp(forwarded), original.attrib["from"], original.attrib["to"],
        original.findtext("{jabber:client}body", ""),
    )  # fmt: skip


def stamp(element: ET.Element) -> datetime:
    """When this came, by the delay element in it."""
    delay = element.find("{urn:xmpp:delay}delay")
    assert delay is not None, ET.tostring(element)
    # Python 3.10 knows neither Z nor fractions of any length.
    text = delay.attrib["stamp"].removesuffix("Z")
    return datetime.strptime(text if "." in text else f"{text}.0", "%Y-%m-%dT%H:%M:%S.%f")
