"""Who asks by way of a proxy: what is believed of its headers, and what is not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.http.forwarded import origin_of

TRUSTED = tuple(ipaddress.ip_network(text) for text in ("192.0.2.0/24", "2001:db8:1::/48", "127.0.0.1"))
PROXY = "192.0.2.1"


def client(peer: str = PROXY, **headers: str | list[str]) -> str:
    found = {
        name.replace("_", "-"): value if isinstance(value, list) else [value] for name, value in headers.items()
    }
    return origin_of(peer, found, TRUSTED)[0]


@pytest.mark.parametrize(("headers", "secure"), [
    ({"forwarded": ["for=203.0.113.9;proto=https"]}, True),
    ({"forwarded": ["for=unknown;proto=https"]}, True),
    ({"forwarded": ["for=203.0.113.9;proto=HTTPS, for=192.0.2.7;proto=http"]}, True),  # between two proxies
    ({"forwarded": ["for=203.0.113.9;proto=http, for=192.0.2.7;proto=https"]}, False),
    ({"forwarded": ["for=10.0.0.1;proto=http, for=203.0.113.9;proto=https"]}, True),  # what the client says
    ({"forwarded": ["for=10.0.0.1;proto=https, for=203.0.113.9;proto=http"]}, False),
    ({"forwarded": ["this is none;", "for=203.0.113.9;proto=https"]}, True),
    ({"forwarded": ["for=203.0.113.9"]}, False),
    ({"x-forwarded-for": ["203.0.113.9"], "x-forwarded-proto": ["https"]}, True),
    ({"x-forwarded-proto": ["wss"]}, True),
    ({"x-forwarded-proto": ["https", "http"]}, False),
    ({"x-forwarded-proto": ["https, http"]}, False),
    ({"x-forwarded-proto": ["ftp"]}, False),
    ({"x-forwarded-proto": [""]}, False),
    ({"forwarded": ["for=203.0.113.9;proto=http"], "x-forwarded-proto": ["https"]}, False),
    ({"forwarded": ["for=203.0.113.9"], "x-forwarded-proto": ["https"]}, True),
    ({}, False),
])  # fmt: skip
def test_how_a_client_came_is_said_by_the_proxy_that_it_came_to(headers: dict[str, list[str]], secure: bool) -> None:
    assert origin_of(PROXY, headers, TRUSTED)[1] is secure
    assert origin_of("203.0.113.1", headers, TRUSTED) == ("203.0.113.1", False)


@pytest.mark.parametrize(("value", "expected"), [
    ("for=203.0.113.9", "203.0.113.9"),
    ("For=203.0.113.9;proto=https;by=192.0.2.1", "203.0.113.9"),
    ("proto=https;for=203.0.113.9", "203.0.113.9"),
    ('for="203.0.113.9:4711"', "203.0.113.9"),
    ('for="[2001:db8::9]"', "2001:db8::9"),
    ('for="[2001:db8::9]:4711";host="a;b,c"', "2001:db8::9"),
    ('for="\\203.0.113.9"', "203.0.113.9"),
    ("for=198.51.100.1, for=203.0.113.9", "203.0.113.9"),  # the first is what the client says
    ("for=203.0.113.9, for=192.0.2.7", "203.0.113.9"),  # two proxies
    ("for=203.0.113.9 , for=192.0.2.7 ,for=192.0.2.8", "203.0.113.9"),
    ("for=198.51.100.1, for=unknown", PROXY),
    ("for=_hidden, for=192.0.2.7", "192.0.2.7"),
    ("for=198.51.100.1, for=203.0.113.9;", "203.0.113.9"),
    ('for=198.51.100.1, for=203.0.113.9;host="a";', "203.0.113.9"),
    ("for=203.0.113.9;;proto=https", "203.0.113.9"),
    (", for=203.0.113.9", "203.0.113.9"),
    ("for=198.51.100.1,, for=203.0.113.9", "203.0.113.9"),
    ("for=198.51.100.1,", PROXY),
    ("for=nonsense, for=203.0.113.9", "203.0.113.9"),
    ('for="203.0.113.9:_port"', "203.0.113.9"),
    ("for=198.51.100.1, for=Unknown", PROXY),
    ('for="_hidden:80"', PROXY),
    ("proto=https", PROXY),
    ("for=198.51.100.1, proto=https", PROXY),
    ("", PROXY),
])  # fmt: skip
def test_forwarded_is_read_from_its_end(value: str, expected: str) -> None:
    assert client(forwarded=value) == expected


@pytest.mark.parametrize(("value", "expected"), [
    ("203.0.113.9", "203.0.113.9"),
    ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
    ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
    ("203.0.113.9,192.0.2.7", "203.0.113.9"),
    ("2001:db8::9", "2001:db8::9"),
    ("2001:DB8:0::9, 2001:db8:1::1", "2001:db8::9"),
    ("::ffff:203.0.113.9", "203.0.113.9"),
    ("203.0.113.9:4711", "203.0.113.9"),
    ("192.0.2.8, 192.0.2.7", "192.0.2.8"),
    ("unknown", PROXY),
    ("nonsense, 203.0.113.9", "203.0.113.9"),
    ("unix:, , 203.0.113.9", "203.0.113.9"),
    ("198.51.100.1,", PROXY),
])  # fmt: skip
def test_x_forwarded_for_is_read_from_its_end(value: str, expected: str) -> None:
    assert client(x_forwarded_for=value) == expected


def test_headers_that_are_there_several_times_are_one() -> None:
    assert client(x_forwarded_for=["203.0.113.9", "192.0.2.7"]) == "203.0.113.9"
    assert client(forwarded=["for=198.51.100.1", "for=203.0.113.9"]) == "203.0.113.9"
    assert client(forwarded=['for="', "for=203.0.113.9"]) == "203.0.113.9"


@pytest.mark.parametrize("peer", ["203.0.113.50", "127.0.0.2", "::1", "2001:db8:2::1", ""])
def test_nobody_else_is_believed_nor_harmed_by_nonsense(peer: str) -> None:
    for value in ("for=203.0.113.9", "nonsense"):
        assert client(peer, forwarded=value, x_forwarded_for="203.0.113.10") == peer


def test_a_proxy_that_is_written_as_ipv6_is_the_same_one() -> None:
    assert client("::ffff:192.0.2.1", x_forwarded_for="203.0.113.9") == "203.0.113.9"


def test_where_both_are_there_they_have_to_agree() -> None:
    assert client(forwarded="for=203.0.113.9", x_forwarded_for="203.0.113.9") == "203.0.113.9"
    with pytest.raises(ValueError, match="do not agree"):
        client(forwarded="for=203.0.113.9", x_forwarded_for="203.0.113.10")


@pytest.mark.parametrize("headers", [
    {"forwarded": "for"}, {"forwarded": "for=203.0.113.9 x"}, {"forwarded": 'for="203.0.113.9'},
    {"forwarded": "for=2001:db8::9"}, {"forwarded": "for=example.org"}, {"forwarded": "for=203.0.113.256"},
    {"x_forwarded_for": "example.org"}, {"forwarded": "for=203.0.113.1;for=203.0.113.9"},
    {"forwarded": "for=203.0.113.9\xa0"}, {"forwarded": "for=203.0.113.9\n"},
    {"x_forwarded_for": "[2001:db8::9"}, {"x_forwarded_for": ":::"},
])  # fmt: skip
def test_what_is_none_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        client(**headers)


@given(st.text(), st.text())
def test_any_text_gives_an_address_or_an_error(one: str, other: str) -> None:
    try:
        found = client(forwarded=one, x_forwarded_for=other)
    except ValueError:
        return
    assert ipaddress.ip_address(found)


@given(st.lists(st.ip_addresses(), max_size=4), st.ip_addresses())
def test_what_a_client_says_of_itself_is_never_believed(
    said: list[ipaddress.IPv4Address | ipaddress.IPv6Address], real: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    shown = str(getattr(real, "ipv4_mapped", None) or real)
    if any(ipaddress.ip_address(shown) in network for network in TRUSTED):
        return
    assert client(x_forwarded_for=", ".join(str(address) for address in [*said, real])) == shown
    nodes = [f"for={address}" if address.version == 4 else f'for="[{address}]"' for address in [*said, real]]
    assert client(forwarded=", ".join(nodes)) == shown
