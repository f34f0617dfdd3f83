"""Logins by SASL2 (XEP-0388) and what has access to an account: what else may happen meanwhile."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.disk import Slow, broken, crash
from tests.support.logins import (
    BIND,
    MANAGED,
    OTHER_ID,
    ROMEO,
    SASL2,
    SM,
    a_token,
    agent,
    by_password,
    by_token,
    changes_password,
    exceptions,
    is_in,
    is_in_by,
    online,
    opened,
    succeeds,
    token_of,
    wants,
    world_of_romeo,
)
from tests.support.world import Player, World
from xmppd.core.events import NewClient
from xmppd.ctl import access
from xmppd.modules import client_management
from xmppd.wire.errors import StanzaError

THIRD_ID = "0b7c7c1e-4a53-4b39-9f0e-2d8f1f0a9b11"


@pytest.fixture
def failures() -> Iterator[list[str]]:
    """What was logged as a failure of the server's own."""
    with exceptions() as found:
        yield found


def account_of(world: World) -> Any:
    return world.run(world.host.accounts.load("romeo"))


def entries(world: World) -> list[dict[str, Any]]:
    """What has access to romeo's account."""
    return world.run(access.clients(account_of(world)))  # type: ignore[no-any-return]


def sm_id(player: Player) -> str:
    return str(re.findall(rb"<enabled [^>]*id='([^']*)'", player.wire.written)[0], "utf-8")


def resume(id: str) -> str:
    return f"<resume xmlns='{SM}' h='0' previd='{id}'/>"


def only_by_token(world: World) -> str:
    """A token of a client that has not used the password since that was changed, as far as the server knows."""
    made = world.run(access.grant(account_of(world), "app"))
    return a_token(world, password=made["password"])


# ---- revocation and a login at once


@pytest.mark.parametrize("by_grant", [False, True])
@pytest.mark.parametrize("step", range(5))
def test_a_login_by_token_that_is_written_while_its_client_is_revoked_does_not_get_in(
    step: int, by_grant: bool
) -> None:
    """Issue 5, part 7: revocation ends the client's access at once, whichever of the two is asked for first."""
    world = world_of_romeo()
    token = only_by_token(world) if by_grant else a_token(world)
    account = account_of(world)
    (entry,) = entries(world)
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    revoked = Deferred.fromCoroutine(access.revoke(account, entry["id"]))
    world.settle()
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    player.sends(by_token(token, BIND))
    slow.writes_all()
    world.result(revoked)
    assert not is_in(player)


@pytest.mark.parametrize("step", range(6))
def test_a_login_by_token_that_is_written_while_its_client_is_revoked_resumes_nothing(step: int) -> None:
    """Issue 5, part 7: nor does it take up the session of another client of the account."""
    world = world_of_romeo()
    token = a_token(world)
    other = online(world, MANAGED, id=OTHER_ID, software="Other")
    other.disconnects()
    account = account_of(world)
    entry = next(entry for entry in entries(world) if entry["software"] == "Awesome")
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    revoked = Deferred.fromCoroutine(access.revoke(account, entry["id"]))
    world.settle()
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    player.sends(by_token(token, resume(sm_id(other))))
    slow.writes_all()
    world.result(revoked)
    assert player.wire.closed or player.stream.session is None


@pytest.mark.parametrize("step", range(8))
def test_a_client_that_gets_in_by_the_password_while_it_is_revoked_is_listed(step: int) -> None:
    """Issue 5, part 6: what is connected is in the list, or nobody can end it."""
    world = world_of_romeo()
    only_by_token(world)
    account = account_of(world)
    (entry,) = entries(world)
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    revoked = Deferred.fromCoroutine(access.revoke(account, entry["id"]))
    world.settle()
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    player.sends(by_password(agent(), BIND))
    slow.writes_all()
    world.result(revoked)
    if is_in(player):
        assert [entry["id"] for entry in entries(world) if entry["connected"]]


def test_the_revocation_of_a_client_leaves_one_that_once_used_the_same_grant() -> None:
    """Issue 5, part 7: revocation ends what is of that client; a grant that is over connects nobody."""
    world = world_of_romeo()
    made = world.run(access.grant(account_of(world), "shared"))
    for id in (OTHER_ID, THIRD_ID):
        online(world, id=id, software=id, password=made["password"]).disconnects()
    world.advance(1)
    world.run(access.revoke(account_of(world), made["id"]))
    world.advance(1)
    one = online(world, BIND, id=OTHER_ID, software=OTHER_ID)
    other = opened(world)
    token = token_of(succeeds(other, by_password(agent(THIRD_ID, THIRD_ID), wants(), BIND)))
    entry = next(entry for entry in entries(world) if entry["software"] == OTHER_ID)
    world.run(access.revoke(account_of(world), entry["id"]))
    assert not is_in(one)
    assert is_in(other)
    again = opened(world)
    again.sends(by_token(token, BIND, id=THIRD_ID))
    assert is_in(again)


def test_a_grant_that_was_revoked_is_not_there_any_more() -> None:
    """Issue 5, part 7: unknown: item-not-found; who used it once and has the password now stays."""
    world = world_of_romeo()
    made = world.run(access.grant(account_of(world), "app"))
    online(world, password=made["password"]).disconnects()
    world.run(access.revoke(account_of(world), made["id"]))
    world.advance(1)
    player = online(world)
    with pytest.raises(StanzaError):
        world.run(client_management.revoke(account_of(world), made["id"]))
    assert is_in(player)


# ---- password changes and what is known of clients


def test_who_showed_the_old_password_while_it_was_changed_is_not_known_to_have_the_new_one() -> None:
    """Issue 5, part 6: `<password/>` since the last password change."""
    world = world_of_romeo()
    account_of(world)
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), BIND))  # the credentials are looked for
    changed = changes_password(world, "another")
    world.advance(1)
    slow.writes_all()
    world.result(changed)
    assert not is_in(player)
    assert not [entry for entry in entries(world) if "password" in entry["auth"]]


def test_a_legacy_client_with_the_old_password_is_not_known_to_have_the_new_one() -> None:
    """Issue 5, part 6: it got in while the change was being written, and was ended by that."""
    world = world_of_romeo()
    account_of(world)
    player = world.connect()
    player.authenticate("romeo", "example.org", "secret")
    slow = Slow(world)
    slow.quick = False
    changed = changes_password(world, "another")
    world.advance(1)
    player.bind("old")
    slow.writes_all()
    world.result(changed)
    assert not is_in(player)
    assert not [entry for entry in entries(world) if "password" in entry["auth"]]


# ---- sessions that are resumed


def legacy(world: World, password: str, resource: str = "old") -> Player:
    """A client of the old ways with a session that can be resumed."""
    player = world.login(f"romeo@example.org/{resource}", password)
    player.sends(f"<enable xmlns='{SM}' resume='true'/>")
    player.takes()
    return player


def resumes(world: World, id: str, password: str) -> Player:
    player = world.connect()
    player.authenticate("romeo", "example.org", password)
    player.sends(resume(id))
    assert player.takes().tag == f"{{{SM}}}resumed"
    return player


def test_a_legacy_client_that_resumes_by_the_password_is_known_to_have_it() -> None:
    """Issue 5, part 7: whoever has used the password may know it, so the revocation says so."""
    world = world_of_romeo()
    made = world.run(access.grant(account_of(world), "app"))
    first = legacy(world, made["password"])
    first.disconnects()
    resumes(world, sm_id(first), "secret")
    (entry,) = [entry for entry in entries(world) if entry["connected"]]
    assert "password" in entry["auth"]
    assert world.run(access.revoke(account_of(world), entry["id"]))["password_reset_required"]


def test_a_grant_by_which_a_session_is_resumed_was_used() -> None:
    """Issue 5, part 7: a grant is listed as access until it is first used."""
    world = world_of_romeo()
    made = world.run(access.grant(account_of(world), "app"))
    first = legacy(world, "secret")
    first.disconnects()
    resumes(world, sm_id(first), made["password"])
    assert not [entry for entry in entries(world) if entry["type"] == "access"]
    (entry,) = [entry for entry in entries(world) if entry["connected"]]
    assert "grant" in entry["auth"]


@pytest.mark.parametrize("step", range(6))
def test_a_grant_that_is_revoked_during_a_legacy_login_resumes_nothing(step: int) -> None:
    """Issue 5, part 7."""
    world = world_of_romeo()
    first = legacy(world, "secret")
    first.disconnects()
    made = world.run(access.grant(account_of(world), "app"))
    account = account_of(world)
    slow = Slow(world)
    slow.quick = False
    revoked = Deferred.fromCoroutine(access.revoke(account, made["id"]))
    world.settle()
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    player = world.connect()
    player.opens()
    initial = base64.b64encode(f"\0romeo\0{made['password']}".encode()).decode()
    player.sends(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>")
    slow.writes_all()
    world.result(revoked)
    if not player.wire.closed and b"<success" in player.wire.written:
        player.opens()
        player.sends(resume(sm_id(first)))
        assert player.stream.session is None


# ---- sessions that nobody was told of


@pytest.mark.parametrize("step", range(1, 12))
def test_a_server_that_stops_during_a_login_leaves_no_session_that_nobody_was_told_of(step: int) -> None:
    """XEP-0198 section 3: whoever was not told of a session has none."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    for number in range(60):
        juliet.sends(f"<message to='{ROMEO}' type='chat' id='{number}'><body>x</body></message>")
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), MANAGED))
    world.settle()
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    told = b"<success" in player.wire.written
    world.service.shut_down()
    for stream in list(world.service._streams):
        stream.connection_lost("the client closed")
    slow.writes_all()
    world.advance(5)
    after = crash(world)
    if not told:
        assert not [session for session in after.server.sessions if session.jid.local == "romeo"]


# ---- the store fails


def test_a_client_that_never_got_in_because_the_store_failed_is_not_known() -> None:
    """Issue 5, part 6: what is in memory is what is on disk."""
    world = world_of_romeo()
    account = account_of(world)
    player = opened(world)
    with broken(world, 1):
        player.sends(by_password(agent(), BIND))
    assert not is_in(player)
    before = entries(world)
    rows = world.result(world.store.data.all(account.id, "clients"))
    assert len(before) == len(rows), (before, rows)


def test_a_legacy_client_that_could_not_be_written_is_known_after_a_crash() -> None:
    """Issue 5: clients survive a kill -9."""
    world = world_of_romeo()
    player = world.connect()
    player.authenticate("romeo", "example.org", "secret")
    account_of(world)
    with broken(world):
        player.bind("old")
    world.advance(60)
    assert is_in(player)
    after = crash(world)
    assert [entry["id"] for entry in entries(after)]


# ---- two logins of one client


def test_one_token_in_two_logins_at_once_lets_the_same_client_in_twice() -> None:
    """XEP-0484 section 5.1: a client that lost its connection before the answer comes again with the same token."""
    world = world_of_romeo()
    token = a_token(world)
    first, second = opened(world), opened(world)
    slow = Slow(world)
    slow.quick = False
    first.sends(by_token(token, BIND))
    second.sends(by_token(token, BIND))
    slow.writes_all()
    assert is_in(second)


def test_messages_of_an_earlier_session_that_the_archive_holds_are_not_sent_again() -> None:
    """XEP-0386 section 3.2: the client reads the archive up to the end that it is told."""
    world = world_of_romeo()
    player = online(world, MANAGED)
    player.sends("<presence/>")
    player.forget()
    player.disconnects()
    juliet = world.online("juliet@example.org/balcony")
    for number in range(3):
        juliet.sends(f"<message to='{ROMEO}' type='chat' id='m{number}'><body>x</body></message>")
    again = opened(world)
    success = succeeds(again, by_password(agent(), resume("nonsense"), MANAGED))
    metadata = success.find(".//{urn:xmpp:mam:2}metadata")
    assert metadata is not None and len(metadata)
    again.takes()
    again.sends("<presence/>")
    messages = [element.get("id") for element in again.all_that_came() if element.tag.endswith("}message")]
    assert not messages


def test_a_token_that_is_given_while_the_old_ones_are_tidied_up_is_kept() -> None:
    """Issue 5, part 3: a password change ends the tokens that there were."""
    failed = []
    for step in range(12):
        world = world_of_romeo()
        for id in (OTHER_ID, THIRD_ID):
            a_token(world, id=id)
        player = opened(world)
        account_of(world)
        world.advance(1)
        slow = Slow(world)
        slow.quick = False
        changed = changes_password(world, "another")
        world.settle()
        for _ in range(step):
            if slow._waiting:
                slow.writes()
        player.sends(by_password(agent(), wants(), password="another"))
        slow.writes_all()
        world.result(changed)
        got = player.takes()
        if got.tag == f"{{{SASL2}}}success" and not player.wire.closed and not is_in_by(world, token_of(got)):
            failed.append(step)
    assert not failed


def test_a_client_that_is_not_in_memory_is_known_again() -> None:
    """The account leaves memory while what is known of a client is written."""
    world = World("account_cache = 0\n")
    world.account(ROMEO)
    slow = Slow(world)
    player = world.connect()
    player.authenticate("romeo", "example.org", "secret")
    player.sends_only(
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></bind></iq>"
    )
    player.disconnects()
    slow.writes_all()
    assert [entry["resource"] for entry in entries(world)] == ["x"]


# ---- limits


def test_a_client_with_an_id_that_binds_the_old_way_has_no_more_sessions_than_others() -> None:
    """`max_sessions_per_account` is for all sessions of an account that stay."""
    world = world_of_romeo("max_sessions_per_account = 2\n")
    for number in range(6):
        player = opened(world)
        succeeds(player, by_password(agent()))
        player.takes()
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r{number}</resource></bind>"
        player.sends(f"<iq type='set' id='b'>{bind}</iq>")
    assert len(world.server.sessions.of(ROMEO)) <= 2


def test_what_waits_for_a_client_that_logs_in_has_a_limit() -> None:
    """`c2s_max_unsent`: how many bytes may wait for a client."""
    world = world_of_romeo("c2s_max_unsent = 64k\n")
    juliet = world.online("juliet@example.org/balcony")
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), BIND))
    while player.stream.session is None:
        slow.writes()
    full = player.stream.session.jid.full
    for _ in range(40):
        hint = "<no-store xmlns='urn:xmpp:hints'/>"
        juliet.sends(f"<message type='chat' to='{full}'><body>{'x' * 50_000}</body>{hint}</message>")
        world.advance(0.1)
    assert player.stream.closed or sum(map(len, player.stream._withheld or ())) <= 64 * 1024


# ---- what is left over


def test_what_is_kept_of_expired_tokens_goes_with_the_client() -> None:
    world = world_of_romeo()
    a_token(world)
    account = account_of(world)
    world.advance(200 * 86400)
    assert not world.result(world.store.data.all(account.id, "clients"))
    assert not world.result(world.store.data.all(account.id, "fast"))


@pytest.mark.parametrize("turn", range(1, 6))
def test_a_client_that_was_told_that_it_is_not_in_is_on_disk_as_in_memory(turn: int) -> None:
    """The store fails once."""
    world = world_of_romeo()
    account = account_of(world)
    with broken(world, turn):
        player = opened(world)
        player.sends(by_password(agent(), BIND))
    known = entries(world)
    rows = world.result(world.store.data.all(account.id, "clients"))
    assert len(known) == len(rows)


@pytest.mark.parametrize("step", range(6))
def test_a_grant_that_is_revoked_while_a_login_by_it_is_written_resumes_nothing(step: int) -> None:
    """Issue 5, part 7: nor does it take up the session of another client."""
    world = world_of_romeo()
    made = world.run(access.grant(account_of(world), "app"))
    other = online(world, MANAGED, id=OTHER_ID, software="Other")
    other.disconnects()
    account = account_of(world)
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    revoked = Deferred.fromCoroutine(access.revoke(account, made["id"]))
    world.settle()
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    player.sends(by_password(agent(), resume(sm_id(other)), password=made["password"]))
    slow.writes_all()
    world.result(revoked)
    assert player.wire.closed or player.stream.session is None


@pytest.mark.parametrize("step", range(8))
def test_a_client_that_is_revoked_twice_at_once(step: int, failures: list[str]) -> None:
    world = world_of_romeo()
    only_by_token(world)
    account = account_of(world)
    (entry,) = entries(world)
    slow = Slow(world)
    slow.quick = False
    outcome: list[Any] = []
    Deferred.fromCoroutine(access.revoke(account, entry["id"])).addBoth(outcome.append)
    world.settle()
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    Deferred.fromCoroutine(access.revoke(account, entry["id"])).addBoth(outcome.append)
    slow.writes_all()
    assert not failures, failures
    assert len(outcome) == 2


@pytest.mark.parametrize("step", range(10))
def test_an_account_that_is_deleted_during_a_login(step: int, failures: list[str]) -> None:
    world = world_of_romeo()
    account = account_of(world)
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), wants(), resume("x.eA=="), MANAGED))
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    deleted = Deferred.fromCoroutine(world.host.accounts.delete(account))
    slow.writes_all()
    world.result(deleted)
    world.advance(5)
    assert not failures, failures
    assert not is_in(player)
    assert not list(world.server.sessions)


@pytest.mark.parametrize("step", range(12))
def test_a_client_that_logs_in_while_its_session_ends(step: int, failures: list[str]) -> None:
    """The time of its hibernation is over while it resumes; it gets a new session, and one only."""
    world = world_of_romeo()
    first = online(world, MANAGED)
    first.sends("<presence/>")
    first.disconnects()
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends(f"<message to='{ROMEO}' type='chat' id='m'><body>x</body></message>")
    world.advance(598)
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), resume(sm_id(first)), MANAGED))
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    world.advance(3)
    slow.writes_all()
    world.advance(1)
    assert not failures, failures
    assert is_in(player)
    assert len(world.server.sessions.of(ROMEO)) == 1
    success = player.takes()
    assert success.tag == f"{{{SASL2}}}success"


# ---- what waits in the queue of a session that has no access any more


def with_a_password_change_in_its_queue(world: World, player: Player) -> None:
    """The client asks for much and reads nothing, so that what it sends then waits: another password, its own."""
    juliet = world.online("juliet@example.org/balcony")
    for number in range(4):
        juliet.sends(f"<message to='{ROMEO}' type='chat' id='{number}'><body>{'x' * 40_000}</body></message>")
        world.advance(30)
    player.forget()
    player.wire.stuck = True
    player.sends("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>")
    query = "<query xmlns='jabber:iq:register'><username>romeo</username><password>mine</password></query>"
    player.sends(f"<iq type='set' id='p'>{query}</iq>")


def test_a_password_change_that_waits_in_a_revoked_session_is_not_made() -> None:
    """Issue 5, part 7: revocation ends access at once."""
    world = world_of_romeo()
    token = a_token(world)
    player = opened(world)
    succeeds(player, by_token(token, BIND))
    with_a_password_change_in_its_queue(world, player)
    entry = next(entry for entry in entries(world) if entry["connected"])
    world.run(access.revoke(account_of(world), entry["id"]))
    assert player.stream.closed
    player.disconnects()
    world.advance(1)
    again = opened(world)
    again.sends(by_password(agent(OTHER_ID), BIND, password="mine"))
    assert not is_in(again)


def test_a_password_change_that_waits_in_a_session_with_the_old_password_is_not_made() -> None:
    """Issue 5, part 7: a password change ends all other clients' access."""
    world = world_of_romeo()
    player = online(world)
    with_a_password_change_in_its_queue(world, player)
    world.result(changes_password(world, "another"))
    assert player.stream.closed
    player.disconnects()
    world.advance(1)
    again = opened(world)
    again.sends(by_password(agent(OTHER_ID), BIND, password="mine"))
    assert not is_in(again)


def test_a_new_client_is_told_of_when_it_is_in() -> None:
    """Issue 5, part 9: an event for a new client, not for one that was refused, nor none where the first try failed."""
    world = world_of_romeo()
    account_of(world)
    told: list[NewClient] = []
    world.host.bus.on(NewClient, told.append)
    player = opened(world)
    with broken(world, 2):
        player.sends(by_password(agent(), BIND))
    assert not is_in(player)
    assert not told
