"""Accounts that come over from another server, and for which hashes accounts have keys."""

from __future__ import annotations

import pytest

from xmppd.storage import AlreadyExists, NewAccount, ScramKeys

HOST = "example.org"
KEYS = {name: ScramKeys(b"salt", 4096, b"stored", b"server") for name in ("SHA-1", "SHA-256")}
MORE = {"SHA-256": ScramKeys(b"s2", 1, b"a", b"b"), "SHA-512": ScramKeys(b"\x00\xff", 10_000, b"c", b"d")}


@pytest.fixture(autouse=True)
def late(pump):
    """It is not the first moment of time."""
    pump.advance(12.5)


# ---- hashes


def test_a_host_without_accounts_has_no_hashes(store, pump):
    assert pump.run(store.accounts.hashes(HOST)) == ({}, 0)
    pump.run(store.accounts.create("example.com", "juliet", KEYS))
    assert pump.run(store.accounts.hashes(HOST)) == ({}, 0)


def test_hashes_are_counted_among_the_accounts_of_a_host_that_have_keys(store, pump):
    everybody = {"a": KEYS, "b": {"SHA-1": KEYS["SHA-1"]}, "c": MORE, "d": {}}
    pump.run(store.accounts.create_many(HOST, [NewAccount(name, keys) for name, keys in everybody.items()]))
    pump.run(store.accounts.create("example.com", "a", KEYS))
    assert pump.run(store.accounts.hashes(HOST)) == ({"SHA-1": 2, "SHA-256": 2, "SHA-512": 1}, 3)
    assert pump.run(store.accounts.hashes("example.com")) == ({"SHA-1": 1, "SHA-256": 1}, 1)


def test_the_count_of_hashes_follows_the_accounts(store, pump):
    juliet = pump.run(store.accounts.create(HOST, "juliet", KEYS))
    romeo = pump.run(store.accounts.create(HOST, "romeo", {}))
    pump.run(store.accounts.put_credentials(romeo, MORE))
    assert pump.run(store.accounts.hashes(HOST)) == ({"SHA-1": 1, "SHA-256": 2, "SHA-512": 1}, 2)
    pump.run(store.accounts.set_credentials(juliet, MORE, 7))
    assert pump.run(store.accounts.hashes(HOST)) == ({"SHA-256": 2, "SHA-512": 2}, 2)
    pump.run(store.accounts.delete(romeo))
    assert pump.run(store.accounts.hashes(HOST)) == ({"SHA-256": 1, "SHA-512": 1}, 1)


# ---- credentials


def test_credentials_are_put_beside_those_for_other_hashes_and_in_place_of_the_same(store, pump):
    juliet = pump.run(store.accounts.create(HOST, "juliet", KEYS, when=3))
    other = pump.run(store.accounts.create(HOST, "romeo", KEYS))
    pump.run(store.accounts.put_credentials(juliet, MORE))
    assert pump.run(store.accounts.credentials(juliet)) == {**KEYS, **MORE}
    assert pump.run(store.accounts.credentials(other)) == KEYS
    assert pump.run(store.accounts.find(HOST, "juliet")).password_changed == 3


# ---- imports


def test_an_account_is_closed_until_its_import_ends(store, pump):
    account = pump.run(store.accounts.begin_import(HOST, "juliet"))
    pump.run(store.accounts.put_credentials(account, KEYS))
    found = pump.run(store.accounts.find_with_credentials(HOST, "juliet"))
    assert (found.account.id, found.account.enabled, found.credentials) == (account, False, KEYS)
    assert pump.run(store.accounts.importing(HOST, "juliet")) == account
    pump.advance(1)
    assert pump.run(store.accounts.end_import(account)) is True
    row = pump.run(store.accounts.find(HOST, "juliet"))
    assert (row.id, row.enabled, row.created, row.password_changed) == (account, True, 12500, 13500)
    assert pump.run(store.accounts.importing(HOST, "juliet")) is None
    assert pump.run(store.accounts.credentials(account)) == KEYS


def test_an_import_is_seen_in_the_turn_in_which_it_begins(store, pump):
    begun = store.accounts.begin_import(HOST, "juliet")
    found = store.accounts.importing(HOST, "juliet")
    assert pump.run(found) == pump.run(begun)


def test_an_import_that_did_not_end_begins_again_with_nothing(store, pump):
    first = pump.run(store.accounts.begin_import(HOST, "juliet"))
    pump.run(store.accounts.put_credentials(first, KEYS))
    pump.run(store.data.put(first, "vcard", "", b"<vCard/>"))
    second = pump.run(store.accounts.begin_import(HOST, "juliet"))
    assert second > first
    assert pump.run(store.accounts.importing(HOST, "juliet")) == second
    assert pump.run(store.accounts.credentials(second)) == {}
    assert pump.run(store.data.all(second, "vcard")) == pump.run(store.data.all(first, "vcard")) == {}
    assert pump.run(store.accounts.end_import(first)) is False
    assert pump.run(store.accounts.importing(HOST, "juliet")) == second


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("imported", [True, False])
def test_an_account_that_is_there_is_not_imported(store, pump, imported, enabled):
    if imported:
        account = pump.run(store.accounts.begin_import(HOST, "juliet"))
        pump.run(store.accounts.end_import(account))
    else:
        account = pump.run(store.accounts.create(HOST, "juliet", KEYS))
    pump.run(store.accounts.set_enabled(account, enabled))
    before = pump.run(store.accounts.find_with_credentials(HOST, "juliet"))
    with pytest.raises(AlreadyExists, match=r"juliet@example\.org"):
        pump.run(store.accounts.begin_import(HOST, "juliet"))
    assert pump.run(store.accounts.importing(HOST, "juliet")) is None
    assert pump.run(store.accounts.find_with_credentials(HOST, "juliet")) == before


def test_nobody_is_imported(store, pump):
    pump.run(store.accounts.begin_import(HOST, "juliet"))
    for host, localpart in ((HOST, "romeo"), ("example.com", "juliet"), (HOST, "Juliet")):
        assert pump.run(store.accounts.importing(host, localpart)) is None
    assert pump.run(store.accounts.end_import(99)) is False


def test_an_account_of_that_name_at_another_host_is_imported(store, pump):
    pump.run(store.accounts.create("example.com", "juliet", KEYS))
    account = pump.run(store.accounts.begin_import(HOST, "juliet"))
    assert pump.run(store.accounts.importing(HOST, "juliet")) == account
