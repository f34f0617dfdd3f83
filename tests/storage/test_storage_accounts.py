"""Accounts and credentials."""

from __future__ import annotations

import pytest
from twisted.python.failure import Failure

from xmppd.storage import (
    AlreadyExists,
    NewAccount,
    OfflineMessage,
    RosterItem,
    ScramKeys,
    SmSession,
    SubscriptionRequest,
)

HOST = "example.org"
KEYS = {
    "SHA-1": ScramKeys(b"salt", 4096, b"stored", b"server"),
    "SHA-256": ScramKeys(b"\x00\xff", 10_000, b"s2", b"v2"),
}
NASTY = ["'; DROP TABLE account; --", '"', "\\", "%", "_", ":id", "?", "%(x)s", "{}", "漢字", "\n", ""]


def test_an_account_is_found_as_it_was_made(store, pump):
    pump.advance(12.5)
    made = store.accounts.create(HOST, "juliet", KEYS)
    # In the same turn, thus in the same transaction.
    found = store.accounts.find_with_credentials(HOST, "juliet")
    account_id = pump.run(made)
    account, keys, data = pump.run(found)
    assert (account.id, account.host, account.localpart) == (account_id, HOST, "juliet")
    assert (account.created, account.password_changed, account.enabled) == (12500, 12500, True)
    assert account.enabled is True
    assert keys == KEYS and all(isinstance(key.salt, bytes) for key in keys.values())
    assert data == {}
    assert pump.run(store.accounts.find(HOST, "juliet")) == account
    assert pump.run(store.accounts.credentials(account_id)) == KEYS


def test_who_is_not_there_is_not_found(store, pump):
    pump.run(store.accounts.create(HOST, "juliet", KEYS))
    for host, localpart in ((HOST, "romeo"), ("example.com", "juliet"), (HOST, "Juliet"), (HOST, "julie%")):
        assert pump.run(store.accounts.find(host, localpart)) is None
        assert pump.run(store.accounts.find_with_credentials(host, localpart)) is None
    assert pump.run(store.accounts.credentials(99)) == {}


def test_an_account_without_credentials_is_found(store, pump):
    pump.run(store.accounts.create(HOST, "juliet", {}, when=7))
    account, keys, _ = pump.run(store.accounts.find_with_credentials(HOST, "juliet"))
    assert keys == {} and account.created == 7


def test_what_is_kept_for_an_account_under_a_kind_is_found_with_its_credentials(store, pump):
    juliet = pump.run(store.accounts.create(HOST, "juliet", KEYS))
    other = pump.run(store.accounts.create(HOST, "romeo", {}))
    for account, kind, keys in ((juliet, "grants", "ab"), (juliet, "x", "c"), (other, "grants", "d")):
        for key in keys:
            store.data.put(account, kind, key, key.encode())
    found = pump.run(store.accounts.find_with_credentials(HOST, "juliet", "grants"))
    assert (found.account.id, found.credentials, found.data) == (juliet, KEYS, {"a": b"a", "b": b"b"})
    assert pump.run(store.accounts.find_with_credentials(HOST, "juliet", "y")).data == {}
    assert pump.run(store.accounts.find_with_credentials(HOST, "juliet")).data == {}
    assert pump.run(store.accounts.find_with_credentials(HOST, "romeo", "grants")).data == {"d": b"d"}
    assert pump.run(store.accounts.find_with_credentials(HOST, "nobody", "grants")) is None


def test_a_second_account_of_a_name_is_refused_and_changes_nothing(store, pump):
    first = store.accounts.create(HOST, "juliet", KEYS)
    second = store.accounts.create(HOST, "juliet", {})
    elsewhere = store.accounts.create("example.com", "juliet", {})
    account_id = pump.run(first)
    with pytest.raises(AlreadyExists, match=r"juliet@example\.org"):
        pump.run(second)
    assert pump.run(elsewhere) != account_id
    assert store.groups == 1, "refusing one must not undo the group"
    assert pump.run(store.accounts.credentials(account_id)) == KEYS


def test_credentials_that_cannot_be_kept_leave_no_account(store, pump):
    result = pump.settle(store.accounts.create(HOST, "juliet", {"SHA-1": (None, 1, b"", b"")}))
    assert isinstance(result, Failure) and result.type is not AlreadyExists
    assert pump.run(store.accounts.find(HOST, "juliet")) is None


def test_deleting_an_account_removes_everything_of_it(store, pump):
    juliet = pump.run(store.accounts.create(HOST, "juliet", KEYS))
    romeo = pump.run(store.accounts.create(HOST, "romeo", KEYS))
    for account in (juliet, romeo):
        pump.run(store.roster.put(account, RosterItem("nurse@example.org"), 3))
        pump.run(store.roster.put_request(account, SubscriptionRequest("paris@example.org", b"<p/>", 1)))
        pump.run(store.offline.append(account, 1, b"<message/>"))
        pump.run(store.data.put(account, "vcard", "", b"<vCard/>"))
        pump.run(store.sm.add(SmSession(account, account, "id", "balcony", 0, None, None, b"{}")))
        pump.run(store.sm.push(account, 1, 1, b"<message/>"))
        pump.run(store.archive.append(account, bytes(16), "nurse@example.org", "", b"<message/>"))
    assert pump.run(store.accounts.delete(juliet)) is True
    assert pump.run(store.accounts.delete(juliet)) is False
    assert pump.run(store.accounts.find(HOST, "juliet")) is None

    def count(connection):
        from xmppd.storage.schema import metadata

        return {
            name: len(connection.execute(table.select()).all())
            for name, table in metadata.tables.items()
            if name not in ("server_data", "outgoing_stanza")
        }

    assert pump.run(store.write(count)) == {
        "account": 1,
        "credential": 2,
        "roster_item": 1,
        "roster_version": 1,
        "subscription_request": 1,
        "offline_message": 1,
        "account_data": 1,
        "sm_session": 1,
        "sm_stanza": 1,
        "archive": 0,
        "archive_recent": 1,
    }
    assert pump.run(store.offline.peek(romeo)) == [OfflineMessage(2, 1, b"<message/>")]


def test_an_id_is_never_used_again(store, pump):
    first = pump.run(store.accounts.create(HOST, "juliet", {}))
    pump.run(store.accounts.delete(first))
    assert pump.run(store.accounts.create(HOST, "juliet", {})) > first


def test_new_credentials_replace_all_old_ones(store, pump):
    account = pump.run(store.accounts.create(HOST, "juliet", KEYS, when=1))
    other = pump.run(store.accounts.create(HOST, "romeo", KEYS, when=1))
    new = {"SHA-512": ScramKeys(b"a", 1, b"b", b"c")}
    assert pump.run(store.accounts.set_credentials(account, new, 99)) is True
    row, keys, _ = pump.run(store.accounts.find_with_credentials(HOST, "juliet"))
    assert keys == new and (row.created, row.password_changed) == (1, 99)
    row, keys, _ = pump.run(store.accounts.find_with_credentials(HOST, "romeo"))
    assert keys == KEYS and row.id == other and row.password_changed == 1
    assert pump.run(store.accounts.set_credentials(99, new, 99)) is False


def test_an_account_is_closed_and_opened(store, pump):
    account = pump.run(store.accounts.create(HOST, "juliet", {}))
    assert pump.run(store.accounts.set_enabled(account, False)) is True
    assert pump.run(store.accounts.find(HOST, "juliet")).enabled is False
    pump.run(store.accounts.set_enabled(account, True))
    assert pump.run(store.accounts.find(HOST, "juliet")).enabled is True
    assert pump.run(store.accounts.set_enabled(99, True)) is False


def test_the_list_comes_in_pages_sorted_by_code_points(store, pump):
    names = ["a", "B", "é", "z", "_", "a.b", "ab", "漢", "\U0001f600", "￿"]
    pump.run(store.accounts.create_many(HOST, [NewAccount(name, {}) for name in names]))
    pump.run(store.accounts.create("example.com", "elsewhere", {}))
    seen: list[str] = []
    for _ in range(5):
        page = pump.run(store.accounts.list(HOST, after=seen[-1] if seen else "", limit=3))
        assert len(page) <= 3 and {account.host for account in page} <= {HOST}
        seen += [account.localpart for account in page]
    assert seen == sorted(names)
    assert pump.run(store.accounts.count(HOST)) == len(names)
    assert pump.run(store.accounts.count("nowhere.example")) == 0


def test_many_accounts_are_one_transaction(store, pump):
    pump.run(store.accounts.create(HOST, "n0007", KEYS))
    before = store.groups
    rows = [NewAccount(f"n{n:04}", {"SHA-1": ScramKeys(b"%d" % n, n, b"", b"")}, n) for n in range(1200)]
    rows.append(NewAccount("n0008", {}))
    assert pump.run(store.accounts.create_many(HOST, rows)) == ["n0007", "n0008"]
    assert store.groups == before + 1
    assert pump.run(store.accounts.count(HOST)) == 1200
    account, keys, _ = pump.run(store.accounts.find_with_credentials(HOST, "n0008"))
    assert keys["SHA-1"].salt == b"8" and account.created == 8
    assert pump.run(store.accounts.find_with_credentials(HOST, "n0007")).credentials == KEYS
    assert pump.run(store.accounts.create_many(HOST, [])) == []


def test_sql_in_names_is_just_data(store, pump):
    ids = {name: pump.run(store.accounts.create(name, name, KEYS)) for name in NASTY}
    assert len(set(ids.values())) == len(NASTY)
    assert pump.run(store.accounts.create_many(NASTY[0], [NewAccount(n, {}) for n in NASTY])) == [NASTY[0]]
    account = ids[NASTY[0]]
    for name, account_id in ids.items():
        assert pump.run(store.accounts.find(name, name)).id == account_id
        pump.run(store.roster.put(account, RosterItem(name, name, name, name, groups=(name, name)), 1))
        pump.run(store.data.put(account, name, name, name.encode()))
        pump.run(store.data.server_put(name, name, name.encode()))
    items = pump.run(store.roster.load(account)).items
    assert {item.jid for item in items} == set(NASTY)
    assert all(item.name == item.jid and item.groups == (item.jid, item.jid) for item in items)
    for name in NASTY:
        assert pump.run(store.data.all(account, name)) == {name: name.encode()}
        assert pump.run(store.data.server_get(name, name)) == name.encode()
        assert pump.run(store.accounts.list(name, after=NASTY[0], limit=50)) is not None
        pump.run(store.roster.remove(account, name, 2))
    assert pump.run(store.roster.load(account)).items == []
