"""Push notifications that go wrong: app servers that refuse, do not answer or are away, stores that fail, and processes
that end in between."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.support.disk import broken
from tests.support.faulty import Disk
from tests.support.push import APP, PHONE, ROMEO, SECTIONS, AppServer, disable, enable, passes, phone, resume, says
from tests.support.world import STARTED, Player, World
from xmppd.modules.cloud_notify.outbox import Outbox
from xmppd.modules.cloud_notify.registrations import Registrations

JULIET = "juliet@example.org/balcony"
DAY = 24 * 3600


def make(config: str = "") -> tuple[World, AppServer, Player]:
    world = World(config, SECTIONS)
    app = AppServer(world)
    return world, app, world.online(JULIET)


def lasting() -> tuple[World, AppServer, Player, Disk]:
    """A server whose disk outlives it."""
    disk = Disk()
    clock = Clock()
    clock.advance(STARTED)
    world = World("", SECTIONS, clock=clock, store=disk.store(clock))
    app = AppServer(world)
    return world, app, world.online(JULIET), disk


def next_process(world: World, disk: Disk, in_order: bool = False) -> tuple[World, AppServer]:
    """The server is killed, or ends in order, and starts again."""
    if in_order:
        world.stops()
    world.clock.calls.clear()
    after = World("", SECTIONS, clock=world.clock, store=disk.store(world.clock))
    after.starts()
    return after, AppServer(after)


def sleeper(world: World) -> Player:
    """A phone that is not there, and has no session."""
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    return romeo


def count(world: World) -> int:
    return len(world.run(world.host.accounts.load("romeo")).get(Registrations).known)


def errors(world: World) -> int:
    (entry,) = world.run(world.host.accounts.load("romeo")).get(Registrations).known.values()
    return entry.errors


# ---- permanent errors


def test_permanent_errors_in_a_row_end_a_registration() -> None:
    world, app, juliet = make()
    sleeper(world)
    for number in range(16):
        assert count(world) == 1 and errors(world) == number
        says(juliet, str(number))
        world.advance(1)
        app.fails("item-not-found", "cancel")
    assert count(world) == 0
    says(juliet)
    app.nothing()
    world.clock.calls.clear()
    again = World(sections=SECTIONS, before=world)
    again.starts()
    assert count(again) == 0


def test_a_refused_push_is_not_sent_again() -> None:
    world, app, juliet = make()
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.fails("forbidden", "auth")
    world.advance(DAY)
    assert app.pushes() == []


def test_a_success_counts_from_the_beginning_again() -> None:
    world, app, juliet = make("push_max_errors = 3\n")
    sleeper(world)
    for answer in ("no", "no", "yes", "no", "no"):
        says(juliet, answer)
        world.advance(1)
        if answer == "yes":
            app.push()
        else:
            app.fails("item-not-found", "cancel")
    assert errors(world) == 2
    says(juliet)
    world.advance(1)
    app.fails("item-not-found", "cancel")
    assert count(world) == 0


def test_errors_in_a_row_are_counted_over_a_restart() -> None:
    world, app, juliet = make("push_max_errors = 2\n")
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.fails("item-not-found", "cancel")
    again = World("push_max_errors = 2\n", SECTIONS, before=world)
    again.starts()
    app, juliet = AppServer(again), again.online(JULIET)
    says(juliet)
    again.advance(1)
    app.fails("item-not-found", "cancel")
    assert count(again) == 0


def test_a_live_session_has_none_either_once_it_is_disabled() -> None:
    world, app, juliet = make("push_max_errors = 1\n")
    romeo, _ = phone(world)
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    app.fails("item-not-found", "cancel")
    says(juliet)
    app.nothing()


# ---- whose answers count


def test_an_error_of_somebody_else_does_not_count() -> None:
    world, app, juliet = make("push_max_errors = 1\n")
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.answering = False
    push = app.push()
    for sender in (f"other@{APP}", f"{APP}/resource"):
        app.component.answers(push.iq, "error", "<error type='cancel'/>", sender=sender)
    assert count(world) == 1
    app.component.answers(push.iq)
    app.component.answers(push.iq, "error", "<error type='cancel'/>")  # twice
    assert count(world) == 1


def test_an_answer_that_comes_when_the_registration_is_gone_changes_nothing() -> None:
    world, app, juliet = make("push_max_errors = 1\n")
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    app.answering = False
    push = app.push()
    romeo = world.login(f"{ROMEO}/other")
    disable(romeo)
    enable(romeo)
    app.component.answers(push.iq, "error", "<error type='cancel'/>")
    assert count(world) == 1 and errors(world) == 0


# ---- errors that pass


@pytest.mark.parametrize(("condition", "type"), [
    ("remote-server-not-found", "cancel"),
    ("remote-server-timeout", "wait"),
    ("remote-server-timeout", "cancel"),
    ("service-unavailable", "wait"),
    ("internal-server-error", "wait"),
    ("resource-constraint", "wait"),
])  # fmt: skip
def test_an_error_that_passes_does_not_count_and_the_push_is_sent_again(condition: str, type: str) -> None:
    world, app, juliet = make("push_max_errors = 1\n")
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.fails(condition, type)
    assert count(world) == 1 and errors(world) == 0
    world.advance(14)
    assert app.pushes() == []
    world.advance(1)
    assert app.push().important
    world.advance(DAY)
    assert app.pushes() == []


def test_tries_come_less_and_less_often() -> None:
    world, app, juliet = make("push_expires_after = 30d\n")
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.fails("remote-server-timeout", "wait")
    for seconds in (15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600):
        world.advance(seconds - 1)
        assert app.pushes() == []
        world.advance(1)
        app.fails("remote-server-timeout", "wait")
    assert count(world) == 1 and errors(world) == 0


def test_an_app_server_that_never_answers_is_tried_again() -> None:
    world, app, juliet = make("push_timeout = 30s\n")
    sleeper(world)
    app.answering = False
    says(juliet)
    world.advance(1)
    first = app.push()
    world.advance(30)
    world.advance(15)
    second = app.push()
    assert first.iq.get("id") != second.iq.get("id")
    assert count(world) == 1 and errors(world) == 0
    app.component.answers(first.iq, "error", "<error type='cancel'/>")  # too late
    app.component.answers(second.iq)
    world.advance(DAY)
    assert app.pushes() == [] and errors(world) == 0


def test_an_app_server_that_is_away_for_a_day_is_told_when_it_is_back() -> None:
    world, app, juliet = make("push_notification_with_body = yes\n")
    sleeper(world)
    app.component.disconnects()
    for hour in range(24):
        says(juliet, f"hour {hour}")
        passes(world, 2)
        world.advance(3600)
    app = AppServer(world)
    world.advance(3600)
    push = app.push()
    assert push.fields["last-message-body"] == "hour 23"
    assert push.fields["message-count"] == "24"
    app.nothing()
    says(juliet)
    world.advance(1)
    assert app.push().fields["message-count"] == "1"


def test_something_new_does_not_wait_for_the_next_try() -> None:
    world, app, juliet = make()
    sleeper(world)
    app.component.disconnects()
    says(juliet)
    world.advance(1)
    for _ in range(10):
        world.advance(3600)
    app = AppServer(world)
    says(juliet)
    world.advance(1)
    assert app.push().fields["message-count"] == "2"


def test_when_an_app_server_is_back_others_who_wait_for_it_are_tried() -> None:
    world, app, juliet = make()
    for number in range(30):
        romeo = world.online(f"romeo{number}@example.org/phone")
        enable(romeo, f"n{number}")
        romeo.disconnects()
    app.component.disconnects()
    for number in range(30):
        says(juliet, to=f"romeo{number}@example.org")
    world.advance(1)
    for _ in range(10):
        world.advance(3600)
    app = AppServer(world)
    world.advance(10)
    says(juliet, to="romeo0@example.org")
    world.advance(1)
    nodes = set()
    for _ in range(5):
        nodes |= {push.node for push in app.pushes()}
        world.settle()
    assert nodes == {f"n{number}" for number in range(30)}


def test_a_push_that_nobody_takes_is_given_up_in_the_end() -> None:
    world, app, juliet = make("push_expires_after = 2h\n")
    sleeper(world)
    app.component.disconnects()
    says(juliet)
    world.advance(1)
    for _ in range(5):
        world.advance(3600)
    app = AppServer(world)
    world.advance(DAY)
    assert app.pushes() == []
    assert len(world.host.service(Outbox)) == 0
    assert count(world) == 1


def test_a_domain_that_is_nowhere_does_not_end_a_registration() -> None:
    world, _, juliet = make("push_max_errors = 1\n")
    romeo = world.online(PHONE)
    enable(romeo, jid="push.nowhere.example")
    romeo.disconnects()
    for _ in range(20):
        says(juliet)
        world.advance(60)
    assert count(world) == 1 and errors(world) == 0


def test_pushes_for_only_so_many_registrations_wait() -> None:
    world, app, juliet = make("push_max_pending = 2\n")
    for number in range(4):
        romeo = world.online(f"romeo{number}@example.org/phone")
        enable(romeo, f"n{number}")
        romeo.disconnects()
    app.component.disconnects()
    for number in range(4):
        says(juliet, to=f"romeo{number}@example.org")
    world.advance(1)
    assert len(world.host.service(Outbox)) == 2
    app = AppServer(world)
    passes(world, 15)
    assert sorted(push.node or "" for push in app.pushes()) == ["n0", "n1"]
    says(juliet, to="romeo3@example.org")
    world.advance(1)
    assert app.push().node == "n3"


# ---- hibernation is extended


def is_there(world: World, id: str, h: int = 1) -> bool:
    """Whether the phone can resume; it does, if so."""
    player = world.connect()
    player.authenticate("romeo", "example.org", "secret")
    player.sends(f"<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")
    return player.takes().tag == "{urn:xmpp:sm:3}resumed"


def test_a_session_that_can_be_woken_waits_for_longer() -> None:
    world, app, _ = make()
    romeo, id = phone(world)
    romeo.disconnects()
    world.advance(72 * 3600 - 1)
    assert app.pushes() == []
    assert is_there(world, id)


def test_but_not_for_ever() -> None:
    world, _, _ = make()
    romeo, id = phone(world)
    romeo.disconnects()
    world.advance(72 * 3600)
    assert not is_there(world, id)


def test_one_that_cannot_be_woken_waits_as_long_as_usual() -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    romeo.sends("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    id = romeo.takes().get("id") or ""
    romeo.disconnects()
    world.advance(600)
    assert not is_there(world, id, 0)


def test_from_the_first_important_push_on_the_usual_time_runs() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    romeo.disconnects()
    world.advance(DAY)
    juliet.sends(f"<message to='{ROMEO}' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='x'/></message>")
    world.advance(1)
    assert not app.push().important
    world.advance(DAY)
    says(juliet)
    world.advance(1)
    assert app.push().important
    world.advance(300)
    says(juliet)  # only the first one counts
    world.advance(298)
    assert app.push().important
    assert is_there(world, id)
    romeo, id = phone(world, f"{ROMEO}/two", node="two")
    romeo.disconnects()
    world.advance(DAY)
    says(juliet)
    world.advance(1)
    app.pushes()
    world.advance(600)
    assert not is_there(world, id)


def test_where_pushes_cannot_be_told_apart_any_of_them_counts() -> None:
    world, app, juliet = make("push_notification_important_body =\n")
    romeo, id = phone(world)
    romeo.disconnects()
    juliet.sends(f"<message to='{ROMEO}' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='x'/></message>")
    world.advance(1)
    app.push()
    world.advance(600)
    assert not is_there(world, id)


def test_who_was_woken_before_the_connection_broke_is_not_waited_for_any_longer() -> None:
    world, app, juliet = make("smacks_max_ack_delay = 5s\n")
    romeo, id = phone(world)
    says(juliet)
    passes(world, 10)
    assert app.push().important
    romeo.disconnects()
    world.advance(600)
    assert not is_there(world, id)


def test_who_cannot_be_woken_any_more_is_waited_for_as_long_as_usual() -> None:
    world, _, _ = make()
    romeo, id = phone(world)
    romeo.disconnects()
    world.advance(DAY)
    other = world.login(f"{ROMEO}/other")
    disable(other)
    world.advance(600)
    assert not is_there(world, id)


def test_the_time_goes_on_over_a_restart() -> None:
    for seconds, there in ((72 * 3600 - 2, True), (72 * 3600 - 1, False)):
        world, _, _ = make()
        romeo, id = phone(world)
        romeo.disconnects()
        world.advance(1)
        world = World(sections=SECTIONS, before=world)
        world.starts()
        world.advance(seconds)
        assert is_there(world, id) == there


def test_the_usual_time_after_a_push_goes_on_over_a_restart_too() -> None:
    for seconds, there in ((597, True), (598, False)):
        world, app, juliet = make()
        romeo, id = phone(world)
        romeo.disconnects()
        world.advance(DAY)
        says(juliet)
        world.advance(1)
        app.push()
        world.advance(2)
        world = World(sections=SECTIONS, before=world)
        world.starts()
        world.advance(seconds)
        assert is_there(world, id) == there


# ---- a restart, a crash, a disk that fails


def test_what_was_pushed_is_not_pushed_again_after_a_crash() -> None:
    world, app, juliet, disk = lasting()
    romeo, id = phone(world)
    says(juliet, "first")
    romeo.disconnects()
    world.advance(1)
    assert app.push().important
    world, app = next_process(world, disk)
    world.advance(60)
    assert app.pushes() == []
    again = resume(world, id, 1)
    assert again.takes().findtext("{jabber:client}body") == "first"
    again.receives("<r xmlns='urn:xmpp:sm:3'/>")
    again.receives_nothing()


def test_what_waited_to_be_pushed_at_a_crash_is_pushed_by_the_next_process() -> None:
    world, app, juliet, disk = lasting()
    sleeper(world)
    says(juliet)
    world.advance(0.5)
    assert app.pushes() == []
    world, app = next_process(world, disk)
    world.advance(10)
    assert app.push().fields["message-count"] == "1"
    world, app = next_process(world, disk)
    world.advance(60)
    assert app.pushes() == []


def test_what_waited_for_an_app_server_is_pushed_by_the_next_process() -> None:
    world, app, juliet, disk = lasting()
    sleeper(world)
    app.component.disconnects()
    says(juliet)
    world.advance(100)
    world, app = next_process(world, disk, in_order=True)
    world.advance(10)
    assert app.push().important


def test_a_session_that_a_crash_has_cut_off_is_woken_for_what_it_had_not_acknowledged() -> None:
    world, _, juliet, disk = lasting()
    _, id = phone(world)
    says(juliet)
    world.advance(3)
    world, app = next_process(world, disk)
    world.advance(1)  # until the session is there again
    world.advance(9)
    assert app.pushes() == []
    world.advance(1)
    assert app.push().important
    assert is_there(world, id)


def test_clients_that_come_back_after_a_restart_by_themselves_are_not_woken() -> None:
    world, _, juliet, disk = lasting()
    _, id = phone(world)
    says(juliet)
    world.advance(3)
    world, app = next_process(world, disk)
    world.advance(5)
    assert is_there(world, id)
    world.advance(60)
    assert app.pushes() == []


def test_a_push_whose_answer_is_not_known_at_the_end_is_not_sent_twice() -> None:
    world, app, juliet, disk = lasting()
    sleeper(world)
    app.answering = False
    says(juliet)
    world.advance(1)
    app.push()
    world, app = next_process(world, disk, in_order=True)
    world.advance(60)
    assert app.pushes() == []


def test_a_registration_that_cannot_be_stored_is_refused() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    with broken(world):
        romeo.sends(f"<iq type='set' id='e'><enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'/></iq>")
        romeo.receives_error("resource-constraint", "wait", id="e")
        assert count(world) == 0
    enable(romeo)
    with broken(world):
        romeo.sends(f"<iq type='set' id='e'><disable xmlns='urn:xmpp:push:0' jid='{APP}'/></iq>")
        romeo.receives_error("resource-constraint", "wait", id="e")
    assert count(world) == 1
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    app.push()


def test_a_disk_that_is_full_keeps_nobody_from_being_woken() -> None:
    world, app, juliet = make()
    _, id = phone(world)
    says(juliet)
    world.result(world.store.barrier())
    romeo = next(iter(world.server.sessions.of(ROMEO)))
    with broken(world):
        romeo.carrier.transport.closed = True  # type: ignore[attr-defined]
        romeo.carrier.connection_lost("the network broke")  # type: ignore[attr-defined]
        world.settle()
        world.advance(1)
        assert app.push().important
    world.advance(2)
    assert is_there(world, id)


def test_a_message_that_could_not_be_stored_wakes_nobody() -> None:
    world, app, juliet = make()
    sleeper(world)
    with broken(world):
        says(juliet, id="m")
        juliet.receives_error("resource-constraint", "wait", id="m", sender=ROMEO)
    app.nothing()
