"""Clients: what was found in the logs of other tests."""

from __future__ import annotations

import gc

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from tests.net.support import authenticated
from tests.support.disk import broken, crash
from tests.support.logins import exceptions
from tests.support.world import World
from xmppd.ctl import access
from xmppd.modules.client_management import WRITE_SECONDS, accesses

BIND = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"


def test_a_client_of_an_account_that_is_deleted_meanwhile_is_no_failure_of_ours() -> None:
    world = World()
    player = authenticated(world)
    world.login("romeo@example.org/orchard")  # so that the account is known and not looked up
    account = world.result(world.store.accounts.find("example.org", "romeo"))
    assert account is not None
    with exceptions() as failures:
        world.store.accounts.delete(account.id)
        player.sends(BIND)
        world.advance(60)
        gc.collect()  # where nobody looked at what became of a write, that is told now
    assert failures == []


def test_a_client_without_an_id_is_written_with_others_and_tried_again() -> None:
    world = World()
    world.account("romeo@example.org")
    clients = [world.login(f"romeo@example.org/{number}") for number in range(5)]
    logged: list[LogEvent] = []
    globalLogPublisher.addObserver(logged.append)
    with broken(world), exceptions() as failures:
        world.advance(WRITE_SECONDS)
    globalLogPublisher.removeObserver(logged.append)
    told = [event for event in logged if "clients were seen" in str(event.get("log_format"))]
    assert [event["count"] for event in told] == [len(clients)]  # in one line
    world.advance(WRITE_SECONDS)
    after = crash(world)
    account = after.run(after.host.accounts.load("romeo"))
    assert len(after.run(accesses(account))) == len(clients) and failures == []


def test_an_account_has_so_many_application_passwords() -> None:
    world = World("max_grants_per_account = 2\n")
    world.account("romeo@example.org")
    account = world.run(world.host.accounts.load("romeo"))
    for name in ("mail", "calendar"):
        world.run(access.grant(account, name))
    with pytest.raises(ValueError, match=r"at most 2 application passwords \(max_grants_per_account\)"):
        world.run(access.grant(account, "television"))
