"""Stream management and the disk: what is promised when it is slow, full, silent, or gone with the process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from tests.modules.test_smacks import HELLO, SM, back, managed
from tests.support.disk import Slow, broken, crash
from tests.support.world import Player, World

JULIET, BALCONY = "juliet@example.org", "juliet@example.org/balcony"
ORCHARD = "romeo@example.org/orchard"


def told(player: Player) -> list[str]:
    """What has come, without requests for acknowledgements: an ``a`` with its count, else what it says or is."""
    lines = []
    for element in player.all_that_came():
        name = element.tag.partition("}")[2]
        if name == "message" and element.get("type") != "error":
            lines.append(element.findtext("{jabber:client}body") or "")
        elif name != "r":
            lines.append(" ".join(filter(None, (name, element.get("type"), element.get("h")))))
    return lines


def count(world: World, table: str) -> int:
    """How many rows a table has."""
    found: int = world.result(
        world.store.read(lambda connection: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
    )
    return found


def resumes(world: World, user: str, id: str, h: int) -> Player:
    """A client that comes back; the answer is left to be looked at."""
    player = back(world, user)
    player.forget()
    player.sends(f"<resume {SM} previd='{id}' h='{h}'/>")
    return player


# ---- a message, its sender's count, and the disk


def test_a_message_is_on_disk_before_it_is_sent() -> None:
    world = World()
    juliet, _ = managed(world, BALCONY)
    romeo = world.online(ORCHARD)
    disk = Slow(world)
    disk.quick = False
    romeo.sends(HELLO.format("held"))
    romeo.sends(f"<presence to='{BALCONY}'/>")
    juliet.receives_nothing()
    disk.writes()
    assert told(juliet) == ["held", "presence"]


def test_a_count_and_what_it_counts_are_one_transaction() -> None:
    """A crash before or after a commit: the message is there and counted, or neither."""
    for committed in (False, True):
        world = World()
        _, hers = managed(world, BALCONY)
        romeo, his = managed(world, ORCHARD)
        disk = Slow(world)
        disk.quick = False
        romeo.sends(HELLO.format("one"))
        if committed:
            disk.writes()
        world = crash(world)
        assert told(resumes(world, "romeo", his, 0)) == [f"resumed {int(committed)}"]
        assert told(resumes(world, "juliet", hers, 0))[1:2] == (["one"] if committed else [])


def test_an_answer_is_on_disk_with_the_count_of_its_request() -> None:
    world = World()
    romeo, id = managed(world, ORCHARD)
    ping = "<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>"
    romeo.sends(ping + HELLO.format("to nobody, who is told"))
    romeo.disconnects()
    world = crash(world)
    romeo = resumes(world, "romeo", id, 0)
    assert romeo.takes().get("h") == "2"
    romeo.receives(f"<iq type='result' id='p' from='example.org' to='{ORCHARD}'/>")


def test_counts_do_not_go_back_when_presence_and_messages_mix() -> None:
    world = World()
    world.account(JULIET)
    romeo, id = managed(world, ORCHARD)
    romeo.sends_only(HELLO.format("1") + f"<presence/><r {SM}/>" + HELLO.format("2") + f"<r {SM}/>")
    world.settle()
    romeo.forget()
    romeo.disconnects()
    assert resumes(crash(world), "romeo", id, 2).takes().get("h") == "3"


def test_an_acknowledgement_never_tells_less_than_one_before() -> None:
    """A message is refused after its answer was asked for: the error has to be written, and the next answer is not."""
    world = World("offline_message_limit = 0\n[host:example.org]\nmodules_disabled = mam\n", sections="")
    world.account(JULIET)
    romeo, _ = managed(world, ORCHARD)
    world.run(world.host.accounts.load("juliet"))
    disk = Slow(world)
    disk.quick = False
    for body in ("one", "two"):
        romeo.sends(HELLO.format(body) + f"<r {SM}/>")
    disk.writes_all()
    assert told(romeo) == ["message error", "message error", "a 2", "a 2"]


# ---- a disk that is full


def test_nothing_is_acknowledged_that_could_not_be_stored_and_the_error_comes_first() -> None:
    world = World()
    juliet, _ = managed(world, BALCONY)
    romeo, _ = managed(world, ORCHARD)
    with broken(world):
        romeo.sends(HELLO.format("lost") + f"<r {SM}/>")
        error = romeo.receives_error("resource-constraint", "wait", name="message", sender=JULIET)
        assert error is not None
        romeo.receives_nothing()
        juliet.receives_nothing()
        romeo.sends("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
        assert romeo.takes().get("id") == "p"
    world.advance(5)
    assert told(romeo) == ["a 2"]
    romeo.sends(HELLO.format("there is room again"))
    assert told(juliet) == ["there is room again"]


def test_what_was_promised_while_a_session_could_not_be_written_is_written_before_it_is_counted() -> None:
    world = World()
    world.account(JULIET)
    romeo = world.login(ORCHARD)
    with broken(world):
        romeo.sends(f"<enable {SM} resume='true'/>")
    id = romeo.takes().get("id") or ""
    for body in ("1", "2"):
        romeo.sends(HELLO.format(body) + f"<r {SM}/>")
    assert told(romeo) == ["a 1", "a 2"]
    assert resumes(crash(world), "romeo", id, 0).takes().get("h") == "2"


@pytest.mark.parametrize("how", ["the answer is lost", "the disk hangs"])
def test_a_place_that_may_be_taken_is_not_used_again(how: str) -> None:
    world = World()
    disk = Slow(world)
    juliet, _ = managed(world, BALCONY)
    romeo = world.online(ORCHARD)
    if how == "the answer is lost":
        with broken(world, silently=True):
            romeo.sends(HELLO.format("refused"))
    else:
        disk.quick = False
        romeo.sends(HELLO.format("refused"))
        world.advance(11)
        disk.writes_all()
    romeo.receives_error("resource-constraint", "wait", name="message", sender=JULIET)
    for body in ("a", "b"):
        romeo.sends(HELLO.format(body))
    romeo.receives_nothing()
    assert told(juliet) == ["a", "b"]


def test_a_session_whose_time_is_over_waits_while_nobody_could_take_what_it_has() -> None:
    world = World()
    juliet, _ = managed(world, BALCONY)
    romeo, _ = managed(world, ORCHARD)
    juliet.disconnects()
    romeo.sends(HELLO.format("acknowledged") + f"<r {SM}/>")
    assert told(romeo) == ["a 1"]
    romeo.sends("</stream:stream>")
    world.advance(590)
    with broken(world):
        world.advance(20)
    world.advance(20)
    assert told(_next_login(world)) == ["acknowledged", "presence"]


def test_a_session_that_ends_on_a_full_disk_keeps_what_it_has() -> None:
    world = World()
    juliet, _ = managed(world, BALCONY)
    romeo = world.online(ORCHARD)
    romeo.sends(HELLO.format("unacknowledged"))
    with broken(world):
        romeo.sends(HELLO.format("refused"))
        juliet.sends("</stream:stream>")
        world.advance(20)
    assert count(world, "sm_stanza") == 1
    world.advance(20)
    assert (count(world, "sm_stanza"), count(world, "sm_session")) == (0, 0)
    assert told(_next_login(world)) == ["unacknowledged", "presence"]


def test_a_resumption_after_a_restart_needs_the_disk() -> None:
    world = World()
    juliet, id = managed(world, BALCONY)
    world.online(ORCHARD).sends(HELLO.format("one"))
    world = crash(world)
    juliet = back(world)
    juliet.forget()
    with broken(world):
        juliet.sends(f"<resume {SM} previd='{id}' h='0'/>")
        juliet.receives_stream_error("resource-constraint")
    assert told(resumes(world, "juliet", id, 0))[:2] == ["resumed 0", "one"]


def test_a_resumption_tells_no_count_that_is_not_on_disk() -> None:
    """The count alone is to be written: what waited was acknowledged, and the session is as it was."""
    world = World()
    romeo, id = managed(world, ORCHARD)
    romeo.sends("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>" + f"<a {SM} h='1'/>")
    romeo.disconnects()
    world.advance(2)
    romeo = back(world, "romeo")
    romeo.forget()
    with broken(world):
        romeo.sends(f"<resume {SM} previd='{id}' h='1'/>")
        romeo.receives_stream_error("resource-constraint")
    assert told(resumes(world, "romeo", id, 1))[:1] == ["resumed 1"]
    assert told(resumes(crash(world), "romeo", id, 1))[:1] == ["resumed 1"]


# ---- offline messages change hands


def _offline(world: World, *bodies: str) -> Player:
    """Messages wait for Juliet, who is bound under stream management and not available."""
    world.account(JULIET)
    romeo = world.online(ORCHARD)
    for body in bodies:
        romeo.sends(HELLO.format(body))
    juliet = world.login(BALCONY)
    juliet.sends(f"<enable {SM} resume='true'/>")
    juliet.forget()
    return juliet


def _next_login(world: World) -> Player:
    juliet = world.login("juliet@example.org/next")
    juliet.sends("<presence/>")
    return juliet


def _hangs(world: World, disk: Slow) -> None:
    world.advance(11)
    disk.writes_all()


def _is_silent(world: World, disk: Slow) -> None:
    with broken(world, 1, silently=True):
        disk.writes_all()


def _is_full(world: World, disk: Slow) -> None:
    with broken(world, 1):
        disk.writes_all()


@pytest.mark.parametrize("happens", [_hangs, _is_silent, _is_full])
def test_offline_messages_are_with_one_of_both_whatever_the_disk_does(happens: Callable[[World, Slow], None]) -> None:
    world = World()
    juliet = _offline(world, "one", "two")
    disk = Slow(world)
    disk.quick = False
    juliet.sends("<presence/>")
    disk.writes()  # they were looked for
    happens(world, disk)
    world.advance(2)
    juliet.forget()
    juliet.disconnects()
    world.advance(700)
    assert told(_next_login(world)) == ["one", "two", "presence"]
    assert count(world, "offline_message") == 0


def test_who_cannot_have_what_waits_is_not_available() -> None:
    world = World()
    juliet = _offline(world, "one")
    with broken(world):
        juliet.sends("<presence/>")
    juliet.receives_error("resource-constraint", "wait", name="presence")
    juliet.sends("<presence/>")
    assert told(juliet) == ["one", "presence"]


def test_a_session_that_ends_while_it_is_given_messages_loses_none() -> None:
    world = World()
    juliet = _offline(world, "one", "two")
    disk = Slow(world)
    disk.quick = False
    juliet.sends("<presence/>")
    disk.writes()
    juliet.sends("</stream:stream>")
    disk.writes_all()
    assert told(_next_login(world)) == ["one", "two", "presence"]


# ---- the ends of sessions, and restarts


def test_a_message_in_flight_for_a_session_that_ends_has_one_outcome() -> None:
    world = World()
    juliet, _ = managed(world, BALCONY)
    romeo = world.online(ORCHARD)
    disk = Slow(world)
    disk.quick = False
    romeo.sends(HELLO.format("one"))
    juliet.sends("</stream:stream>")
    with broken(world, 1):
        disk.writes_all()
    world.advance(10)
    assert told(romeo) == []
    assert told(_next_login(world)) == ["one", "presence"]


def test_an_owed_answer_does_not_bring_back_who_has_left() -> None:
    world = World()
    romeo, _ = managed(world, ORCHARD)
    disk = Slow(world)
    disk.quick = False
    romeo.sends(f"<presence/><r {SM}/>")
    romeo.sends("</stream:stream>")
    with broken(world, 1):
        disk.writes_all()
    world.advance(10)
    assert count(world, "sm_session") == 0


def test_removals_keep_their_place_among_other_writes() -> None:
    """One at a time in a group that failed would not be one transaction."""
    world = World("modules_disabled = lastactivity\n")
    world.online(ORCHARD)
    sessions = []
    for name in ("balcony", "chamber"):
        player = world.login(f"{JULIET}/{name}")
        player.sends(f"<presence/><enable {SM}/>")
        sessions.append(player)
    romeo = world.online(ORCHARD)
    disk = Slow(world)
    disk.quick = False
    romeo.sends("<presence/>")  # keeps the writer busy
    sessions[0].sends("</stream:stream>")
    romeo.sends(HELLO.format("one"))
    sessions[1].sends("</stream:stream>")
    groups = world.store.groups
    disk.writes_all()
    assert world.store.groups > groups
    assert told(romeo) == ["presence"]
    assert count(world, "offline_message") == 1


def test_what_another_resource_got_is_not_brought_again() -> None:
    world = World()
    phone, _ = managed(world, f"{JULIET}/phone")
    desktop, _ = managed(world, f"{JULIET}/desktop")
    phone.disconnects()
    world.online(ORCHARD).sends(HELLO.format("both"))
    assert told(desktop) == ["both"]
    world.advance(700)
    assert told(desktop) == ["presence unavailable"]
    desktop.disconnects()
    world.advance(700)
    assert told(_next_login(world)) == ["both", "presence"]


def test_what_came_before_another_resource_is_brought_to_it() -> None:
    world = World()
    phone, _ = managed(world, f"{JULIET}/phone")
    phone.disconnects()
    world.online(ORCHARD).sends(HELLO.format("one"))
    world.advance(1)
    desktop, _ = managed(world, f"{JULIET}/desktop")
    world.advance(700)
    assert told(desktop) == ["presence unavailable", "one"]


def test_a_restart_keeps_who_a_session_was() -> None:
    world = World()
    romeo, his = managed(world, ORCHARD)
    juliet, id = managed(world, BALCONY, "<presence><priority>7</priority><status>here</status></presence>")
    world.befriend(romeo, juliet)
    juliet.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    juliet.sends("<presence to='nurse@example.org'/>")
    juliet.sends("<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>")
    juliet.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    world.advance(2)
    world = crash(world)
    world.advance(1)
    session = world.server.sessions.of(JULIET)[0]
    assert (session.priority, session.interested) == (7, True)
    romeo = resumes(world, "romeo", his, 0)
    seen = [e for e in romeo.all_that_came() if e.get("from") == BALCONY]
    assert seen[-1].findtext("{jabber:client}status") == "here"
    juliet = resumes(world, "juliet", id, 0)
    juliet.forget()
    chamber = world.login(f"{JULIET}/chamber")
    chamber.sends("<message to='romeo@example.org' type='chat'><body>copied</body></message>")
    assert juliet.takes().find("{urn:xmpp:carbons:2}sent") is not None
    chamber.sends("<iq type='set' id='x'><block xmlns='urn:xmpp:blocking'><item jid='a@b'/></block></iq>")
    assert juliet.takes().find("{urn:xmpp:blocking}block") is not None
    nurse = world.online("nurse@example.org/kitchen")
    juliet.sends("</stream:stream>")
    nurse.receives(f"<presence type='unavailable' from='{BALCONY}' to='nurse@example.org'/>")


def test_two_restarts_without_a_resumption() -> None:
    world = World()
    juliet, id = managed(world, BALCONY)
    world.online(ORCHARD).sends(HELLO.format("1"))
    assert told(juliet) == ["1"]
    for body in ("2", "3"):
        world = crash(world)
        world.online(ORCHARD).sends(HELLO.format(body))
    world = crash(world)
    assert told(resumes(world, "juliet", id, 1))[:3] == ["resumed 0", "2", "3"]


def test_presence_that_a_crash_took_is_learnt_again_also_by_the_second_try() -> None:
    world = World()
    romeo, _ = managed(world, ORCHARD)
    juliet, id = managed(world, BALCONY)
    world.befriend(romeo, juliet)
    world.advance(10)
    world = crash(world)
    disk = Slow(world)
    first = back(world)
    disk.quick = False
    first.sends_only(f"<resume {SM} previd='{id}' h='0'/>")
    first.disconnects()
    disk.writes_all()
    again = resumes(world, "juliet", id, 0)
    assert ORCHARD in {element.get("from") for element in again.all_that_came()}


def test_a_crash_after_a_late_resumption_leaves_the_session_all_its_time() -> None:
    world = World()
    juliet, id = managed(world, BALCONY)
    juliet.disconnects()
    world.advance(590)
    resumes(world, "juliet", id, 0)
    world.advance(1)
    world = crash(world)
    world.advance(20)
    assert told(resumes(world, "juliet", id, 0))[:1] == ["resumed 0"]


def test_who_is_coming_back_does_not_make_room() -> None:
    world = World("smacks_max_hibernated_sessions = 1\n")
    one, id = managed(world, f"{JULIET}/one")
    two, _ = managed(world, f"{JULIET}/two")
    one.disconnects()
    world.advance(1)
    player = back(world)
    player.forget()
    disk = Slow(world)
    disk.quick = False
    player.sends_only(f"<resume {SM} previd='{id}' h='0'/>")  # has to wait for the disk
    two.disconnects()
    disk.writes_all()
    assert told(player)[:1] == ["resumed 0"]


def test_a_row_that_cannot_be_read_does_not_keep_the_server_from_starting() -> None:
    world = World()
    _, hers = managed(world, BALCONY)
    managed(world, ORCHARD)
    world.result(world.store.write(lambda connection: connection.execute(
        text("UPDATE sm_session SET state = '[]' WHERE resource = 'orchard'")).rowcount))  # fmt: skip
    world = crash(world)
    assert told(resumes(world, "juliet", hers, 0))[:1] == ["resumed 0"]


def test_time_runs_on_while_the_server_is_down_for_who_hibernated() -> None:
    world = World()
    juliet, id = managed(world, BALCONY)
    romeo, his = managed(world, ORCHARD)
    juliet.disconnects()
    romeo.sends(HELLO.format("one"))
    world.advance(10)
    world.clock.calls.clear()
    world.clock.advance(595)
    world = crash(world)
    assert told(resumes(world, "juliet", id, 0)) == ["failed 0"]
    assert told(resumes(world, "romeo", his, 0))[:1] == ["resumed 1"]
    assert told(_next_login(world)) == ["one", "presence"]
