"""Archives as XEP-0313 tells them: what is kept, under which id, and how it is found again."""

from __future__ import annotations

import uuid
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import globalLogPublisher

from tests.support.disk import broken
from tests.support.world import STANZA_ID, STARTED, Player, World
from xmppd.modules.mam.ids import Ids, first_at, from_text, time_of, to_text
from xmppd.wire.delay import parse_stamp, stamp

JULIET, ROMEO = "juliet@example.org", "romeo@example.org"
BALCONY, ORCHARD = f"{JULIET}/balcony", f"{ROMEO}/orchard"
MAM = "urn:xmpp:mam:2"
RSM = "http://jabber.org/protocol/rsm"
CLIENT = "{jabber:client}"


@pytest.fixture
def world() -> World:
    return World("c2s_rate = 100M\n")


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


@pytest.fixture
def juliet(world: World) -> Player:
    return world.online(BALCONY)


def says(player: Player, body: str, to: str = JULIET, attributes: str = "type='chat'") -> None:
    player.sends(f"<message to='{to}' {attributes}><body>{body}</body></message>")


def query(fields: dict[str, str | list[str]] | None = None, inside: str = "", attributes: str = "") -> str:
    """A query with a form of these fields, a page and so on."""
    given = {"FORM_TYPE": MAM, **fields} if fields is not None else {}
    form = "".join(
        f"<field var='{name}'>{''.join(f'<value>{v}</value>' for v in ([value] if isinstance(value, str) else value))}"
        "</field>"
        for name, value in given.items()
    )
    x = f"<x xmlns='jabber:x:data' type='submit'>{form}</x>" if fields is not None else ""
    return f"<iq type='set' id='q' {attributes}><query xmlns='{MAM}'>{x}{inside}</query></iq>"


def page(inside: str) -> str:
    return f"<set xmlns='{RSM}'>{inside}</set>"


class Answer:
    """What a query brought: results, each with its id, its message and its time; and how they end."""

    def __init__(self, came: list[ElementTree.Element]) -> None:
        *messages, self.iq = came
        self.ids = []
        self.messages = []
        self.times = []
        self.queryids = []
        for message in messages:
            result = message[0]
            assert result.tag == f"{{{MAM}}}result" and len(message) == 1, ElementTree.tostring(message)
            forwarded = result[0]
            self.ids.append(result.get("id") or "")
            self.queryids.append(result.get("queryid"))
            self.times.append(forwarded[0].get("stamp"))
            self.messages.append(forwarded[1])
        assert self.iq.get("id") == "q", ElementTree.tostring(self.iq)

    @property
    def bodies(self) -> list[str | None]:
        return [message.findtext(f"{CLIENT}body") for message in self.messages]

    @property
    def fin(self) -> ElementTree.Element:
        assert self.iq[0].tag == f"{{{MAM}}}fin", ElementTree.tostring(self.iq)
        return self.iq[0]

    @property
    def complete(self) -> bool:
        return self.fin.get("complete") == "true"

    def end(self, name: str) -> str | None:
        return self.fin.findtext(f"{{{RSM}}}set/{{{RSM}}}{name}")

    @property
    def error(self) -> str:
        error = self.iq.find(f"{CLIENT}error")
        assert error is not None, ElementTree.tostring(self.iq)
        return error[0].tag.partition("}")[2]


def asks(player: Player, fields: dict[str, str | list[str]] | None = None, inside: str = "") -> Answer:
    player.forget()
    player.sends(query(fields, inside))
    return Answer(player.all_that_came())


def stanza_id(message: ElementTree.Element) -> str | None:
    found = message.find(STANZA_ID)
    return found.get("id") if found is not None else None


# ---- ids


@given(st.lists(st.integers(0, 2**47), min_size=1, max_size=50), st.integers(0, 2**62 - 1))
def test_ids_sort_by_arrival_whatever_the_clock_does(times: list[int], random: int) -> None:
    clock = iter(times)
    ids = Ids(lambda: next(clock), lambda bits: random)
    made = [ids.make() for _ in times]
    assert made == sorted(set(made))
    for id, time in zip(made, times, strict=True):
        assert time_of(id) >= time
        assert first_at(time_of(id)) <= id < first_at(time_of(id) + 1)
        assert from_text(to_text(id)) == id
        assert uuid.UUID(to_text(id)).version == 7


def test_many_ids_of_one_millisecond_and_after_one_that_was_there() -> None:
    ids = Ids(lambda: 5, lambda bits: 0)
    made = [ids.make() for _ in range(10_000)]
    assert made == sorted(set(made))
    later = Ids(lambda: 1, lambda bits: 0)
    later.continue_after(made[-1])
    assert later.make() > made[-1]


@pytest.mark.parametrize("text", ["", "x", "' OR 1=1 --", "018BCFE5-6800-7001-8C3F-13A10AC44F3A", "{" + "0" * 32 + "}"])
def test_what_is_no_id(text: str) -> None:
    assert from_text(text) is None


# ---- what is kept


def test_a_message_has_one_id_everywhere(world: World, romeo: Player, juliet: Player) -> None:
    """The live copy, the carbon, what a hibernated session gets later, offline, and the archive (section 3.5)."""
    chamber = world.online(f"{JULIET}/chamber", "<presence><priority>-1</priority></presence>")
    chamber.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    chamber.forget()
    juliet.forget()
    says(romeo, "Hi")
    live, carbon = juliet.takes(), chamber.takes()
    id = stanza_id(live)
    assert id is not None
    assert stanza_id(carbon.find(f".//{CLIENT}message")) == id  # type: ignore[arg-type]
    answer = asks(juliet)
    assert (answer.ids, answer.bodies, answer.complete) == ([id], ["Hi"], True)
    assert answer.messages[0].get("from") == ORCHARD
    assert answer.times == [stamp(int(STARTED * 1000))]
    assert stanza_id(answer.messages[0]) in (None, id)


def test_the_sender_has_an_id_of_its_own_which_others_do_not_see(world: World, romeo: Player, juliet: Player) -> None:
    garden = world.online(f"{ROMEO}/garden")
    garden.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    garden.forget()
    says(romeo, "Hi")
    own = asks(romeo)
    arrived = juliet.takes()
    assert [mark.get("by") for mark in arrived.findall(STANZA_ID)] == [JULIET]
    assert stanza_id(arrived) != own.ids[0]
    copied = garden.takes().find(f".//{CLIENT}message")
    assert copied is not None and stanza_id(copied) == own.ids[0]
    assert own.messages[0].get("to") == JULIET


def test_a_note_to_self_is_kept_once(world: World, romeo: Player) -> None:
    says(romeo, "Remember", ROMEO)
    live = romeo.takes()
    assert asks(romeo).ids == [stanza_id(live)]
    says(romeo, "Hi", JULIET)
    assert asks(romeo, {"with": ROMEO}).bodies == ["Remember"]


def test_a_message_to_two_resources_is_kept_once(world: World, romeo: Player, juliet: Player) -> None:
    other = world.online(f"{JULIET}/chamber")
    juliet.forget()
    says(romeo, "Hi")
    assert stanza_id(juliet.takes()) == stanza_id(other.takes()) == asks(juliet).ids[0]


def test_an_offline_message_keeps_its_id_and_is_not_archived_again(world: World, romeo: Player) -> None:
    world.account(JULIET)
    says(romeo, "Hi")
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    waiting = juliet.takes()
    assert asks(juliet).ids == [stanza_id(waiting)]


def test_what_a_hibernated_session_gets_is_archived_once(world: World, romeo: Player) -> None:
    juliet = world.online(BALCONY)
    juliet.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    id = juliet.takes().get("id")
    juliet.disconnects()
    says(romeo, "Hi")
    again = world.connect()
    again.authenticate("juliet", "example.org", "secret")
    again.sends(f"<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")
    again.takes()
    waited = again.takes()
    again.sends("<a xmlns='urn:xmpp:sm:3' h='1'/>")
    assert asks(again).ids == [stanza_id(waited)]


def test_what_nobody_came_back_for_is_not_archived_again(world: World, romeo: Player) -> None:
    juliet = world.online(BALCONY)
    juliet.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    juliet.disconnects()
    says(romeo, "Hi")
    world.advance(700)
    late = world.login(f"{JULIET}/chamber")
    late.sends("<presence/>")
    waited = late.takes()
    assert waited.find("{urn:xmpp:delay}delay") is not None
    assert asks(late).ids == [stanza_id(waited)]


def test_forged_ids_are_not_believed(romeo: Player, juliet: Player) -> None:
    forged = "".join(f"<stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='forged'/>"
                     for by in (JULIET, "JULIET@EXAMPLE.ORG", "room@conference.example.com"))  # fmt: skip
    romeo.sends(f"<message to='{JULIET}' type='chat'><body>Hi</body>{forged}</message>")
    marks = [(mark.get("by"), mark.get("id") == "forged") for mark in juliet.takes().findall(STANZA_ID)]
    assert marks == [("room@conference.example.com", True), (JULIET, False)]
    kept = asks(juliet).messages[0]
    assert [mark.get("by") for mark in kept.findall(STANZA_ID)] == ["room@conference.example.com"]


STORE, NO_STORE = "<store xmlns='urn:xmpp:hints'/>", "<no-store xmlns='urn:xmpp:hints'/>"
COMPOSING = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"


@pytest.mark.parametrize(
    ("attributes", "inner", "kept"),
    [
        ("", "<body>Hi</body>", True),
        ("type='chat'", "<body>Hi</body>", True),
        ("type='normal'", "<subject>Hi</subject>", True),
        ("type='chat'", COMPOSING, False),
        ("type='chat'", f"<body>Hi</body>{COMPOSING}", True),
        ("type='chat'", f"{COMPOSING}<thread>t</thread>", False),
        ("type='chat'", "", False),
        ("type='chat'", "<received xmlns='urn:xmpp:receipts' id='1'/>", True),
        ("type='chat'", "<request xmlns='urn:xmpp:receipts'/>", False),
        ("type='chat'", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", True),
        ("type='chat'", "<markable xmlns='urn:xmpp:chat-markers:0'/>", False),
        ("type='chat'", "<encrypted xmlns='eu.siacs.conversations.axolotl'/>", True),
        ("type='chat'", "<encrypted xmlns='urn:xmpp:omemo:1'/>", True),
        ("type='chat'", "<encrypted xmlns='urn:xmpp:omemo:2'/>", True),
        ("type='chat'", "<openpgp xmlns='urn:xmpp:openpgp:0'>x</openpgp>", True),
        ("type='chat'", "<encryption xmlns='urn:xmpp:eme:0' namespace='x'/>", True),
        ("type='chat'", "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>", True),
        ("type='chat'", "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>", True),
        ("type='chat'", "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>", True),
        ("", "<x xmlns='jabber:x:conference' jid='r@c'/>", True),
        ("", "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>", True),
        ("", "<x xmlns='http://jabber.org/protocol/muc#user'/>", False),
        ("", "<x xmlns='urn:x'/>", False),
        ("", f"<x xmlns='urn:x'/>{STORE}", True),
        ("type='chat'", f"<body>Hi</body>{NO_STORE}", False),
        ("type='chat'", f"<body>Hi</body>{NO_STORE}{STORE}", False),
        ("type='chat'", "<body>Hi</body><no-permanent-store xmlns='urn:xmpp:hints'/>", False),
        ("type='headline'", "<body>News</body>", False),
        ("type='error'", f"<body>Hi</body><error type='cancel'/>{NO_STORE}", True),
    ],
)
def test_what_is_kept(romeo: Player, juliet: Player, attributes: str, inner: str, kept: bool) -> None:
    romeo.sends(f"<message to='{BALCONY}' {attributes}>{inner}</message>")
    assert len(asks(juliet).ids) == kept
    assert len(asks(romeo).ids) == kept


def test_ids_and_delays_that_the_sender_forges_are_not_in_its_own_archive_either(
    world: World, romeo: Player, juliet: Player
) -> None:
    garden = world.online(f"{ROMEO}/garden")
    garden.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    garden.forget()
    juliet.forget()
    forged = (f"<stanza-id xmlns='urn:xmpp:sid:0' by=' {ROMEO}' id='forged'/>"
              "<delay xmlns='urn:xmpp:delay' from='example.org/x' stamp='2001-01-01T00:00:00Z'/>")  # fmt: skip
    romeo.sends(f"<message to='{JULIET}' type='chat'><body>Hi</body>{forged}</message>")
    copied = garden.takes().find(f".//{CLIENT}message")
    assert copied is not None
    for message in (copied, juliet.takes(), asks(romeo).messages[0]):
        assert b"forged" not in ElementTree.tostring(message) and b"2001" not in ElementTree.tostring(message)


def test_words_in_a_text_are_no_claims(world: World, romeo: Player) -> None:
    """What the server looks for to know its own elements again, inside of somebody else's."""
    world = World("modules_disabled = mam\noffline_message_limit = 1\n")
    romeo = world.online(ORCHARD)
    world.account(JULIET)
    romeo.sends(f"<message to='{JULIET}'><body>one</body><delay xmlns='urn:xmpp:delay' from='evil.example' "
                "stamp='2001-01-01T00:00:00Z'> from='example.org' </delay></message>")  # fmt: skip
    romeo.sends(f"<message to='{JULIET}' id='2'><body>two</body><stanza-id xmlns='urn:xmpp:sid:0' by='m@x.y' id='1'>"
                f" by='{JULIET}' </stanza-id></message>")  # fmt: skip
    romeo.receives_error("service-unavailable", "cancel", name="message", id="2", sender=JULIET)
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    delays = [delay.get("from") for delay in juliet.takes().findall("{urn:xmpp:delay}delay")]
    assert delays == ["evil.example", "example.org"]


def test_what_cannot_be_archived_and_nobody_else_keeps_comes_back() -> None:
    world = World("modules_disabled = offline\n")
    world.account(JULIET)
    romeo = world.online(ORCHARD)
    world.run(world.host.accounts.load("juliet"))
    with broken(world):
        says(romeo, "Hi")
    romeo.receives_error("resource-constraint", "wait", name="message", sender=JULIET)


def test_what_is_refused_or_blocked_is_not_kept(world: World, romeo: Player, juliet: Player) -> None:
    says(romeo, "Hi", f"{JULIET}/gone", "type='normal'")
    says(romeo, "Hi", JULIET, "type='groupchat'")
    juliet.sends(f"<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{ROMEO}'/></block></iq>")
    says(romeo, "Hi")
    assert asks(juliet).ids == []


def test_nobody_there_and_no_offline_storage(romeo: Player) -> None:
    world = World("modules_disabled = offline\n")
    world.account(JULIET)
    romeo = world.online(ORCHARD)
    says(romeo, "found later")
    romeo.receives_nothing()
    assert asks(world.online(BALCONY)).bodies == ["found later"]


# ---- preferences


def test_preferences(world: World, romeo: Player, juliet: Player) -> None:
    juliet.sends(f"<iq type='get' id='p'><prefs xmlns='{MAM}'/></iq>")
    juliet.receives(f"<iq type='result' id='p' to='{BALCONY}'><prefs xmlns='{MAM}' default='always'>"
                    "<always/><never/></prefs></iq>")  # fmt: skip
    for inner, kept in (
        ("default='never'><always/><never/>", 0),
        (f"default='never'><always><jid>{ROMEO}</jid></always><never/>", 1),
        (f"default='always'><always/><never><jid>{ORCHARD}</jid></never>", 0),
        ("default='roster'><always/><never/>", 0),
        ("default='always'>", 1),
    ):
        before = len(asks(juliet).ids)
        juliet.sends(f"<iq type='set' id='p'><prefs xmlns='{MAM}' {inner}</prefs></iq>")
        assert juliet.takes().get("type") == "result"
        says(romeo, "Hi")
        assert len(asks(juliet).ids) - before == kept, inner
    world.befriend(romeo, juliet)
    juliet.sends(f"<iq type='set' id='p'><prefs xmlns='{MAM}' default='roster'/></iq>")
    before = len(asks(juliet).ids)
    says(romeo, "Hi")
    assert len(asks(juliet).ids) == before + 1
    again = World(before=world).login(BALCONY)
    again.sends(f"<iq type='get' id='p'><prefs xmlns='{MAM}'/></iq>")
    assert again.takes()[0].get("default") == "roster"


@pytest.mark.parametrize(
    ("prefs", "condition"),
    [
        ("default='sometimes'", "bad-request"), ("", "bad-request"),
        ("default='always'><always><jid>@</jid></always", "jid-malformed"),
        ("default='always'><always><jid>a</jid><jid>b</jid><jid>c</jid></always", "policy-violation"),
    ],
)  # fmt: skip
def test_preferences_that_are_none(prefs: str, condition: str) -> None:
    juliet = World("max_archive_preferences = 2\n").online(BALCONY)
    juliet.sends(f"<iq type='set' id='p'><prefs xmlns='{MAM}' {prefs}></prefs></iq>")
    assert juliet.takes()[-1][0].tag.endswith(condition)


def test_the_policy_of_the_host() -> None:
    world = World("default_archive_policy = never\n")
    romeo, juliet = world.online(ORCHARD), world.online(BALCONY)
    says(romeo, "Hi")
    assert asks(juliet).ids == []


# ---- queries


@pytest.fixture
def told(world: World, romeo: Player, juliet: Player) -> Player:
    """Juliet, who was told 0 to 9, one a minute, 3 and 7 by Paris."""
    paris = world.online("paris@example.org/church")
    for number in range(10):
        says(paris if number in (3, 7) else romeo, str(number))
        world.advance(60)
    juliet.forget()
    return juliet


def numbers(answer: Answer) -> list[int]:
    return [int(body or "") for body in answer.bodies]


def test_everything(told: Player) -> None:
    answer = asks(told)
    assert (numbers(answer), answer.complete) == (list(range(10)), True)
    assert (answer.end("first"), answer.end("last")) == (answer.ids[0], answer.ids[-1])
    assert answer.end("count") == "10"


def test_nothing_matches(told: Player) -> None:
    answer = asks(told, {"with": "nobody@example.com"})
    assert (answer.ids, answer.complete, answer.end("first"), answer.end("last")) == ([], True, None, None)


def test_pages_forwards_and_backwards(told: Player) -> None:
    ids = asks(told).ids
    first = asks(told, inside=page("<max>4</max>"))
    assert (numbers(first), first.complete) == ([0, 1, 2, 3], False)
    second = asks(told, inside=page(f"<max>4</max><after>{first.end('last')}</after>"))
    assert (numbers(second), second.complete) == ([4, 5, 6, 7], False)
    third = asks(told, inside=page(f"<max>4</max><after>{second.end('last')}</after>"))
    assert (numbers(third), third.complete) == ([8, 9], True)
    last = asks(told, inside=page("<max>4</max><before/>"))
    assert (numbers(last), last.complete) == ([6, 7, 8, 9], False)
    middle = asks(told, inside=page(f"<max>4</max><before>{last.end('first')}</before>"))
    assert (numbers(middle), middle.complete) == ([2, 3, 4, 5], False)
    start = asks(told, inside=page(f"<max>4</max><before>{middle.end('first')}</before>"))
    assert (numbers(start), start.complete) == ([0, 1], True)
    assert (start.end("first"), start.end("last")) == (ids[0], ids[1])
    none = asks(told, inside=page("<max>0</max>"))
    assert (none.ids, none.complete) == ([], False)


def test_a_flipped_page_is_the_same_page(told: Player) -> None:
    flipped = asks(told, inside=page("<max>3</max><before/>") + "<flip-page/>")
    assert numbers(flipped) == [9, 8, 7]
    assert (flipped.end("first"), flipped.end("last")) == (flipped.ids[-1], flipped.ids[0])


def test_who_and_when(told: Player) -> None:
    def at(minute: float) -> str:
        return stamp(int((STARTED + minute * 60) * 1000))

    assert numbers(asks(told, {"with": "paris@example.org"})) == [3, 7]
    assert numbers(asks(told, {"with": "PARIS@example.org/church"})) == [3, 7]
    assert numbers(asks(told, {"with": "paris@example.org/street"})) == []
    assert numbers(asks(told, {"start": at(8)})) == [8, 9]
    assert numbers(asks(told, {"end": at(1)})) == [0, 1]
    assert numbers(asks(told, {"start": at(2), "end": at(3), "with": ROMEO})) == [2]
    assert numbers(asks(told, {"start": at(3), "end": at(2)})) == []
    assert numbers(asks(told, {"end": at(-1)})) == []
    assert numbers(asks(told, {"start": "1900-01-01T00:00:00Z", "end": "9999-12-31T23:59:59.999999Z"}))[9:] == [9]


def test_between_ids_and_by_ids(told: Player) -> None:
    ids = asks(told).ids
    assert numbers(asks(told, {"after-id": ids[6]})) == [7, 8, 9]
    assert numbers(asks(told, {"before-id": ids[2]})) == [0, 1]
    assert numbers(asks(told, {"after-id": ids[2], "before-id": ids[5], "with": ROMEO})) == [4]
    assert numbers(asks(told, {"ids": [ids[8], ids[1], ids[1]]})) == [1, 8]
    both = asks(told, {"after-id": ids[0], "before-id": ids[9]}, page(f"<max>2</max><after>{ids[3]}</after>"))
    assert (numbers(both), both.complete) == ([4, 5], False)


def test_fields_that_are_left_empty_ask_for_nothing(told: Player) -> None:
    empty: dict[str, str | list[str]] = dict.fromkeys(("with", "start", "end", "before-id", "after-id"), "")
    assert numbers(asks(told, {**empty, "ids": []})) == list(range(10))


UNKNOWN = "018bcfe5-6800-7001-8c3f-13a10ac44f3a"


@pytest.mark.parametrize(
    ("fields", "inside", "condition"),
    [
        ({"after-id": UNKNOWN}, "", "item-not-found"),
        ({"before-id": UNKNOWN}, "", "item-not-found"),
        ({"ids": [UNKNOWN]}, "", "item-not-found"),
        ({"ids": ["' OR 1=1; DROP TABLE archive; --"]}, "", "item-not-found"),
        (None, page(f"<after>{UNKNOWN}</after>"), "item-not-found"),
        (None, page("<before>nonsense</before>"), "item-not-found"),
        ({"include-everything": "true"}, "", "feature-not-implemented"),
        ({"with": "@"}, "", "jid-malformed"),
        ({"start": "yesterday"}, "", "bad-request"),
        ({"end": "2026-02-30T00:00:00Z"}, "", "bad-request"),
        (None, page("<max>many</max>"), "bad-request"),
        (None, page("<max>-1</max>"), "bad-request"),
        (None, page("<before/><after>x</after>"), "bad-request"),
        (None, page("<index>1</index>"), "feature-not-implemented"),
        (None, "<x xmlns='jabber:x:data' type='submit'/>", "bad-request"),
        (None, "<x xmlns='jabber:x:data' type='form'/>", "bad-request"),
        ({"ids": [UNKNOWN] * 201}, "", "policy-violation"),
    ],
)
def test_what_cannot_be_asked(
    told: Player, fields: dict[str, str | list[str]] | None, inside: str, condition: str
) -> None:
    assert asks(told, fields, inside).error == condition


def test_a_page_of_a_million_is_a_page_of_the_server(world: World, told: Player) -> None:
    world = World("max_archive_query_results = 3\n", before=world)
    juliet = world.login(BALCONY)
    answer = asks(juliet, inside=page("<max>1000000</max>"))
    assert (numbers(answer), answer.complete) == ([0, 1, 2], False)
    assert numbers(asks(juliet)) == [0, 1, 2]


def test_two_queries_at_once_do_not_mix(told: Player) -> None:
    told.forget()
    both = query({"with": "paris@example.org"}) + query({"with": ROMEO}, page("<max>1</max>"))
    told.sends_only(both.replace("<query ", "<query queryid='x' "))
    told.world.settle()
    came = told.all_that_came()
    first = Answer(came[:3])
    second = Answer(came[3:])
    assert (numbers(first), numbers(second)) == ([3, 7], [0])
    assert set(first.queryids + second.queryids) == {"x"}


@pytest.mark.parametrize("who", [JULIET, BALCONY, "example.org", "nobody@example.org"])
@pytest.mark.parametrize("payload", ["query", "metadata", "prefs"])
@pytest.mark.parametrize("type", ["get", "set"])
def test_other_peoples_archives_are_closed(
    world: World, romeo: Player, told: Player, who: str, payload: str, type: str
) -> None:
    world.befriend(romeo, told)
    told.forget()
    romeo.sends(f"<iq type='{type}' id='q' to='{who}'><{payload} xmlns='{MAM}' default='never'/></iq>")
    if who == BALCONY:
        assert told.takes()[0].tag == f"{{{MAM}}}{payload}"  # her client is asked, not the archive
        romeo.receives_nothing()
        return
    answer = romeo.takes()
    assert answer.get("type") == "error" and answer[-1][0].tag.partition("}")[2] in ("forbidden", "service-unavailable")
    told.receives_nothing()


def test_the_form(juliet: Player) -> None:
    juliet.sends(f"<iq type='get' id='f'><query xmlns='{MAM}'/></iq>")
    form = juliet.takes()[0][0]
    fields = {field.get("var"): field.get("type") for field in form}
    assert fields == {
        "FORM_TYPE": "hidden", "with": "jid-single", "start": "text-single", "end": "text-single",
        "before-id": "text-single", "after-id": "text-single", "ids": "list-multi",
    }  # fmt: skip
    assert form.find(".//{http://jabber.org/protocol/xdata-validate}open") is not None


def test_the_ends_of_the_archive(juliet: Player, romeo: Player) -> None:
    ask = f"<iq type='get' id='m'><metadata xmlns='{MAM}'/></iq>"
    juliet.sends(ask)
    juliet.receives(f"<iq type='result' id='m' to='{BALCONY}'><metadata xmlns='{MAM}'/></iq>")
    for body in ("one", "two", "three"):
        says(romeo, body)
        juliet.world.advance(1)
    ids = asks(juliet).ids
    juliet.sends(ask)
    start, end = juliet.takes()[0]
    assert (start.get("id"), end.get("id")) == (ids[0], ids[-1])
    assert end.get("timestamp") == stamp(int((STARTED + 2) * 1000))


def test_the_features_are_the_accounts(juliet: Player) -> None:
    for to, expected in ((JULIET, True), ("example.org", False)):
        juliet.sends(f"<iq type='get' to='{to}' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        features = {child.get("var") for child in juliet.takes().iter()}
        assert ({MAM, f"{MAM}#extended", "urn:xmpp:sid:0"} <= features) is expected


def test_an_archive_is_read_as_fast_as_the_client_reads(world: World, romeo: Player, juliet: Player) -> None:
    for number in range(10):
        says(romeo, f"{number} " + "x" * 30_000)
    juliet.forget()
    juliet.wire.stuck = True
    juliet.sends(query())
    assert 0 < juliet.wire.unsent < 200_000
    says(romeo, "for others meanwhile", ORCHARD)
    assert romeo.takes().findtext(f"{CLIENT}body") == "for others meanwhile"
    for _ in range(10):
        juliet.wire.reads_again()
        world.settle()
    assert len(Answer(juliet.all_that_came()).ids) == 10


# ---- what is too old


def test_what_has_expired_is_gone_and_the_rest_is_not(world: World) -> None:
    world = World("archive_expires_after = 1d\n")
    romeo, juliet = world.online(ORCHARD), world.online(BALCONY)
    for number in range(300):
        says(romeo, str(number))
    old = asks(juliet, inside=page("<max>1</max>")).ids
    world.advance(80_000)
    says(romeo, "new")
    assert asks(juliet, inside=page("<max>1</max>")).ids == old
    world.advance(10_000)
    answer = asks(juliet)
    assert answer.bodies == ["new"]
    assert asks(juliet, inside=page(f"<after>{old[0]}</after>")).error == "item-not-found"


# ---- times


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1970-01-01T00:00:00.1234567Z", 123_456),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T18:30:00-05:30", 0),
        ("1969-12-31T23:59:60Z", 0),
        (" 2000-02-29T12:00:00Z ", 951_825_600_000_000),
    ],
)
def test_a_time(text: str, time: int) -> None:
    assert parse_stamp(text) == time


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-21", "2026-11-21T14:30:00", "2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z",
     "2026-11-21T14:30:61Z", "20261121T14:30:00Z", "٢٠٢٦-11-21T14:30:00Z", "2026-11-21T14:30:00.Z"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        parse_stamp(text)


def test_a_clock_that_was_far_ahead_is_told_of() -> None:
    world = World()
    ahead = Ids(lambda: world.server.now_ms() + 3 * 86400 * 1000, lambda bits: 0).make()
    world.result(world.store.data.server_put("mam", "example.org", ahead))
    told: list[str] = []

    def observe(event: Any) -> None:
        if "days ahead" in event.get("log_format", ""):
            told.append(str(event["days"]))

    globalLogPublisher.addObserver(observe)
    try:
        after = World(before=world)
        after.starts()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert told == ["3"]
