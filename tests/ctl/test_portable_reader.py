"""Files of users (XEP-0227), read piece by piece with what they include."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmppd.ctl.portable import reader
from xmppd.ctl.portable.reader import Element, LeftOut, Piece, Unreadable, User, read

PIE = "urn:xmpp:pie:0"
VCARD = "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>"


def server_data(inner: str) -> str:
    return f"<server-data xmlns='{PIE}' xmlns:xi='http://www.w3.org/2001/XInclude'>{inner}</server-data>"


def user(inner: str = "", attributes: str = "name='juliet'") -> str:
    return server_data(f"<host jid='capulet.example'><user {attributes}>{inner}</user></host>")


class Slow(io.BytesIO):
    """A file that gives as many bytes at a time as it likes."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._size)


def pieces(text: str, path: Path = Path("users.xml"), size: int = 65536) -> list[Piece]:
    return list(read(path, Slow(text.encode(), size), lambda more, done: None))


def refusal(text: str, path: Path = Path("users.xml")) -> str:
    with pytest.raises(Unreadable) as caught:
        pieces(text, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


JULIET = User("capulet.example", "juliet", None)

EVERYTHING = user(
    "<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><salt>c2FsdA==</salt></scram-credentials>"
    + VCARD
    + "<offline-messages><message xmlns='jabber:client'><body>1 &lt; 2 🌹</body></message>"
    "<message xmlns='jabber:client' xml:lang='it'/></offline-messages>"
    "<archive xmlns='urn:xmpp:pie:0#mam'><result xmlns='urn:xmpp:mam:2' id='a'/><result xmlns='urn:xmpp:mam:2' id='b'/>"
    "</archive>"
)


def test_messages_come_one_by_one_and_everything_else_as_it_is() -> None:
    found = pieces(EVERYTHING)
    assert found[0] == JULIET
    assert [(piece.xmlns, piece.name) for piece in found[1:] if isinstance(piece, Element)] == [
        ("urn:xmpp:pie:0#scram", "scram-credentials"),
        ("vcard-temp", "vCard"),
        ("jabber:client", "message"),
        ("jabber:client", "message"),
        ("urn:xmpp:mam:2", "result"),
        ("urn:xmpp:mam:2", "result"),
    ]
    assert found[2] == Element("vcard-temp", "vCard", VCARD.encode())
    assert found[3] == Element(
        "jabber:client", "message", "<message xmlns='jabber:client'><body>1 &lt; 2 🌹</body></message>".encode()
    )
    assert b"xml:lang='it'" in found[4].data  # type: ignore[union-attr]


@given(st.integers(min_value=1, max_value=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_it_does_not_matter_in_what_pieces_the_file_comes(size: int) -> None:
    assert pieces(EVERYTHING, size=size) == pieces(EVERYTHING)


def test_several_hosts_and_users_and_passwords() -> None:
    text = server_data(
        "<host jid='capulet.example'><user name='juliet' password='&lt;dagger&gt;'/><user name='nurse'/></host>"
        "<host jid='montague.example'><user name='romeo'/></host>"
    )
    assert pieces(text) == [
        User("capulet.example", "juliet", "<dagger>"),
        User("capulet.example", "nurse", None),
        User("montague.example", "romeo", None),
    ]


def test_prefixes_do_not_matter() -> None:
    text = (
        f"<p:server-data xmlns:p='{PIE}' xmlns:v='vcard-temp'><p:host jid='capulet.example'><p:user name='juliet'>"
        "<v:vCard><v:FN>Juliet</v:FN></v:vCard></p:user></p:host></p:server-data>"
    )
    assert pieces(text) == [JULIET, Element("vcard-temp", "vCard", VCARD.encode())]


# ---- other files


def test_hosts_users_and_parts_of_users_are_included_from_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "capulet.example").mkdir()
    xi = "xmlns:xi='http://www.w3.org/2001/XInclude'"
    (tmp_path / "capulet.example.xml").write_text(
        f"<host xmlns='{PIE}' {xi} jid='capulet.example'><xi:include href='capulet.example/juliet%20c.xml'/>"
        "<user name='nurse'/></host>"
    )
    (tmp_path / "capulet.example" / "juliet c.xml").write_text(
        f"<user xmlns='{PIE}' {xi} name='juliet'><xi:include href='card.xml' parse='xml'><xi:fallback/></xi:include>"
        "</user>"
    )
    (tmp_path / "capulet.example" / "card.xml").write_text(VCARD)
    main = server_data("<xi:include href='capulet.example.xml'/><host jid='b.example'><user name='romeo'/></host>")
    assert pieces(main, tmp_path / "main.xml") == [
        JULIET,
        Element("vcard-temp", "vCard", VCARD.encode()),
        User("capulet.example", "nurse", None),
        User("b.example", "romeo", None),
    ]


def test_an_include_deeper_than_in_a_user_is_the_users_own_data(tmp_path: Path) -> None:
    (tmp_path / "secret.xml").write_text("<secret/>")
    include = "<xi:include href='secret.xml'/>"
    for inner in (
        f"<query xmlns='jabber:iq:private'>{include}</query>",
        f"<offline-messages>{include}</offline-messages>",
        f"<archive xmlns='urn:xmpp:pie:0#mam'>{include}</archive>",
    ):
        found = pieces(user(inner), tmp_path / "main.xml")
        assert len(found) == 2
        assert b"secret.xml" in found[1].data  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "include",
    [
        "href='/etc/passwd'", "href='file:///etc/passwd'", "href='http://example.org/a.xml'", "href='//example.org/a'",
        "href='a.xml#here'", "href='a.xml?b'", "href='a.xml' xpointer='b'", "href='a.xml' parse='text'", "href=''", "",
    ],
)  # fmt: skip
def test_only_relative_names_are_included(include: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(VCARD)
    says = refusal(user(f"<xi:include {include}/>"), tmp_path / "main.xml")
    assert "only a relative file name can be included" in says


def test_a_file_that_includes_itself_ends_the_reading(tmp_path: Path) -> None:
    text = server_data("<xi:include href='b.xml'/>")
    (tmp_path / "a.xml").write_text(text)
    (tmp_path / "b.xml").write_text(
        f"<host xmlns='{PIE}' jid='a'><i:include xmlns:i='http://www.w3.org/2001/XInclude' href='./b.xml'/></host>"
    )
    assert "includes itself" in refusal(text, tmp_path / "a.xml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    says = refusal(server_data("<xi:include href='b.xml'/>"), tmp_path / "a.xml")
    assert says == f"{tmp_path / 'b.xml'}, included in {tmp_path / 'a.xml'}: No such file or directory"


# ---- what cannot be read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "users.xml, line 1: no element found"),
        ("<server-data", "line 1"),
        (user()[:-5], "line 1: unclosed token"),
        (server_data("<host jid='a'>\n<user name='b'></host>"), "line 2: mismatched tag"),
        ("<html/>", "this is no file of users"),
        ("<server-data/>", "this is no file of users"),
        (f"<host xmlns='{PIE}' jid='a'/>", "this is no file of users"),
        (server_data("<host/>"), "<host/> has no 'jid'"),
        (server_data("<host jid='a'><user/></host>"), "<user/> has no 'name'"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + user(), "document type declaration"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(text: str, says: str) -> None:
    assert says in refusal(text)


def test_what_stands_where_nothing_is_known_is_left_out_and_told() -> None:
    text = server_data(
        "<config xmlns='urn:other'><host jid='x'/></config><host jid='capulet.example'>"
        "<user name='juliet'/><users/></host>"
    )
    assert pieces(text) == [LeftOut("<config xmlns='urn:other'/>"), JULIET, LeftOut(f"<users xmlns='{PIE}'/>")]


def test_an_element_that_is_too_large_or_too_deep_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_ELEMENT", 2000)
    monkeypatch.setattr(reader, "MAX_DEPTH", 10)
    for inner in (
        f"<vCard xmlns='vcard-temp'><FN>{'x' * 3000}</FN><N/></vCard>",
        f"<vCard xmlns='vcard-temp'>{'<N/>' * 100}</vCard>",
        f"<vCard xmlns='vcard-temp' a='{'x' * 3000}'><N/></vCard>",
        f"<vCard xmlns='vcard-temp'>{'<N>' * 20}{'</N>' * 20}<N/></vCard>",
    ):
        found = pieces(user(inner + VCARD), size=100)
        assert [type(piece) for piece in found] == [User, LeftOut, Element], inner[:60]
        assert found[-1] == Element("vcard-temp", "vCard", VCARD.encode())


def test_progress_tells_of_every_byte_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "b.xml").write_text(f"<host xmlns='{PIE}' jid='a'/>")
    data = server_data("<xi:include href='b.xml'/>").encode()
    told: list[tuple[int, int]] = []
    list(read(tmp_path / "a.xml", io.BytesIO(data), lambda more, done: told.append((more, done))))
    included = (tmp_path / "b.xml").stat().st_size
    assert sum(more for more, _ in told) == included
    assert sum(done for _, done in told) == included + len(data)
