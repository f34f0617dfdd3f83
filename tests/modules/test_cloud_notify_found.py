"""What was found wrong with push notifications: races, and what an app server can do at the wrong moment."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, globalLogPublisher

from tests.support.disk import Slow, broken
from tests.support.faulty import Disk
from tests.support.push import (
    APP,
    PHONE,
    ROMEO,
    SECTIONS,
    AppServer,
    acknowledge,
    disable,
    enable,
    managed,
    passes,
    phone,
    resume,
    says,
)
from tests.support.sasl2 import IDS, agent, arrives, plain
from tests.support.world import STARTED, Player, World
from xmppd.core.clients import Login
from xmppd.core.events import ClientRevoked, CloudNotifyPing
from xmppd.modules.cloud_notify.outbox import Outbox
from xmppd.modules.cloud_notify.registrations import Registrations
from xmppd.wire.stanza import Stanza

JULIET = "juliet@example.org/balcony"
DAY = 24 * 3600
PROPOSE = "<propose xmlns='urn:xmpp:jingle-message:0' id='call1'/>"
ENABLE = f"<iq type='set' id='push'><enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'/></iq>"
DISABLE = f"<iq type='set' id='push'><disable xmlns='urn:xmpp:push:0' jid='{APP}'/></iq>"
MUTED = "<muted xmlns='tigase:push:filter:muted:0'><item jid='juliet@example.org'/></muted>"


def make(config: str = "") -> tuple[World, AppServer, Player]:
    world = World(config, SECTIONS)
    app = AppServer(world)
    return world, app, world.online(JULIET)


def lasting(config: str = "") -> tuple[World, AppServer, Player, Disk]:
    """A server whose disk outlives it."""
    disk = Disk()
    clock = Clock()
    clock.advance(STARTED)
    world = World(config, SECTIONS, clock=clock, store=disk.store(clock))
    app = AppServer(world)
    return world, app, world.online(JULIET), disk


def next_process(world: World, disk: Disk, config: str = "") -> tuple[World, AppServer]:
    """The server is killed, and starts again."""
    world.clock.calls.clear()
    after = World(config, SECTIONS, clock=world.clock, store=disk.store(world.clock))
    after.starts()
    return after, AppServer(after)


def known(world: World) -> Registrations:
    return world.run(world.host.accounts.load("romeo")).get(Registrations)


def is_there(world: World, id: str, h: int = 1) -> bool:
    player = world.connect()
    player.authenticate("romeo", "example.org", "secret")
    player.sends(f"<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")
    return player.takes().tag == "{urn:xmpp:sm:3}resumed"


def sleeper(world: World) -> Player:
    romeo = world.online(PHONE)
    enable(romeo)
    romeo.disconnects()
    return romeo


# ---- a client that comes for a moment


def test_one_that_resumes_and_goes_without_having_the_message_is_told() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    romeo.disconnects()
    says(juliet)
    world.advance(0.5)
    resume(world, id, 1).disconnects()
    world.advance(2)
    assert app.push().important


def test_and_its_session_waits_until_it_was() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    romeo.disconnects()
    app.component.disconnects()
    says(juliet)
    world.advance(0.5)
    resume(world, id, 1).disconnects()
    world.advance(DAY)
    assert is_there(world, id)


def test_the_same_after_a_restart() -> None:
    world, _, juliet, disk = lasting()
    _, id = phone(world)
    says(juliet)
    world.advance(3)
    world, app = next_process(world, disk)
    world.advance(5)
    resume(world, id, 1).disconnects()
    world.advance(60)
    assert app.push().important


def test_one_that_binds_and_goes_without_presence_is_told() -> None:
    world, app, juliet = make()
    sleeper(world)
    says(juliet)
    world.advance(0.5)
    world.login(PHONE).disconnects()
    world.advance(2)
    assert app.push().important


def test_one_that_is_available_before_the_second_is_over_is_not() -> None:
    world, app, juliet = make()
    sleeper(world)
    says(juliet)
    world.advance(0.5)
    assert b"hi" in world.online(PHONE).received_bytes()
    app.nothing()


def test_one_that_acknowledges_before_the_second_is_over_is_not() -> None:
    world, app, juliet = make("smacks_max_ack_delay = 5s\n")
    romeo, _ = phone(world)
    says(juliet)
    for _ in range(40):
        world.advance(0.25)
        if len(world.host.service(Outbox)):
            break
    acknowledge(romeo, 2)
    world.advance(3)
    assert app.pushes() == []


def test_one_that_comes_while_a_push_is_under_way_is_not_told_again() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    romeo.disconnects()
    says(juliet)
    world.advance(1)
    app.answering = False
    app.push()
    acknowledge(resume(world, id, 1), 2)
    world.advance(30)
    app.answering = True
    world.advance(60)
    assert app.pushes() == []


# ---- an app server that does not answer


def test_a_call_does_not_wait_for_the_answer_to_another_push() -> None:
    world, app, juliet = make()
    sleeper(world)
    app.answering = False
    says(juliet)
    world.advance(1)
    app.push()
    says(juliet, "", inner=PROPOSE)
    assert len(app.pushes()) == 1


def test_only_so_many_pushes_of_one_registration_are_under_way() -> None:
    world, app, juliet = make()
    sleeper(world)
    app.answering = False
    for number in range(20):
        says(juliet, str(number))
        world.advance(1)
    assert len(app.pushes()) == 8


def test_an_app_server_that_was_not_reached_has_woken_nobody() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    app.component.disconnects()
    romeo.disconnects()
    says(juliet)
    passes(world, 2)
    world.advance(700)
    assert is_there(world, id)


def test_what_a_filter_has_stopped_has_woken_nobody() -> None:
    world, app, juliet = make("smacks_max_ack_delay = 5s\n")
    romeo, id = phone(world, inner=MUTED)
    says(juliet)
    passes(world, 10)
    assert app.pushes() == []
    romeo.disconnects()
    world.advance(DAY)
    assert app.pushes() == [] and is_there(world, id)


def test_app_servers_that_are_away_do_not_take_the_place_of_others() -> None:
    world, app, juliet = make("push_max_pending = 2\n")
    for number in range(2):
        romeo = world.online(f"romeo{number}@example.org/phone")
        enable(romeo, "n", jid="push.nowhere.example")
        romeo.disconnects()
        says(juliet, to=f"romeo{number}@example.org")
    world.advance(60)
    sleeper(world)
    says(juliet)
    world.advance(1)
    assert app.push().important
    assert len(world.host.service(Outbox)) == 2 - 1


def test_what_was_dropped_is_told_when_there_is_a_reason_again() -> None:
    world, app, juliet = make("push_max_pending = 1\n")
    app.answering = False
    romeo, _ = phone(world)
    other = world.online("nurse@example.org/phone")
    enable(other)
    other.disconnects()
    says(juliet, to="nurse@example.org")
    world.advance(1)
    romeo.disconnects()
    says(juliet)
    world.advance(5)
    assert [push.iq.get("to") for push in app.pushes()] == [APP]
    app.answering = True
    world.advance(100)
    app.pushes()
    world.advance(600)
    world.advance(DAY * 3)  # the session is over, and the message goes offline
    assert app.push().important


def test_nothing_is_left_of_app_servers_that_were_never_there() -> None:
    world, _, juliet = make("push_max_devices = 1\n")
    romeo = world.online(PHONE)
    for number in range(20):
        enable(romeo, jid=f"nowhere{number}.example")
        romeo.disconnects()
        says(juliet)
        world.advance(2)
        romeo = world.login(PHONE)
    for _ in range(4 * 24):
        world.advance(3600)
    outbox = world.host.service(Outbox)
    assert len(outbox) == 0 and not outbox._failing


def test_the_servers_own_failure_does_not_count() -> None:
    world, _, juliet = make("push_max_errors = 1\n")
    sleeper(world)

    class Broken:
        connected = True

        async def receive(self, stanza: Stanza) -> None:
            raise RuntimeError("a bug")

    world.server.components[APP] = Broken()
    says(juliet)
    world.advance(1)
    assert len(known(world).known) == 1


# ---- who is told


def test_two_clients_whose_resources_the_server_chooses_are_two() -> None:
    world, app, juliet = make()
    world.account(ROMEO)
    players = []
    for number in range(2):
        player = world.connect()
        player.authenticate("romeo", "example.org", "secret")
        player.bind()
        player.sends("<presence/>")
        player.forget()
        enable(player, f"n{number}")
        players.append(player)
    players[0].disconnects()
    says(juliet)
    world.advance(1)
    assert app.push().node == "n0"


def with_an_id(world: World, id: str) -> Player:
    """The app was updated: it says now which client it is, and resumes the session that it had."""
    return arrives(world, plain(agent(IDS[0]), f"<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='1'/>")).player


def test_one_that_resumes_and_says_who_it_is_keeps_its_registration() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    romeo.disconnects()
    again = with_an_id(world, id)
    world.advance(2)
    says(juliet)
    app.nothing()
    again.disconnects()
    world.advance(1)
    assert app.push().important
    world.advance(300)
    assert is_there(world, id)


def test_the_session_of_who_had_a_registration_before_another_is_not_waited_for() -> None:
    world, _, _ = make()
    romeo, id = phone(world)
    romeo.disconnects()
    phone(world, f"{ROMEO}/new")
    world.advance(DAY)
    assert not is_there(world, id)


def test_without_client_management_clients_are_known_after_a_restart_too() -> None:
    config = "modules_disabled = client_management\n"
    world, _, juliet, disk = lasting(config)
    phone(world)
    says(juliet)
    world.advance(3)
    world, app = next_process(world, disk, config)
    world.advance(1)
    world.advance(10)
    assert app.push().important


def test_one_of_two_registrations_of_a_client_that_ends_leaves_the_other() -> None:
    world, app, juliet = make()
    romeo, id = phone(world)
    enable(romeo, "second")
    acknowledge(romeo, 2)
    romeo.disconnects()
    other = world.login(f"{ROMEO}/other")
    disable(other, "node")
    world.advance(DAY)
    says(juliet)
    world.advance(1)
    assert app.push().node == "second"
    assert is_there(world, id, 2)


# ---- while the store writes


def test_a_refusal_that_comes_while_a_registration_ends_does_not_bring_it_back() -> None:
    world, app, juliet = make()
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.answering = False
    push = app.push()
    other = world.login(f"{ROMEO}/other")
    slow = Slow(world)
    slow.quick = False
    other.sends(DISABLE)
    app.fails("item-not-found", "cancel", push)
    slow.writes_all()
    assert not known(world).known
    world.advance(1)
    world.clock.calls.clear()
    again = World(sections=SECTIONS, before=world)
    again.starts()
    assert not known(again).known


def test_nothing_stays_on_disk_of_a_registration_that_ends_while_something_waits() -> None:
    world, _, juliet = make()
    sleeper(world)
    says(juliet)
    other = world.login(f"{ROMEO}/other")
    slow = Slow(world)
    slow.quick = False
    other.sends(DISABLE)
    world.advance(1)
    slow.writes_all()
    world.advance(100)
    account = world.run(world.host.accounts.load("romeo"))
    for kind in ("push", "push_sent", "push_waiting"):
        assert world.result(world.store.data.all(account.id, kind)) == {}, kind


def test_a_client_that_is_revoked_while_it_enables_has_no_registration() -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    account = world.run(world.host.accounts.load("romeo"))
    (session,) = account.sessions
    login = session.find(Login)
    assert login is not None
    slow = Slow(world)
    slow.quick = False
    romeo.sends(ENABLE)
    event = ClientRevoked(account, frozenset({login.key}), frozenset())
    world.server.tasks.start(world.host.bus.fire(event), "a revocation")
    slow.writes_all()
    assert not known(world).known


def test_a_connection_that_breaks_while_push_is_enabled_is_waited_for() -> None:
    world, app, juliet = make()
    romeo = world.online(PHONE)
    id = managed(romeo)
    slow = Slow(world)
    slow.quick = False
    romeo.sends_only(ENABLE)
    romeo.disconnects()
    slow.writes_all()
    says(juliet)
    world.advance(1)
    assert app.push().important
    assert is_there(world, id, 0)


def test_a_message_that_could_not_be_stored_wakes_no_client_that_hibernates() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    romeo.disconnects()
    with broken(world):
        says(juliet, id="m")
        juliet.receives_error("resource-constraint", "wait", id="m", sender=ROMEO)
    app.nothing()
    says(juliet, id="m")
    world.advance(1)
    assert app.push().important


def test_a_message_that_never_gets_to_disk_wakes_no_client_that_begins_to_hibernate() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    slow = Slow(world)
    slow.quick = False
    with broken(world, 1):
        says(juliet, id="m")
        romeo.disconnects()
        slow.writes_all()
    juliet.receives_error("resource-constraint", "wait", id="m", sender=ROMEO)
    app.nothing()


@pytest.mark.parametrize("answer", ["none", "an error"])
def test_an_account_that_is_deleted_while_a_push_is_under_way(answer: str) -> None:
    world, app, juliet = make()
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.answering = False
    push = app.push()
    account = world.run(world.host.accounts.load("romeo"))
    seen: list[LogEvent] = []

    def observer(event: LogEvent) -> None:
        if event["log_level"].name in ("error", "critical"):
            seen.append(event)

    globalLogPublisher.addObserver(observer)
    try:
        world.run(world.host.accounts.delete(account))
        if answer != "none":
            app.fails("item-not-found", "cancel", push)
        world.advance(40)
        world.advance(5 * DAY)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert not seen


# ---- what waits, and for whom


def test_what_waited_for_a_registration_goes_with_it() -> None:
    world, app, juliet = make()
    sleeper(world)
    app.component.disconnects()
    says(juliet)
    world.advance(2)
    other = world.login(f"{ROMEO}/other")
    disable(other)
    assert len(world.host.service(Outbox)) == 0
    enable(other)
    app = AppServer(world)
    world.advance(60)
    assert app.pushes() == []


def test_a_long_queue_is_not_pushed_again() -> None:
    world, app, juliet = make()
    romeo, _ = phone(world)
    romeo.disconnects()
    for number in range(700):
        says(juliet, str(number))
    world.advance(1)
    assert app.push().fields["message-count"] == "700"
    world.advance(5)
    world.clock.calls.clear()
    world = World(sections=SECTIONS, before=world)
    world.starts()
    app = AppServer(world)
    world.advance(60)
    assert app.pushes() == []


def test_marks_of_what_is_long_gone_are_given_up() -> None:
    world, app, juliet = make()
    sleeper(world)
    for number in range(600):
        says(juliet, str(number))
    world.advance(1)
    app.push()
    ((marks),) = known(world).sent.values()
    assert len(marks) == 500


def test_a_session_that_ends_at_the_start_is_told_of_once() -> None:
    config = "modules_disabled = mam\n"
    world, app, juliet, disk = lasting(config)
    romeo, _ = phone(world)
    romeo.disconnects()
    passes(world, 3)
    for number in range(3):
        says(juliet, f"m{number}", id=f"m{number}")
    world.advance(0.5)
    world.clock.calls.clear()
    world.clock.advance(4 * DAY)
    world = World(config, SECTIONS, clock=world.clock, store=disk.store(world.clock))
    app = AppServer(world)
    page = world.store.data.page

    async def later(*args: object) -> object:
        await deferLater(world.clock, 0.1, lambda: None)  # type: ignore[arg-type]
        return await page(*args)  # type: ignore[arg-type]

    world.store.data.page = later  # type: ignore[assignment,method-assign]
    Deferred.fromCoroutine(world.server.start())
    passes(world, 30)
    assert [push.fields["message-count"] for push in app.pushes() if push.important] == ["3"]


def test_a_crash_while_a_push_is_under_way_does_not_send_it_twice() -> None:
    world, app, juliet, disk = lasting()
    sleeper(world)
    says(juliet)
    world.advance(1)
    app.answering = False
    app.push()
    world, app = next_process(world, disk)
    world.advance(60)
    assert app.pushes() == []


def test_what_waits_takes_little_room_whatever_was_said() -> None:
    world, app, juliet = make("stanza_size_limit = 1M\n")
    sleeper(world)
    app.component.disconnects()
    says(juliet, "y" * 10_000, inner="".join(f"<x{n} xmlns='urn:x'>{'x' * 4000}</x{n}>" for n in range(100)))
    world.advance(2)
    account = world.run(world.host.accounts.load("romeo"))
    ((kept),) = world.result(world.store.data.all(account.id, "push_waiting")).values()
    assert len(kept) < 10_000
    app = AppServer(world)
    world.advance(20)
    assert app.push().important


# ---- which stanzas


def test_of_several_languages_the_first_with_a_text_counts() -> None:
    world, app, juliet = make()
    sleeper(world)
    says(juliet, "", inner="<body xml:lang='de'/><body xml:lang='en'>hi</body>")
    world.advance(1)
    assert app.push().important


@pytest.mark.parametrize("inner", ["<received xmlns='urn:xmpp:carbons:2'/>", "<result xmlns='urn:xmpp:mam:2'/>"])
def test_nobody_says_something_without_waking_by_a_mark_of_copies(inner: str) -> None:
    world, app, juliet = make()
    sleeper(world)
    says(juliet, inner=inner)
    world.advance(1)
    assert app.push().important


def test_a_ping_with_a_stanza_says_what_it_is_for() -> None:
    world, app, _ = make("push_notification_with_body = yes\n")
    romeo, _ = phone(world)
    account = world.run(world.host.accounts.load("romeo"))
    body = b"<body>from a module</body>"
    children = [("jabber:client", "body", 0, len(body))]
    stanza = Stanza("message", {"id": "x"}, body, children, sender=world.host.jid, to=account.jid)
    world.run(world.host.bus.fire(CloudNotifyPing(account, stanza)))
    world.advance(1)
    assert app.push().fields["last-message-body"] == "from a module"
    assert romeo


@pytest.mark.parametrize("size", ["9" * 5000, "9" * 10, "\u0663"])
def test_a_number_that_is_too_long_is_refused(size: str) -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    inner = f"<encrypt xmlns='tigase:push:encrypt:0' alg='aes-128-gcm' max-size='{size}'>{'A' * 22}==</encrypt>"
    romeo.sends(f"<iq type='set' id='e'><enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'>{inner}</enable></iq>")
    romeo.receives_error("bad-request", "modify", id="e")


def test_a_form_of_a_megabyte_ends_the_stream() -> None:
    world, _, _ = make()
    romeo = world.online(PHONE)
    form = f"<x xmlns='jabber:x:data'><field var='s'><value>{'x' * 1_000_000}</value></field></x>"
    romeo.sends(f"<iq type='set' id='e'><enable xmlns='urn:xmpp:push:0' jid='{APP}' node='n'>{form}</enable></iq>")
    romeo.receives_stream_error("policy-violation")
    assert not known(world).known
