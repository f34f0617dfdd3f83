"""Clients of an account, what each may do, and how its access ends (XEP-0494, and Prosody's manage-clients)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.disk import Slow, broken, crash
from tests.support.logins import (
    BIND,
    CAM,
    ID,
    MANAGED,
    NONE,
    OTHER_ID,
    SM,
    a_token,
    agent,
    by_password,
    by_token,
    exceptions,
    listed,
    online,
    opened,
    revoke,
    succeeds,
    token_of,
    wants,
)
from tests.support.world import Player, World
from xmppd.core.events import NewClient
from xmppd.ctl import access
from xmppd.modules.client_management import clean

ROMEO = "romeo@example.org"
PROSODY = "xmpp:prosody.im/protocol/manage-clients"
DAY = 86400
THIRD_ID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def failures() -> Iterator[list[str]]:
    """What was logged as a failure of the server's own."""
    with exceptions() as found:
        yield found


def changes_own_password(player: Player, password: str = "another") -> None:
    query = f"<query xmlns='jabber:iq:register'><username>romeo</username><password>{password}</password></query>"
    player.forget()
    player.sends(f"<iq type='set' id='pw'>{query}</iq>")
    assert player.takes().get("type") == "result"


def by_fast(world: World, token: str, *children: str, id: str = ID) -> Player:
    player = opened(world)
    succeeds(player, by_token(token, *(children or (BIND,)), id=id))
    player.takes()
    return player


def gets_in(world: World, sent: str) -> bool:
    player = opened(world)
    player.sends(sent)
    return player.takes().tag.endswith("}success")


def ways(client: Any) -> list[str]:
    return [child.tag.rpartition("}")[2] for child in client.find(f"{{{CAM}}}auth")]


def account_of(world: World, local: str = "romeo") -> Any:
    return world.run(world.host.accounts.load(local))


# ---- revocation


@pytest.mark.parametrize("selector", ["id", "software/Awesome"])
def test_a_client_with_the_password_that_revokes_itself_loses_its_session(selector: str) -> None:
    """Issue 5, part 7: everything else is ended, then service-unavailable."""
    world = World()
    player = online(world)
    (id,) = listed(player)
    player.sends(revoke(id if selector == "id" else selector))
    error = player.takes()
    assert error.find(f"{{jabber:client}}error/{{{CAM}}}password-reset-required") is not None
    world.advance(1)
    assert player.wire.closed


@pytest.mark.parametrize("xmlns", [CAM, PROSODY])
def test_the_revocation_of_a_client_that_has_used_the_password(xmlns: str) -> None:
    """Issue 5, part 7: its token is over, and the error is in the namespace of the request."""
    world = World()
    token = a_token(world)
    player = online(world, id=OTHER_ID, software="Gajim")
    id = next(iter(listed(player)))
    player.sends(revoke(id, xmlns))
    error = player.takes()
    assert error.find("{jabber:client}error")[0].tag.endswith("}service-unavailable")  # type: ignore[index]
    assert error.find(f"{{jabber:client}}error/{{{xmlns}}}password-reset-required") is not None
    assert not gets_in(world, by_token(token))


def test_the_revocation_of_somebody_elses_client() -> None:
    """Issue 5, bad input: the ids of others are unknown here, and so are their accounts."""
    world = World()
    token = a_token(world)
    (id,) = (entry["id"] for entry in world.run(access.clients(account_of(world))))
    world.account("juliet@example.org")
    juliet = opened(world)
    succeeds(juliet, by_password(agent(OTHER_ID), BIND, user="juliet"))
    juliet.takes()
    juliet.sends(revoke(id))
    assert juliet.takes().find("{jabber:client}error")[0].tag.endswith("}item-not-found")  # type: ignore[index]
    juliet.sends(revoke(id).replace("<iq ", f"<iq to='{ROMEO}' "))
    assert juliet.takes().get("type") == "error"
    juliet.sends(f"<iq type='get' to='{ROMEO}' id='list'><list xmlns='{CAM}'/></iq>")
    assert juliet.takes().get("type") == "error"
    assert gets_in(world, by_token(token))


@pytest.mark.parametrize(
    "id", ["", "x", "client/", "grant/", "software/", "client/x", "software/Awesome/9", "\U0001f600"]
)
def test_what_is_not_there_is_not_found(id: str) -> None:
    """XEP-0494 section 3.2."""
    world = World()
    player = online(world)
    player.sends(revoke(id))
    assert player.takes().find("{jabber:client}error")[0].tag.endswith("}item-not-found")  # type: ignore[index]
    player.sends(f"<iq type='set' id='r'><revoke xmlns='{CAM}'/></iq>")
    assert player.takes().find("{jabber:client}error")[0].tag.endswith("}item-not-found")  # type: ignore[index]


def test_a_hibernated_session_of_a_revoked_client_is_over() -> None:
    """Issue 5, part 7; also after kill -9."""
    world = World()
    token = a_token(world)
    changer = online(world, id=OTHER_ID, software="Gajim")
    changes_own_password(changer)
    world.advance(1)
    token = a_token(world, password="another")
    sleeper = by_fast(world, token, MANAGED)
    sleeper.disconnects()
    assert len(list(world.server.sessions)) == 2
    id = next(id for id, client in listed(changer).items() if "fast" in ways(client))
    changer.sends(revoke(id))
    assert changer.takes().find("{jabber:client}error")[0].tag.endswith("}service-unavailable")  # type: ignore[index]
    assert len(list(world.server.sessions)) == 1
    assert not gets_in(world, by_token(token))
    after = crash(world)
    assert not [session for session in after.server.sessions if session.jid.full == sleeper.full]


def test_a_login_that_is_being_written_when_its_client_is_revoked_does_not_get_in() -> None:
    """Issue 5, part 7: revocation ends access at once."""
    world = World()
    token = a_token(world)
    account = account_of(world)
    (entry,) = world.run(access.clients(account))
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_token(token, BIND))
    slow.writes()  # the token is found; what the login changes waits
    revoked = Deferred.fromCoroutine(access.revoke(account, entry["id"]))
    slow.writes_all()
    world.result(revoked)
    session = player.stream.session
    assert player.wire.closed or session is None or session.ended


# ---- application passwords


def test_an_application_password_does_not_delete_the_account() -> None:
    """XEP-0077 section 3.2, as for the password: that takes the password of the account."""
    world = World()
    world.account(ROMEO)
    made = world.run(access.grant(account_of(world), "mutt"))
    player = online(world, password=made["password"])
    player.forget()
    player.sends("<iq type='set' id='x'><query xmlns='jabber:iq:register'><remove/></query></iq>")
    world.advance(1)
    assert world.result(world.store.accounts.find("example.org", "romeo")) is not None


def test_an_application_password_manages_nothing() -> None:
    """Neither what has access nor the password, also after kill -9 and by its token."""
    world = World()
    world.account(ROMEO)
    made = world.run(access.grant(account_of(world), "mutt"))
    token = a_token(world, password=made["password"])
    key = world.server.token_key
    player = by_fast(world, token, MANAGED)
    for _ in range(2):
        player.forget()
        player.sends(f"<iq type='get' id='l'><list xmlns='{CAM}'/></iq>")
        assert player.takes().get("type") == "error"
        query = "<query xmlns='jabber:iq:register'><username>romeo</username><password>x</password></query>"
        player.sends(f"<iq type='set' id='p'>{query}</iq>")
        assert player.takes().get("type") == "error"
        id = re.findall(rb"<enabled [^>]*id='([^']*)'", player.wire.written)
        if id:
            world = crash(world)
            world.server.token_key = key
            player = opened(world)
            succeeds(player, by_token(token, f"<resume xmlns='{SM}' h='0' previd='{id[0].decode()}'/>"))


def test_grants_work_by_plain_and_scram_and_outlive_kill_9() -> None:
    """Issue 5, part 7 and done when."""
    world = World()
    world.account(ROMEO)
    made = world.run(access.grant(account_of(world), "mutt"))
    (entry,) = world.run(access.clients(account_of(world)))
    assert (entry["id"], entry["type"], entry["auth"]) == (made["id"], "access", ["grant"])
    world = crash(world)
    assert gets_in(world, by_password(agent(), password=made["password"]))
    (entry,) = world.run(access.clients(account_of(world)))
    assert (entry["type"], entry["auth"]) == ("session", ["grant"])
    world.run(access.revoke(account_of(world), entry["id"]))
    assert not gets_in(world, by_password(agent(), password=made["password"]))


def test_a_grant_that_was_used_can_be_revoked_by_the_id_that_it_was_made_with() -> None:
    """Issue 5, parts 7 and 9: grants can be revoked; `user grant` prints the id."""
    world = World()
    world.account(ROMEO)
    made = world.run(access.grant(account_of(world), "mutt"))
    assert gets_in(world, by_password(agent(), password=made["password"]))
    world.run(access.revoke(account_of(world), made["id"]))
    assert not gets_in(world, by_password(agent(), password=made["password"]))


def test_a_client_that_has_used_two_grants_loses_both() -> None:
    """Issue 5, part 7: revocation ends the grants of that client."""
    world = World()
    world.account(ROMEO)
    made = [world.run(access.grant(account_of(world), name)) for name in ("one", "two")]
    for one in made:
        assert gets_in(world, by_password(agent(), password=one["password"]))
    client = next(entry for entry in world.run(access.clients(account_of(world))) if entry["type"] == "session")
    world.run(access.revoke(account_of(world), client["id"]))
    assert not [one["name"] for one in made if gets_in(world, by_password(agent(), password=one["password"]))]


def test_a_grant_is_over_with_the_password() -> None:
    """Issue 5, part 7."""
    world = World()
    world.account(ROMEO)
    account = account_of(world)
    made = world.run(access.grant(account, "mutt"))
    token = a_token(world, password=made["password"])
    world.advance(1)
    world.run(world.host.accounts.set_password(account, "another"))
    world.advance(1)
    assert not gets_in(world, by_password(agent(), password=made["password"]))
    assert not gets_in(world, by_token(token))
    assert world.run(access.clients(account)) == []


@pytest.mark.parametrize("name", ["a\x00b", "\x0b", "a\ud800"])
def test_the_name_of_a_grant_can_be_listed(name: str) -> None:
    """XML section 2.2: what a client is shown is well-formed."""
    world = World()
    player = online(world)
    try:
        world.run(access.grant(account_of(world), name))
    except ValueError:
        return
    assert listed(player)


# ---- a change of the password


def test_who_changed_the_password_is_known_to_have_it() -> None:
    """Issue 5, part 6: ``<password/>`` since the last password change, for a client that had logged in by a token."""
    world = World()
    token = a_token(world)
    world.advance(DAY)
    player = by_fast(world, token)
    changes_own_password(player)
    (client,) = listed(player).values()
    assert "password" in ways(client)


def test_a_change_of_the_password_after_a_restart_keeps_what_the_client_said_of_itself() -> None:
    """Issue 5, part 6: the user agent is updated when it changes, not when the server starts again."""
    world = World()
    player = online(world, MANAGED)
    id = re.findall(rb"<enabled [^>]*id='([^']*)'", player.wire.written)[0].decode()
    world = crash(world)
    player = opened(world)
    succeeds(player, by_password(agent(), f"<resume xmlns='{SM}' h='0' previd='{id}'/>"))
    changes_own_password(player)
    (entry,) = world.run(access.clients(account_of(world)))
    assert entry["software"] == "Awesome"


# ---- what is kept


def test_a_client_with_a_token_is_kept() -> None:
    """The option client_retention: a client that is not seen any more, and has no token, is forgotten."""
    world = World("client_retention = 1d")
    token = a_token(world)
    world.advance(3 * DAY)
    assert gets_in(world, by_token(token))


def test_old_clients_are_forgotten() -> None:
    """Issue 5, part 9."""
    world = World("client_retention = 30d")
    online(world).disconnects()
    away = online(world, id=OTHER_ID)
    world.advance(31 * DAY)
    kept = world.run(access.clients(account_of(world)))
    assert [entry["connected"] for entry in kept] == [True]
    assert not away.wire.closed


def test_very_many_clients(failures: list[str]) -> None:
    """Issue 5, bad input: the list stays bounded, and each of them is told of once."""
    world = World()
    world.account(ROMEO)
    new: list[str] = []
    world.host.bus.on(NewClient, lambda event: new.append(event.login.key))
    for number in range(300):
        player = opened(world)
        succeeds(player, by_password(agent(f"00000000-0000-4000-8000-{number:012}")))
        player.disconnects()
    assert len(new) == len(set(new)) == 300
    assert len(world.run(access.clients(account_of(world)))) <= 100
    assert not failures


def test_a_stranger_makes_no_client() -> None:
    """What fails leaves nothing behind."""
    world = World()
    world.account(ROMEO)
    assert not gets_in(world, by_password(agent(), wants(), password="wrong"))
    assert not gets_in(world, by_token("wrong"))
    assert world.run(access.clients(account_of(world))) == []


def test_the_order_is_that_of_when_they_were_seen() -> None:
    """Issue 5, part 6: oldest last-seen first, and the attributes of the user agent."""
    world = World()
    for id in (ID, OTHER_ID, THIRD_ID, ID):
        online(world, id=id, software=id[:4]).disconnects()
        world.advance(60)
    entries = world.run(access.clients(account_of(world)))
    assert [entry["software"] for entry in entries] == [OTHER_ID[:4], THIRD_ID[:4], ID[:4]]


def test_the_list_says_what_both_protocols_want() -> None:
    """XEP-0494 section 3.1: permission is mandatory there, and of no meaning to the other."""
    world = World()
    player = online(world)
    player.sends(f"<iq type='get' id='list'><list xmlns='{PROSODY}'/></iq>")
    (client,) = player.takes()[0]
    assert client.find(f"{{{PROSODY}}}permission") is None
    assert client.find(f"{{{PROSODY}}}user-agent/{{{PROSODY}}}software").get("version") == "1.2"  # type: ignore[union-attr]
    (client,) = listed(player).values()
    assert client.get("connected") == "true" and client.get("type") == "session"
    assert client.find(f"{{{CAM}}}permission") is not None
    assert ways(client) == ["password"]
    assert NONE not in str(client)


@pytest.mark.parametrize("turn", range(1, 5))
def test_a_revocation_that_cannot_be_written_says_so(turn: int, failures: list[str]) -> None:
    """Issue 5, part 7: in one transaction; an error for what did not happen, and it can be tried again."""
    world = World()
    token = a_token(world)
    player = online(world, id=OTHER_ID, software="Gajim")
    id = next(iter(listed(player)))
    with broken(world, turn):
        player.sends(revoke(id))
    answer = player.takes()
    reset = answer.find(f"{{jabber:client}}error/{{{CAM}}}password-reset-required") is not None
    assert gets_in(world, by_token(token)) != reset
    assert not failures


def test_a_client_that_is_forgotten_to_make_room_can_come_back() -> None:
    """The option max_clients_per_account."""
    world = World("max_clients_per_account = 1")
    a_token(world)
    world.advance(1)
    second = a_token(world, id=OTHER_ID)
    assert len(world.run(access.clients(account_of(world)))) == 1
    assert gets_in(world, by_token(second, id=OTHER_ID))
    assert token_of(succeeds(opened(world), by_password(agent(), wants())))


def test_a_client_that_logs_in_while_old_ones_are_forgotten_stays() -> None:
    """Issue 5, part 9: it is not inactive any more; it is given a token that lets it in."""
    world = World("client_retention = 721h")
    a_token(world)
    world.advance(30 * DAY)
    world.advance(2 * 3600)  # old enough since the last time that it was looked for
    kept = account_of(world)
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), wants()))
    slow.writes()  # the password is right; what is kept of the login waits
    cleaned = Deferred.fromCoroutine(clean(world.host))
    slow.writes_all()
    world.result(cleaned)
    success = next(element for element in player.all_that_came() if element.tag.endswith("}success"))
    assert gets_in(world, by_token(token_of(success)))
    assert kept.host is world.host
