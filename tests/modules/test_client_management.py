"""Clients (XEP-0494, and the protocol of Prosody): what has access to an account, and how that ends."""

from __future__ import annotations

import base64
import json
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.auth.support import Client
from tests.support.disk import crash
from tests.support.sasl2 import (
    BIND,
    IDS,
    REQUEST_TOKEN,
    SM_ENABLE,
    Arrived,
    agent,
    arrives,
    authenticate,
    b64,
    bound,
    by_token,
    opens,
    plain,
)
from tests.support.world import Player, World
from xmppd.core.events import NewClient
from xmppd.ctl import commands
from xmppd.ctl.commands import CommandError
from xmppd.modules import client_management

CAM = "urn:xmpp:cam:0"
PROSODY = "xmpp:prosody.im/protocol/manage-clients"
NAMESPACES = (CAM, PROSODY)
TOKEN = REQUEST_TOKEN.format("HT-SHA-256-NONE")
DAY = 86400.0


def command(world: World, name: str, /, **arguments: Any) -> Any:
    return world.run(commands.run(world.server, world.service, name, arguments))


def listed(player: Player, xmlns: str = CAM) -> list[ElementTree.Element]:
    player.forget()
    player.sends(f"<iq type='get' id='list'><list xmlns='{xmlns}'/></iq>")
    answer = player.takes()
    assert answer.get("type") == "result", ElementTree.tostring(answer)
    return list(answer[0])


def ways(client: ElementTree.Element) -> list[str]:
    auth = next(element for element in client if element.tag.endswith("}auth"))
    return [element.tag.rpartition("}")[2] for element in auth]


def ids(player: Player) -> list[str]:
    return [client.get("id") or "" for client in listed(player)]


def own_id(player: Player, software: str) -> str:
    """The id of the client whose software is called so."""
    for client in listed(player):
        if any(element.tag.endswith("}software") and element.text == software for element in client.iter()):
            return client.get("id") or ""
    raise AssertionError(software)


def revoke(player: Player, id: str, xmlns: str = CAM) -> None:
    player.forget()
    player.sends(f"<iq type='set' id='revoke'><revoke xmlns='{xmlns}' id='{id}'/></iq>")


def phone(world: World) -> tuple[Player, str]:
    """A client that came back by its token; the password it has used is not its last one."""
    token = arrives(world, plain(agent(IDS[1], "Phone"), TOKEN)).token
    arrived = arrives(world, by_token(token, agent(IDS[1], "Phone"), BIND.format(SM_ENABLE)))
    arrived.player.takes()
    return arrived.player, token


def by_grant(world: World, id: str = IDS[2], name: str = "backup", *more: str) -> tuple[Player, dict[str, str]]:
    """A client that has never known the password."""
    world.account("romeo@example.org", "secret")
    grant = command(world, "user grant", jid="romeo@example.org", name=name)
    arrived = arrives(world, plain(agent(id, name), BIND.format(SM_ENABLE), *more, password=grant["password"]))
    assert arrived.jid.count("/")
    arrived.player.takes()
    return arrived.player, grant


# ---- the list


@pytest.mark.parametrize("xmlns", NAMESPACES)
def test_a_client_is_listed_with_all_that_is_known_of_it(xmlns: str) -> None:
    world = World()
    player = bound(world)
    world.advance(60)
    (client,) = listed(player, xmlns)
    ns = f"{{{xmlns}}}"
    assert client.tag == f"{ns}client"
    assert (client.get("type"), client.get("connected")) == ("session", "true")
    assert (client.get("id") or "").startswith("client/")
    names = ["first-seen", "last-seen", "auth", *(["permission"] if xmlns == CAM else []), "user-agent"]
    assert [element.tag for element in client] == [f"{ns}{name}" for name in names]
    assert (client[0].text, client[1].text) == ("2023-11-14T22:13:20.000Z",) * 2
    assert ways(client) == ["password"]
    assert [(element.tag, element.text) for element in client[-1]] == [
        (f"{ns}software", "Awesome"), (f"{ns}device", "Phone"),
    ]  # fmt: skip
    assert client[-1][0].get("version") == "1.2"
    if xmlns == CAM:
        assert client[3].get("status") == "unrestricted"


def test_the_one_that_was_not_seen_for_longest_comes_first_and_hibernated_ones_are_connected() -> None:
    world = World()
    players = []
    for number in (0, 1, 2):
        players.append(bound(world, SM_ENABLE, id=IDS[number]))
        world.advance(60)
    players[0].disconnects()
    players[1].sends("</stream:stream>")
    players[1].disconnects()
    clients = listed(players[2])
    assert [client.get("connected") for client in clients] == ["true", "true", "false"]
    seen = [client[1].text or "" for client in clients]
    assert seen == sorted(seen)


def test_what_a_client_says_of_itself_is_what_it_said_last() -> None:
    world = World()
    bound(world)
    arrived = arrives(world, plain(agent(software="New name", device="Tablet"), BIND.format("")))
    arrived.player.takes()
    (client,) = listed(arrived.player)
    assert [element.text for element in client[-1]] == ["New name", "Tablet"]


def test_legacy_clients_are_told_apart_by_the_resource_that_they_want() -> None:
    world = World()
    orchard = world.login("romeo@example.org/orchard")
    world.login("romeo@example.org/balcony")
    orchard.sends("</stream:stream>")
    orchard.disconnects()
    again = world.login("romeo@example.org/orchard")
    assert len(listed(again)) == 2
    for _ in range(3):
        player = world.connect()
        player.authenticate("romeo", "example.org", "secret")
        player.bind()
    assert len(listed(again)) == 3  # those that want none are one


def test_a_client_whose_access_is_over_is_not_listed() -> None:
    world = World()
    phone(world)
    world.advance(1)
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.accounts.set_password(account, "new"))
    world.advance(1)
    arrived = arrives(world, plain(agent(), BIND.format(""), password="new"))
    arrived.player.takes()
    assert len(listed(arrived.player)) == 1


@pytest.mark.parametrize("xmlns", NAMESPACES)
def test_the_list_of_somebody_else_is_not_given(xmlns: str) -> None:
    world = World()
    bound(world)
    juliet = world.online("juliet@example.org/balcony")
    for payload, type in ((f"<list xmlns='{xmlns}'/>", "get"), (f"<revoke xmlns='{xmlns}' id='client/x'/>", "set")):
        juliet.sends(f"<iq type='{type}' id='1' to='romeo@example.org'>{payload}</iq>")
        answer = juliet.takes()
        assert answer.get("type") == "error"


def test_both_protocols_are_announced_on_the_account() -> None:
    player = bound(World())
    player.sends("<iq type='get' id='1' to='romeo@example.org'>"
                 "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>")  # fmt: skip
    features = {element.get("var") for element in player.takes()[0]}
    assert features >= set(NAMESPACES)


def test_a_new_client_is_told_of_once() -> None:
    world = World()
    new: list[str] = []
    world.host.bus.on(NewClient, lambda event: new.append(event.login.agent.software))
    bound(world)
    bound(world)
    bound(world, id=IDS[1])
    assert new == ["Awesome", "Awesome"]


# ---- revocation


@pytest.mark.parametrize("xmlns", NAMESPACES)
@pytest.mark.parametrize("hibernated", [False, True])
def test_a_client_without_the_password_is_out_at_once(xmlns: str, hibernated: bool) -> None:
    world = World()
    me = bound(world)
    other, grant = by_grant(world, IDS[2], "backup", TOKEN)
    if hibernated:
        other.disconnects()
    revoke(me, own_id(me, "backup"), xmlns)
    me.receives(f"<iq type='result' id='revoke' to='{me.full}'/>")
    if not hibernated:
        other.receives_stream_error("not-authorized")
    assert len(world.server.sessions.of("romeo@example.org")) == 1
    assert len(listed(me)) == 1
    refused = plain(agent(IDS[2], "backup"), password=grant["password"])
    assert arrives(world, refused).failure == "not-authorized"


def test_a_token_of_a_revoked_client_lets_nobody_in() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    grant = command(world, "user grant", jid="romeo@example.org", name="backup")
    token = arrives(world, plain(agent(IDS[2], "backup"), TOKEN, password=grant["password"])).token
    me = bound(world)
    revoke(me, own_id(me, "backup"))
    me.takes()
    assert arrives(world, by_token(token, agent(IDS[2]))).failure == "not-authorized"


@pytest.mark.parametrize("xmlns", NAMESPACES)
def test_of_a_client_that_has_used_the_password_everything_else_ends(xmlns: str) -> None:
    world = World()
    other, token = phone(world)
    me = bound(world)
    revoke(me, own_id(me, "Phone"), xmlns)
    error = me.receives_error("service-unavailable", "cancel", id="revoke")
    assert error.find(f".//{{{xmlns}}}password-reset-required") is not None
    other.receives_stream_error("not-authorized")
    assert arrives(world, by_token(token, agent(IDS[1]))).failure == "not-authorized"


@pytest.mark.parametrize(
    "id", ["", "client/", "client/nothing", "grant/x", "software/Nobody", "x", "client/' OR 1=1--"]
)
def test_a_client_that_there_is_not_cannot_be_revoked(id: str) -> None:
    me = bound(World())
    revoke(me, id.replace("'", "&apos;"))
    me.receives_error("item-not-found", "cancel", id="revoke")


@pytest.mark.parametrize("selector", ["software/backup", "software/backup/1.2"])
def test_a_client_may_be_named_by_its_software(selector: str) -> None:
    world = World()
    me = bound(world)
    other, _ = by_grant(world)
    revoke(me, selector)
    me.receives(f"<iq type='result' id='revoke' to='{me.full}'/>")
    other.receives_stream_error("not-authorized")


def test_a_client_may_revoke_itself_and_is_answered() -> None:
    world = World()
    me = bound(world)
    revoke(me, own_id(me, "Awesome"))
    me.receives_error("service-unavailable", "cancel", id="revoke")


def test_what_is_revoked_stays_so_after_a_crash() -> None:
    world = World()
    me = bound(world)
    _, grant = by_grant(world)
    token_of_phone = phone(world)[1]
    revoke(me, own_id(me, "backup"))
    me.takes()
    world = crash(world)
    assert arrives(world, plain(agent(IDS[2]), password=grant["password"])).failure == "not-authorized"
    assert arrives(world, by_token(token_of_phone, agent(IDS[1]))).jid
    assert len(command(world, "user clients", jid="romeo@example.org")) == 2


# ---- another password


def test_another_password_ends_the_access_of_all_others() -> None:
    world = World()
    me = bound(world)
    other, token = phone(world)
    third, grant = by_grant(world)
    third.disconnects()
    world.advance(1)
    me.sends("<iq type='set' id='1'><query xmlns='jabber:iq:register'><username>romeo</username>"
             "<password>new</password></query></iq>")  # fmt: skip
    me.receives(f"<iq type='result' id='1' to='{me.full}'/>")
    other.receives_stream_error("not-authorized")
    assert [session.jid.full for session in world.server.sessions.of("romeo@example.org")] == [me.full]
    for request in (
        by_token(token, agent(IDS[1])), plain(agent(IDS[2]), password=grant["password"]), plain(agent()),
    ):  # fmt: skip
        assert arrives(world, request).failure == "not-authorized"
    (client,) = listed(me)
    assert ways(client) == ["password"]


# ---- application passwords


def test_a_grant_is_access_before_it_is_used_and_a_client_afterwards() -> None:
    world = World()
    me = bound(world)
    grant = command(world, "user grant", jid="romeo@example.org", name="backup")
    unused = next(client for client in listed(me) if client.get("type") == "access")
    assert unused.get("id") == grant["id"]
    assert (ways(unused), unused.get("connected")) == (["grant"], "false")
    assert arrives(world, plain(agent(IDS[2], "Program"), password=grant["password"])).jid
    used = next(client for client in listed(me) if ways(client) == ["grant"])
    assert used.get("type") == "session"
    assert next(element for element in used if element.tag.endswith("}permission")).get("status") == "normal"
    assert len(listed(me)) == 2


@pytest.mark.parametrize("hash_name", ["SHA-1", "SHA-256", "SHA-512"])
def test_a_grant_is_accepted_by_scram(hash_name: str) -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    grant = command(world, "user grant", jid="romeo@example.org", name="backup")
    player, client = opens(world), Client(grant["password"], hash_name=hash_name)
    player.sends(authenticate(f"SCRAM-{hash_name}", client.first(), agent()))
    final = client.final(base64.b64decode(player.takes().text or ""))
    player.sends(f"<response xmlns='urn:xmpp:sasl:2'>{b64(final)}</response>")
    assert Arrived(player).jid == "romeo@example.org"


def test_a_grant_works_for_clients_that_know_only_the_old_ways() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    grant = command(world, "user grant", jid="romeo@example.org", name="backup")
    old = world.login("romeo@example.org/old", grant["password"])
    assert old.full


def test_who_has_a_grant_may_not_manage_access_or_change_the_password() -> None:
    world = World()
    player, _ = by_grant(world)
    for type, payload in (
        ("get", f"<list xmlns='{CAM}'/>"),
        ("set", f"<revoke xmlns='{PROSODY}' id='client/x'/>"),
        ("set", "<query xmlns='jabber:iq:register'><username>romeo</username><password>new</password></query>"),
    ):
        player.sends(f"<iq type='{type}' id='1'>{payload}</iq>")
        player.receives_error("forbidden", "auth", id="1")


def test_a_grant_that_is_revoked_ends_every_client_that_uses_it() -> None:
    world = World()
    me = bound(world)
    one, grant = by_grant(world)
    arrived = arrives(world, plain(agent(IDS[3], "other"), BIND.format(""), TOKEN, password=grant["password"]))
    token = arrived.token
    revoke(me, own_id(me, "backup"))
    one.receives_stream_error("not-authorized")
    assert arrives(world, by_token(token, agent(IDS[3]))).failure == "not-authorized"
    assert len(listed(me)) == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 200])
def test_a_grant_needs_a_name(name: str) -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    with pytest.raises(CommandError, match="between 1 and 100"):
        command(world, "user grant", jid="romeo@example.org", name=name)


# ---- how many, and how long


def test_there_is_a_limit_and_the_one_that_was_not_seen_for_longest_makes_room() -> None:
    world = World("max_clients_per_account = 3")
    me = bound(world)
    for number in range(1, 8):
        world.advance(1)
        assert arrives(world, plain(agent(IDS[number]))).jid
    assert len(listed(me)) == 3
    assert listed(me)[-1].get("connected") in ("true", "false")
    assert own_id(me, "Awesome")


def test_a_client_that_is_not_seen_for_long_is_forgotten() -> None:
    world = World("client_retention = 30d")
    me = bound(world)
    assert arrives(world, plain(agent(IDS[1]), TOKEN)).jid
    world.advance(31 * DAY)
    assert len(listed(me)) == 1
    account = world.run(world.host.accounts.load("romeo"))
    kept = world.result(world.store.data.all(account.id, client_management.KIND))
    assert len(kept) == 1


# ---- from outside


def test_an_administrator_sees_and_ends_the_same() -> None:
    world = World()
    bound(world)
    other, _ = by_grant(world)
    found = command(world, "user clients", jid="romeo@example.org")
    assert json.loads(json.dumps(found)) == found
    backup = next(client for client in found if client["software"] == "backup")
    assert (backup["auth"], backup["connected"], backup["type"]) == (["grant"], True, "session")
    assert command(world, "user revoke_client", jid="romeo@example.org", client=backup["id"]) == {
        "jid": "romeo@example.org", "revoked": backup["id"], "password_reset_required": False,
    }  # fmt: skip
    other.receives_stream_error("not-authorized")
    assert command(world, "user revoke_client", jid="romeo@example.org", client="software/Awesome")[
        "password_reset_required"
    ]
    with pytest.raises(CommandError, match="there is no such client"):
        command(world, "user revoke_client", jid="romeo@example.org", client="client/x")



# ---- how often it is written


@pytest.mark.parametrize("stops", [False, True])
def test_that_a_client_came_again_is_written_with_others_after_a_while_or_at_the_end(stops: bool) -> None:
    world = World()
    bound(world)
    world.advance(60)
    assert arrives(world, plain(agent())).jid
    account = world.run(world.host.accounts.load("romeo"))

    def last_seen() -> int:
        (value,) = world.result(world.store.data.all(account.id, client_management.KIND)).values()
        return int(json.loads(value)["last_seen"])

    assert last_seen() == 1_700_000_000_000
    if stops:
        world.run(world.server.stop())
    else:
        world.advance(5)
    assert last_seen() == 1_700_000_060_000
