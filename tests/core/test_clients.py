"""What a client says of itself (XEP-0388 section 2.3), and what stands for it."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.core.clients import MAX_TEXT, UserAgent, client_key, read_user_agent, stable_part
from xmppd.wire.xml import parse_tree

ID = "d4565fa7-4d72-4749-b3d3-740edbf87770"


def read(inside: str = "", attributes: str = "") -> UserAgent:
    xml = f"<user-agent xmlns='urn:xmpp:sasl:2' {attributes}>{inside}</user-agent>"
    return read_user_agent(parse_tree(xml.encode(), ""))


def test_who_says_nothing_is_nobody() -> None:
    assert read_user_agent(None) == UserAgent() == read() == read(attributes="id=''")


def test_what_a_client_says_of_itself() -> None:
    assert read(
        "<software version='1.2'>AwesomeXMPP</software><uri>https://example.org/</uri><device>Kiva's Phone</device>",
        f"id='{ID}'",
    ) == UserAgent(ID, "AwesomeXMPP", "1.2", "https://example.org/", "Kiva's Phone")


def test_white_space_around_a_text_is_not_of_it() -> None:
    assert read("<device> \n Phone </device><software>\t</software>") == UserAgent(device="Phone")


def test_elements_of_other_namespaces_say_nothing() -> None:
    assert read("<software xmlns='urn:x' version='1'>x</software><x><device>Phone</device></x>") == UserAgent()


@given(st.uuids(version=4))
def test_any_uuid_of_version_4_is_an_id_and_case_is_no_matter(id: uuid.UUID) -> None:
    assert read(attributes=f"id='{id}'") == read(attributes=f"id='{str(id).upper()}'") == UserAgent(str(id))


@given(st.uuids().filter(lambda one: one.version != 4))
def test_no_other_uuid_is_an_id(id: uuid.UUID) -> None:
    with pytest.raises(ValueError):
        read(attributes=f"id='{id}'")


@pytest.mark.parametrize(
    "id",
    [
        "x",
        "phone",
        "00000000-0000-0000-0000-000000000000",
        "d4565fa7-4d72-1749-b3d3-740edbf87770",  # version 1
        "d4565fa7-4d72-7749-b3d3-740edbf87770",  # version 7
        "d4565fa7-4d72-4749-c3d3-740edbf87770",  # of another variant
        ID.replace("-", ""),
        f"{{{ID}}}",
        f"urn:uuid:{ID}",
        f" {ID}",
        f"{ID}0",
        ID.replace("4", "\uff14"),  # a digit to Python
    ],
    ids=ascii,
)
def test_what_is_spelt_in_another_way_is_no_id(id: str) -> None:
    with pytest.raises(ValueError):
        read(attributes=f"id='{id}'")


@pytest.mark.parametrize("name", ["software", "uri", "device"])
def test_long_texts_are_cut(name: str) -> None:
    assert getattr(read(f"<{name}>{'é' * MAX_TEXT}x</{name}>"), name) == "é" * MAX_TEXT
    assert getattr(read(f"<{name}>{'x' * (MAX_TEXT - 1)}</{name}>"), name) == "x" * (MAX_TEXT - 1)


def test_a_long_version_is_cut() -> None:
    assert read(f"<software version='{'1' * MAX_TEXT}2'/>") == UserAgent(version="1" * MAX_TEXT)


def test_a_key_depends_on_the_secret_the_account_and_the_id_and_stays() -> None:
    keys = {
        make(secret, jid, id)
        for make in (client_key, stable_part)
        for secret in (b"secret", b"other")
        for jid in ("romeo@example.org", "juliet@example.org")
        for id in (ID, "x")
    }
    assert len(keys) == 16
    assert client_key(b"secret", "romeo@example.org", ID) in keys
    assert not any(ID[:8] in key for key in keys)
