"""The reference page says all that a declaration says."""

from __future__ import annotations

from xmppd.config import Addresses, Duration, ListOf, Option, Ports, Scope, Text, reference

TIMEOUT = Option("c2s_timeout", Duration(), "30s", "From accept to authenticated.")
PORTS = Option("c2s_ports", Ports(), "", "Ports for clients.", scope=Scope.SERVER, live=False)
PENDING = Option("s2s_ports", Ports(), "5269", "Ports for servers.", Scope.SERVER, pending="federation")
LINES = Option("list", ListOf(Text()), "a\nb", "A list.", scope=Scope.COMPONENT)
ADDRESSES = Option("interfaces", Addresses(), "*", "Where to listen.")


def test_an_option() -> None:
    assert """\
``c2s_timeout``
    From accept to authenticated.

    :Section: [xmppd], [host:DOMAIN] or [component:DOMAIN]
    :Accepts: a duration in seconds or as 30s, 10m, 6h, 7d, 2w
    :Default: ``30s``
    :Change: at SIGHUP
""" in reference({"Clients": [TIMEOUT]})


def test_groups_and_options_in_the_order_given() -> None:
    page = reference({"Servers": [PENDING], "Clients": [TIMEOUT, PORTS]})
    servers, clients = "\nServers\n-------\n", "\nClients\n-------\n"
    wanted = ["Options\n=======\n", servers, "``s2s_ports", clients, "``c2s_timeout", "``c2s_ports"]
    places = [page.index(part) for part in wanted]
    assert places == sorted(places)
    assert page.endswith("\n")


def test_an_option_that_takes_a_restart_and_is_empty() -> None:
    page = reference({"Clients": [PORTS]})
    assert ":Section: [xmppd]\n" in page
    assert ":Default: nothing\n" in page
    assert ":Change: takes a restart\n" in page


def test_an_option_of_a_later_version() -> None:
    note = ":Note: no effect yet; federation is not part of this version\n"
    assert note in reference({"Servers": [PENDING]})
    assert note not in reference({"Servers": [PORTS]})


def test_lines_of_a_default() -> None:
    assert ":Default: ``a``, ``b``\n" in reference({"Lists": [LINES]})


def test_what_means_something_in_restructuredtext_is_escaped() -> None:
    assert r"new lines; \* and :: for all" in reference({"Network": [ADDRESSES]})
