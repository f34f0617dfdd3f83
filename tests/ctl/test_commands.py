"""What each command does, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import fail

from xmppd import __version__
from xmppd.auth.credentials import HASHES, verify_password
from xmppd.ctl import commands
from xmppd.ctl.commands import COMMANDS, CommandError, Where
from xmppd.storage import StorageError

from .conftest import World


def call(world: World, name: str, **arguments: Any) -> Any:
    return world.run(commands.run(world.server, world.clients, name, arguments))


def refusal(world: World, name: str, **arguments: Any) -> str:
    with pytest.raises(CommandError) as caught:
        call(world, name, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(world: World, domain: str = "example.org") -> list[str]:
    return [account["jid"] for account in call(world, "user list", domain=domain)]


def logs_in(world: World, local: str, password: str) -> bool:
    found = world.run(world.server.hosts["example.org"].accounts.credentials(local))
    assert set(found.keys) <= set(HASHES)
    return all(verify_password(keys, password.encode(), name) for name, keys in found.keys.items())


def test_an_account_is_created_under_its_prepared_name_with_its_password(world: World) -> None:
    assert call(world, "user create", jid="JULIET@Example.ORG", password="r0m30") == {"jid": "juliet@example.org"}
    assert names(world) == ["juliet@example.org"]
    assert names(world, "example.com") == []
    assert logs_in(world, "juliet", "r0m30")
    assert not logs_in(world, "juliet", "romeo")


def test_an_account_that_exists_is_not_created_again_and_keeps_its_password(world: World) -> None:
    call(world, "user create", jid="juliet@example.org", password="first")
    assert refusal(world, "user create", jid="Juliet@example.org", password="second") == (
        "the account juliet@example.org exists already"
    )
    assert logs_in(world, "juliet", "first")


@pytest.mark.parametrize(
    ("jid", "says"),
    [
        ("juliet@example.net", "example.net is not a host of this server"),
        (
            "juliet@example.org/balcony",
            "juliet@example.org/balcony names a client; an account is juliet@example.org",
        ),
        ("example.org", "example.org is no account: give USER@DOMAIN"),
        ("example.org/balcony", "example.org/balcony is no account: give USER@DOMAIN"),
        ("@example.org", "'@example.org' is not an address: the localpart is empty"),
        ("a b@example.org", "is not an address"),
        ("", "is not an address"),
        ("\x1b[2J@example.org", "is not an address"),
        ("\ud800@example.org", "is not an address"),
    ],
)
@pytest.mark.parametrize("command", ["user create", "user password", "user delete"])
def test_an_address_that_is_no_account_of_a_host_is_refused(world: World, command: str, jid: str, says: str) -> None:
    assert says in refusal(world, command, jid=jid, password="pw")


@pytest.mark.parametrize("password", ["", "\u00ad", "a\x00b", "\x07", "\ud800"])
def test_a_password_that_saslprep_refuses_is_refused_and_not_repeated(world: World, password: str) -> None:
    says = refusal(world, "user create", jid="juliet@example.org", password=password)
    assert says.startswith("this password cannot be used for juliet@example.org: ")
    assert not password or password not in says
    assert names(world) == []
    call(world, "user create", jid="juliet@example.org", password="r0m30")
    refusal(world, "user password", jid="juliet@example.org", password=password)
    assert logs_in(world, "juliet", "r0m30")


def test_a_password_is_changed(world: World) -> None:
    call(world, "user create", jid="juliet@example.org", password="old")
    assert call(world, "user password", jid="juliet@example.org", password="new") == {"jid": "juliet@example.org"}
    assert logs_in(world, "juliet", "new")
    assert not logs_in(world, "juliet", "old")


def test_an_account_is_deleted_and_then_missing(world: World) -> None:
    call(world, "user create", jid="juliet@example.org", password="pw")
    call(world, "user create", jid="romeo@example.org", password="pw")
    assert call(world, "user delete", jid="juliet@example.org") == {"jid": "juliet@example.org"}
    assert names(world) == ["romeo@example.org"]
    for command in ("user delete", "user password"):
        says = refusal(world, command, jid="juliet@example.org", password="pw")
        assert says == "there is no account juliet@example.org"


def test_many_accounts_are_created_and_each_that_cannot_be_is_reported_with_its_line(world: World) -> None:
    call(world, "user create", jid="nurse@example.org", password="pw")
    users = [
        [1, "juliet@example.org", "one"],
        [2, "nurse@example.org", "two"],
        [4, "romeo@example.net", "three"],
        [5, "romeo@example.org", "\x07"],
        [6, "mercutio@example.com", "four"],
        [7, "Juliet@example.org", "again"],
    ]
    result = call(world, "user create", users=users)
    assert result["created"] == 2
    assert [failure["line"] for failure in result["failed"]] == [2, 4, 5, 7]
    assert result["failed"][0]["error"] == "the account nurse@example.org exists already"
    assert result["failed"][1]["error"] == "example.net is not a host of this server"
    assert names(world) == ["juliet@example.org", "nurse@example.org"]
    assert names(world, "example.com") == ["mercutio@example.com"]
    assert logs_in(world, "juliet", "one")


def test_no_accounts_at_all_are_created_too(world: World) -> None:
    assert call(world, "user create", users=[]) == {"created": 0, "failed": []}


def test_accounts_are_created_side_by_side_but_only_so_many(world: World) -> None:
    under_way: list[int] = [0, 0]
    host = world.server.hosts["example.org"]
    real = host.accounts.create

    async def create(local: str, password: str) -> None:
        under_way[0] += 1
        under_way[1] = max(under_way)
        await real(local, password)
        under_way[0] -= 1

    host.accounts.create = create  # type: ignore[method-assign]
    users = [[n, f"u{n}@example.org", "pw"] for n in range(3 * commands.CREATED_AT_ONCE)]
    assert call(world, "user create", users=users)["created"] == len(users)
    assert under_way == [0, commands.CREATED_AT_ONCE]


@pytest.mark.parametrize("users", ["x", [["1", "a@example.org", "pw"]], [[1, "a@example.org"]], [[1, 2, 3]], [5]])
def test_a_list_of_accounts_of_another_shape_is_refused_as_a_whole(world: World, users: Any) -> None:
    assert "'users' is a list of" in refusal(world, "user create", users=users)


def test_every_page_of_a_long_list_is_given_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PAGE", 3)
    users = [[n, f"u{n}@example.org", "pw"] for n in range(7)]
    call(world, "user create", users=users)
    assert names(world) == [f"u{n}@example.org" for n in range(7)]


def test_a_list_tells_when_each_account_was_made(world: World) -> None:
    call(world, "user create", jid="juliet@example.org", password="pw")
    assert call(world, "user list", domain="EXAMPLE.org") == [
        {"jid": "juliet@example.org", "created": "2023-11-14T22:13:20Z", "enabled": True}
    ]


@pytest.mark.parametrize("domain", ["example.net", "", "a@b", "\ud800"])
def test_only_hosts_have_lists(world: World, domain: str) -> None:
    refusal(world, "user list", domain=domain)


def test_status(world: World) -> None:
    call(world, "user create", jid="juliet@example.org", password="pw")
    world.clock.advance(90)
    status = call(world, "status")
    assert status["version"] == __version__
    assert status["uptime_seconds"] == 90
    assert status["sessions"] == 0
    assert status["streams"] == {"c2s": {"bound": 2, "opened": 1}}
    assert status["hosts"] == {"example.org": {"accounts": 1}, "example.com": {"accounts": 0}}
    assert status["store"]["groups"] >= 1
    assert status["store"]["rows"] >= 1
    assert status["store"]["last_commit_seconds"] >= 0
    (address, port), *others = status["listening"]
    assert (address, others) == ("127.0.0.1", [])
    assert port > 0


def test_status_is_told_when_the_store_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.server.store.accounts, "count", lambda host: fail(StorageError("disk full")))
    assert call(world, "status")["hosts"] == {
        "example.org": {"accounts": None},
        "example.com": {"accounts": None},
    }


def test_a_store_that_fails_is_one_line(world: World) -> None:
    world.run(_close(world))
    assert refusal(world, "user list", domain="example.org") == "the store failed: closed"
    result = call(world, "user create", users=[[1, "juliet@example.org", "pw"]])
    assert result == {"created": 0, "failed": [{"line": 1, "error": "the store failed: closed"}]}


async def _close(world: World) -> None:
    await world.server.store.close()


def test_a_command_that_needs_the_server_is_refused_without(world: World) -> None:
    with pytest.raises(CommandError, match="the server is not running"):
        world.run(commands.run(world.server, None, "status", {}))


@pytest.mark.parametrize("name", ["user", "", "check", "__class__"])
def test_what_is_no_command_of_the_server_is_refused(world: World, name: str) -> None:
    assert refusal(world, name) == f"there is no command {name!r}"


@pytest.mark.parametrize("arguments", [{}, {"jid": 5}, {"jid": ["a@example.org"]}, {"jid": "a@example.org"}])
def test_arguments_that_are_missing_or_no_text_are_refused(world: World, arguments: dict[str, Any]) -> None:
    assert "is missing, or is no text" in refusal(world, "user create", **arguments)


def test_every_command_of_the_table_says_what_it_is_for() -> None:
    users = ["user create", "user password", "user delete", "user list"]
    users += ["user clients", "user revoke_client", "user grant"]
    users += ["push list", "push test", "push remove"]
    assert list(COMMANDS) == [*users, "s2s list", "s2s test", "export", "import", "check", "status"]
    for command in COMMANDS.values():
        assert command.help.endswith(".")
        assert (command.run is None) == (command.where is Where.FILES)
