"""Addresses by RFC 7622: what is one, what is none, and which spellings are the same one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xmppd.wire.jid import (
    CACHED_TEXT,
    JID,
    MAX_PART_BYTES,
    InvalidJID,
    parse,
    prepare_domain,
    prepare_local,
    prepare_resource,
)

# RFC 7622 section 3.5, table 1.
VALID = {
    "juliet@example.com": ("juliet", "example.com", ""),
    "juliet@example.com/foo": ("juliet", "example.com", "foo"),
    "juliet@example.com/foo bar": ("juliet", "example.com", "foo bar"),
    "juliet@example.com/foo@bar": ("juliet", "example.com", "foo@bar"),
    "foo\\20bar@example.com": ("foo\\20bar", "example.com", ""),
    "fussball@example.com": ("fussball", "example.com", ""),
    "fu\u00dfball@example.com": ("fu\u00dfball", "example.com", ""),
    "\u03c0@example.com": ("\u03c0", "example.com", ""),
    "\u03a3@example.com/foo": ("\u03c3", "example.com", "foo"),
    "\u03c3@example.com/foo": ("\u03c3", "example.com", "foo"),
    "\u03c2@example.com/foo": ("\u03c2", "example.com", "foo"),
    "king@example.com/\u265a": ("king", "example.com", "\u265a"),
    "example.com": ("", "example.com", ""),
    "example.com/foobar": ("", "example.com", "foobar"),
    "a.example.com/b@example.net": ("", "a.example.com", "b@example.net"),
}
# Table 2, and more of the same.
INVALID = [
    '"juliet"@example.com', "foo bar@example.com", "juliet@example.com/", "@example.com", "henry\u2163@example.com",
    "\u265a@example.com", "juliet@", "/foobar",
    "", "@", "/", "@/", "a@/b", "a@b@c", "a@.", ".", "..", "a..b", ".example.com", "example.com..", "a@b c",
    "a\0b@example.com", "a@exam\0ple.com", "a@example.com/\0", "a@example.com/b\x7f", "a@example.com/\n", "a@b\n",
    "a\n@b", "a@example.com/\ufffe", "a@example.com/\ud800", "\ud800@b", "a@\ud800", "a\u200b@example.com",
    "-a.example", "a-.example", "under_score.example", "a@*.example", "xn--a.example", "xn--zzzzzzzz.example",
    "[::1", "::1", "[]", "[1.2.3.4]", "[::1%eth0]", "[fe80::1%\x01\n ]", "[::1]x", "a" * 64 + ".example",
    ".".join(["a" * 60] * 5), "\u06dd@example.com", "a\u0300\u05d0@example.com",
]  # fmt: skip


@pytest.mark.parametrize("text", VALID)
def test_valid(text: str) -> None:
    jid = parse(text)
    assert (jid.local, jid.domain, jid.resource) == VALID[text]
    assert parse(str(jid)) == jid


@pytest.mark.parametrize("text", INVALID, ids=ascii)
def test_invalid(text: str) -> None:
    with pytest.raises(InvalidJID):
        parse(text)


@pytest.mark.parametrize("character", "\"&'/:<>@ ")
def test_forbidden_in_a_localpart_in_either_width(character: str) -> None:
    with pytest.raises(InvalidJID):
        prepare_local(f"a{character}b")
    wide = chr(ord(character) + 0xFEE0) if character != " " else "\u3000"
    with pytest.raises(InvalidJID):
        prepare_local(f"a{wide}b")
    with pytest.raises(InvalidJID):
        parse(f"a{wide}b@example.com")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Juliet@EXAMPLE.com", "juliet@example.com"),
        ("\uff4auliet@example.com", "juliet@example.com"),
        ("caf\u00e9@example.com", "cafe\u0301@example.com"),
        ("CAFE\u0301@example.com", "caf\u00e9@example.com"),
        ("\u212bngstrom@example.com", "\u00e5ngstrom@example.com"),
        ("a@example.com.", "a@example.com"),
        ("a@example\u3002com", "a@example.com"),
        ("a@example.com\u3002", "a@example.com"),
        ("a@\uff45xample.com", "a@example.com"),
        ("a@B\u00dcCHER.example", "a@xn--bcher-kva.example"),
        ("a@XN--BCHER-KVA.example", "a@b\u00fccher.example"),
        ("a@bu\u0308cher.example", "a@b\u00fccher.example"),
        ("a@R3---SN.example", "a@r3---sn.example"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[2001:DB8::A]", "[2001:db8::a]"),
        ("a@b/caf\u00e9", "a@b/cafe\u0301"),
        ("a@b/x\u00a0y", "a@b/x y"),
    ],
)  # fmt: skip
def test_spellings_meet_in_one_address(one: str, other: str) -> None:
    assert parse(one) == parse(other)
    assert hash(parse(one)) == hash(parse(other))
    assert str(parse(one)) == str(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a@b/X", "a@b/x"),  # resourceparts keep their case
        ("stra\u00dfe.example", "strasse.example"),  # IDNA 2008 tells them apart
        ("a\u0430@b", "aa@b"),  # Cyrillic is not Latin
        ("a@b", "a@b/c"),
    ],
)  # fmt: skip
def test_spellings_that_are_different_addresses(one: str, other: str) -> None:
    assert parse(one) != parse(other)


def test_addresses_are_split_at_the_first_slash_and_at() -> None:
    assert parse("example.com/a@b/c").resource == "a@b/c"
    assert parse("a@b/c/d@e") == JID("a", "b", "c/d@e")
    assert parse("a@b//").resource == "/"


def test_ip_literals() -> None:
    assert parse("a@192.0.2.1").domain == "192.0.2.1"
    assert parse("a@[2001:db8::1]/x").domain == "[2001:db8::1]"


@pytest.mark.parametrize("character", ["a", "\u00e9", "\u6f22", "\U00020000"])
def test_each_part_may_have_1023_bytes(character: str) -> None:
    width = len(character.encode())
    fits, filler = character * (MAX_PART_BYTES // width), "a" * (MAX_PART_BYTES % width)
    for prepare in (prepare_local, prepare_resource):
        assert len(prepare(fits + filler).encode()) == MAX_PART_BYTES
        with pytest.raises(InvalidJID):
            prepare(fits + filler + "a")
    whole = parse(f"{fits}{filler}@example.com/{fits}{filler}")
    assert parse(str(whole)) == whole


def test_labels_have_63_characters_and_names_253() -> None:
    label = "a" * 63
    assert prepare_domain(f"{label}.{label}.{label}.{'a' * 61}")
    with pytest.raises(InvalidJID):
        prepare_domain(f"{label}.{label}.{label}.{'a' * 62}")
    with pytest.raises(InvalidJID):
        prepare_domain("a" * 1024)


def test_parts_are_measured_as_prepared() -> None:
    decomposed = "e\u0301" * 511  # 1,533 bytes, and 1,022 as prepared
    assert len(parse(f"{decomposed}@b/{decomposed}").local.encode()) == 1022


def test_copies() -> None:
    jid = parse("romeo@example.org/orchard")
    assert jid.to_bare() == parse("romeo@example.org") and jid.to_bare().is_bare and not jid.is_bare
    assert jid.with_resource("cafe\u0301") == parse("romeo@example.org/caf\u00e9")
    with pytest.raises(InvalidJID):
        jid.with_resource("")
    assert jid != "romeo@example.org/orchard" and repr(jid) == "JID('romeo@example.org/orchard')"


def test_long_addresses_are_not_remembered() -> None:
    long = f"a@example.com/{'x' * CACHED_TEXT}"
    assert parse(long) == parse(long) and parse(long) is not parse(long)
    assert parse("a@example.com/short") is parse("a@example.com/short")


# Text of which addresses are made, with what normalisation and case make of it.
LETTERS = st.sampled_from(
    "aZ09.-@/:[]%_ \u00df\u0130\u0131\u017f\u212a\u1e9e\u03a3\u03c2\u0345\u0301\u0308\u0327\u05d0\u0627\u0661\u06f1"
    "\u30fb\u3002\uff0e\uff61\uff20\uff0f\uff21\uff76\uff9e\u1100\u1161\u11a8\u200c\u200d\u00ad\u0149\u01f0\u1fb3\u1f88\u2126"
    "\ufb01\u00b7l\u0375\u05f3\u0340\u0344\u0f71\u0f73\u0958\u2adc\ufb1d\ufffd\ud800\0\n"
)
TEXTS = st.one_of(st.text(max_size=12), st.text(LETTERS, max_size=12), st.text(st.characters(), max_size=40))


@given(TEXTS)
@example("a@[fe80::1%\n]")
@example("a\u0345\u0301@b")
def test_any_text_is_an_address_or_no_address(text: str) -> None:
    try:
        jid = parse(text)
    except InvalidJID:
        return
    assert parse(str(jid)) == jid
    assert parse(jid.bare) == jid.to_bare()
    for part in (jid.local, jid.domain, jid.resource):
        assert len(part.encode()) <= MAX_PART_BYTES
        assert not any(ord(character) < 32 or ord(character) == 127 for character in part)


@given(TEXTS)
def test_what_is_prepared_stays_as_it_is(text: str) -> None:
    for prepare in (prepare_local, prepare_domain, prepare_resource):
        try:
            once = prepare(text)
        except InvalidJID:
            continue
        assert prepare(once) == once, prepare


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6))
def test_case_of_a_localpart_does_not_matter(text: str) -> None:
    try:
        once = prepare_local(text)
    except InvalidJID:
        return
    assert prepare_local(once.lower()) == once
