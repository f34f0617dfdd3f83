"""Keys for better mechanisms (XEP-0480), and which mechanisms a host can offer at all."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from tests.auth.support import Client
from tests.support.sasl2 import (
    BIND,
    REQUEST_TOKEN,
    SASL2,
    Arrived,
    agent,
    arrives,
    asks,
    authenticate,
    b64,
    by_token,
    opens,
    plain,
)
from tests.support.world import Player, World
from xmppd.auth.credentials import derive, make, salted_password, verify_password
from xmppd.auth.mechanism import AuthenticationFailed

UPGRADE = "{urn:xmpp:sasl:upgrade:0}upgrade"
SALT = "{urn:xmpp:scram-upgrade:0}salt"
WANTED = "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-{}</upgrade>"


def old_account(world: World, local: str = "romeo", hashes: tuple[str, ...] = ("SHA-1",)) -> None:
    """An account that has keys for these hashes alone, as one that came from another server."""
    keys = make("secret", hashes, iterations=4096).keys
    rows = {name: (k.salt, k.iterations, k.stored_key, k.server_key) for name, k in keys.items()}
    world.result(world.store.accounts.create("example.org", local, rows))
    world.run(world.host.accounts.look_at_hashes())


def announced(world: World) -> tuple[list[str], list[str]]:
    """The mechanisms and the upgrades that a stream announces."""
    player = world.connect()
    player.opens()
    player.receives_header()
    own = player.takes().find(f"{SASL2}authentication")
    assert own is not None
    mechanisms = [element.text or "" for element in own.findall(f"{SASL2}mechanism")]
    return mechanisms, [element.text or "" for element in own.findall(UPGRADE)]


def hashes(world: World, local: str = "romeo") -> set[str]:
    return set(world.run(world.host.accounts.credentials(local)).keys)


def begins(world: World, *wanted: str) -> tuple[Player, str]:
    """A client that has shown its password for SCRAM-SHA-1; the answer to that."""
    player, client = opens(world), Client("secret", hash_name="SHA-1")
    more = "".join(WANTED.format(name) for name in wanted)
    player.sends(authenticate("SCRAM-SHA-1", client.first(), agent(), BIND.format(""), more))
    final = client.final(base64.b64decode(player.takes().text or ""))
    player.sends(f"<response xmlns='urn:xmpp:sasl:2'>{b64(final)}</response>")
    answer = player.takes()
    return player, "".join(element.text or "" for element in answer.iter(f"{SASL2}task"))


def salts(player: Player, task: str, password: str = "secret") -> str:
    """Do a task; returns what the server asks for next, "" when the client is in."""
    player.sends(f"<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-{task}'/>")
    salt = player.takes().find(SALT)
    assert salt is not None
    salted = salted_password(
        password.encode(), base64.b64decode(salt.text or ""), int(salt.get("iterations") or 0), task
    )
    hash_ = f"<hash xmlns='urn:xmpp:scram-upgrade:0'>{b64(salted)}</hash>"
    player.sends(f"<task-data xmlns='urn:xmpp:sasl:2'>{hash_}</task-data>")
    answer = player.takes()
    return "".join(element.text or "" for element in answer.iter(f"{SASL2}task"))


# ---- what is offered


def test_only_mechanisms_are_offered_for_which_every_account_has_keys_and_upgrades_to_the_others() -> None:
    world = World()
    assert announced(world) == (["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"], [])
    world.account("juliet@example.org")
    old_account(world)
    assert announced(world) == (["SCRAM-SHA-1", "PLAIN"], ["UPGR-SCRAM-SHA-256", "UPGR-SCRAM-SHA-512"])


def test_where_no_hash_is_everywhere_all_that_somebody_has_are_offered() -> None:
    world = World()
    old_account(world)
    old_account(world, "juliet", ("SHA-512",))
    assert announced(world)[0] == ["SCRAM-SHA-512", "SCRAM-SHA-1", "PLAIN"]


def test_a_mechanism_is_offered_a_while_after_the_last_account_has_keys_for_it() -> None:
    world = World()
    old_account(world)
    player, task = begins(world, "SHA-256")
    assert task == "UPGR-SCRAM-SHA-256"
    assert salts(player, "SHA-256") == ""
    world.advance(61)
    assert announced(world) == (["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"], ["UPGR-SCRAM-SHA-512"])


def test_what_is_offered_is_found_out_at_the_start() -> None:
    world = World()
    old_account(world)
    after = World(before=world)
    after.starts()
    assert announced(after)[0] == ["SCRAM-SHA-1", "PLAIN"]


# ---- tasks


def test_a_client_gives_its_account_keys_one_task_after_the_other_and_is_in_then() -> None:
    world = World()
    old_account(world)
    player, task = begins(world, "SHA-512", "SHA-256", "SHA-3")
    assert task == "UPGR-SCRAM-SHA-256"
    assert world.server.sessions.of("romeo@example.org") == []  # nothing is done before the end
    assert salts(player, "SHA-256") == "UPGR-SCRAM-SHA-512"
    assert salts(player, "SHA-512") == ""
    assert len(world.server.sessions.of("romeo@example.org")) == 1
    assert hashes(world) == {"SHA-1", "SHA-256", "SHA-512"}
    for hash_name in ("SHA-1", "SHA-256", "SHA-512"):
        world.advance(61)
        other, client = opens(world), Client("secret", hash_name=hash_name)
        other.sends(authenticate(f"SCRAM-{hash_name}", client.first()))
        final = client.final(base64.b64decode(other.takes().text or ""))
        other.sends(f"<response xmlns='urn:xmpp:sasl:2'>{b64(final)}</response>")
        assert other.takes().tag == f"{SASL2}success"


def test_an_account_that_has_the_keys_is_not_asked_for_them() -> None:
    world = World()
    world.account("romeo@example.org")
    assert arrives(world, plain(WANTED.format("SHA-256"))).jid


@pytest.mark.parametrize(
    "answer",
    [
        "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-512'/>",
        "<next xmlns='urn:xmpp:sasl:2'/>",
        "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-256'/><task-data xmlns='urn:xmpp:sasl:2'/>",
        "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-256'/><task-data xmlns='urn:xmpp:sasl:2'>"
        "<hash xmlns='urn:xmpp:scram-upgrade:0'>AAAA</hash></task-data>",
        "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-256'/><task-data xmlns='urn:xmpp:sasl:2'>"
        "<hash xmlns='urn:xmpp:scram-upgrade:0'>?</hash></task-data>",
        "<abort xmlns='urn:xmpp:sasl:2'/>",
    ],
)
def test_a_task_that_is_not_done_ends_the_login_and_changes_nothing(answer: str) -> None:
    world = World()
    old_account(world)
    player, _ = begins(world, "SHA-256")
    player.sends(answer)
    while (got := player.takes()).tag == f"{SASL2}task-data":
        pass  # the salt
    assert got.tag == f"{SASL2}failure"
    assert hashes(world) == {"SHA-1"}
    assert asks(player, plain()).jid == "romeo@example.org"


@pytest.mark.parametrize("sent", ["<message/>", "<response xmlns='urn:xmpp:sasl:2'/>", plain()])
def test_nothing_else_may_come_while_there_is_a_task(sent: str) -> None:
    world = World()
    old_account(world)
    player, _ = begins(world, "SHA-256")
    player.sends(sent)
    assert player.takes().tag == "{http://etherx.jabber.org/streams}error"


# ---- a password that is shown


def test_who_shows_the_password_has_keys_for_everything_afterwards() -> None:
    world = World()
    old_account(world)
    assert arrives(world, plain(agent())).jid
    world.settle()
    assert hashes(world) == {"SHA-1", "SHA-256", "SHA-512"}
    world.advance(61)
    assert announced(world) == (["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"], [])


# ---- a second factor, as a module would add it


class Code:
    """A task: the client answers with a code."""

    name = "TOTP-EXAMPLE"

    async def begin(self, element: domish.Element) -> bytes | None:
        return b"<code xmlns='urn:example'/>"

    async def go_on(self, element: domish.Element) -> bytes | None:
        if str(next(element.elements("urn:example", "code"), "")) != "123456":
            raise AuthenticationFailed("not-authorized")
        return None


def with_code() -> World:
    """A world in which romeo needs a code."""

    async def tasks(local: str) -> list[Code]:
        return [Code()] if local == "romeo" else []

    world = World()
    world.host.login_tasks.append(tasks)
    return world


@pytest.mark.parametrize(("code", "comes_in"), [("123456", True), ("654321", False)])
def test_a_second_factor_comes_before_anything_that_the_client_asked_for(code: str, comes_in: bool) -> None:
    world = with_code()
    world.account("romeo@example.org")
    player = opens(world)
    player.sends(plain(agent(), BIND.format(""), REQUEST_TOKEN.format("HT-SHA-256-NONE")))
    answer = player.takes()
    assert [element.text for element in answer.iter(f"{SASL2}task")] == ["TOTP-EXAMPLE"]
    assert world.server.sessions.of("romeo@example.org") == []
    player.sends("<next xmlns='urn:xmpp:sasl:2' task='TOTP-EXAMPLE'/>")
    player.receives("<task-data xmlns='urn:xmpp:sasl:2'><code xmlns='urn:example'/></task-data>")
    player.sends(f"<task-data xmlns='urn:xmpp:sasl:2'><code xmlns='urn:example'>{code}</code></task-data>")
    arrived = Arrived(player)
    assert (arrived.answer.tag == f"{SASL2}success") is comes_in
    if comes_in:
        again = arrives(world, by_token(arrived.token, agent()))  # who has a token has done it before
        assert again.jid


def test_who_cannot_do_a_task_does_not_get_in() -> None:
    world = with_code()
    world.account("romeo@example.org")
    player = opens(world)
    initial = b64("\0romeo\0secret")
    player.sends(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>")
    assert player.takes()[0].tag == "{urn:ietf:params:xml:ns:xmpp-sasl}not-authorized"
    assert world.login("juliet@example.org/balcony").full


def test_keys_of_a_password_that_was_changed_meanwhile_are_not_kept() -> None:
    world = World()
    old_account(world)
    waiting: list[tuple[Deferred[Any], Any, tuple[Any, ...]]] = []
    at_once = world.server.in_thread

    def in_thread(function: Any, *arguments: Any) -> Any:
        if function is not derive:
            return at_once(function, *arguments)
        waiting.append((Deferred(), function, arguments))
        return waiting[-1][0]

    world.server.in_thread = in_thread  # type: ignore[assignment]
    assert arrives(world, plain(agent())).jid
    account = world.run(world.host.accounts.load("romeo"))
    world.advance(1)
    world.run(world.host.accounts.set_password(account, "new"))
    assert waiting
    while waiting:
        deferred, function, arguments = waiting.pop(0)
        deferred.callback(function(*arguments))
        world.settle()
    for name, keys in world.run(world.host.accounts.credentials("romeo")).keys.items():
        assert not verify_password(keys, b"secret", name)
