"""What the instruments of `test_smacks_faults` have found, each as short as it gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clients import Client, Message
from tests.support.simulation import Scene

E_BARE = "e@example.org"


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Everybody is there, has acknowledged everything, and all of it is on disk."""
    scene = Scene()
    scene.arrive(*scene.clients)
    scene.wait(7)
    yield scene
    scene.disk.heal()


def says(client: Client, to: str) -> Message:
    message = client.says(to)
    assert message is not None
    return message


def tear(scene: Scene) -> None:
    """The disk fails when something of the session of `a` is to be written, of which nothing waits for the client."""
    scene.a.tells()
    scene.settle()
    scene.a.acknowledges()
    scene.disk.full = True
    scene.world.advance(1)
    scene.disk.heal()


def take_too_long(scene: Scene) -> None:
    """What waits for the disk is given up, and then done all the same."""
    scene.world.settle()
    for _ in range(2):
        scene.world.advance(11)
        scene.settle()
    scene.disk.heal()
    while scene.disk.busy:
        scene.disk.work()
    scene.settle()


def test_a_count_is_on_disk_before_it_is_told_after_the_disk_has_failed(scene: Scene) -> None:
    """`Journal.count` and `save` do nothing while `torn`, and nobody writes a torn session that has no stanzas."""
    tear(scene)
    scene.wait(5)
    scene.a.requests()
    scene.settle()
    assert not scene.a.owed
    scene.dies()
    scene.arrive(scene.a)  # h must not go back


def test_what_a_torn_session_sends_is_on_disk_together_with_its_count(scene: Scene) -> None:
    """As above: `Managed.handled` counts nothing, but the message is stored."""
    tear(scene)
    message = says(scene.a, scene.c.full)
    scene.settle()
    scene.dies()
    scene.arrive(scene.a, scene.c)
    assert message.got == [scene.c.full]


@pytest.mark.parametrize("number", range(1, 9))
def test_a_resumption_tells_no_count_that_is_not_on_disk(scene: Scene, number: int) -> None:
    """`_resume` goes on when the barrier fails."""
    scene.a.tells()
    scene.a.cut()
    scene.disk.fails = {scene.disk.commits + number}
    scene.arrive(scene.a)
    scene.disk.fails = set()
    scene.dies()
    scene.arrive(scene.a)
    scene.arrive(scene.a)
    assert scene.a.up


def test_presence_is_on_disk_together_with_the_count_that_covers_it(scene: Scene) -> None:
    """`Managed.handled` writes the count alone where a message has opened a group, and the state a second later."""
    scene.a.tells()
    says(scene.a, E_BARE)
    scene.settle()
    scene.dies()
    scene.arrive(scene.a, scene.c)
    scene.c.seen.clear()
    scene.c.probes(scene.a.bare)
    scene.settle()
    assert scene.c.seen[scene.a.full] == str(scene.a.presence)


def test_an_error_is_on_disk_before_the_count_that_covers_what_it_answers(scene: Scene) -> None:
    """An error that could not be stored is in memory alone, and the next sweep writes the count."""
    scene.disk.full = True
    message = says(scene.a, E_BARE)
    scene.a.cut()
    scene.world.settle()
    scene.disk.heal()
    scene.world.advance(1)
    scene.dies()
    scene.check()
    assert message.bounced or message.got


def test_a_count_is_not_written_over_with_an_older_one(scene: Scene) -> None:
    """`StreamManagement.handled` changes a row that is executed before one of `save` with the count of before."""
    scene.a.tells()
    scene.a.requests()
    message = says(scene.a, scene.c.full)
    scene.settle()
    scene.a.requests()
    scene.settle()
    assert not scene.a.owed and message.acked
    scene.dies()
    scene.arrive(scene.a)  # h must not go back
    scene.arrive(scene.c)


def test_a_message_that_took_too_long_does_not_come_after_its_error(scene: Scene) -> None:
    """The row is written after all, and nobody takes it away."""
    scene.disk.slow = True
    message = says(scene.a, scene.c.full)
    take_too_long(scene)
    assert message.bounced
    scene.wait(7)
    scene.dies()
    scene.arrive(scene.c)


def test_a_message_after_one_that_took_too_long_has_a_place_of_its_own(scene: Scene) -> None:
    """The place of the first is given again, and its row is there: nothing can be stored for the client any more."""
    scene.disk.slow = True
    says(scene.a, scene.c.full)
    take_too_long(scene)
    message = says(scene.a, scene.c.full)
    scene.settle()
    assert message.got and not message.bounced


def test_a_message_does_not_come_twice_to_one_because_another_has_gone(scene: Scene) -> None:
    """Both resources have had a message to the bare address; when one does not come back the other gets it again."""
    scene.b2.cut()
    message = says(scene.a, scene.b.bare)
    scene.settle()
    assert message.got == [scene.b.full]
    scene.ledger.shared.clear()
    scene.wait(602)


def test_a_message_for_two_resources_is_refused_once(scene: Scene) -> None:
    scene.ledger.shared.clear()
    scene.disk.full = True
    says(scene.a, scene.b.bare)
    scene.settle()


def test_what_was_acknowledged_is_deleted_when_the_disk_works_again(scene: Scene) -> None:
    """`Journal.tidy` forgets what it had to delete when that fails."""
    message = says(scene.a, scene.c.full)
    scene.settle()
    assert message.got
    scene.c.acknowledges()
    scene.disk.full = True
    scene.world.advance(1)
    scene.disk.heal()
    scene.wait(10)
    scene.dies()
    died = scene.ledger.died
    scene.ledger.failing = lambda: False
    scene.c.forgets()
    message.again.clear()
    message.over[scene.c.full] = died
    scene.arrive(scene.c)
    scene.wait(3)


@pytest.mark.parametrize("number", range(1, 13))
def test_the_server_starts_when_two_sessions_of_a_resource_are_on_disk(scene: Scene, number: int) -> None:
    """A session whose row could not be taken away yet, and the one that has its resource now."""
    scene.c.cut()
    says(scene.a, scene.c.full)
    scene.settle()
    scene.c.forgets()
    scene.disk.fails = {scene.disk.commits + number}
    scene.arrive(scene.c)
    scene.arrive(scene.c)
    scene.dies()
    scene.arrive(*scene.clients)
    assert scene.c.up
