"""``xmppctl push``: what is registered, whether it works, and its end; what revocation and a new password do to it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.push import APP, PHONE, ROMEO, SECTIONS, AppServer, enable, says
from tests.support.sasl2 import BIND, IDS, SM_ENABLE, agent, arrives, bound, plain
from tests.support.world import Player, World
from xmppd.ctl import commands, output
from xmppd.ctl.commands import CommandError
from xmppd.wire import ns

JULIET = "juliet@example.org/balcony"
FORM = (
    "<x xmlns='jabber:x:data' type='submit'><field var='secret'><value>not to be seen</value></field></x>"
    "<priority xmlns='tigase:push:priority:0'/><muted xmlns='tigase:push:filter:muted:0'/>"
)


def make() -> tuple[World, AppServer]:
    world = World("", SECTIONS)
    return world, AppServer(world)


def command(world: World, name: str, /, **arguments: Any) -> Any:
    return world.run(commands.run(world.server, world.service, name, {"jid": ROMEO, **arguments}))


def begins(world: World, name: str) -> list[Any]:
    """A command that waits for something; its result will be in the list."""
    from twisted.internet.defer import Deferred

    outcome: list[Any] = []
    running = Deferred.fromCoroutine(commands.run(world.server, world.service, name, {"jid": ROMEO}))
    running.addBoth(outcome.append)
    world.settle()
    return outcome


def registered(world: World) -> Player:
    romeo = world.online(PHONE)
    enable(romeo, inner=FORM)
    return romeo


def test_registrations_are_listed_without_what_is_secret(capsys: pytest.CaptureFixture[str]) -> None:
    world, _ = make()
    registered(world)
    (entry,) = command(world, "push list")
    assert (entry["jid"], entry["node"], entry["resource"]) == (APP, "node", "phone")
    assert (entry["errors"], entry["suspended"], entry["waiting"]) == (0, False, False)
    assert entry["enabled"].startswith("2023-11-14T22:13:20")
    assert entry["extensions"] == ["tigase:push:filter:muted:0"]
    assert "not to be seen" not in str(entry)
    output.show("push list", [entry])
    shown = capsys.readouterr().out
    assert entry["id"] in shown and APP in shown


def test_a_registration_is_removed_by_its_id() -> None:
    world, app = make()
    romeo = registered(world)
    (entry,) = command(world, "push list")
    with pytest.raises(CommandError, match="has no registration 'nothing'"):
        command(world, "push remove", id="nothing")
    assert command(world, "push remove", id=entry["id"])["from"] == APP
    assert command(world, "push list") == []
    romeo.disconnects()
    says(world.online(JULIET))
    app.nothing()


def test_a_test_shows_what_each_app_server_answers(capsys: pytest.CaptureFixture[str]) -> None:
    world, app = make()
    romeo = registered(world)
    enable(romeo, "refused")
    enable(romeo, "silent")
    enable(romeo, jid="push.nowhere.example")
    outcome = begins(world, "push test")
    app.answering = False
    for push in app.pushes():
        assert push.important
        if push.node == "refused":
            app.fails("forbidden", "auth", push)
        elif push.node == "node":
            app.component.answers(push.iq)
    world.advance(30)
    (result,) = outcome
    errors = {(each["jid"], each["node"]): each["error"] for each in result}
    assert errors[APP, "node"] is None
    assert errors[APP, "refused"] == "forbidden"
    assert errors[APP, "silent"].startswith("remote-server-timeout: ")
    assert errors["push.nowhere.example", "node"].startswith("remote-server-not-found: this server does not reach")
    assert [entry["errors"] for entry in command(world, "push list")] == [0, 0, 0, 0]
    output.show("push test", result)
    shown = capsys.readouterr().out
    assert "the app server has taken it" in shown and "remote-server-timeout" in shown


def test_there_may_be_nothing_to_test_or_nobody_who_could(capsys: pytest.CaptureFixture[str]) -> None:
    world, _ = make()
    world.account(ROMEO)
    output.show("push test", command(world, "push test"))
    assert "no registration" in capsys.readouterr().out
    off = World("modules_disabled = cloud_notify\n")
    off.account(ROMEO)
    with pytest.raises(CommandError, match="cloud_notify is disabled"):
        command(off, "push list")


def test_pushes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    world, app = make()
    registered(world).disconnects()
    juliet = world.online(JULIET)
    says(juliet)
    world.advance(1)
    app.push()
    says(juliet)
    world.advance(1)
    app.fails("forbidden", "auth")
    status = command(world, "status")
    counted = {name: value for name, value in status["counters"].items() if "example.org" in name}
    important = "xmppd_pushes_total{{host=example.org, importance=important, outcome={}}}"
    assert counted == {important.format("sent"): 2, important.format("answered"): 1, important.format("refused"): 1}
    assert status["components"] == {APP: True}
    output.show("status", status)
    assert f"component {APP}" in capsys.readouterr().out


# ---- clients


def test_a_client_is_listed_with_where_it_is_notified() -> None:
    world, _ = make()
    romeo = bound(world)
    enable(romeo)
    romeo.sends(f"<iq type='get' id='l'><list xmlns='{ns.CAM}'/></iq>")
    (client,) = romeo.takes()[0]
    push = client.find(f"{{{ns.PUSH}}}push")
    assert push is not None and push.get("jid") == APP, ElementTree.tostring(client)
    (shown,) = command(world, "user clients")
    assert shown["push"] == [APP]


def test_a_client_that_is_revoked_is_not_notified_any_more() -> None:
    world, app = make()
    enable(bound(world), "stays")
    other = bound(world, id=IDS[1])
    enable(other, "goes")
    (id,) = [entry["client"] for entry in command(world, "push list") if entry["node"] == "goes"]
    command(world, "user revoke_client", client=id)
    assert [entry["node"] for entry in command(world, "push list")] == ["stays"]
    says(world.online(JULIET))
    world.advance(1)
    assert app.push().node == "stays"
    again = World("", SECTIONS, before=world)
    again.starts()
    assert [entry["node"] for entry in command(again, "push list")] == ["stays"]


def test_after_a_new_password_a_client_is_notified_once_it_has_logged_in_again() -> None:
    world, app = make()
    romeo = bound(world)
    enable(romeo)
    command(world, "user password", password="another")
    assert [entry["suspended"] for entry in command(world, "push list")] == [True]
    juliet = world.online(JULIET)
    says(juliet)
    app.nothing()
    back = arrives(world, plain(agent(IDS[0]), BIND.format(SM_ENABLE), password="another")).player
    back.disconnects()
    world.advance(2)
    app.pushes()
    says(juliet)
    world.advance(1)
    assert app.push().important
    assert [entry["suspended"] for entry in command(world, "push list")] == [False]


def test_the_client_that_changes_the_password_stays_notified() -> None:
    world, _ = make()
    romeo = bound(world)
    enable(romeo)
    change = "<query xmlns='jabber:iq:register'><username>romeo</username><password>another</password></query>"
    romeo.sends(f"<iq type='set' id='p' to='example.org'>{change}</iq>")
    world.settle()
    assert [entry["suspended"] for entry in command(world, "push list")] == [False]


def test_a_deleted_account_is_notified_of_nothing() -> None:
    world, app = make()
    registered(world).disconnects()
    says(world.online(JULIET))
    command(world, "user delete")
    app.nothing()
