"""What a client's stanzas go through before they are routed (RFC 6120 sections 8 and 10)."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tests.support.world import HEADER, Player, World
from xmppd.core.bus import Stage
from xmppd.core.events import Sent

ROMEO, JULIET = "romeo@example.org", "juliet@example.org"
ORCHARD, BALCONY = f"{ROMEO}/orchard", f"{JULIET}/balcony"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


@pytest.fixture
def juliet(world: World) -> Player:
    return world.online(BALCONY)


def says(body: str, **attributes: str) -> str:
    more = "".join(f" {name}='{value}'" for name, value in attributes.items())
    return f"<message to='{JULIET}'{more}><body>{body}</body></message>"


def heard(body: str) -> str:
    return f"<message from='{ORCHARD}' to='{JULIET}'><body>{body}</body></message>"


# ---- from


@pytest.mark.parametrize("sender", [ORCHARD, ROMEO, "Romeo@EXAMPLE.org/orchard", "ROMEO@example.org"])
def test_the_sender_names_himself(romeo: Player, juliet: Player, sender: str) -> None:
    """RFC 6120 section 8.1.2.1: the own full or bare address is allowed, and the full one is written."""
    romeo.sends(f"<message from='{sender}' to='{JULIET}'><body>Hi</body></message>")
    juliet.receives(heard("Hi"))


@pytest.mark.parametrize(
    "sender",
    [
        JULIET, BALCONY, f"{ROMEO}/garden", f"{ROMEO}/Orchard", "example.org", "romeo@example.net", "", "@", "a b@c",
        f"{ROMEO}/", "romeo@example.org.evil.example", "x" * 3100,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["message", "presence", "iq"])
def test_the_sender_pretends(romeo: Player, juliet: Player, sender: str, name: str) -> None:
    """The stream ends with invalid-from, and nobody hears of the stanza, nor of what follows it."""
    romeo.sends(f"<{name} type='error' id='1' from='{sender}' to='{BALCONY}'/>" + says("more"))
    romeo.receives_stream_error("invalid-from")
    juliet.receives_nothing()


# ---- to


@pytest.mark.parametrize(
    "to",
    [
        "", "@example.org", "a@", "a@b@c", "a b@example.org", "juliet@example.org/", "juliet@exa mple.org",
        "juliet@-", "x" * 1024 + "@example.org", "x" * 3000, f"{JULIET}/{'r' * 1024}", "x" * 100_000,
    ],
)  # fmt: skip
def test_an_address_that_is_none(romeo: Player, to: str) -> None:
    """RFC 6120 section 8.3.3.8: jid-malformed, and the stream goes on; but a result or error is not answered."""
    romeo.sends(f"<message id='1' to='{to}'/>")
    romeo.receives_error("jid-malformed", "modify", name="message", id="1")
    romeo.sends(f"<presence id='2' to='{to}'/>")
    romeo.receives_error("jid-malformed", "modify", name="presence", id="2")
    romeo.sends(f"<iq id='3' type='get' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>")
    romeo.receives_error("jid-malformed", "modify", name="iq", id="3")
    romeo.sends(f"<iq id='4' type='result' to='{to}'/><message id='5' type='error' to='{to}'/>")
    romeo.receives_nothing()
    assert not romeo.wire.closed


def test_the_longest_address(world: World, romeo: Player) -> None:
    """RFC 7622: 1023 bytes for each part."""
    local, resource = "j" * 1023, "r" * 1023
    juliet = world.login(f"{local}@example.org/{resource}")
    romeo.sends(f"<message to='{juliet.full}'/>")
    juliet.receives(f"<message from='{ORCHARD}' to='{juliet.full}'/>")


# ---- language, ids and content


def test_the_language_of_the_stream(world: World, juliet: Player) -> None:
    """RFC 6120 section 8.1.5: for stanzas that have none of their own."""
    world.account(ROMEO)
    romeo = world.connect()
    romeo.header = HEADER.replace(" to=", " xml:lang='it' to=")
    romeo.authenticate("romeo", "example.org", "secret")
    romeo.bind("orchard")
    romeo.sends(says("Ciao"))
    juliet.receives(f"<message xml:lang='it' from='{ORCHARD}' to='{JULIET}'><body>Ciao</body></message>")
    romeo.sends(f"<message to='{JULIET}' xml:lang='en'><body>Hi</body></message>")
    juliet.receives(f"<message xml:lang='en' from='{ORCHARD}' to='{JULIET}'><body>Hi</body></message>")
    romeo.sends(f"<presence to='{BALCONY}'/>")
    juliet.receives(f"<presence xml:lang='it' from='{ORCHARD}' to='{BALCONY}'/>")
    juliet.sends(f"<presence to='{ORCHARD}'/>")
    romeo.receives(f"<presence from='{BALCONY}' to='{ORCHARD}'/>")
    query = "<q xmlns='urn:example'/>"
    romeo.sends(f"<iq type='get' id='1' to='{BALCONY}'>{query}</iq>")
    juliet.receives(f"<iq xml:lang='it' type='get' id='1' from='{ORCHARD}' to='{BALCONY}'>{query}</iq>")


def test_without_a_language_none_is_made_up(romeo: Player, juliet: Player) -> None:
    romeo.sends(says("Hi"))
    juliet.receives(heard("Hi"))


@pytest.mark.parametrize("id", ["1", "a b", "&lt;&amp;&apos;&quot;", "&#10;&#9;&#13;", "é😀", "x" * 1000, ""])
def test_an_id_is_kept(romeo: Player, juliet: Player, id: str) -> None:
    romeo.sends(f"<message id='{id}' to='{JULIET}'/>")
    juliet.receives(f"<message id='{id}' from='{ORCHARD}' to='{JULIET}'/>")


@pytest.mark.parametrize(
    "inner",
    [
        "<body> two  spaces\tand a tab </body>",
        "<body>line\nline\r\nline\rline&#13;&#10;&#x9;</body>",
        "<body>&lt;b&gt; &amp;amp; &apos;&quot; ]]&gt;</body>",
        "<body><![CDATA[<b> & ]]]]><![CDATA[>]]></body>",
        "\n  <body/>\n  <x xmlns='urn:x'   a = \"1\" b='&#10;2'  ></x >\n",
        "<x:y xmlns:x='urn:x' x:a='1'><x:z/><z xmlns=''/></x:y>",
        "<body xml:lang='de' xml:space='preserve'>é 😀 \u0301\ufeff</body>",
        "<body>Hi</body> text between <body xmlns='urn:other'>Ho</body>",
    ],
)
def test_what_is_delivered_is_what_was_sent(romeo: Player, juliet: Player, inner: str) -> None:
    """To the byte, between the tags of the stanza."""
    romeo.sends(f"<message to='{JULIET}'>{inner}</message>")
    assert f">{inner}<".encode() in juliet.received_bytes()
    juliet.takes()


def test_other_attributes_are_kept(romeo: Player, juliet: Player) -> None:
    romeo.sends(f"<message xmlns:x='urn:x' x:a='1' to='{JULIET}' custom='a&#9;b'/>")
    got = juliet.takes()
    assert got.attrib == {"{urn:x}a": "1", "custom": "a\tb", "from": ORCHARD, "to": JULIET}


@pytest.mark.parametrize(
    ("xml", "condition"),
    [
        ("<message xmlns='jabber:server'/>", "invalid-namespace"),
        ("<presence xmlns='urn:example'/>", "invalid-namespace"),
        ("<iq xmlns='' id='1' type='get'/>", "invalid-namespace"),
        ("<anything xmlns='jabber:server'/>", "invalid-namespace"),
        ("<stream:features/>", "invalid-namespace"),
        ("<anything/>", "unsupported-stanza-type"),
        ("<anything xmlns='urn:example:unheard-of'/>", "unsupported-stanza-type"),
    ],
)
def test_what_is_no_stanza(romeo: Player, juliet: Player, xml: str, condition: str) -> None:
    """RFC 6120 sections 4.8.1, 4.9.3.10 and 4.9.3.24."""
    romeo.sends(xml + says("more"))
    romeo.receives_stream_error(condition)
    juliet.receives_nothing()


# ---- order (RFC 6120 section 10.1)


class Slow:
    """A handler that waits at each stanza with this id, until it is told to go on."""

    def __init__(self, world: World, id: str = "slow") -> None:
        self._id = id
        self.go_on: Deferred[None] = Deferred()
        world.host.bus.on(Sent, self.handle, Stage.CHECK)

    async def handle(self, event: Sent) -> None:
        """Wait."""
        if event.stanza.id == self._id:
            await self.go_on


def test_stanzas_wait_for_the_one_before(world: World, romeo: Player, juliet: Player) -> None:
    slow = Slow(world)
    romeo.sends(f"<message id='slow' to='{JULIET}'/>" + says("two") + "<iq id='3' type='get'/>")
    romeo.sends(says("four"))
    juliet.receives_nothing()
    romeo.receives_nothing()
    slow.go_on.callback(None)
    juliet.receives(f"<message id='slow' from='{ORCHARD}' to='{JULIET}'/>")
    juliet.receives(heard("two"))
    juliet.receives(heard("four"))
    romeo.receives_error("bad-request", "modify", name="iq", id="3")


def test_nobody_else_waits(world: World, romeo: Player, juliet: Player) -> None:
    """Not even another client of Romeo's."""
    garden, tybalt = world.online(f"{ROMEO}/garden"), world.online("tybalt@example.org/street")
    Slow(world)
    romeo.sends(f"<message id='slow' to='{JULIET}'/>")
    for player in (garden, tybalt):
        player.sends(says("Hi"))
        juliet.receives(f"<message from='{player.full}' to='{JULIET}'><body>Hi</body></message>")
    juliet.sends(f"<message to='{ORCHARD}'/>")
    romeo.forget()
    garden.forget()


def test_a_stanza_waits_for_the_store(world: World, romeo: Player, juliet: Player) -> None:
    """A roster set is not on disk yet: the message behind it stays where it is."""
    item = "<query xmlns='jabber:iq:roster'><item jid='nurse@example.org'/></query>"
    romeo.sends_only(f"<iq id='1' type='set'>{item}</iq>" + says("two"))
    juliet.receives_nothing()
    world.settle()
    juliet.receives(heard("two"))


def test_a_failure_does_not_stop_the_queue(world: World, romeo: Player, juliet: Player) -> None:
    slow = Slow(world)
    romeo.sends(f"<message id='slow' to='{JULIET}'/>" + says("two"))
    slow.go_on.errback(ValueError("a bug"))
    romeo.receives_error("internal-server-error", "cancel", name="message", id="slow", sender=JULIET)
    juliet.receives(heard("two"))


@pytest.mark.parametrize("end", ["disconnects", "</stream:stream>", "<anything/>"])
def test_what_was_sent_before_the_end_is_handled(world: World, romeo: Player, juliet: Player, end: str) -> None:
    """All of it, and only then the client is unavailable."""
    world.befriend(romeo, juliet)
    slow = Slow(world)
    romeo.sends(f"<message id='slow' to='{JULIET}'/>" + says("two") + says("three"))
    if end == "disconnects":
        romeo.disconnects()
    else:
        romeo.sends(end)
    juliet.receives_nothing()
    juliet.sends(f"<message id='9' to='{ORCHARD}'><body>Are you there?</body></message>")
    juliet.receives_error("service-unavailable", "cancel", name="message", id="9", sender=ORCHARD)
    slow.go_on.callback(None)
    juliet.receives(f"<message id='slow' from='{ORCHARD}' to='{JULIET}'/>")
    juliet.receives(heard("two"))
    juliet.receives(heard("three"))
    juliet.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{JULIET}'/>")
    juliet.receives_nothing()


def test_a_long_queue(world: World, romeo: Player, juliet: Player) -> None:
    """Each of a thousand waits for the store; none is lost, and the order stays."""
    item = "<query xmlns='jabber:iq:roster'><item jid='nurse@example.org' name='{}'/></query>"
    for number in range(500):
        romeo.sends_only(f"<iq id='{number}' type='set'>{item.format(number)}</iq>" + says(str(number)))
    assert romeo.wire.paused
    world.settle()
    assert not romeo.wire.paused
    for number in range(500):
        juliet.receives(heard(str(number)))
        romeo.takes()
        romeo.receives(f"<iq id='{number}' type='result' to='{ORCHARD}'/>")
