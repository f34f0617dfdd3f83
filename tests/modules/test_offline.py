"""Messages for Juliet while she is away (XEP-0160, with the delay of XEP-0203 and the hints of XEP-0334)."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World

ROMEO, JULIET = "romeo@example.org", "juliet@example.org"
ORCHARD, BALCONY = f"{ROMEO}/orchard", f"{JULIET}/balcony"
HINTS = "urn:xmpp:hints"


@pytest.fixture
def world() -> World:
    world = World()
    world.account(JULIET)
    return world


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


def writes(romeo: Player, *bodies: str) -> None:
    """Romeo writes to Juliet."""
    for body in bodies:
        romeo.sends(f"<message type='chat' to='{JULIET}'><body>{body}</body></message>")


def gets(juliet: Player, *bodies: str) -> None:
    """Juliet receives these messages that waited."""
    for body in bodies:
        got = juliet.takes()
        assert (got.findtext("{jabber:client}body"), got.get("from")) == (body, ORCHARD)
        delays = got.findall("{urn:xmpp:delay}delay")
        assert [delay.get("from") for delay in delays] == ["example.org"]


def comes(world: World, full: str = BALCONY, presence: str = "<presence/>") -> Player:
    """Juliet logs in and sends presence; what that brings is still to be received."""
    juliet = world.login(full)
    juliet.receives_nothing()
    juliet.sends(presence)
    return juliet


def own_presence(juliet: Player) -> None:
    got = juliet.takes()
    assert (got.tag, got.get("from")) == ("{jabber:client}presence", juliet.full)


def kept(world: World) -> int:
    """How many messages wait for Juliet."""
    account = world.run(world.host.accounts.load("juliet"))
    count: int = world.result(world.store.offline.size(account.id))[0]
    return count


def test_what_was_said_while_she_was_away(world: World, romeo: Player) -> None:
    """In order, each with the time at which it came, before anything else, and only once."""
    writes(romeo, "one")
    world.advance(60)
    writes(romeo, "two")
    world.advance(0.25)
    writes(romeo, "three")
    romeo.receives_nothing()
    world.advance(3600)
    juliet = comes(world)
    for body, stamp in (("one", "22:13:20.000"), ("two", "22:14:20.000"), ("three", "22:14:20.250")):
        got = juliet.takes()
        delay = got.find("{urn:xmpp:delay}delay")
        assert got.findtext("{jabber:client}body") == body
        assert delay is not None
        assert (delay.get("from"), delay.get("stamp")) == ("example.org", f"2023-11-14T{stamp}Z")
    own_presence(juliet)
    juliet.receives_nothing()
    assert kept(world) == 0
    juliet.disconnects()
    juliet = comes(world)
    own_presence(juliet)
    juliet.receives_nothing()


def test_the_message_is_what_was_sent(world: World, romeo: Player) -> None:
    """Addresses, id, language, thread, and every byte of the children; the delay is behind them."""
    body = b"<body xml:lang='it'>a\r\n\tb &amp;&#13;<![CDATA[<c>]]></body>"
    inner = body + b"\n <thread>t</thread><y xmlns='urn:y'  z = \"1\" />"
    tag = f"<message id='m&apos;1' to='{BALCONY}' type='chat' xml:lang='en'>"
    romeo.sends(tag.encode() + inner + b"</message>")
    juliet = comes(world)
    got = juliet.takes()
    assert inner + b"<stanza-id " in juliet.received_bytes()
    lang = "{http://www.w3.org/XML/1998/namespace}lang"
    assert got.attrib == {"id": "m'1", "type": "chat", "from": ORCHARD, "to": BALCONY, lang: "en"}


def test_a_prefix_of_the_message_is_kept_with_it(world: World, romeo: Player) -> None:
    romeo.sends(f"<message xmlns:p='urn:p' p:a='1' to='{JULIET}'><p:x/></message>")
    got = comes(world).takes()
    assert got[0].tag == "{urn:p}x"
    assert got.get("{urn:p}a") == "1"


def test_messages_survive_a_restart(world: World, romeo: Player) -> None:
    writes(romeo, "one", "two")
    world = World(before=world)
    gets(comes(world), "one", "two")
    assert kept(world) == 0


def test_many_messages(world: World, romeo: Player) -> None:
    """More than the store gives at once."""
    world = World("offline_message_limit = 5000", before=world)
    romeo = world.online(ORCHARD)
    for number in range(1005):
        romeo.sends_only(f"<message to='{JULIET}'><body>{number}</body></message>")
    world.settle()
    juliet = comes(world)
    for number in range(1005):
        assert juliet.takes().findtext("{jabber:client}body") == str(number)
    assert kept(world) == 0


# ---- which resource has them


def test_a_negative_priority_does_not_get_them(world: World, romeo: Player) -> None:
    """Section 3: not before it is raised; then, and not again."""
    writes(romeo, "one")
    juliet = comes(world, presence="<presence><priority>-1</priority></presence>")
    own_presence(juliet)
    writes(romeo, "two")
    juliet.receives_nothing()
    juliet.sends("<presence><priority>0</priority></presence>")
    gets(juliet, "one", "two")
    own_presence(juliet)
    juliet.sends("<presence><priority>5</priority></presence>")
    own_presence(juliet)
    juliet.receives_nothing()


def test_a_client_that_was_away_gets_them_when_it_is_back(world: World, romeo: Player) -> None:
    juliet = comes(world)
    own_presence(juliet)
    juliet.sends("<presence type='unavailable'/>")
    writes(romeo, "one")
    juliet.receives_nothing()
    juliet.sends("<presence/>")
    gets(juliet, "one")


def test_two_resources_come_at_once(world: World, romeo: Player) -> None:
    """The first one gets all of them, the other one none."""
    writes(romeo, "one", "two")
    balcony, tomb = world.login(BALCONY), world.login(f"{JULIET}/tomb")
    balcony.sends_only("<presence/>")
    tomb.sends_only("<presence/>")
    world.settle()
    gets(balcony, "one", "two")
    tomb.receives_all(
        f"<presence from='{BALCONY}' to='{tomb.full}'/>", f"<presence from='{tomb.full}' to='{tomb.full}'/>"
    )
    tomb.receives_nothing()
    assert kept(world) == 0


def test_a_message_that_arrives_during_the_delivery(world: World, romeo: Player) -> None:
    """It comes behind the others, once, and is not forgotten in the store."""
    writes(romeo, "one", "two")
    juliet = world.login(BALCONY)
    juliet.sends_only("<presence/>")
    romeo.sends_only(f"<message type='chat' to='{JULIET}'><body>three</body></message>")
    romeo.sends_only(f"<message type='chat' to='{JULIET}'><body>four</body></message>")
    world.settle()
    writes(romeo, "five")
    for body in ("one", "two", "three", "four"):
        assert juliet.takes().findtext("{jabber:client}body") == body
    own_presence(juliet)
    assert juliet.takes().findtext("{jabber:client}body") == "five"
    juliet.receives_nothing()
    assert kept(world) == 0


def test_a_message_that_arrives_while_nothing_seems_to_wait(world: World, romeo: Player) -> None:
    """The store has been asked, the message is on its way there: it is not left behind."""
    juliet = world.login(BALCONY)
    juliet.sends_only("<presence/>")
    romeo.sends_only(f"<message type='chat' to='{JULIET}'><body>one</body></message>")
    world.settle()
    gets(juliet, "one")
    own_presence(juliet)
    assert kept(world) == 0


# ---- never lost


def test_they_are_kept_until_they_are_sent(world: World, romeo: Player) -> None:
    """A client that does not read has them in the store still."""
    writes(romeo, "one", "two")
    juliet = world.login(BALCONY)
    juliet.wire.stuck = True
    juliet.sends("<presence/>")
    gets(juliet, "one", "two")
    assert kept(world) == 2
    juliet.wire.reads_again()
    world.settle()
    assert kept(world) == 0


def test_a_break_before_they_are_sent(world: World, romeo: Player) -> None:
    """They come again, in order."""
    writes(romeo, "one", "two")
    juliet = world.login(BALCONY)
    juliet.wire.stuck = True
    juliet.sends("<presence/>")
    juliet.disconnects()
    assert kept(world) == 2
    writes(romeo, "three")
    gets(comes(world), "one", "two", "three")
    assert kept(world) == 0


def test_a_break_before_the_store_has_answered(world: World, romeo: Player) -> None:
    writes(romeo, "one")
    juliet = world.login(BALCONY)
    juliet.sends_only("<presence/>")
    juliet.disconnects()
    assert kept(world) == 1
    gets(comes(world), "one")


def test_only_what_was_sent_is_deleted(world: World, romeo: Player) -> None:
    """What came to the store after the delivery stays there."""
    writes(romeo, "one")
    juliet = world.login(BALCONY)
    juliet.wire.stuck = True
    juliet.sends("<presence/>")
    juliet.sends("<presence type='unavailable'/>")
    writes(romeo, "two")
    juliet.wire.reads_again()
    world.settle()
    assert kept(world) == 1
    gets(comes(world, f"{JULIET}/tomb"), "two")


# ---- what is kept


def test_the_limit_and_the_answer_beyond_it(world: World) -> None:
    """Section 3: the sender is told; those that came before stay."""
    world = World("modules_disabled = mam\noffline_message_limit = 2", before=world)
    romeo = world.online(ORCHARD)
    writes(romeo, "one", "two")
    romeo.receives_nothing()
    romeo.sends(f"<message id='3' to='{JULIET}'><body>three</body></message>")
    romeo.receives_error("service-unavailable", "cancel", name="message", id="3", sender=JULIET)
    juliet = comes(world)
    gets(juliet, "one", "two")
    own_presence(juliet)
    juliet.receives_nothing()
    juliet.disconnects()
    writes(romeo, "four")
    romeo.receives_nothing()
    assert kept(world) == 1


def test_the_limit_in_bytes(world: World) -> None:
    world = World("modules_disabled = mam\noffline_size_limit = 64k", before=world)
    romeo = world.online(ORCHARD)
    writes(romeo, "a" * 40_000)
    romeo.sends(f"<message id='2' to='{JULIET}'><body>{'b' * 40_000}</body></message>")
    romeo.receives_error("service-unavailable", "cancel", name="message", id="2", sender=JULIET)
    writes(romeo, "c" * 20_000)
    romeo.receives_nothing()
    juliet = comes(world)
    gets(juliet, "a" * 40_000, "c" * 20_000)
    juliet.disconnects()
    writes(romeo, "d" * 60_000)
    romeo.receives_nothing()


def test_nothing_is_kept_at_a_limit_of_none(world: World) -> None:
    world = World("modules_disabled = mam\noffline_message_limit = 0", before=world)
    romeo = world.online(ORCHARD)
    romeo.sends(f"<message id='1' to='{JULIET}'><body>one</body></message>")
    romeo.receives_error("service-unavailable", "cancel", name="message", id="1", sender=JULIET)
    assert kept(world) == 0


COMPOSING = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
ACTIVE = "<active xmlns='http://jabber.org/protocol/chatstates'/>"


@pytest.mark.parametrize(
    ("inner", "is_kept"),
    [
        ("<body>Hi</body>", True),
        ("<subject>Hi</subject>", True),
        (f"<body>Hi</body>{ACTIVE}", True),
        ("<received xmlns='urn:xmpp:receipts' id='1'/>", True),
        ("<encrypted xmlns='eu.siacs.conversations.axolotl'/>", True),
        (COMPOSING, False),
        (f"{COMPOSING}<thread>t</thread>", False),
        (f"{COMPOSING}<no-store xmlns='{HINTS}'/>", False),
        (f"{COMPOSING}<no-copy xmlns='{HINTS}'/>", False),
        ("", False),
        (f"<body>Hi</body><no-store xmlns='{HINTS}'/>", False),
        (f"<body>Hi</body><no-permanent-store xmlns='{HINTS}'/>", True),
        (f"<body>Hi</body><no-store xmlns='{HINTS}'/><store xmlns='{HINTS}'/>", False),
        (f"<body>Hi</body><no-copy xmlns='{HINTS}'/>", True),
        (f"{COMPOSING}<store xmlns='{HINTS}'/>", True),
        (f"<store xmlns='{HINTS}'/>", True),
        ("<body>Hi</body><no-store xmlns='urn:example'/>", True),
        (f"<x xmlns='urn:example'><no-store xmlns='{HINTS}'/></x>", True),
    ],
)
@pytest.mark.parametrize("type", ["chat", None])
def test_what_is_worth_keeping(world: World, romeo: Player, inner: str, is_kept: bool, type: str | None) -> None:
    """XEP-0160 section 3, XEP-0334 section 4. What is not kept vanishes without an answer, as it would arrive
    without one: nobody learns from it whether Juliet is there."""
    romeo.sends(f"<message to='{JULIET}'{f' type={type!r}' if type else ''}>{inner}</message>")
    romeo.receives_nothing()
    assert kept(world) == is_kept
    juliet = comes(world)
    if is_kept:
        assert juliet.takes().tag == "{jabber:client}message"
    own_presence(juliet)


def test_nobody_forges_the_delay(world: World, romeo: Player) -> None:
    """XEP-0203 section 4: a delay in this server's name is this server's."""
    forged = "<delay xmlns='urn:xmpp:delay' from='Example.ORG' stamp='1970-01-01T00:00:00Z'/>"
    romeo.sends(f"<message to='{JULIET}'><body>Hi</body>{forged}</message>")
    juliet = comes(world)
    gets(juliet, "Hi")
    assert b"1970" not in juliet.received_bytes()


def test_the_feature_is_announced(world: World) -> None:
    assert "msgoffline" in world.host.disco.server.features


def test_what_one_client_has_not_confirmed_is_not_deleted_with_what_another_has() -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    world.account("juliet@example.org")
    say = "<message to='juliet@example.org' type='chat'><body>{}</body></message>"
    for text in ("one", "two"):
        romeo.sends(say.format(text))
    first = world.login("juliet@example.org/balcony")
    first.sends("<enable xmlns='urn:xmpp:sm:3'/><presence/><presence type='unavailable'/>")  # and confirms nothing
    romeo.sends(say.format("three"))
    second = world.login("juliet@example.org/chamber")
    second.sends("<presence/>")
    bodies = [element.findtext("{jabber:client}body") for element in second.all_that_came()]
    assert [body for body in bodies if body] == ["three"]
    second.sends("</stream:stream>")
    first.disconnects()
    third = world.login("juliet@example.org/garden")
    third.sends("<presence/>")
    bodies = [element.findtext("{jabber:client}body") for element in third.all_that_came()]
    assert [body for body in bodies if body] == ["one", "two"]


def test_a_delay_that_the_sender_made_up_is_not_the_servers() -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    world.account("juliet@example.org")
    for forged in ("", " from='example.org'", " from='juliet@example.org'"):
        romeo.sends(
            "<message to='juliet@example.org' type='chat'><body>hi</body>"
            f"<delay xmlns='urn:xmpp:delay'{forged} stamp='2001-01-01T00:00:00Z'/></message>"
        )
    romeo.sends(
        "<message to='juliet@example.org' type='chat'><body>hi</body>"
        "<delay xmlns='urn:xmpp:delay' from='elsewhere.example' stamp='2001-01-01T00:00:00Z'/></message>"
    )
    juliet = world.login("juliet@example.org/balcony")
    juliet.sends("<presence/>")
    delays = [
        [delay.get("from") for delay in element.findall("{urn:xmpp:delay}delay")] for element in juliet.all_that_came()
    ]
    assert delays[:4] == [["example.org"]] * 3 + [["elsewhere.example", "example.org"]]
