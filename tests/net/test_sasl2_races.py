"""Logins by SASL2 (XEP-0388) of which two happen at once, or something else while they wait for the store."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.auth.support import Client
from tests.support.disk import Slow, broken
from tests.support.logins import (
    BIND,
    BIND2,
    MANAGED,
    OTHER_ID,
    ROMEO,
    SASL2,
    SM,
    a_token,
    agent,
    authenticate,
    b64,
    by_password,
    by_token,
    changes_password,
    exceptions,
    fails,
    has_token,
    is_in,
    is_in_by,
    online,
    opened,
    scram_first,
    succeeds,
    token_of,
    wants,
    world_of_romeo,
)
from tests.support.world import Player, World
from xmppd.auth.credentials import ScramKeys, derive, make, salted_password
from xmppd.ctl import access


@pytest.fixture
def failures() -> Iterator[list[str]]:
    """What was logged as a failure of the server's own."""
    with exceptions() as found:
        yield found


# ---- races of a login that is under way


def test_a_login_with_the_old_password_is_over_when_the_password_is_changed_while_it_is_written() -> None:
    """Issue 5, part 7: a password change ends all other clients' access, also a login that waits for the store."""
    world = world_of_romeo()
    player = opened(world)
    slow = Slow(world)
    final = scram_first(player, agent(), wants(), BIND)
    changed = changes_password(world, "another")
    slow.quick = False
    player.sends_only(final)  # the proof is right, and what is kept of the login waits for the store
    slow.writes_all()
    world.result(changed)
    assert not is_in(player)
    world.advance(1)
    for element in player.all_that_came():
        if element.tag == f"{{{SASL2}}}success" and has_token(element):
            assert not is_in_by(world, token_of(element))


def test_a_client_that_binds_while_a_password_change_is_tidied_up_does_not_stay() -> None:
    """Issue 5, part 7: it has logged in with the old password, and binds between the end of the sessions and the end of
    the streams without one."""
    world = world_of_romeo()
    account = world.run(world.host.accounts.load("romeo"))
    for name in ("one", "two"):
        world.run(access.grant(account, name))
    player = opened(world)
    succeeds(player, by_password())
    player.forget()
    slow = Slow(world)
    slow.quick = False
    changed = changes_password(world, "another")
    world.settle()
    slow.writes()  # the keys are others
    slow.writes()  # there are no tokens; sessions end, and grants are looked for
    player.sends("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    slow.writes_all()
    world.result(changed)
    assert not is_in(player)


def test_keys_made_of_the_old_password_do_not_replace_those_of_the_new_one() -> None:
    """XEP-0480 section 4: keys that are made after a login are of the password that is in force."""
    world = of_old_times()
    player = opened(world)
    waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
    inline = world.server.in_thread
    calls = 0

    def in_thread(work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        nonlocal calls
        calls += 1
        if calls != 2:  # the second one makes the keys, and takes its time
            return inline(work, *arguments)
        later: Deferred[Any] = Deferred()
        waiting.append((later, lambda: work(*arguments)))
        return later

    world.server.in_thread = in_thread  # type: ignore[assignment]
    succeeds(player, by_password(agent()))
    world.result(changes_password(world, "another"))
    for later, work in waiting:
        later.callback(work())
    world.advance(1)
    stale = opened(world)
    client = Client("secret", hash_name="SHA-512")
    stale.sends(authenticate("SCRAM-SHA-512", client.first(), agent(), BIND))
    came = stale.takes()
    if came.tag == f"{{{SASL2}}}challenge":
        final = client.final(base64.b64decode(came.text or ""))
        fails(stale, f"<response xmlns='{SASL2}'>{b64(final)}</response>", "not-authorized")


def of_old_times() -> World:
    """The account of romeo has no keys for SCRAM-SHA-512 yet."""
    world = World()
    keys = make("secret", hashes=("SHA-1", "SHA-256"), iterations=1).keys
    rows = {name: (k.salt, k.iterations, k.stored_key, k.server_key) for name, k in keys.items()}
    world.result(world.store.accounts.create("example.org", "romeo", rows))
    world.run(world.host.accounts.look_at_hashes())
    return world


def in_an_upgrade() -> tuple[World, Player, str]:
    """A client that has been asked to salt its password for SCRAM-SHA-512, and what it answers."""
    world = of_old_times()
    player = opened(world)
    final = scram_first(player, agent(), "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>")
    player.sends(final)
    assert player.takes().tag == f"{{{SASL2}}}continue"
    player.sends(f"<next xmlns='{SASL2}' task='UPGR-SCRAM-SHA-512'/>")
    salt = player.takes()[0]
    salted = salted_password(b"secret", base64.b64decode(salt.text or ""), int(salt.get("iterations", "")), "SHA-512")
    content = f"<hash xmlns='urn:xmpp:scram-upgrade:0'>{b64(salted)}</hash>"
    return world, player, f"<task-data xmlns='{SASL2}'>{content}</task-data>"


def test_an_upgrade_gives_keys_of_the_same_password() -> None:
    """XEP-0480 section 4."""
    world, player, task_data = in_an_upgrade()
    succeeds(player, task_data)
    now = world.run(world.host.accounts.credentials("romeo")).keys
    assert now.keys() == {"SHA-1", "SHA-256", "SHA-512"}
    assert now["SHA-512"].stored_key == derive("secret", "SHA-512", *_salt(now["SHA-512"])).stored_key


def _salt(keys: ScramKeys) -> tuple[bytes, int]:
    return keys.salt, keys.iterations


def test_an_upgrade_with_the_old_password_does_not_replace_keys_of_the_new_one() -> None:
    """XEP-0480 section 4, with a change of the password while the keys of the upgrade are written."""
    world, player, task_data = in_an_upgrade()
    account = world.run(world.host.accounts.load("romeo"))
    slow = Slow(world)
    slow.quick = False
    player.sends_only(task_data)
    changed = Deferred.fromCoroutine(world.host.accounts.set_password(account, "another"))
    slow.writes_all()
    world.result(changed)
    now = world.run(world.host.accounts.credentials("romeo")).keys["SHA-512"]
    assert now.stored_key == derive("another", "SHA-512", *_salt(now)).stored_key


def test_an_account_that_was_made_anew_during_a_login_is_not_the_old_owners() -> None:
    """RFC 6120 section 6: the proof was of the account that is gone; security.md 2, identity confusion."""
    world = world_of_romeo()
    player = opened(world)
    final = scram_first(player, agent(), BIND)
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.accounts.delete(account))
    del account
    world.account(ROMEO, "of somebody else")
    player.sends(final)
    assert not is_in(player)


def test_an_account_that_goes_while_its_keys_are_upgraded_is_no_exception(failures: list[str]) -> None:
    """Security, requirement 15: it is gone between the two things that are asked of the store."""
    world, player, task_data = in_an_upgrade()
    account = world.run(world.host.accounts.load("romeo"))
    slow = Slow(world)
    slow.quick = False
    player.sends_only(task_data)
    gone = Deferred.fromCoroutine(world.host.accounts.delete(account))
    slow.writes_all()
    world.result(gone)
    assert not is_in(player)
    assert not failures, failures


def test_a_grant_that_is_revoked_during_a_login_lets_nobody_in() -> None:
    """Issue 5, part 7: revocation ends at once, also a login that has begun; and no token is made of it."""
    world = world_of_romeo()
    account = world.run(world.host.accounts.load("romeo"))
    made = world.run(access.grant(account, "mutt"))
    player = opened(world)
    final = scram_first(player, agent(), wants(), BIND, password=made["password"])
    world.run(access.revoke(account, made["id"]))
    player.sends(final)
    assert not is_in(player)


def test_a_token_of_a_grant_ends_with_the_grant_although_another_grant_was_used_since() -> None:
    """Issue 5, part 7: the revocation of a grant ends the tokens that were got by it."""
    world = world_of_romeo()
    account = world.run(world.host.accounts.load("romeo"))
    one = world.run(access.grant(account, "one"))
    two = world.run(access.grant(account, "two"))
    token = a_token(world, password=one["password"])
    succeeds(opened(world), by_password(agent(), password=two["password"]))
    world.run(access.revoke(account, one["id"]))
    player = opened(world)
    player.sends(by_token(token, BIND))
    assert not is_in(player)


def test_a_client_that_has_logged_in_and_not_bound_is_ended_by_its_revocation() -> None:
    """Issue 5, part 7: revocation ends the client's access at once; part 1: binding the old way comes later."""
    world = world_of_romeo()
    token = a_token(world)
    player = opened(world)
    succeeds(player, by_token(token))
    account = world.run(world.host.accounts.load("romeo"))
    entry = world.run(access.clients(account))[0]
    world.run(access.revoke(account, entry["id"]))
    assert not is_in(player)


def two_at_once(tag: str) -> tuple[World, Player, Player]:
    """Two logins of one client, the first of which has bound its resource and waits for the archive and the offline
    messages when the second one binds, with another or the same tag."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    for number in range(120):
        juliet.sends(f"<message to='{ROMEO}' type='chat' id='{number}'><body>x</body></message>")
    early, late = opened(world), opened(world)
    slow = Slow(world)
    slow.quick = False
    early.sends(by_password(agent(), MANAGED))
    while early.stream.session is None:
        slow.writes()
    late.sends(by_password(agent(), MANAGED.replace("App", tag)))
    slow.writes_all()
    world.advance(10)
    return world, early, late


def test_two_logins_of_one_client_at_once_leave_the_later_one() -> None:
    """XEP-0386 section 3.2: the client's earlier sessions end, not the later one."""
    _, early, late = two_at_once("Other")
    assert is_in(late)
    assert not is_in(early)


def test_two_logins_of_one_client_for_one_resource_leave_nothing_of_the_first() -> None:
    """XEP-0386 section 3.2: the first is over before its stream management begins, and is not back at a restart."""
    world, early, late = two_at_once("App")
    assert is_in(late)
    assert not is_in(early)
    world.advance(60)
    assert len(world.result(world.store.sm.sessions(late.stream.session.account.id))) == 1
    late.disconnects()
    id = re.findall(rb"<enabled [^>]*id='([^']*)'", late.wire.written)[0].decode()
    got = succeeds(opened(world), by_password(agent(), f"<resume xmlns='{SM}' h='0' previd='{id}'/>"))
    assert got.find(f"{{{SM}}}resumed") is not None


def test_the_session_of_a_client_is_whose_who_resumes_it() -> None:
    """Issue 5, parts 6 and 7: who has resumed a session by an application password may not manage what has access."""
    world = world_of_romeo()
    account = world.run(world.host.accounts.load("romeo"))
    made = world.run(access.grant(account, "mutt"))
    first = online(world, MANAGED)
    first.disconnects()
    id = re.findall(rb"<enabled [^>]*id='([^']*)'", first.wire.written)[0].decode()
    player = opened(world)
    resume = f"<resume xmlns='{SM}' h='0' previd='{id}'/>"
    succeeds(player, by_password(agent(OTHER_ID), resume, password=made["password"]))
    player.forget()
    player.sends("<iq type='get' id='l'><list xmlns='urn:xmpp:cam:0'/></iq>")
    assert player.takes().get("type") == "error"


@pytest.mark.parametrize("step", range(12))
def test_a_connection_that_breaks_during_a_login_leaves_nothing(step: int, failures: list[str]) -> None:
    """XEP-0198 section 3: whoever was not told of a session has none, neither now nor after a restart. The connection
    breaks after each thing that the login waits for."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    for number in range(60):
        juliet.sends(f"<message to='{ROMEO}' type='chat' id='{number}'><body>x</body></message>")
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), wants(), MANAGED))
    for _ in range(step):
        if slow._waiting:
            slow.writes()
    told = b"<success" in player.wire.written
    player.disconnects()
    slow.writes_all()
    world.advance(10)
    sessions = [session for session in world.server.sessions if session.jid.local == "romeo"]
    assert not failures, failures
    if not told:
        assert not sessions
        assert not world.result(world.store.sm.accounts("example.org"))
    assert is_in(online(world))


# ---- what a session is sent while it begins


def test_what_is_sent_before_stream_management_begins_is_not_counted_by_the_client() -> None:
    """XEP-0198 section 4: counting begins when ``<enabled/>`` is sent; what waits behind it is in the count, and kept
    if the connection breaks."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    first = online(world, MANAGED)
    full = first.full
    first.sends("</stream:stream>")
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), MANAGED))
    for _ in range(20):
        if player.stream.session is not None:
            break
        slow.writes()
    juliet.sends(f"<presence type='unavailable' to='{full}'/>")
    juliet.sends(f"<message to='{full}' type='headline' id='m'><body>hi</body></message>")
    slow.writes_all()
    came = player.all_that_came()
    names = [element.tag.rpartition("}")[2] for element in came]
    assert names[0] == "success"
    stanzas = [name for name in names[1:] if name in ("message", "presence", "iq")]
    assert stanzas, names
    player.sends(f"<a xmlns='{SM}' h='{len(stanzas)}'/>")
    assert not player.wire.closed, player.wire.written[-300:]


def test_a_message_after_the_announced_end_of_the_archive_is_not_taken_from_the_offline_ones() -> None:
    """XEP-0386 section 3.2: the client reads the archive up to the end that it was told; what comes later is
    delivered."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends(by_password(agent(), BIND))
    for _ in range(20):
        if player.stream.session is not None:
            break
        slow.writes()
    juliet.sends("<message to='romeo@example.org' type='chat' id='m'><body>hi</body></message>")
    slow.writes_all()
    success = player.takes()
    metadata = success.find(".//{urn:xmpp:mam:2}metadata")
    assert metadata is not None
    told = len(metadata) > 0
    player.takes()
    player.sends("<presence/>")
    messages = [element for element in player.all_that_came() if element.tag.endswith("}message")]
    assert told or messages


def test_a_second_request_for_stream_management_in_one_bind_is_refused() -> None:
    """XEP-0198 section 3: ``<enable/>`` twice is answered with unexpected-request."""
    world = world_of_romeo()
    enable = f"<enable xmlns='{SM}' resume='true'/>"
    success = succeeds(opened(world), by_password(agent(), f"<bind xmlns='{BIND2}'>{enable}{enable}</bind>"))
    assert len(success.findall(f".//{{{SM}}}enabled")) == 1


def test_a_client_that_does_not_read_does_not_keep_others_of_the_account_out() -> None:
    """Security, requirement 12: a slow reader harms nobody else. It is handed its offline messages while another client
    logs in."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    for number in range(60):
        juliet.sends(f"<message to='{ROMEO}' type='chat' id='{number}'><body>{'x' * 3000}</body></message>")
    stuck = world.login(f"{ROMEO}/stuck")
    stuck.wire.stuck = True
    stuck.sends("<presence/>")
    player = opened(world)
    player.sends(by_password(agent(), BIND))
    world.advance(5)
    assert [element.tag for element in player.all_that_came()][:1] == [f"{{{SASL2}}}success"]


def test_the_same_client_gets_in_although_its_last_connection_is_dead() -> None:
    """XEP-0386 section 3.2: the client's earlier session, to which nothing goes out any more, does not hold it up."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    for number in range(60):
        juliet.sends(f"<message to='{ROMEO}' type='chat' id='{number}'><body>{'x' * 3000}</body></message>")
    stuck = opened(world)
    succeeds(stuck, by_password(agent()))
    stuck.forget()
    stuck.bind("here")
    stuck.wire.stuck = True
    stuck.sends("<presence/>")
    player = opened(world)
    player.sends(by_password(agent(), BIND))
    world.advance(5)
    assert [element.tag for element in player.all_that_came()][:1] == [f"{{{SASL2}}}success"]


def test_what_the_earlier_session_had_not_acknowledged_is_not_lost() -> None:
    """XEP-0198 section 5: it goes where it would go now, though the same client has taken the resource."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    first = online(world, MANAGED)
    first.sends("<presence/>")
    juliet.sends(
        f"<message to='{ROMEO}' type='chat' id='m'><body>hi</body><no-store xmlns='urn:xmpp:hints'/></message>"
    )
    juliet.sends(f"<message to='{ROMEO}' type='chat' id='n'><body>kept</body></message>")
    first.disconnects()
    second = opened(world)
    success = succeeds(second, by_password(agent(), MANAGED))
    metadata = success.find(".//{urn:xmpp:mam:2}metadata")
    assert metadata is not None and len(metadata) == 2
    assert second.full == first.full
    assert len(list(world.server.sessions)) == 2


# ---- a store that fails


@pytest.mark.parametrize("turn", range(1, 8))
def test_a_store_that_fails_once_leaves_no_half_login(turn: int, failures: list[str]) -> None:
    """Each transaction of a login fails in its turn: the client is told something true, and can try again."""
    world = world_of_romeo()
    token = a_token(world)
    player = opened(world)
    with broken(world, turn):
        player.sends(by_token(token, MANAGED, wants(), fast="count='1'"))
    came = player.all_that_came()
    assert came or player.wire.closed
    assert not failures, failures
    if came[0].tag == f"{{{SASL2}}}failure":
        assert came[0][0].tag.endswith("}temporary-auth-failure")
        succeeds(player, by_token(token, MANAGED, wants(), fast="count='2'"))
    else:
        assert came[0].tag == f"{{{SASL2}}}success"
    assert is_in(player)


def test_a_password_change_ends_sessions_although_the_store_fails_after_it() -> None:
    """Issue 5, part 7: the password is another one; that what is void could not be tidied up changes nothing."""
    world = world_of_romeo()
    other = online(world)
    account = world.run(world.host.accounts.load("romeo"))
    with broken(world, *range(2, 50)):
        changed = Deferred.fromCoroutine(world.host.accounts.set_password(account, "another"))
        changed.addErrback(lambda failure: None)
        world.settle()
    row = world.result(world.store.accounts.find("example.org", "romeo"))
    assert row is not None and row.password_changed
    assert not is_in(other)


@pytest.mark.parametrize("wanted", ["", "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>"])
def test_the_password_of_a_deleted_account_is_none_of_one_that_is_made_again(wanted: str) -> None:
    """Keys for more mechanisms are of whom the password was shown for, not of who has the name by then."""
    world = World()

    def sha_1_only(password: str) -> dict[str, tuple[bytes, int, bytes, bytes]]:
        keys = make(password, iterations=1).keys["SHA-1"]
        return {"SHA-1": (keys.salt, keys.iterations, keys.stored_key, keys.server_key)}

    world.result(world.store.accounts.create("example.org", "romeo", sha_1_only("old")))
    world.starts()
    old = world.run(world.host.accounts.load("romeo"))
    player = opened(world)
    slow = Slow(world)
    slow.quick = False
    player.sends_only(authenticate("PLAIN", b"\0romeo\0old", wanted, BIND))
    world.settle()
    world.store.accounts.delete(old.id)  # comes behind the first look at the keys, and before the second
    world.store.accounts.create("example.org", "romeo", sha_1_only("new"))
    slow.writes_all()
    task = "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-256'/>"
    player.sends(task)
    counts, accounts = world.result(world.store.accounts.hashes("example.org"))
    assert accounts == 1 and counts == {"SHA-1": 1}
    assert b"UPGR" not in b"".join(player.received_bytes().split(b"</stream:features>")[1:])
