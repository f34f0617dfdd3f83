"""The store fails: whoever needed it is told to try again, nothing is half done, and all others go on."""

from __future__ import annotations

import pytest

from tests.core.conftest import Log
from tests.support.disk import broken
from tests.support.world import Player, World

ROMEO, JULIET = "romeo@example.org", "juliet@example.org"
ORCHARD, BALCONY = f"{ROMEO}/orchard", f"{JULIET}/balcony"
ROSTER = "xmlns='jabber:iq:roster'"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def romeo(world: World) -> Player:
    return world.online(ORCHARD)


@pytest.fixture
def juliet(world: World) -> Player:
    return world.online(BALCONY)


def roster(world: World, player: Player) -> set[str]:
    """A player's roster and requests, as they are in memory; the disk has the same."""
    account = world.run(world.host.accounts.load(player.bare.partition("@")[0]))
    stored = world.result(world.store.roster.load(account.id))
    player.forget()
    player.sends(f"<iq type='get' id='r'><query {ROSTER}/></iq>")
    query = player.takes()[0]
    items = {f"{item.get('jid')} {item.get('subscription')} {item.get('ask') or ''}".strip() for item in query}
    assert items == {f"{item.jid} {item.subscription} {item.ask}".strip() for item in stored.items}
    assert query.get("ver") == str(stored.version)
    return items | {f"{request.jid} asks" for request in stored.requests}


def test_a_roster_set(world: World, romeo: Player, log: Log) -> None:
    """No push, no result, no version; the log has one line and no traceback; later it works."""
    garden = world.online(f"{ROMEO}/garden")
    romeo.forget()
    change = f"<iq type='set' id='1'><query {ROSTER}><item jid='{JULIET}'/></query></iq>"
    with broken(world):
        romeo.sends(change)
        romeo.receives_error("resource-constraint", "wait", name="iq", id="1")
        garden.receives_nothing()
    assert roster(world, romeo) == set()
    assert not log.failures
    assert any("database or disk is full" in line for line in log.at("error"))
    assert b"disk" not in romeo.received_bytes()
    romeo.sends(change)
    assert romeo.takes()[0].get("ver") == "1"
    romeo.receives(f"<iq type='result' id='1' to='{ORCHARD}'/>")


def test_the_store_is_closed(world: World, romeo: Player) -> None:
    world.result(world.store.close())
    romeo.sends(f"<iq type='set' id='1'><query {ROSTER}><item jid='{JULIET}'/></query></iq>")
    romeo.receives_error("resource-constraint", "wait", name="iq", id="1")
    romeo.sends(f"<message to='{JULIET}' id='2'/>")
    romeo.receives_error("resource-constraint", "wait", name="message", id="2", sender=JULIET)


def test_others_go_on(world: World, romeo: Player, juliet: Player) -> None:
    """Between those who are online nothing needs the disk."""
    world.befriend(romeo, juliet)
    with broken(world):
        romeo.sends(f"<message to='nobody@example.org' id='1'/><message to='{JULIET}' id='2'/>")
        romeo.receives_error("resource-constraint", "wait", name="message", id="1", sender="nobody@example.org")
        juliet.receives(f"<message from='{ORCHARD}' to='{JULIET}' id='2'/>")
        juliet.sends("<presence><show>away</show></presence>")
        romeo.receives(f"<presence from='{BALCONY}' to='{ROMEO}'><show>away</show></presence>")
        juliet.forget()
        juliet.disconnects()
        romeo.receives(f"<presence type='unavailable' from='{BALCONY}' to='{ROMEO}'/>")


def test_a_message_for_somebody_who_is_offline(world: World, romeo: Player) -> None:
    """The sender is told, and it does not come later all the same."""
    world.account(JULIET)
    world.run(world.host.accounts.load("juliet"))
    with broken(world):
        romeo.sends(f"<message to='{JULIET}' id='1'><body>lost</body></message>")
        romeo.receives_error("resource-constraint", "wait", name="message", id="1", sender=JULIET)
    romeo.sends(f"<message to='{JULIET}' id='2'><body>kept</body></message>")
    romeo.receives_nothing()
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    assert juliet.takes().get("id") == "2"
    assert juliet.takes().tag == "{jabber:client}presence"
    juliet.receives_nothing()


def test_messages_that_cannot_be_read(world: World, romeo: Player, juliet: Player) -> None:
    """Juliet does not become available, is told so, and loses nothing."""
    juliet.sends("<presence type='unavailable'/>")
    romeo.sends(f"<message to='{JULIET}' id='1'><body>kept</body></message>")
    with broken(world):
        juliet.sends("<presence id='p'/>")
        juliet.receives_error("resource-constraint", "wait", name="presence", id="p")
    juliet.sends("<presence/>")
    assert juliet.takes().get("id") == "1"
    juliet.receives(f"<presence from='{BALCONY}' to='{BALCONY}'/>")


def test_messages_that_cannot_be_deleted_come_again(world: World, romeo: Player, juliet: Player, log: Log) -> None:
    juliet.sends("<presence type='unavailable'/>")
    romeo.sends(f"<message to='{JULIET}' id='1'><body>kept</body></message>")
    with broken(world, 2):  # after one look into the store
        juliet.sends("<presence/>")
    assert juliet.takes().get("id") == "1"
    assert "what was sent will come twice" in str(log.at("error"))
    juliet.disconnects()
    juliet = world.login(BALCONY)
    juliet.sends("<presence/>")
    assert juliet.takes().get("id") == "1"


@pytest.mark.parametrize("turn", [1, 2])
def test_a_request(world: World, romeo: Player, juliet: Player, turn: int) -> None:
    """Romeo's side fails, or Juliet's: he is told; a second try brings it to her."""
    with broken(world, turn):
        romeo.sends(f"<presence type='subscribe' to='{JULIET}' id='1'/>")
    if turn == 2:
        romeo.takes()
        error = romeo.receives_error(
            "resource-constraint", "wait", name="presence", id="1", sender=JULIET, to=ROMEO
        )
        assert error is not None
        assert roster(world, romeo) == {f"{JULIET} none subscribe"}
    else:
        romeo.receives_error("resource-constraint", "wait", name="presence", id="1", sender=JULIET)
        assert roster(world, romeo) == set()
    juliet.receives_nothing()
    assert roster(world, juliet) == set()
    romeo.sends(f"<presence type='subscribe' to='{JULIET}'/>")
    juliet.receives(f"<presence type='subscribe' from='{ROMEO}' to='{JULIET}'/>")


@pytest.mark.parametrize("turns", [(), (1,), (2,)])
def test_an_approval_is_whole_or_not_at_all(
    world: World, romeo: Player, juliet: Player, turns: tuple[int, ...]
) -> None:
    """The request goes and the subscription comes in one transaction: Juliet can answer it again."""
    romeo.sends(f"<presence type='subscribe' to='{JULIET}'/>")
    romeo.forget()
    juliet.forget()
    with broken(world, *turns):
        juliet.sends(f"<presence type='subscribed' to='{ROMEO}' id='1'/>")
    if turns == (2,):  # hers is done by then; Romeo's server could not note it
        assert roster(world, juliet) == {f"{ROMEO} from"}
        assert roster(world, romeo) == {f"{JULIET} none subscribe"}
        romeo.sends(f"<presence type='subscribe' to='{JULIET}'/>")
    else:
        juliet.receives_error("resource-constraint", "wait", name="presence", id="1", sender=ROMEO)
        romeo.receives_nothing()
        assert roster(world, juliet) == {f"{ROMEO} asks"}
        juliet.sends(f"<presence type='subscribed' to='{ROMEO}'/>")
    assert roster(world, juliet) == {f"{ROMEO} from"}
    assert roster(world, romeo) == {f"{JULIET} to"}


def test_a_removal(world: World, romeo: Player, juliet: Player) -> None:
    """Juliet hears nothing of a removal that did not happen."""
    world.befriend(romeo, juliet)
    removal = f"<iq type='set' id='1'><query {ROSTER}><item jid='{JULIET}' subscription='remove'/></query></iq>"
    with broken(world):
        romeo.sends(removal)
        romeo.receives_error("resource-constraint", "wait", name="iq", id="1")
        juliet.receives_nothing()
    assert roster(world, romeo) == {f"{JULIET} both"}
    romeo.sends(removal)
    juliet.receives(f"<presence type='unavailable' from='{ORCHARD}' to='{JULIET}'/>")
    assert roster(world, romeo) == set()
    assert roster(world, juliet) == {f"{ROMEO} none"}


def test_a_login(world: World) -> None:
    """Nobody is bound whose account could not be loaded; nothing stays behind, and the next try works."""
    world.account(ROMEO)
    romeo = world.connect()
    romeo.authenticate("romeo", "example.org", "secret")
    with broken(world):
        romeo.sends("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        error = romeo.takes()[0]
        assert (error.get("type"), error[0].tag.partition("}")[2]) == ("wait", "resource-constraint")
    romeo.bind("orchard")
    assert romeo.full == ORCHARD
    assert world.server.sessions.count == 1
