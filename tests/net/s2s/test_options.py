"""The options of federation: how addresses are written, and which domains a list of domains means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.world import configuration
from xmppd.config import ConfigError, Settings
from xmppd.net.s2s.options import (
    BLACKLIST,
    CA_FILE,
    DNS_SERVERS,
    HOSTS,
    INSECURE_DOMAINS,
    S2S_DIRECT_TLS_PORTS,
    S2S_PORTS,
    SECURE_DOMAINS,
    STANZA_SIZE_LIMIT,
    WHITELIST,
    Target,
    is_blocked,
    is_listed,
    needs_certificate,
    stanza_limits,
)
from xmppd.wire.parser import Limits

SECTIONS = "[host:example.org]\n"
LISTS = [SECURE_DOMAINS.name, INSECURE_DOMAINS.name, BLACKLIST.name, WHITELIST.name]


def read(config: str = "", sections: str = SECTIONS) -> Settings:
    return configuration(config, sections).server


def targets(written: str) -> tuple[Target, ...]:
    """What is in ``s2s_hosts`` for a domain."""
    return read(f"s2s_hosts = example.net = {written}")[HOSTS]["example.net"]


# ---- s2s_hosts


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("192.0.2.1:5269", [Target("192.0.2.1", 5269)]),
        ("tls:192.0.2.1:5270", [Target("192.0.2.1", 5270, True)]),
        ("[2001:db8::1]:5269", [Target("2001:db8::1", 5269)]),
        ("[2001:DB8:0::1]:5269", [Target("2001:db8::1", 5269)]),
        ("tls:[::1]:1", [Target("::1", 1, True)]),
        ("xmpp.example.net:65535", [Target("xmpp.example.net", 65535)]),
        ("localhost:05269", [Target("localhost", 5269)]),
        (
            "tls:xmpp.example.net:443 192.0.2.1:5269   [::1]:5269",
            [Target("xmpp.example.net", 443, True), Target("192.0.2.1", 5269), Target("::1", 5269)],
        ),
    ],
)
def test_where_the_server_of_a_domain_is(written: str, read: list[Target]) -> None:
    assert targets(written) == tuple(read)


@pytest.mark.parametrize(
    "written",
    [
        "192.0.2.1", "xmpp.example.net", "192.0.2.1:", ":5269", "tls:5269", "tls::5269", "tls:192.0.2.1", ":", "tls:",
        "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:+1", "192.0.2.1:1.0", "192.0.2.1:xmpp",
        "192.0.2.1:99999999", "192.0.2.1:0000199999", pytest.param(f"192.0.2.1:0{'9' * 5000}", id="of many digits"),
        "192.0.2.1:\u0661", "192.0.2.1:\u00b2", "192.0.2.1:5269,192.0.2.2:5269", "192.0.2.1:5269 192.0.2.2",
    ],
)  # fmt: skip
def test_a_port_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="s2s_hosts"):
        targets(written)


@pytest.mark.parametrize(
    "written",
    [
        "::1:5269", "2001:db8::1:5269", "tls:2001:db8::1:5270", "2001:db8::1]:5269", "[2001:db8::1:5269", "[::1]",
        "[2001:db8::g]:5269", "[1:2]:5269", "[:]:5269",
    ],
)  # fmt: skip
def test_an_ipv6_address_that_is_not_in_brackets_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="s2s_hosts"):
        targets(written)


@pytest.mark.parametrize("line", ["example.net =", "example.net", "= 192.0.2.1:5269", "a b = 192.0.2.1:5269"])
def test_a_domain_without_an_address_and_an_address_without_a_domain_are_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="s2s_hosts"):
        read(f"s2s_hosts = {line}")


def test_a_domain_may_not_be_there_twice() -> None:
    with pytest.raises(ConfigError, match="twice"):
        read("s2s_hosts =\n    example.net = 192.0.2.1:5269\n    example.net = 192.0.2.2:5269")


@pytest.mark.parametrize(
    ("written", "prepared"),
    [
        ("EXAMPLE.net", "example.net"),
        ("example.net.", "example.net"),
        ("b\u00fccher.example", "b\u00fccher.example"),
        ("xn--bcher-kva.example", "b\u00fccher.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("[::1]", "[::1]"),
    ],
)
def test_domains_are_prepared_as_addresses_are(written: str, prepared: str) -> None:
    hosts = read(f"s2s_hosts = {written} = 192.0.2.1:5269")[HOSTS]
    assert hosts == {prepared: (Target("192.0.2.1", 5269),)}


def test_several_domains_are_lines() -> None:
    hosts = read("s2s_hosts =\n    example.net = 192.0.2.1:5269\n    example.com = tls:[::1]:5270")[HOSTS]
    assert hosts == {"example.net": (Target("192.0.2.1", 5269),), "example.com": (Target("::1", 5270, True),)}


def test_by_itself_no_address_is_known() -> None:
    settings = read()
    hosts = settings[HOSTS]
    assert (hosts, settings[DNS_SERVERS]) == ({}, ())
    assert (settings[S2S_PORTS], settings[S2S_DIRECT_TLS_PORTS]) == ((5269,), (5270,))


@given(written=st.text("tls:[]0123456789abcdef. ", max_size=24))
def test_whatever_is_written_is_a_value_that_can_be_connected_to_or_an_error(written: str) -> None:
    try:
        parsed = HOSTS.kind.parse(f"example.net = {written}")
    except ValueError as error:
        assert str(error)
    else:
        assert all(target.host and 0 < target.port < 65536 for target in parsed["example.net"])


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (Target("192.0.2.1", 5269), "192.0.2.1:5269"),
        (Target("2001:db8::1", 5269), "[2001:db8::1]:5269"),
        (Target("xmpp.example.net", 5270, True), "xmpp.example.net:5270 (direct TLS)"),
    ],
)
def test_a_target_is_shown_as_it_is_written(target: Target, shown: str) -> None:
    assert str(target) == shown


# ---- dns_servers


@pytest.mark.parametrize(
    ("written", "servers"),
    [
        ("192.0.2.53", [("192.0.2.53", 53)]),
        ("192.0.2.53:5353", [("192.0.2.53", 5353)]),
        ("2001:db8::53", [("2001:db8::53", 53)]),
        ("[2001:db8::53]:5353", [("2001:db8::53", 5353)]),
        ("192.0.2.53, ::1\n    127.0.0.1:53000,", [("192.0.2.53", 53), ("::1", 53), ("127.0.0.1", 53000)]),
        ("", []),
    ],
)
def test_name_servers(written: str, servers: list[tuple[str, int]]) -> None:
    assert read(f"dns_servers = {written}")[DNS_SERVERS] == tuple(servers)


@pytest.mark.parametrize(
    "written",
    [
        "ns.example.net", "ns.example.net:53", "localhost:53", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.53:dns",
        "[::1]", "192.0.2.256", "192.0.2.53 192.0.2.54", "tls:192.0.2.53:853",
    ],
)  # fmt: skip
def test_a_name_server_that_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="dns_servers"):
        read(f"dns_servers = {written}")


# ---- lists of domains


@pytest.mark.parametrize(
    ("domain", "listed", "whether"),
    [
        ("example.net", ("example.net",), True),
        ("example.net", (), False),
        ("example.net", ("example.com", "example.net"), True),
        ("xmpp.example.net", ("example.net",), False),
        ("ample.net", ("example.net",), False),
        ("xmpp.example.net", ("*.example.net",), True),
        ("a.b.example.net", ("*.example.net",), True),
        ("example.net", ("*.example.net",), False),
        ("badexample.net", ("*.example.net",), False),
        ("example.net", ("*.example.net", "example.net"), True),
        ("b\u00fccher.example.net", ("*.example.net",), True),
        ("example.net.evil", ("*.example.net", "example.net"), False),
    ],
)
def test_whether_a_domain_is_in_a_list(domain: str, listed: tuple[str, ...], whether: bool) -> None:
    assert is_listed(domain, listed) is whether


@pytest.mark.parametrize("option", LISTS)
@pytest.mark.parametrize(
    ("written", "domains"),
    [
        ("EXAMPLE.net, *.Example.COM", ("example.net", "*.example.com")),
        ("b\u00fccher.example\n    *.xn--bcher-kva.example", ("b\u00fccher.example", "*.b\u00fccher.example")),
        ("", ()),
    ],
)
def test_lists_of_domains_are_prepared(option: str, written: str, domains: tuple[str, ...]) -> None:
    known = {each.name: each for each in (SECURE_DOMAINS, INSECURE_DOMAINS, BLACKLIST, WHITELIST)}
    assert read(f"{option} = {written}")[known[option]] == domains


@pytest.mark.parametrize("option", LISTS)
@pytest.mark.parametrize(
    "written", ["*", "*.", "*.*.example.net", "www.*.example.net", "*example.net", "user@example.net", "a b", "a/b"]
)
def test_what_is_no_domain_is_refused(option: str, written: str) -> None:
    with pytest.raises(ConfigError, match=option):
        read(f"{option} = {written}")


@pytest.mark.parametrize(
    ("config", "blocked"),
    [
        ("", []),
        ("s2s_blacklist = bad.example", ["bad.example"]),
        ("s2s_blacklist = *.bad.example", ["www.bad.example"]),
        ("s2s_whitelist = good.example", ["bad.example", "www.bad.example"]),
        ("s2s_whitelist = *.example", []),
        ("s2s_whitelist = *.bad.example", ["good.example", "bad.example"]),
        ("s2s_whitelist = *.example\ns2s_blacklist = bad.example", ["bad.example"]),
        ("s2s_whitelist = good.example\ns2s_blacklist = good.example", ["good.example", "bad.example",
                                                                        "www.bad.example"]),
    ],
)  # fmt: skip
def test_who_is_not_spoken_to(config: str, blocked: list[str]) -> None:
    settings = read(config)
    domains = ["good.example", "bad.example", "www.bad.example"]
    assert [domain for domain in domains if is_blocked(settings, domain)] == blocked


def test_a_host_may_have_lists_of_its_own() -> None:
    config = configuration("", f"{SECTIONS}s2s_blacklist = bad.example\n[host:example.com]\n")
    assert is_blocked(config.hosts["example.org"], "bad.example")
    assert not is_blocked(config.hosts["example.com"], "bad.example")


@pytest.mark.parametrize(
    ("config", "certified"),
    [
        ("", []),
        ("s2s_secure_domains = bank.example", ["bank.example"]),
        ("s2s_secure_domains = *.bank.example", ["www.bank.example"]),
        ("s2s_secure_auth = yes", ["bank.example", "www.bank.example", "old.example"]),
        ("s2s_secure_auth = yes\ns2s_insecure_domains = old.example", ["bank.example", "www.bank.example"]),
        ("s2s_secure_auth = yes\ns2s_insecure_domains = *.example", []),
        # Each list is for one way that s2s_secure_auth may be.
        ("s2s_insecure_domains = bank.example\ns2s_secure_domains = bank.example", ["bank.example"]),
        ("s2s_secure_auth = yes\ns2s_secure_domains = old.example\ns2s_insecure_domains = old.example",
         ["bank.example", "www.bank.example"]),
    ],
)  # fmt: skip
def test_who_has_to_show_a_certificate(config: str, certified: list[str]) -> None:
    settings = read(config)
    domains = ["bank.example", "www.bank.example", "old.example"]
    assert [domain for domain in domains if needs_certificate(settings, domain)] == certified


# ---- others


def test_the_file_of_authorities_is_beside_the_configuration() -> None:
    settings = read("s2s_ca_file = ca.pem")
    found = settings[CA_FILE]
    assert found is not None and found.is_absolute() and found.name == "ca.pem"
    assert read()[CA_FILE] is None


def test_stanzas_of_servers_have_their_own_size_and_otherwise_the_limits_of_clients() -> None:
    settings = read("s2s_stanza_size_limit = 20k")
    others = Limits(1000, 7, 8, 9)
    limits = stanza_limits(settings, others)
    assert limits == Limits(20 * 1024, others.depth, others.elements, others.attributes)
    assert settings[STANZA_SIZE_LIMIT] == 20 * 1024
    with pytest.raises(ConfigError, match="s2s_stanza_size_limit"):
        read("s2s_stanza_size_limit = 9999")
