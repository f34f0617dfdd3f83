"""Stream management as XEP-0198 tells it: acknowledgements, hibernation, resumption, and the end of both."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World

SM = "xmlns='urn:xmpp:sm:3'"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
HELLO = "<message to='juliet@example.org' type='chat'><body>{}</body></message>"


def managed(world: World, full: str, presence: str = "<presence/>") -> tuple[Player, str]:
    """A client that is online under stream management, and its SM-ID. It has handled nothing yet."""
    player = world.login(full)
    player.sends(presence)
    player.forget()
    player.sends(f"<enable {SM} resume='true'/>")
    enabled = player.takes()
    assert enabled.tag == "{urn:xmpp:sm:3}enabled" and enabled.get("resume") == "true" and enabled.get("max") == "600"
    return player, enabled.get("id") or ""


def back(world: World, user: str = "juliet", password: str = "secret") -> Player:
    """A client that has authenticated again and could resume or bind."""
    world.account(f"{user}@example.org", password)
    player = world.connect()
    player.authenticate(user, "example.org", password)
    return player


def test_the_feature_is_announced_once_authenticated_without_children() -> None:
    world = World()
    player = back(world)
    assert b"<sm xmlns='urn:xmpp:sm:3'/>" in player.received_bytes()


def test_a_request_is_answered_with_what_was_handled() -> None:
    world = World()
    romeo, _ = managed(world, "romeo@example.org/orchard")
    romeo.sends(f"<r {SM}/>")
    romeo.receives(f"<a {SM} h='0'/>")
    romeo.sends(f"<presence/><iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq><r {SM}/>")
    romeo.takes(), romeo.takes()
    romeo.receives(f"<a {SM} h='2'/>")


def test_stanzas_before_enable_do_not_count_and_what_follows_it_at_once_does() -> None:
    world = World()
    romeo = world.login("romeo@example.org/orchard")
    romeo.sends(f"<presence/><enable {SM}/><presence/><r {SM}/>")
    romeo.takes()
    romeo.receives(f"<enabled {SM}/>")
    romeo.takes()
    romeo.receives(f"<a {SM} h='1'/>")


def test_an_acknowledgement_waits_for_the_store() -> None:
    world = World()
    world.account("juliet@example.org")
    romeo, _ = managed(world, "romeo@example.org/orchard")
    romeo.sends_only(HELLO.format("for later") + f"<r {SM}/>")
    romeo.receives_nothing()  # juliet is not there: the message is on its way to the disk
    world.settle()
    romeo.receives(f"<a {SM} h='1'/>")
    assert world.result(world.store.offline.size(1))[0] + world.result(world.store.offline.size(2))[0] == 1


def test_enable_before_binding_and_twice() -> None:
    world = World()
    player = back(world)
    player.sends(f"<enable {SM}/>")
    player.receives(f"<failed {SM}><unexpected-request xmlns='{STANZAS}'/><text xmlns='{STANZAS}' "
                    "xml:lang='en'>*</text></failed>")  # fmt: skip
    player.bind("balcony")
    player.sends(f"<enable {SM}/>")
    player.receives(f"<enabled {SM}/>")
    player.sends(f"<enable {SM}/><presence/><r {SM}/>")
    player.receives(f"<failed {SM}><unexpected-request xmlns='{STANZAS}'/><text xmlns='{STANZAS}' "
                    "xml:lang='en'>*</text></failed>")  # fmt: skip
    player.takes()
    player.receives(f"<a {SM} h='1'/>")


def test_a_cut_connection_is_resumed_with_what_was_not_acknowledged_in_order() -> None:
    world = World()
    juliet, id = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    for text in ("one", "two"):
        romeo.sends(HELLO.format(text))
    juliet.takes(), juliet.takes()
    juliet.sends(f"<a {SM} h='1'/>")  # of the two only the first is acknowledged
    juliet.disconnects()
    romeo.sends(HELLO.format("three"))
    romeo.sends("<message to='juliet@example.org/balcony'><body>four</body></message>")
    romeo.receives_nothing()

    again = back(world)
    again.sends(f"<resume {SM} previd='{id}' h='1'/>")
    again.receives(f"<resumed {SM} previd='{id}' h='0'/>")
    for text in ("two", "three", "four"):
        got = again.takes()
        assert got.findtext("{jabber:client}body") == text
        assert got.find("{urn:xmpp:delay}delay") is not None
    again.receives(f"<r {SM}/>")
    again.sends(f"<a {SM} h='4'/>")
    romeo.sends(HELLO.format("five"))
    assert again.takes().findtext("{jabber:client}body") == "five"


def test_who_hibernates_is_still_there_for_others() -> None:
    world = World()
    juliet, _ = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    world.befriend(romeo, juliet)
    juliet.sends(f"<a {SM} h='{len(world.server.sessions.of(juliet.bare)[0].keeper.machine.items)}'/>")
    juliet.disconnects()
    romeo.receives_nothing()
    romeo.sends("<presence type='probe' to='juliet@example.org'/>")
    assert romeo.takes().get("from") == "juliet@example.org/balcony"
    world.advance(601)
    romeo.receives("<presence type='unavailable' from='juliet@example.org/balcony' to='romeo@example.org'/>")


def test_who_does_not_come_back_finds_messages_offline() -> None:
    world = World()
    juliet, id = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    romeo.sends(HELLO.format("sent"))
    juliet.disconnects()
    romeo.sends(HELLO.format("queued"))
    romeo.sends("<iq type='get' id='v' to='juliet@example.org/balcony'><query xmlns='jabber:iq:version'/></iq>")
    romeo.forget()
    world.advance(601)
    late = world.login("juliet@example.org/chamber")
    late.sends("<presence/>")
    assert [late.takes().findtext("{jabber:client}body") for _ in range(2)] == ["sent", "queued"]

    again = back(world)
    again.sends(f"<resume {SM} previd='{id}' h='0'/>")
    failed = again.takes()
    assert failed.get("h") == "0" and failed[0].tag == f"{{{STANZAS}}}item-not-found"
    again.bind("balcony")


def test_who_does_not_come_back_has_another_resource_that_gets_messages() -> None:
    world = World()
    juliet, _ = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    juliet.disconnects()
    romeo.sends("<message to='juliet@example.org/balcony' type='chat' id='1'><body>hello</body></message>")
    chamber = world.online("juliet@example.org/chamber")
    world.advance(601)
    chamber.takes()  # balcony is unavailable
    assert chamber.takes().findtext("{jabber:client}body") == "hello"
    chamber.receives_nothing()


def test_a_stream_that_is_closed_in_order_ends_the_session() -> None:
    world = World()
    juliet, id = managed(world, "juliet@example.org/balcony")
    juliet.sends("</stream:stream>")
    juliet.receives_end()
    assert world.server.sessions.count == 0
    again = back(world)
    again.sends(f"<resume {SM} previd='{id}' h='0'/>")
    assert again.takes().tag == "{urn:xmpp:sm:3}failed"


def test_a_session_whose_connection_seems_alive_is_taken_over() -> None:
    world = World()
    juliet, id = managed(world, "juliet@example.org/balcony")
    again = back(world)
    again.sends(f"<resume {SM} previd='{id}' h='0'/>")
    again.receives(f"<resumed {SM} previd='{id}' h='0'/>")
    juliet.receives_stream_error("conflict")
    romeo = world.online("romeo@example.org/orchard")
    romeo.sends(HELLO.format("here"))
    assert again.takes().findtext("{jabber:client}body") == "here"
    juliet.receives_nothing()


def waiting_for_the_store(world: World) -> tuple[str, list[Player]]:
    """A session that hibernates, and two connections that have asked to resume it while the store is at work."""
    juliet, id = managed(world, "juliet@example.org/balcony")
    juliet.disconnects()
    streams = [back(world), back(world)]
    world.server.store.data.server_put("test", "key", b"value")  # something for the barrier to wait for
    for stream in streams:
        stream.sends_only(f"<resume {SM} previd='{id}' h='0'/>")
        stream.receives_nothing()
    return id, streams


def test_of_two_connections_that_resume_at_once_the_later_has_the_session() -> None:
    world = World()
    id, (first, second) = waiting_for_the_store(world)
    world.settle()
    first.receives(f"<resumed {SM} previd='{id}' h='0'/>")
    first.receives_stream_error("conflict")
    second.receives(f"<resumed {SM} previd='{id}' h='0'/>")
    romeo = world.online("romeo@example.org/orchard")
    romeo.sends(HELLO.format("here"))
    assert second.takes().findtext("{jabber:client}body") == "here"
    first.disconnects()
    assert world.server.sessions.of("juliet@example.org")


def test_a_connection_that_goes_while_it_resumes_leaves_the_session_hibernating() -> None:
    world = World()
    id, streams = waiting_for_the_store(world)
    for stream in streams:
        stream.stream.connection_lost("the network broke")
    world.settle()
    world.advance(599)
    third = back(world)
    third.sends(f"<resume {SM} previd='{id}' h='0'/>")
    third.receives(f"<resumed {SM} previd='{id}' h='0'/>")


def test_and_when_no_other_comes_the_session_ends() -> None:
    world = World()
    _, streams = waiting_for_the_store(world)
    for stream in streams:
        stream.stream.connection_lost("the network broke")
    world.settle()
    world.advance(601)
    assert world.server.sessions.count == 0


def test_nobody_else_resumes_a_session() -> None:
    world = World()
    juliet, id = managed(world, "juliet@example.org/balcony")
    tybalt = back(world, "tybalt")
    tybalt.sends(f"<resume {SM} previd='{id}' h='0'/>")
    assert tybalt.takes().tag == "{urn:xmpp:sm:3}failed"
    juliet.receives_nothing()
    assert world.server.sessions.get(world.server.sessions.of(juliet.bare)[0].jid) is not None


@pytest.mark.parametrize("previd", ["", "x", "x.y", "x.%00", "\u00e9.\u00e9", "x.YmFsY29ueQ=="])
def test_ids_that_are_none(previd: str) -> None:
    world = World()
    managed(world, "juliet@example.org/balcony")
    again = back(world)
    again.sends(f"<resume {SM} previd='{previd}' h='0'/>")
    assert again.takes()[0].tag == f"{{{STANZAS}}}item-not-found"


def test_an_acknowledgement_of_what_was_never_sent_ends_the_stream() -> None:
    world = World()
    juliet, _ = managed(world, "juliet@example.org/balcony")
    juliet.sends(f"<a {SM} h='7'/>")
    error = juliet.takes()
    assert [child.tag for child in error] == [
        "{urn:ietf:params:xml:ns:xmpp-streams}undefined-condition",
        "{urn:ietf:params:xml:ns:xmpp-streams}text",
        "{urn:xmpp:sm:3}handled-count-too-high",
    ]
    assert (error[2].get("h"), error[2].get("send-count")) == ("7", "0")


@pytest.mark.parametrize("h", ["", " h='-1'", " h='x'", " h='4294967296'"])
def test_an_acknowledgement_without_a_count(h: str) -> None:
    world = World()
    juliet, _ = managed(world, "juliet@example.org/balcony")
    juliet.sends(f"<a {SM}{h}/>")
    juliet.receives_stream_error("invalid-xml")


def test_elements_without_enable() -> None:
    world = World()
    juliet = world.login("juliet@example.org/balcony")
    juliet.sends(f"<r {SM}/>")
    juliet.receives_stream_error("unsupported-stanza-type")


def test_resume_once_bound() -> None:
    world = World()
    juliet, id = managed(world, "juliet@example.org/balcony")
    juliet.sends(f"<resume {SM} previd='{id}' h='0'/>")
    assert juliet.takes()[0].tag == f"{{{STANZAS}}}unexpected-request"


def test_half_a_stanza_before_the_cut_is_no_part_of_what_comes_after() -> None:
    world = World()
    juliet, id = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    juliet.sends("<message to='romeo@example.org'><body>half a")
    juliet.disconnects()
    again = back(world)
    again.sends(f"<resume {SM} previd='{id}' h='0'/><message to='romeo@example.org'><body>whole</body></message>")
    again.receives(f"<resumed {SM} previd='{id}' h='0'/>")
    assert romeo.takes().findtext("{jabber:client}body") == "whole"
    romeo.receives_nothing()


def test_a_client_that_never_acknowledges_is_let_go_and_nothing_is_lost() -> None:
    world = World("smacks_max_queue_size = 10\n")
    juliet, _ = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    for number in range(11):
        romeo.sends(HELLO.format(number))
    for _ in range(10):
        juliet.takes()
    juliet.receives_stream_error("policy-violation")
    late = world.login("juliet@example.org/chamber")
    late.sends("<presence/>")
    assert [late.takes().findtext("{jabber:client}body") for _ in range(11)] == [str(n) for n in range(11)]


def test_of_too_many_hibernated_sessions_the_oldest_goes() -> None:
    world = World("smacks_max_hibernated_sessions = 2\n")
    for name in ("one", "two", "three"):
        player, _ = managed(world, f"juliet@example.org/{name}")
        player.disconnects()
        world.advance(1)
    left = {session.jid.resource for session in world.server.sessions.of("juliet@example.org")}
    assert left == {"two", "three"}


def test_who_owes_an_acknowledgement_is_asked_and_then_told_of_once() -> None:
    from xmppd.core.events import AckDelayed

    world = World()
    delayed: list[str] = []
    world.host.bus.on(AckDelayed, lambda event: delayed.append(event.session.jid.full))
    juliet, _ = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    romeo.sends("<presence to='juliet@example.org'/>")
    juliet.takes()
    juliet.receives_nothing()  # presence alone is not worth a question at once
    for _ in range(12):
        world.advance(5)
    juliet.receives(f"<r {SM}/>")
    juliet.receives_nothing()
    assert delayed == ["juliet@example.org/balcony"]


def test_everything_is_let_go_when_nobody_comes_back() -> None:
    world = World()
    for number in range(20):
        player, _ = managed(world, f"juliet@example.org/{number}")
        player.disconnects()
    world.advance(601)
    assert world.server.sessions.count == 0
    assert [call for call in world.clock.getDelayedCalls() if "expire" in str(call.func)] == []


def test_what_many_messages_left_is_one_group_for_the_store() -> None:
    world = World()
    juliet, _ = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    juliet.disconnects()
    for number in range(50):
        romeo.sends(HELLO.format(number))
    before = world.store.groups
    world.advance(601)
    assert world.store.groups - before < 10
    late = world.login("juliet@example.org/chamber")
    late.sends("<presence/>")
    assert [late.takes().findtext("{jabber:client}body") for _ in range(50)] == [str(n) for n in range(50)]


def test_copies_are_not_brought_to_others() -> None:
    world = World()
    juliet, _ = managed(world, "juliet@example.org/balcony")
    juliet.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
    chamber = world.online("juliet@example.org/chamber")
    romeo = world.online("romeo@example.org/orchard")
    juliet.disconnects()
    romeo.sends("<message to='juliet@example.org/chamber' type='chat'><body>once</body></message>")
    chamber.forget()
    world.advance(601)
    assert [element.tag for element in chamber.all_that_came()] == ["{jabber:client}presence"]


def test_a_session_that_was_resumed_and_cut_meanwhile_does_not_end_under_the_next_stream() -> None:
    world = World()
    _, (first, second) = waiting_for_the_store(world)
    first.stream.connection_lost("the network broke")
    world.settle()
    second.takes()
    world.advance(601)
    second.sends("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert second.takes().get("id") == "p"


def test_a_resumption_that_the_store_cannot_look_up_fails_in_order() -> None:
    world = World()
    player = back(world)
    world.result(world.store.close())
    player.sends(f"<resume {SM} previd='unknown' h='0'/>")
    assert player.takes()[0].tag == f"{{{STANZAS}}}item-not-found"


def test_what_is_not_acknowledged_is_bounded_in_bytes_and_nothing_is_lost() -> None:
    world = World("smacks_max_queue_bytes = 100k\nc2s_rate = 100M\n")
    juliet, _ = managed(world, "juliet@example.org/balcony")
    juliet.disconnects()
    romeo = world.online("romeo@example.org/orchard")
    for _ in range(5):
        romeo.sends(HELLO.format("x" * 30_000))
    assert world.server.sessions.of("juliet@example.org") == []
    romeo.receives_nothing()
    late = world.login("juliet@example.org/chamber")
    late.sends("<presence/>")
    assert sum(element.tag.endswith("message") for element in late.all_that_came()) == 5


def test_much_is_sent_again_in_pages_and_before_anything_new() -> None:
    world = World("c2s_rate = 100M\n")
    juliet, id = managed(world, "juliet@example.org/balcony")
    romeo = world.online("romeo@example.org/orchard")
    juliet.disconnects()
    for number in range(20):
        romeo.sends(HELLO.format(f"{number} " + "x" * 50_000))
    again = back(world)
    again.wire.stuck = True
    again.sends(f"<resume {SM} previd='{id}' h='0'/>")
    assert 0 < again.wire.unsent < 500_000
    romeo.sends(HELLO.format("20 new"))
    for _ in range(20):
        again.wire.reads_again()
        world.settle()
    came = [element.findtext("{jabber:client}body") for element in again.all_that_came()]
    assert [body.split()[0] for body in came if body] == [str(number) for number in range(21)]
