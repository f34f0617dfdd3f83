"""Resource binding (RFC 6120 section 7), and the registry of sessions."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tests.core.conftest import Log
from tests.support.world import Player, World
from xmppd.core.events import Bound

ROMEO = "romeo@example.org"
BIND = "xmlns='urn:ietf:params:xml:ns:xmpp-bind'"


def authenticated(world: World) -> Player:
    """Romeo, before he binds."""
    world.account(ROMEO)
    romeo = world.connect()
    romeo.authenticate("romeo", "example.org", "secret")
    return romeo


def wants(player: Player, resource: str, id: str = "bind") -> None:
    player.sends(f"<iq type='set' id='{id}'><bind {BIND}><resource>{resource}</resource></bind></iq>")


def is_bound(player: Player, resource: str) -> None:
    bound = f"<bind {BIND}><jid>{ROMEO}/{resource}</jid></bind>"
    player.receives(f"<iq type='result' id='bind'>{bound}</iq>")


def test_a_resource_of_the_clients_choice() -> None:
    """Section 7.7; it is prepared as every resourcepart."""
    romeo = authenticated(World())
    wants(romeo, "Orchard &amp; wall")
    is_bound(romeo, "Orchard &amp; wall")


@pytest.mark.parametrize("wish", ["", "<resource/>", "<resource xmlns='urn:example'>mine</resource>"])
def test_a_resource_of_the_servers_choice(wish: str) -> None:
    """Section 7.6: one that nobody guesses, never the same."""
    world = World()
    found = set()
    for _ in range(5):
        romeo = authenticated(world)
        romeo.sends(f"<iq type='set' id='1'><bind {BIND}>{wish}</bind></iq>")
        jid = romeo.takes().findtext(f"{{{BIND[7:-1]}}}bind/{{{BIND[7:-1]}}}jid") or ""
        bare, _, resource = jid.partition("/")
        assert bare == ROMEO
        assert len(resource) >= 22
        found.add(resource)
    assert len(found) == 5


@pytest.mark.parametrize("resource", ["r" * 1024, "&#10;", "\u0378"])
def test_a_resource_that_is_none(resource: str) -> None:
    """Section 7.7.2.1: bad-request, and the client may try again."""
    romeo = authenticated(World())
    wants(romeo, resource)
    error = romeo.takes()
    assert (error.get("type"), error.get("id")) == ("error", "bind")
    assert error[0][0].tag.endswith("}bad-request")
    wants(romeo, "orchard")
    is_bound(romeo, "orchard")


def test_the_client_that_comes_back_has_the_resource() -> None:
    """Section 7.7.2.2: the old stream ends with a conflict; what is sent from then on goes to the new one."""
    world = World()
    juliet = world.online("juliet@example.org/balcony")
    old = world.online(f"{ROMEO}/orchard")
    new = world.login(f"{ROMEO}/orchard")
    old.receives_stream_error("conflict")
    juliet.sends(f"<message to='{ROMEO}/orchard'/>")
    new.receives(f"<message from='juliet@example.org/balcony' to='{ROMEO}/orchard'/>")
    old.disconnects()
    juliet.sends(f"<message to='{ROMEO}/orchard'/>")
    new.receives(f"<message from='juliet@example.org/balcony' to='{ROMEO}/orchard'/>")
    assert world.server.sessions.count == 2


def test_too_many_resources() -> None:
    """Section 7.6.2.1; one's own resource may always be taken over."""
    world = World("max_sessions_per_account = 2")
    one, two = world.login(f"{ROMEO}/one"), world.login(f"{ROMEO}/two")
    romeo = authenticated(world)
    wants(romeo, "three")
    assert romeo.takes()[0][0].tag.endswith("}resource-constraint")
    wants(romeo, "two")
    is_bound(romeo, "two")
    two.receives_stream_error("conflict")
    one.disconnects()
    romeo = authenticated(world)
    wants(romeo, "three")
    is_bound(romeo, "three")


def test_the_account_is_gone() -> None:
    world = World()
    romeo = authenticated(world)
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.accounts.delete(account))
    romeo.receives_stream_error("not-authorized")


def test_a_handler_that_fails_leaves_no_session_behind(log: Log) -> None:
    world = World()

    def fail(event: Bound) -> None:
        raise ValueError("a bug")

    world.host.bus.on(Bound, fail)
    romeo = authenticated(world)
    wants(romeo, "orchard")
    romeo.receives_stream_error("internal-server-error")
    assert world.server.sessions.count == 0
    assert [str(failure) for failure in log.failures] == ["a bug"]


class Slow:
    """A handler that lets nobody be bound until it is told to."""

    def __init__(self, world: World) -> None:
        self.waiting: list[Deferred[None]] = []
        world.host.bus.on(Bound, self.handle)

    async def handle(self, event: Bound) -> None:
        """Wait."""
        self.waiting.append(Deferred())
        await self.waiting[-1]


def test_a_client_that_leaves_while_it_is_bound() -> None:
    world = World()
    slow = Slow(world)
    romeo = authenticated(world)
    wants(romeo, "orchard")
    romeo.disconnects()
    slow.waiting[0].callback(None)
    assert world.server.sessions.count == 0


def test_two_clients_want_the_same_resource_at_once() -> None:
    """The later one has it."""
    world = World()
    slow = Slow(world)
    one, two = authenticated(world), authenticated(world)
    wants(one, "orchard")
    wants(two, "orchard")
    one.receives_stream_error("conflict")
    for waiting in slow.waiting:
        waiting.callback(None)
    is_bound(two, "orchard")
    assert world.server.sessions.count == 1
    two.sends(f"<message to='{ROMEO}/orchard'/>")
    two.receives(f"<message from='{ROMEO}/orchard' to='{ROMEO}/orchard'/>")


def test_a_stanza_before_binding() -> None:
    """Section 7.1: the stream ends, and nobody gets it."""
    world = World()
    juliet = world.online("juliet@example.org/balcony")
    romeo = authenticated(world)
    romeo.sends("<message to='juliet@example.org'/>")
    romeo.receives_stream_error("not-authorized")
    juliet.receives_nothing()
