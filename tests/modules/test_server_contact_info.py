"""Contact addresses of the service (XEP-0157)."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.support.world import World
from xmppd.config import ConfigError

SHAKESPEARE = """contact_info =
    abuse = mailto:abuse@shakespeare.lit, xmpp:abuse@shakespeare.lit
    admin = mailto:xmpp@shakespeare.lit xmpp:admins@shakespeare.lit
    feedback = http://shakespeare.lit/feedback.php?to=all,  mailto:f@shakespeare.lit,xmpp:f@shakespeare.lit
    sales = xmpp:bard@shakespeare.lit
    security = xmpp:security@shakespeare.lit
    support = http://shakespeare.lit/support.php, xmpp:support@shakespeare.lit
"""


def forms(world: World, to: str = "example.org") -> list[ElementTree.Element]:
    """The forms of a disco#info answer."""
    romeo = world.login("romeo@example.org/orchard")
    romeo.sends(f"<iq type='get' id='d' to='{to}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    return romeo.takes()[0].findall("{jabber:x:data}x")


def fields(form: ElementTree.Element) -> dict[str, list[str]]:
    """The values of each field."""
    return {field.get("var", ""): [value.text or "" for value in field] for field in form}


def test_the_example() -> None:
    (form,) = forms(World(SHAKESPEARE))
    assert form.get("type") == "result"
    assert fields(form) == {
        "FORM_TYPE": ["http://jabber.org/network/serverinfo"],
        "abuse-addresses": ["mailto:abuse@shakespeare.lit", "xmpp:abuse@shakespeare.lit"],
        "admin-addresses": ["mailto:xmpp@shakespeare.lit", "xmpp:admins@shakespeare.lit"],
        "feedback-addresses": [
            "http://shakespeare.lit/feedback.php?to=all",
            "mailto:f@shakespeare.lit",
            "xmpp:f@shakespeare.lit",
        ],
        "sales-addresses": ["xmpp:bard@shakespeare.lit"],
        "security-addresses": ["xmpp:security@shakespeare.lit"],
        "support-addresses": ["http://shakespeare.lit/support.php", "xmpp:support@shakespeare.lit"],
    }
    assert [field.get("type") for field in form] == ["hidden", *["list-multi"] * 6]


def test_the_order_in_the_file_does_not_matter() -> None:
    lines = ("support = xmpp:b@c", "status = https://status.example", "abuse = mailto:a@b")
    (form,) = forms(World("\n  ".join(("contact_info =", *lines))))
    assert list(fields(form)) == ["FORM_TYPE", "abuse-addresses", "status-addresses", "support-addresses"]


@pytest.mark.parametrize("config", ["", "contact_info =", "contact_info =\n  # abuse = mailto:a@b"])
def test_no_addresses_no_form(config: str) -> None:
    assert forms(World(config)) == []


def test_each_host_has_its_own() -> None:
    hosts = "[host:example.org]\ncontact_info =\n  abuse = mailto:a@example.org\n[host:example.net]"
    world = World("contact_info = admin = mailto:xmpp@example.com", hosts)
    assert "abuse-addresses" in fields(forms(world)[0])
    assert list(fields(forms(world, "example.net")[0])) == ["FORM_TYPE", "admin-addresses"]


def test_accounts_do_not_have_it() -> None:
    assert forms(World(SHAKESPEARE), "romeo@example.org") == []


def test_a_new_value_counts_at_once() -> None:
    world = World()
    world.config.update(World(SHAKESPEARE).config)
    assert len(forms(world)) == 1


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("abuse = abuse@example.org", "'abuse@example.org' is not a URI"),
        ("abuse = mailto:a@b, mailto:", "'mailto:' is not a URI"),
        ("abuse = mailto:a@b example.org", "'example.org' is not a URI"),
        ("abuse = 1a:b", "'1a:b' is not a URI"),
        ("abuse = mailto:<a@b>", "'mailto:<a@b>' is not a URI"),
        ("abuse = mailto:a@b>", "'mailto:a@b>' is not a URI"),
        ("abuse =", "there is no address"),
        ("abuse = , ,", "there is no address"),
        ("owner = mailto:a@b", "'owner' is not one of abuse, admin, feedback, sales, security, status, supp"),
        ("abuse-addresses = mailto:a@b", "'abuse-addresses' is not one of"),
        ("abuse = mailto:a@b\n  abuse = mailto:c@d", "'abuse' is there twice"),
        ("mailto:a@b", "is not KEY = VALUE"),
    ],
)
def test_what_is_wrong_in_the_file(lines: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        World(f"contact_info =\n  {lines}")
    message = str(refused.value)
    assert "xmppd.cfg:2: contact_info" in message and problem in message
    assert "\n" not in message
