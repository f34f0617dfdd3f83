"""Bind 2 (XEP-0386): a session with all that it is to begin with, in the answer to the login."""

from __future__ import annotations

import pytest

from tests.support.disk import broken
from tests.support.sasl2 import (
    BIND,
    BIND2,
    IDS,
    MAM,
    SASL2,
    SM,
    SM_ENABLE,
    Arrived,
    agent,
    arrives,
    asks,
    bound,
    opens,
    plain,
)
from tests.support.world import World

CARBONS_ENABLE = "<enable xmlns='urn:xmpp:carbons:2'/>"
FEATURES = "{http://etherx.jabber.org/streams}features"
CHAT = "<message type='chat' to='{}' id='{}'><body>{}</body></message>"


def resource(arrived: Arrived) -> str:
    return arrived.jid.partition("/")[2]


# ---- the resource


def test_the_resource_begins_with_the_tag_and_is_the_same_each_time_for_the_same_client() -> None:
    world = World()
    request = BIND.format("<tag>Awesome</tag>")
    first = resource(arrives(world, plain(agent(IDS[0]), request)))
    assert first.startswith("Awesome/") and len(first) == len("Awesome/") + 16
    assert resource(arrives(world, plain(agent(IDS[0]), request))) == first
    assert resource(arrives(world, plain(agent(IDS[1]), request))) != first
    assert resource(arrives(world, plain(agent(IDS[0]), BIND.format("<tag>Other</tag>")))) != first
    assert IDS[0][:8] not in first


def test_the_same_client_of_another_account_has_another_resource() -> None:
    world = World()
    world.account("juliet@example.org", "secret")
    one = arrives(world, plain(agent(), BIND.format("")))
    other = arrives(world, plain(agent(), BIND.format(""), user="juliet"))
    assert resource(one) != resource(other)


def test_without_a_client_id_the_resource_is_new_each_time() -> None:
    world = World()
    found = {resource(arrives(world, plain(BIND.format("<tag>x</tag>")))) for _ in range(3)}
    assert len(found) == 3


@pytest.mark.parametrize("tag", ["", "  ", "\u0007".replace("\u0007", "&#xE000;"), "x" * 5000, "a/b", "ä 🌹"])
def test_any_tag_makes_a_resource(tag: str) -> None:
    arrived = arrives(World(), plain(agent(), BIND.format(f"<tag>{tag}</tag>")))
    assert 16 <= len(resource(arrived)) <= 64 + 17


# ---- what it begins with


def test_the_answer_is_in_order_and_features_follow_without_binding() -> None:
    arrived = arrives(World(), plain(agent(), BIND.format(SM_ENABLE + CARBONS_ENABLE)))
    assert [element.tag for element in arrived.answer] == [f"{BIND2}bound", f"{SASL2}authorization-identifier"]
    bound_ = arrived.find(f"{BIND2}bound")
    assert bound_ is not None
    assert [element.tag for element in bound_] == [f"{MAM}metadata", f"{SM}enabled"]
    features = arrived.player.takes()
    assert features.tag == FEATURES
    assert "{urn:ietf:params:xml:ns:xmpp-bind}bind" not in [element.tag for element in features]


def test_carbons_are_on_from_the_first_moment() -> None:
    world = World()
    player = bound(world, CARBONS_ENABLE)
    other = world.online("romeo@example.org/orchard")
    other.sends(CHAT.format("juliet@example.org", 1, "hi"))
    assert player.takes().find("{urn:xmpp:carbons:2}sent") is not None


def test_a_session_may_begin_inactive() -> None:
    world = World()
    player = bound(world, "<inactive xmlns='urn:xmpp:csi:0'/>")
    other = world.online("romeo@example.org/orchard")
    player.sends("<presence/>")
    player.forget()
    other.sends("<presence><show>away</show></presence>")
    player.receives_nothing()
    player.sends("<active xmlns='urn:xmpp:csi:0'/>")
    player.takes()


def test_stream_management_counts_from_the_answer_on() -> None:
    world = World()
    player = bound(world, SM_ENABLE)
    player.sends("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq><r xmlns='urn:xmpp:sm:3'/>")
    player.receives(f"<iq type='result' id='1' to='{player.full}'/>")
    player.receives("<a xmlns='urn:xmpp:sm:3' h='1'/>")


def test_what_is_unknown_in_a_request_to_bind_is_passed_over() -> None:
    arrived = arrives(World(), plain(agent(), BIND.format("<enable xmlns='urn:nobody'/><x/>text<tag/>")))
    assert arrived.jid.count("/") == 1


def test_the_metadata_is_that_of_the_moment_of_binding() -> None:
    world = World()
    romeo = world.online("romeo@example.org/orchard")
    world.account("juliet@example.org", "secret")
    for number in range(3):
        romeo.sends(CHAT.format("juliet@example.org", number, number))
    arrived = arrives(world, plain(agent(), BIND.format("")))
    metadata = arrived.find(f"{BIND2}bound", f"{MAM}metadata")
    assert metadata is not None
    start, end = metadata
    romeo.sends("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>")
    ids = [romeo.takes()[0].get("id") for _ in range(3)]
    assert (start.get("id"), end.get("id")) == (ids[0], ids[2])
    assert (start.get("timestamp") or "").startswith("2023-11-14T22:13:2")


def test_without_archives_nothing_is_said_of_them_and_offline_messages_wait() -> None:
    world = World("modules_disabled = mam")
    world.account("romeo@example.org", "secret")
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends(CHAT.format("romeo@example.org", 1, "hi"))
    arrived = arrives(world, plain(agent(), BIND.format("")))
    bound_ = arrived.find(f"{BIND2}bound")
    assert bound_ is not None and len(bound_) == 0
    player = arrived.player
    player.takes()
    player.sends("<presence/>")
    assert any(player.takes().get("id") == "1" for _ in range(2))


# ---- offline messages


def test_offline_messages_that_the_archive_holds_are_not_sent_again_and_others_are() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends(CHAT.format("romeo@example.org", "archived", "hi"))
    hint = "<no-permanent-store xmlns='urn:xmpp:hints'/>"
    juliet.sends(f"<message type='chat' to='romeo@example.org' id='only offline'><body>psst</body>{hint}</message>")
    player = bound(world)
    player.sends("<presence/>")
    got = [player.takes() for _ in range(2)]
    messages = [element.get("id") for element in got if element.tag.endswith("}message")]
    assert messages == ["only offline"]
    player.receives_nothing()
    player.sends("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>")
    assert player.takes()[0].tag == f"{MAM}result"


def test_an_offline_message_whose_archive_row_is_gone_is_sent() -> None:
    world = World("archive_expires_after = 1h")
    world.account("romeo@example.org", "secret")
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends(CHAT.format("romeo@example.org", "old", "hi"))
    world.advance(3 * 3600)
    player = bound(world)
    player.sends("<presence/>")
    got = [player.takes() for _ in range(2)]
    assert "old" in [element.get("id") for element in got]


# ---- earlier sessions


def test_the_same_clients_earlier_session_ends_also_under_another_tag() -> None:
    world = World()
    first = bound(world)
    other = bound(world, id=IDS[1])
    second = bound(world, "<tag>new</tag>")
    first.receives_stream_error("conflict")
    assert {str(session.jid.full) for session in world.server.sessions.of("romeo@example.org")} == {
        other.full, second.full,
    }  # fmt: skip


def test_what_a_hibernating_session_of_the_same_client_had_waiting_is_not_lost() -> None:
    world = World()
    player = bound(world, SM_ENABLE)
    player.sends("<presence/>")
    player.forget()
    player.disconnects()
    juliet = world.online("juliet@example.org/balcony")
    hint = "<no-permanent-store xmlns='urn:xmpp:hints'/>"
    juliet.sends(f"<message type='chat' to='romeo@example.org' id='waits'><body>psst</body>{hint}</message>")
    again = bound(world, SM_ENABLE)
    again.sends("<presence/>")
    got = [again.takes() for _ in range(2)]
    assert "waits" in [element.get("id") for element in got]


# ---- resumption comes first


def resume(id: str, h: int = 0) -> str:
    return f"<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>"


def managed(world: World) -> tuple[Arrived, str]:
    arrived = arrives(world, plain(agent(), BIND.format(SM_ENABLE)))
    arrived.player.takes()
    enabled = arrived.find(f"{BIND2}bound", f"{SM}enabled")
    assert enabled is not None
    return arrived, enabled.get("id") or ""


def test_a_session_is_resumed_with_the_login_and_no_features_follow() -> None:
    world = World()
    first, id = managed(world)
    first.player.disconnects()
    juliet = world.online("juliet@example.org/balcony")
    juliet.sends(CHAT.format(first.jid, "late", "hi"))
    arrived = arrives(world, plain(agent(), resume(id), BIND.format(SM_ENABLE)))
    assert [element.tag for element in arrived.answer] == [f"{SM}resumed", f"{SASL2}authorization-identifier"]
    assert arrived.jid == first.jid
    assert arrived.player.takes().get("id") == "late"
    arrived.player.receives("<r xmlns='urn:xmpp:sm:3'/>")
    arrived.player.receives_nothing()
    assert len(world.server.sessions.of("romeo@example.org")) == 1


def test_where_nothing_can_be_resumed_that_is_said_and_a_resource_bound() -> None:
    world = World()
    arrived = arrives(world, plain(agent(), resume("nothing"), BIND.format(SM_ENABLE)))
    assert [element.tag for element in arrived.answer] == [
        f"{SM}failed", f"{BIND2}bound", f"{SASL2}authorization-identifier",
    ]  # fmt: skip
    assert arrived.player.takes().tag == FEATURES


def test_without_a_request_to_bind_a_failed_resumption_leaves_the_old_binding() -> None:
    arrived = arrives(World(), plain(agent(), resume("nothing")))
    assert arrived.jid == "romeo@example.org"
    arrived.player.takes()
    arrived.player.bind("orchard")


def test_a_session_of_somebody_else_is_not_resumed() -> None:
    world = World()
    first, id = managed(world)
    first.player.disconnects()
    world.account("juliet@example.org", "secret")
    arrived = arrives(world, plain(agent(), resume(id), user="juliet"))
    assert arrived.find(f"{SM}failed") is not None
    assert arrived.jid == "juliet@example.org"


def test_a_count_that_cannot_be_ends_the_stream() -> None:
    world = World()
    first, id = managed(world)
    first.player.disconnects()
    player = opens(world)
    player.sends(plain(agent(), resume(id, 1000)))
    player.receives_stream_error("undefined-condition")


# ---- while the store fails


def test_while_nothing_can_be_stored_nobody_is_told_that_they_are_in() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    player = opens(world)
    with broken(world):
        player.sends(plain(agent(), BIND.format(SM_ENABLE)))
        world.advance(11)
    arrived = Arrived(player)
    assert arrived.failure == "temporary-auth-failure"
    assert world.server.sessions.of("romeo@example.org") == []
    assert asks(player, plain(agent(), BIND.format(SM_ENABLE))).jid.count("/") == 1
