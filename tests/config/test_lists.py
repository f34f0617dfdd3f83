"""Lists of values, and the lists of ports, addresses, networks and bare JIDs."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.config import (
    Addresses,
    BareJids,
    Choice,
    Integer,
    Kind,
    ListOf,
    Mapping,
    Networks,
    PathOf,
    Ports,
    Text,
)

from .helpers import refuses

KINDS: list[Kind[object]] = [
    ListOf(Integer()),
    Mapping(Text()),
    Ports(),
    Addresses(),
    Networks(),
    BareJids(),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@given(text=st.text())
def test_any_text_is_a_value_or_a_value_error(kind: Kind[object], text: str) -> None:
    assert kind.accepts
    try:
        kind.parse(text)
    except ValueError as error:
        assert str(error)


@given(numbers=st.lists(st.integers(0, 10**6)), separator=st.sampled_from([",", "\n", " , ", ",\n", " \n "]))
def test_list_round_trip(numbers: list[int], separator: str) -> None:
    assert ListOf(Integer()).parse(separator.join(map(str, numbers))) == tuple(numbers)


def test_list_forgives_a_comma_too_many() -> None:
    assert ListOf(Text()).parse("smacks,, mam,\n") == ("smacks", "mam")
    assert ListOf(Text()).parse("") == ()
    assert ListOf(Text()).parse(" , ") == ()


def test_list_names_the_item_that_is_wrong() -> None:
    assert refuses(ListOf(Integer()), "1, two, 3") == "'two' is not a whole number"


def test_lists_say_what_they_accept() -> None:
    assert ListOf(Choice("a", "b")).accepts == "a list, separated by commas or new lines, of: a or b"
    assert Ports().accepts.startswith("ports from 0 (any free one) to 65535 separated by commas or new lines")
    assert Addresses().accepts == "IP addresses separated by commas or new lines; * and :: for all"
    assert BareJids().accepts == "bare JIDs as user@example.org separated by commas or new lines"


def test_list_of_paths_knows_the_folder() -> None:
    assert ListOf(PathOf()).within(Path("/etc")).parse("a, /b") == (Path("/etc/a"), Path("/b"))


def test_ports() -> None:
    assert Ports().parse("5222, 0\n65535") == (5222, 0, 65535)
    assert Ports().parse("") == ()
    assert Ports().parse("0, 0") == (0, 0)
    assert refuses(Ports(), "65536") == "65536 is more than 65535"
    assert refuses(Ports(), "-1") == "-1 is less than 0"
    assert refuses(Ports(), "5222 5223") == "'5222 5223' is not a whole number"
    assert refuses(Ports(), "5222, 5223, 5222") == "port 5222 is there twice"
    assert Ports().within(Path("/etc")).accepts == Ports().accepts


@pytest.mark.parametrize("text", ["*", "::", "0.0.0.0", "127.0.0.1", "::1", "2001:DB8::1", "fe80::1%eth0"])
def test_address_stays_as_written(text: str) -> None:
    assert Addresses().parse(text) == (text,)


@pytest.mark.parametrize("text", ["localhost", "127.0.0", "1.2.3.4:5222", "[::1]", "**", "10.0.0.0/8", "1"])
def test_address_refuses_the_rest(text: str) -> None:
    assert refuses(Addresses(), text) == f"{text!r} is not an IP address"


def test_networks() -> None:
    assert Networks().parse("10.0.0.0/8, ::1") == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )
    assert refuses(Networks(), "10.0.0.1/8") == "'10.0.0.1/8' has bits set beyond its prefix"
    assert refuses(Networks(), "10.0.0.0/33") == "'10.0.0.0/33' is not a network"
    assert refuses(Networks(), "everyone") == "'everyone' is not a network"


def test_bare_jids() -> None:
    assert BareJids().parse("romeo@example.org, juliet@example.org") == (
        "romeo@example.org",
        "juliet@example.org",
    )
    assert BareJids().parse("") == ()


@pytest.mark.parametrize(
    "text", ["example.org", "@example.org", "romeo@", "a@b@c", "romeo@example.org/orchard", "a b@c"]
)
def test_bare_jid_refuses_the_rest(text: str) -> None:
    assert refuses(BareJids(), text).startswith(f"{text!r} is not a bare JID: ")


def test_bare_jids_are_made_by_the_check_that_is_given() -> None:
    def check(text: str) -> tuple[str, ...]:
        if "@" not in text:
            raise ValueError("no localpart")
        return tuple(text.lower().split("@"))

    assert BareJids(check).parse("Romeo@Example.org") == (("romeo", "example.org"),)
    assert refuses(BareJids(check), "example.org") == "'example.org' is not a bare JID: no localpart"


def test_mapping() -> None:
    contacts = Mapping(ListOf(Text())).parse("abuse = mailto:a@b.c, xmpp:a@b.c\n\n support=x=y\nnone =")
    assert list(contacts.items()) == [
        ("abuse", ("mailto:a@b.c", "xmpp:a@b.c")),
        ("support", ("x=y",)),
        ("none", ()),
    ]
    assert Mapping(Text()).parse("") == {}


def test_mapping_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Mapping(Text()).parse("a = b")["a"] = "c"  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "why"),
    [("abuse", "not KEY = VALUE"), ("= x", "not KEY = VALUE"), ("a = 1\na = 2", "there twice")],
)
def test_mapping_refuses_the_rest(text: str, why: str) -> None:
    assert why in refuses(Mapping(Text()), text)


def test_mapping_of_paths_knows_the_folder() -> None:
    assert Mapping(PathOf()).within(Path("/etc")).parse("a = b") == {"a": Path("/etc/b")}
