"""Accounts in memory: loaded once, kept while they are in use, gone with what they had."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.core.test_failing_store import broken
from tests.support.world import World
from xmppd.auth.credentials import HASHES
from xmppd.core.accounts import LOOK_SECONDS
from xmppd.core.events import AccountLoading
from xmppd.storage import AlreadyExists, StorageError


def loads(world: World) -> list[str]:
    """Who is loaded from now on."""
    loaded: list[str] = []
    world.host.bus.on(AccountLoading, lambda event: loaded.append(event.account.jid.local))
    return loaded


def outcome(world: World, coroutine: Any) -> list[Any]:
    """What a coroutine comes to, when it does."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    return results


def test_all_who_want_an_account_get_the_same_one() -> None:
    world = World()
    world.account("romeo@example.org")
    loaded = loads(world)
    waiting = [outcome(world, world.host.accounts.load("romeo")) for _ in range(3)]
    world.settle()
    assert loaded == ["romeo"]
    assert len({id(results[0]) for results in waiting}) == 1
    assert waiting[0][0].jid.full == "romeo@example.org"


def test_there_is_no_such_account_until_it_is_made() -> None:
    world = World()
    accounts = world.host.accounts
    assert world.run(accounts.load("romeo")) is None
    world.run(accounts.create("romeo", "secret"))
    assert world.run(accounts.load("romeo")) is not None
    with pytest.raises(AlreadyExists):
        world.run(accounts.create("romeo", "other"))


def test_a_load_that_fails_fails_for_all_and_may_be_tried_again() -> None:
    world = World()
    world.account("romeo@example.org")
    with broken(world):
        waiting = [outcome(world, world.host.accounts.load("romeo")) for _ in range(2)]
        world.settle()
    assert [results[0].type for results in waiting] == [StorageError, StorageError]
    assert world.run(world.host.accounts.load("romeo")) is not None


def test_only_some_are_kept_but_never_one_in_use_is_forgotten() -> None:
    world = World("account_cache = 2")
    romeo = world.online("romeo@example.org/orchard")
    for name in ("a", "b", "c"):
        world.account(f"{name}@example.org")
    loaded = loads(world)
    for name in ("a", "b", "c", "b", "c", "romeo", "a"):
        world.run(world.host.accounts.load(name))
        gc.collect()  # an account and its roster know each other
    assert loaded == ["a", "b", "c", "a"]
    romeo.sends("<message to='romeo@example.org/orchard'/>")
    romeo.takes()
    assert "romeo" not in loaded


def test_a_deleted_account_is_gone_at_once() -> None:
    """Its streams end, and a new one of that name has nothing of the old one's."""
    world = World()
    romeo, juliet = world.online("romeo@example.org/orchard"), world.online("juliet@example.org/balcony")
    romeo.sends("<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='nurse@example.org'/></query></iq>")
    romeo.forget()
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.accounts.delete(account))
    romeo.receives_stream_error("not-authorized")
    juliet.sends("<message id='1' to='romeo@example.org'><body>Hi</body></message>")
    juliet.receives_error("service-unavailable", "cancel", name="message", id="1", sender="romeo@example.org")
    romeo = world.login("romeo@example.org/orchard")
    romeo.sends("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    assert len(romeo.takes()[0]) == 0


# ---- what is offered


def imported(world: World, local: str, *hashes: str) -> None:
    """An account with keys for these hashes alone."""
    keys = dict.fromkeys(hashes, (b"salt", 1, b"stored", b"server"))
    world.result(world.store.accounts.create("example.org", local, keys))


@pytest.mark.parametrize(
    ("everybody", "offered"),
    [
        ([], set(HASHES)),
        ([()], set(HASHES)),  # nobody can log in, whatever is offered
        ([tuple(HASHES)], set(HASHES)),
        ([tuple(HASHES), ("SHA-1",)], {"SHA-1"}),
        ([tuple(HASHES), ("SHA-1",), ()], {"SHA-1"}),
        ([("SHA-1", "SHA-256"), ("SHA-256", "SHA-512")], {"SHA-256"}),
        ([("SHA-1",), ("SHA-512",)], {"SHA-1", "SHA-512"}),
    ],
)
def test_the_hashes_that_every_account_has_keys_for_are_offered(
    everybody: list[tuple[str, ...]], offered: set[str]
) -> None:
    world = World()
    for number, hashes in enumerate(everybody):
        imported(world, f"n{number}", *hashes)
    world.run(world.host.accounts.look_at_hashes())
    assert world.host.accounts.hashes == offered


def test_what_an_account_lacks_is_not_offered_from_then_on_until_it_has_a_new_password() -> None:
    world = World()
    accounts = world.host.accounts
    imported(world, "romeo", "SHA-1")
    accounts.lacks({"SHA-1"})
    assert accounts.hashes == {"SHA-1"}
    world.advance(LOOK_SECONDS)
    assert accounts.hashes == {"SHA-1"}
    account = world.run(accounts.load("romeo"))
    assert account is not None
    world.run(accounts.set_password(account, "secret"))
    assert accounts.hashes == {"SHA-1"}
    world.advance(LOOK_SECONDS)
    assert accounts.hashes == set(HASHES)


def test_an_account_without_keys_or_with_all_of_them_lacks_nothing_that_is_offered() -> None:
    accounts = World().host.accounts
    accounts.lacks(())
    accounts.lacks(HASHES)
    assert accounts.hashes == set(HASHES)
