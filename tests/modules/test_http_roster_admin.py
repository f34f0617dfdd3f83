"""Rosters that a backend owns: when they are asked for, what changes, who may say so, and what can go wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.disk import broken
from tests.support.http import Answer, Backend, Connection, ask, request
from tests.support.world import Player, World
from xmppd import settings
from xmppd.config import ConfigError, load_bytes
from xmppd.core.roster import Roster

SECTIONS = "[host:example.org]\nmodules_enabled = http_roster_admin, block_subscriptions\n"
ROMEO, JULIET = "romeo@example.org", "juliet@example.org"
FRIENDS = {"romeo": {JULIET: {"name": "Juliet"}}, "juliet": {ROMEO: {}}}


BIND_X = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></bind></iq>"


def make(config: str = "", sections: str = SECTIONS) -> tuple[World, Backend]:
    world = World(config, sections)
    return world, Backend(world)


def enters(world: World, full: str, presence: str = "<presence/>") -> Player:
    """Bind, get the roster, send presence; what came of that is passed over."""
    return world.online(full, presence)


def roster(player: Player) -> dict[str, dict[str, Any]]:
    """The roster as a client gets it."""
    player.forget()
    player.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    query = player.takes()[0]
    return {
        item.get("jid") or "": {
            "name": item.get("name"), "subscription": item.get("subscription"),
            "groups": [group.text for group in item],
        }
        for item in query
    }  # fmt: skip


def refresh(world: World, *names: str) -> Answer:
    return ask(world, request(body=json.dumps(names)))


def kinds(player: Player) -> list[tuple[str, str]]:
    """What has come: kind with type, and from whom; of roster pushes the contact with the subscription."""
    came = []
    for element in player.all_that_came():
        name = element.tag.partition("}")[2]
        if name == "iq":
            item = element[0][0]
            came.append((f"push {item.get('subscription')}", item.get("jid") or ""))
        else:
            came.append((f"{name} {element.get('type') or 'available'}", element.get("from") or ""))
    return came


# ---- when the backend is asked


def test_a_roster_is_there_when_a_client_is_bound() -> None:
    world, backend = make()
    backend.rosters["romeo"] = {
        JULIET: {"name": "Juliet <3", "groups": ["Friends", "Balcony"]},
        "nurse@example.org": {"subscription": "to", "groups": {"Servants": True, "Friends": True}},
        "Mercutio@EXAMPLE.org": {"subscription": "none"},
    }
    romeo = world.login(f"{ROMEO}/orchard")
    assert backend.was_asked() == ["romeo"]
    assert roster(romeo) == {
        JULIET: {"name": "Juliet <3", "subscription": "both", "groups": ["Friends", "Balcony"]},
        "nurse@example.org": {"name": None, "subscription": "to", "groups": ["Servants", "Friends"]},
        "mercutio@example.org": {"name": None, "subscription": "none", "groups": []},
    }  # fmt: skip
    assert backend.was_asked() == []


def test_presence_is_not_sent_before_the_roster_is_there() -> None:
    world, backend = make()
    backend.rosters["juliet"] = FRIENDS["juliet"]
    juliet = enters(world, f"{JULIET}/balcony")
    backend.rosters["romeo"] = waiting = Deferred[Any]()
    world.account(ROMEO)
    romeo = world.connect()
    romeo.authenticate("romeo", "example.org", "secret")
    romeo.sends(BIND_X)
    romeo.sends("<presence/>")
    romeo.receives_nothing()
    juliet.receives_nothing()
    waiting.callback(FRIENDS["romeo"])
    world.settle()
    assert romeo.takes().get("id") == "b"
    assert ("presence available", f"{ROMEO}/x") in kinds(juliet)


def test_it_is_asked_once_as_long_as_the_user_has_a_session() -> None:
    world, backend = make()
    one = world.login(f"{ROMEO}/one")
    two = world.login(f"{ROMEO}/two")
    one.sends("</stream:stream>")
    world.login(f"{ROMEO}/three").sends("</stream:stream>")
    assert backend.was_asked() == ["romeo"]
    two.sends("</stream:stream>")
    world.login(f"{ROMEO}/four")
    assert backend.was_asked() == ["romeo"]


def test_two_clients_that_come_at_once_ask_once() -> None:
    world, backend = make()
    backend.rosters["romeo"] = waiting = Deferred[Any]()
    world.account(ROMEO)
    players = []
    for _ in range(2):
        player = world.connect()
        player.authenticate("romeo", "example.org", "secret")
        player.sends("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        players.append(player)
    waiting.callback(FRIENDS["romeo"])
    world.settle()
    assert [player.takes().get("type") for player in players] == ["result", "result"]
    assert backend.was_asked() == ["romeo"]


def test_who_is_not_there_costs_the_backend_nothing() -> None:
    world, backend = make()
    world.account(JULIET)
    romeo = world.login(f"{ROMEO}/orchard")
    backend.was_asked()
    romeo.sends(f"<message to='{JULIET}' type='chat'><body>hi</body></message>")
    romeo.sends(f"<presence type='probe' to='{JULIET}'/>")
    assert backend.was_asked() == []


def test_a_user_name_is_one_part_of_the_address_whatever_is_in_it() -> None:
    world, backend = make("http_roster_url = http://localhost/users/%s/roster?x=1\n")
    seen = []

    async def fetch(url: str, accept: str, seconds: float, max_size: int) -> bytes:
        seen.append(url)
        return b"{}"

    world.server.fetch = fetch
    world.login("ro.m\u00e9o?#%2f@example.org/orchard")
    assert seen == ["http://localhost/users/ro.m%C3%A9o%3F%23%252f/roster?x=1"]
    assert backend.asked == []


@pytest.mark.parametrize("url", [
    "ftp://localhost/%s", "http://localhost/", "localhost/%s", "http://%s/%s", "http:///a b%s",
])  # fmt: skip
def test_an_address_that_cannot_be_one_is_an_error_of_the_configuration(url: str) -> None:
    known = [option for group in settings.declared().values() for option in group]
    with pytest.raises(ConfigError, match="http_roster_url"):
        load_bytes(f"[host:example.org]\nhttp_roster_url = {url}\n".encode(), "xmppd.cfg", known)


# ---- a backend that does not answer


def test_the_last_good_answer_counts_when_the_backend_is_down() -> None:
    world, backend = make()
    backend.rosters["romeo"] = FRIENDS["romeo"]
    world.login(f"{ROMEO}/orchard").sends("</stream:stream>")
    backend.rosters["romeo"] = "connection refused"
    assert list(roster(world.login(f"{ROMEO}/orchard"))) == [JULIET]
    world.clock.calls.clear()
    again = World("", SECTIONS, before=world)
    again.starts()
    other = Backend(again)
    other.rosters["romeo"] = "connection refused"
    assert list(roster(again.login(f"{ROMEO}/street"))) == [JULIET]


def test_without_one_a_client_is_told_to_try_again() -> None:
    world, backend = make()
    backend.rosters["romeo"] = "connection refused"
    world.account(ROMEO)
    romeo = world.connect()
    romeo.authenticate("romeo", "example.org", "secret")
    romeo.sends(BIND_X)
    answer = romeo.takes()
    assert answer.get("type") == "error" and answer.find("{jabber:client}error").get("type") == "wait"  # type: ignore[union-attr]
    assert world.server.sessions.of(ROMEO) == []
    backend.rosters["romeo"] = {}
    romeo.sends(BIND_X)
    assert romeo.takes().get("type") == "result"


WRONG = [
    b"", b"<html>", b"[]", b"null", b"1", b"\xff{}", b'{"juliet@example.org": 1}', b'{"juliet@example.org": null}',
    b'{"@": {}}', b'{"juliet@example.org/x": {}}', b'{"romeo@example.org": {}}', b'{"": {}}',
    b'{"juliet@example.org": {}, "JULIET@example.org": {}}',
    b'{"juliet@example.org": {"subscription": "remove"}}', b'{"juliet@example.org": {"subscription": null}}',
    b'{"juliet@example.org": {"subscription": []}}',
    b'{"juliet@example.org": {"name": 5}}', b'{"juliet@example.org": {"name": "\\u0000"}}',
    b'{"juliet@example.org": {"name": "\\ud800"}}', b'{"juliet@example.org": {"name": "\\uffff"}}',
    b'{"juliet@example.org": {"groups": "x"}}', b'{"juliet@example.org": {"groups": [""]}}',
    b'{"juliet@example.org": {"groups": [1]}}', b'{"juliet@example.org": {"groups": {"x": false}}}',
    b'{"juliet@example.org": {"name": "' + b"x" * 2000 + b'"}}',
    b"[" * 10_000, b'{"a":' * 10_000, json.dumps({f"u{n}@example.org": {} for n in range(3000)}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("answer", WRONG)
def test_a_backend_that_lies_leaves_the_old_roster(answer: bytes) -> None:
    world, backend = make()
    backend.rosters["romeo"] = FRIENDS["romeo"]
    romeo = enters(world, f"{ROMEO}/orchard")
    backend.rosters["romeo"] = answer
    assert refresh(world, "romeo").json == {
        "status": "error", "message": "roster update complete", "updated": 0, "errors": 1,
    }  # fmt: skip
    romeo.receives_nothing()
    assert list(roster(romeo)) == [JULIET]


def test_a_disk_that_is_full_leaves_the_old_roster() -> None:
    world, backend = make()
    backend.rosters["romeo"] = FRIENDS["romeo"]
    romeo = enters(world, f"{ROMEO}/orchard")
    backend.rosters["romeo"] = {}
    with broken(world):
        assert refresh(world, "romeo").json["errors"] == 1
    romeo.receives_nothing()
    assert list(roster(romeo)) == [JULIET]


# ---- a refresh


def test_two_users_become_friends_and_part_again_by_one_request() -> None:
    world, backend = make()
    romeo, juliet = enters(world, f"{ROMEO}/orchard"), enters(world, f"{JULIET}/balcony")
    backend.was_asked()
    backend.rosters |= FRIENDS
    answer = refresh(world, "romeo", "juliet")
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json == {"status": "ok", "message": "roster update complete", "updated": 2, "errors": 0}
    assert sorted(backend.was_asked()) == ["juliet", "romeo"]
    assert kinds(romeo) == [("push both", JULIET), ("presence available", f"{JULIET}/balcony")]
    assert kinds(juliet) == [("push both", ROMEO), ("presence available", f"{ROMEO}/orchard")]
    romeo.sends("<presence><show>away</show></presence>")
    romeo.forget()
    assert kinds(juliet) == [("presence available", f"{ROMEO}/orchard")]
    backend.rosters |= {"romeo": {}, "juliet": {}}
    refresh(world, "romeo", "juliet")
    assert kinds(romeo) == [("push remove", JULIET), ("presence unavailable", f"{JULIET}/balcony")]
    assert kinds(juliet) == [("push remove", ROMEO), ("presence unavailable", f"{ROMEO}/orchard")]
    romeo.sends("<presence><show>dnd</show></presence>")
    juliet.receives_nothing()


def test_of_one_user_alone_presence_goes_and_is_asked_for() -> None:
    world, backend = make()
    backend.rosters["juliet"] = FRIENDS["juliet"]
    romeo, juliet = enters(world, f"{ROMEO}/orchard"), enters(world, f"{JULIET}/balcony")
    romeo.forget()
    backend.rosters["romeo"] = FRIENDS["romeo"]
    refresh(world, "romeo")
    assert kinds(romeo) == [("push both", JULIET), ("presence available", f"{JULIET}/balcony")]
    assert kinds(juliet) == [("presence available", f"{ROMEO}/orchard")]
    backend.rosters["romeo"] = {}
    refresh(world, "romeo")
    assert kinds(romeo) == [("push remove", JULIET), ("presence unavailable", f"{JULIET}/balcony")]
    assert kinds(juliet) == [("presence unavailable", f"{ROMEO}/orchard")]


def test_names_groups_and_subscriptions_that_change_are_pushed() -> None:
    world, backend = make()
    backend.rosters |= FRIENDS
    romeo, juliet = enters(world, f"{ROMEO}/orchard"), enters(world, f"{JULIET}/balcony")
    romeo.forget()
    before = roster_version(world)
    for details in ({"name": "Jule"}, {"name": "Jule", "groups": ["A"]}, {"groups": ["A", "B"]}):
        backend.rosters["romeo"] = {JULIET: details}
        assert refresh(world, "romeo").json["updated"] == 1
        (push,) = romeo.all_that_came()
        item = push[0][0]
        assert (item.get("name"), [group.text for group in item]) == (details.get("name"), details.get("groups", []))
    assert roster_version(world) == before + 3
    refresh(world, "romeo")
    romeo.receives_nothing()
    juliet.forget()
    backend.rosters["romeo"] = {JULIET: {"groups": ["A", "B"], "subscription": "to"}}
    refresh(world, "romeo")
    assert kinds(romeo) == [("push to", JULIET)]
    assert kinds(juliet) == [("presence unavailable", f"{ROMEO}/orchard")]


def roster_version(world: World) -> int:
    return world.run(world.host.accounts.load("romeo")).get(Roster).version


def test_a_client_that_has_not_asked_for_the_roster_gets_no_push_and_one_without_presence_sends_none() -> None:
    world, backend = make()
    romeo = world.login(f"{ROMEO}/orchard")
    juliet = enters(world, f"{JULIET}/balcony")
    backend.rosters |= FRIENDS
    refresh(world, "romeo", "juliet")
    romeo.receives_nothing()
    assert kinds(juliet) == [("push both", ROMEO)]


def test_users_without_a_session_count_and_are_fetched_when_they_come() -> None:
    world, backend = make()
    world.account(ROMEO)
    backend.rosters |= FRIENDS
    assert refresh(world, "romeo", "nobody").json["updated"] == 2
    assert backend.was_asked() == []
    assert list(roster(enters(world, f"{ROMEO}/orchard"))) == [JULIET]


def test_some_errors_are_counted_and_only_all_of_them_are_one() -> None:
    world, backend = make()
    enters(world, f"{ROMEO}/orchard")
    enters(world, f"{JULIET}/balcony")
    backend.rosters["juliet"] = "connection refused"
    assert refresh(world, "romeo", "juliet").json == {
        "status": "ok", "message": "roster update complete", "updated": 1, "errors": 1,
    }  # fmt: skip
    assert refresh(world, "juliet").json["status"] == "error"
    assert refresh(world, "a/b", "", "@").json == {
        "status": "error", "message": "roster update complete", "updated": 0, "errors": 3,
    }  # fmt: skip


def test_an_empty_array_is_answered_at_once_and_duplicates_count_once() -> None:
    world, backend = make()
    enters(world, f"{ROMEO}/orchard")
    backend.was_asked()
    assert refresh(world).json == {"status": "ok", "message": "roster update complete", "updated": 0, "errors": 0}
    assert refresh(world, "romeo", "romeo", "romeo").json["updated"] == 1
    assert backend.was_asked() == ["romeo"]


def test_a_backend_that_hangs_keeps_nobody_else_waiting() -> None:
    world, backend = make("http_roster_max_requests = 2\n")
    for number in range(4):
        enters(world, f"u{number}@example.org/x")
    backend.was_asked()
    waiting = backend.rosters["u0"] = Deferred[Any]()
    connection = Connection(world)
    connection.sends(request(body=json.dumps([f"u{number}" for number in range(4)])))
    assert backend.was_asked() == ["u0", "u1", "u2", "u3"]  # one at a time beside the one that hangs
    assert connection.received() == b""
    waiting.callback("no answer within 10 seconds")
    world.settle()
    assert Answer(connection.received()).json == {
        "status": "ok", "message": "roster update complete", "updated": 3, "errors": 1,
    }  # fmt: skip


BAD_BODIES = ["", "null", "{}", "false", "5", '"romeo"', "[1]", '["romeo", null]', "[", "\ufeff[]", "[" * 10_000,
              json.dumps([f"u{n}" for n in range(10_001)])]  # fmt: skip


@pytest.mark.parametrize("body", [*BAD_BODIES, b"\xff[]"])
def test_a_body_that_is_no_array_of_names_is_refused(body: str | bytes) -> None:
    world, _ = make()
    answer = ask(world, request(body=body))
    assert answer.status == 400
    assert answer.json["status"] == "error" and answer.json["message"]


# ---- clients and contacts cannot change it


def test_a_client_cannot_change_the_roster() -> None:
    world, backend = make()
    backend.rosters["romeo"] = FRIENDS["romeo"]
    romeo = enters(world, f"{ROMEO}/orchard")
    for item in (f"<item jid='{JULIET}' name='x'/>", f"<item jid='{JULIET}' subscription='remove'/>",
                 "<item jid='nurse@example.org'/>"):  # fmt: skip
        romeo.sends(f"<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
        romeo.receives_error("service-unavailable", "cancel", id="s")
    assert roster(romeo) == {JULIET: {"name": "Juliet", "subscription": "both", "groups": []}}


@pytest.mark.parametrize("type", ["subscribe", "subscribed", "unsubscribe", "unsubscribed"])
def test_subscription_stanzas_go_nowhere(type: str) -> None:
    world, backend = make()
    backend.rosters |= FRIENDS
    romeo, juliet = enters(world, f"{ROMEO}/orchard"), enters(world, f"{JULIET}/balcony")
    romeo.forget()
    romeo.sends(f"<presence type='{type}' to='{JULIET}'/>")
    romeo.receives_nothing()
    juliet.receives_nothing()
    assert roster(romeo)[JULIET]["subscription"] == roster(juliet)[ROMEO]["subscription"] == "both"


def test_without_that_module_they_cannot_change_it_either() -> None:
    world, backend = make(sections="[host:example.org]\nmodules_enabled = http_roster_admin\n")
    backend.rosters |= FRIENDS
    romeo, juliet = enters(world, f"{ROMEO}/orchard"), enters(world, f"{JULIET}/balcony")
    romeo.forget()
    romeo.sends(f"<presence type='unsubscribed' to='{JULIET}' id='u'/>")
    romeo.receives_error("service-unavailable", "cancel", name="presence", id="u", sender=JULIET)
    assert roster(romeo)[JULIET]["subscription"] == roster(juliet)[ROMEO]["subscription"] == "both"


# ---- who may ask for a refresh


@pytest.mark.parametrize("host", ["localhost", "localhost:5280", "127.0.0.1:5280", "127.5.5.5", "[::1]:5280", "[::1]",
                                  "EXAMPLE.org", "example.org:5280"])  # fmt: skip
@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_a_program_on_this_machine_may(peer: str, host: str) -> None:
    world, _ = make()
    assert ask(world, request(body="[]", host=host), peer).status == 200


@pytest.mark.parametrize("headers", [
    {"Forwarded": "for=127.0.0.1"}, {"X_Forwarded_For": "127.0.0.1"}, {"X_FORWARDED_PROTO": "https"},
    {"X_Forwarded_Anything": ""}, {"X_Real_IP": "127.0.0.1"}, {"Via": "1.1 proxy"}, {"Origin": "http://localhost"},
    {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    {"Authorization": "Bearer wrong", "Origin": "x"},
])  # fmt: skip
def test_a_proxy_or_a_page_may_not(headers: dict[str, str]) -> None:
    world, backend = make()
    enters(world, f"{ROMEO}/orchard")
    backend.was_asked()
    connection = Connection(world)
    connection.sends(request(body='["romeo"]', **headers)[:-3])  # the body is not whole
    assert Answer(connection.received()).status == 403 and connection.closed
    assert backend.was_asked() == []


@pytest.mark.parametrize("host", [
    "", "evil.example", "localhost.evil.example", "192.0.2.1", "[::2]", "[localhost", ":", "@",
])  # fmt: skip
def test_a_name_that_is_not_ours_may_not(host: str) -> None:
    world, _ = make()
    assert ask(world, request(body="[]", host=host)).status == 403


def test_a_host_header_that_is_there_twice_may_not() -> None:
    world, _ = make()
    assert ask(world, request(body="[]", HOST="localhost")).status == 403


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_a_browser_on_no_page_or_on_ours_may(site: str) -> None:
    world, _ = make()
    assert ask(world, request(body="[]", Sec_Fetch_Site=site)).status == 200


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_from_elsewhere_there_is_nothing(peer: str) -> None:
    world, _ = make()
    for data in (request(body="[]"), request("GET"), request(body="[]", Authorization="Bearer x")):
        assert ask(world, data, peer).status == 404


def test_only_by_post() -> None:
    world, _ = make()
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        answer = ask(world, request(method))
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_with_a_secret_whoever_shows_it_may_and_nobody_else() -> None:
    world, _ = make(sections=SECTIONS + "http_roster_secret = s3cr\u00e9t\n")
    secret = "s3cr\u00e9t".encode().decode("latin-1")
    for peer in ("127.0.0.1", "192.0.2.1"):
        good = request(body="[]", Authorization=f"Bearer {secret}", X_Forwarded_For="1.2.3.4")
        assert ask(world, good.decode().encode("latin-1"), peer).status == 200
        for shown in ("Bearer wrong", "Bearer", "Bearer ", "Basic s3cr", "bearer s3cr", ""):
            answer = ask(world, request(body="[]", Authorization=shown), peer)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert ask(world, request(body="[]"), peer).status == 401


def test_a_large_body_is_not_read() -> None:
    world, _ = make()
    connection = Connection(world)
    connection.sends(b"POST /roster_admin/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n")
    assert Answer(connection.received()).status == 413 and connection.closed


def test_of_several_hosts_the_one_that_is_named_is_refreshed() -> None:
    sections = SECTIONS + SECTIONS.replace("example.org", "example.com") + "[host:other.example]\n"
    world, backend = make(sections=sections)
    enters(world, "romeo@example.com/x")
    backend.was_asked()
    assert ask(world, request(body='["romeo"]', host="example.org")).json["updated"] == 1
    assert backend.was_asked() == []
    assert ask(world, request(body='["romeo"]', host="example.com:5280")).json["updated"] == 1
    assert backend.was_asked() == ["romeo"]
    answer = ask(world, request(body='["romeo"]', host="localhost"))
    assert answer.status == 421 and b"example.org, example.com" in answer.body


def test_without_the_module_there_is_nothing() -> None:
    assert ask(World(), request(body="[]")).status == 404


def test_a_name_may_be_anything_that_can_be_written() -> None:
    """A name with anything that XML and JSON can hold comes to the client as it is."""
    world, backend = make()
    name = "a<b>&'\"\u00e9\U0001f600\t"
    backend.rosters["romeo"] = {JULIET: {"name": name, "groups": [name]}}
    romeo = world.login(f"{ROMEO}/orchard")
    assert roster(romeo)[JULIET] == {"name": name, "subscription": "both", "groups": [name]}
