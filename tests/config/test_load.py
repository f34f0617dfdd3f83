"""From a file to typed values, and every mistake an administrator can make on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.config import Config, ConfigError, Duration, Option, PathOf, Ports, Scope, Text, load, load_bytes

DATA_PATH = Option("data_path", PathOf(), "../var", "Where state lives.", scope=Scope.SERVER)
PORTS = Option("c2s_ports", Ports(), "5222", "Ports for clients.", scope=Scope.SERVER, live=False)
TIMEOUT = Option("c2s_timeout", Duration(), "30s", "From accept to authenticated.")
MOTD = Option("motd_text", Text(), "", "Shown to users.")
TYPE = Option("type", Text(), "", "What the component is.", scope=Scope.COMPONENT)
FEDERATION = Option("s2s_ports", Ports(), "5269", "Ports for servers.", Scope.SERVER, pending="federation")
KEY = Option("http_key", Duration(), "1", "A secret of a strange kind.", secret=True)
OPTIONS = [DATA_PATH, PORTS, TIMEOUT, MOTD, TYPE, FEDERATION, KEY]

HOST = "[host:example.org]\n"


def loads(text: str) -> Config:
    return load_bytes(text.encode(), "etc/xmppd.cfg", OPTIONS)


def refuses(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return str(caught.value)


def test_own_section_then_xmppd_then_default() -> None:
    config = loads(
        "[xmppd]\nc2s_timeout = 1m\n"
        "[host:a.example]\nc2s_timeout = 2m\n"
        "[host:b.example]\n"
        "[component:muc.a.example]\ntype = muc\nc2s_timeout = 3m\n"
    )
    assert config.server[TIMEOUT] == 60
    assert config.hosts["a.example"][TIMEOUT] == 120
    assert config.hosts["b.example"][TIMEOUT] == 60
    assert config.components["muc.a.example"][TIMEOUT] == 180
    assert config.components["muc.a.example"][TYPE] == "muc"
    assert config.server[PORTS] == (5222,)
    assert config.hosts["a.example"][PORTS] == (5222,)
    assert list(config.hosts) == ["a.example", "b.example"]
    assert list(config.components) == ["muc.a.example"]
    assert config.path == "etc/xmppd.cfg"
    assert config.warnings == []


def test_xmppd_counts_wherever_it_stands_in_the_file() -> None:
    assert loads(HOST + "[xmppd]\nc2s_timeout = 1m\n").hosts["example.org"][TIMEOUT] == 60


def test_settings_know_their_section() -> None:
    config = loads(HOST)
    assert config.server.section == "xmppd"
    assert config.hosts["example.org"].section == "host:example.org"


def test_is_set() -> None:
    config = loads("[xmppd]\nc2s_timeout = 30s\n" + HOST + "motd_text =\n[component:c.example]\n")
    assert config.server.is_set(TIMEOUT)
    assert not config.server.is_set(MOTD)
    host = config.hosts["example.org"]
    assert host.is_set(TIMEOUT)
    assert host.is_set(MOTD)
    assert not host.is_set(PORTS)
    assert not config.components["c.example"].is_set(MOTD)


def test_the_line_of_a_value_that_turns_out_to_be_of_no_use() -> None:
    config = loads("[xmppd]\nc2s_timeout = 1m\n" + HOST + "motd_text = x\n")
    host = config.hosts["example.org"]
    assert str(host.error(MOTD, "too dull")) == "etc/xmppd.cfg:4: motd_text: too dull"
    assert str(host.error(TIMEOUT, "too long")) == "etc/xmppd.cfg:2: c2s_timeout: too long"
    assert str(config.server.error(PORTS, "5222 is taken")) == "etc/xmppd.cfg: c2s_ports: 5222 is taken"


def test_an_option_that_was_not_declared_is_a_mistake_of_the_program() -> None:
    with pytest.raises(KeyError):
        loads(HOST).server[Option("other", Text(), "", "Not given to load.")]


def test_domains_are_in_lower_case() -> None:
    assert list(loads("[host: Example.ORG]").hosts) == ["example.org"]


def test_domains_are_normalised_by_the_check_that_is_given() -> None:
    def check(domain: str) -> str:
        if domain == "bad":
            raise ValueError("bad it is")
        return domain.replace("ü", "u")

    assert list(load_bytes("[host:ü]".encode(), "x", OPTIONS, check).hosts) == ["u"]
    with pytest.raises(ConfigError, match=r"^x:1: \[host:bad\]: not a domain: bad it is"):
        load_bytes(b"[host:bad]", "x", OPTIONS, check)


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "xmppd.cfg").write_text(HOST)
    monkeypatch.chdir(tmp_path)
    config = load("etc/xmppd.cfg", OPTIONS)
    monkeypatch.chdir("/")
    assert config.server[DATA_PATH] == tmp_path.resolve() / "var"
    assert config.path == "etc/xmppd.cfg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[xmppd]\nc2s_timeout = 30x\n" + HOST,
            "2: c2s_timeout: '30x' is not a duration; "
            "accepted: a duration in seconds or as 30s, 10m, 6h, 7d, 2w",
        ),
        ("[xmppd]\nc2s_port = 1", "2: unknown option 'c2s_port' in [xmppd]; did you mean 'c2s_ports'?"),
        ("[xmppd]\nC2S_PORTS = 1", "2: unknown option 'C2S_PORTS' in [xmppd]; did you mean 'c2s_ports'?"),
        ("[xmppd]\nzzz = 1", "2: unknown option 'zzz' in [xmppd]; no option has a name like it"),
        ("[xmpd]", "1: unknown section [xmpd]; did you mean [xmppd]?"),
        ("[xmppd:a]", "1: unknown section [xmppd:a]; did you mean [xmppd]?"),
        ("[hosts:a.example]", "1: unknown section [hosts:a.example]; did you mean [host:a.example]?"),
        ("[Component]", "1: unknown section [Component]; did you mean [component:DOMAIN]?"),
        (
            "[a.example]",
            "1: unknown section [a.example]; accepted: [xmppd], [host:DOMAIN], [component:DOMAIN]",
        ),
        (
            "[host]",
            "1: [host]: not a domain: a domain is not empty and has no white space, / or @; "
            "accepted: [host:DOMAIN]",
        ),
        (
            "[component:a/b]",
            "1: [component:a/b]: not a domain: a domain is not empty and has no white space, / or @; "
            "accepted: [component:DOMAIN]",
        ),
        (
            HOST + "c2s_ports = 1",
            "2: c2s_ports: not an option of [host:example.org]; it belongs in [xmppd]",
        ),
        (
            HOST + "type = muc",
            "2: type: not an option of [host:example.org]; it belongs in [component:DOMAIN]",
        ),
        ("[xmppd]\ntype = muc", "2: type: not an option of [xmppd]; it belongs in [component:DOMAIN]"),
        (
            "[component:a]\ndata_path = x",
            "2: data_path: not an option of [component:a]; it belongs in [xmppd]",
        ),
        (HOST + "[host:Example.org]", "2: [host:Example.org]: the domain is already on line 1"),
        (HOST + "[component:example.org]", "2: [component:example.org]: the domain is already on line 1"),
    ],
)
def test_mistakes_have_one_line_that_says_where(text: str, message: str) -> None:
    assert refuses(text) == f"etc/xmppd.cfg:{message}"


@pytest.mark.parametrize("text", ["", "[xmppd]\n", "[component:muc.example]\n"])
def test_a_file_without_a_host(text: str) -> None:
    assert refuses(text) == "etc/xmppd.cfg: no virtual host; add a section [host:DOMAIN]"


def test_the_first_mistake_in_the_file_is_the_one_told() -> None:
    assert refuses("[xmppd]\nc2s_timeout = x\n[nonsense]\n").startswith("etc/xmppd.cfg:2:")


def test_what_would_move_the_cursor_is_escaped() -> None:
    message = refuses("[xmppd]\nc2s_timeout = 1\t\u202e2\n")
    assert r"'1\t\u202e2' is not a duration" in message
    assert message.isprintable()
    assert refuses("[xmppd\u2028]").isprintable()


def test_a_secret_is_not_shown() -> None:
    message = refuses("[xmppd]\nhttp_key = hunter2\n")
    assert message.startswith("etc/xmppd.cfg:2: http_key: the value (not shown) is wrong; accepted: ")
    assert "hunter2" not in message


def test_an_option_of_a_later_version_is_warned_of() -> None:
    config = loads("[xmppd]\ns2s_ports = 5269\n" + HOST)
    [warning] = config.warnings
    assert warning.startswith("etc/xmppd.cfg:2: s2s_ports: federation is not part of this version;")
    assert config.server[FEDERATION] == (5269,)


def test_to_turn_off_an_option_of_a_later_version_is_no_reason_to_warn() -> None:
    assert loads("[xmppd]\ns2s_ports =\n" + HOST).warnings == []


def test_an_option_of_a_later_version_is_checked_all_the_same() -> None:
    assert "s2s_ports: 'x' is not a whole number" in refuses("[xmppd]\ns2s_ports = x\n")


def test_two_declarations_of_one_name_are_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="option c2s_timeout is declared twice"):
        load_bytes(HOST.encode(), "x", [*OPTIONS, Option("c2s_timeout", Duration(), "1m", "Another.")])


def test_one_declaration_may_come_twice() -> None:
    assert load_bytes(HOST.encode(), "x", [*OPTIONS, TIMEOUT]).server[TIMEOUT] == 30


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.cfg"
    with pytest.raises(ConfigError) as caught:
        load(path, OPTIONS)
    assert str(caught.value) == f"{path}: No such file or directory"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, OPTIONS)
    assert str(caught.value) == f"{tmp_path}: Is a directory"


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root, whom tests may run as, reads everything
    with pytest.raises(ConfigError) as caught:
        load("xmppd.cfg", OPTIONS)
    assert str(caught.value) == "xmppd.cfg: Permission denied"


@pytest.mark.parametrize(("path", "shown"), [("a\nb.cfg", r"a\nb.cfg: "), ("a\0b.cfg", r"a\x00b.cfg: ")])
def test_a_strange_path_is_still_one_line(path: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, OPTIONS)
    assert str(caught.value).startswith(shown)
    assert str(caught.value).isprintable()


LINES = st.sampled_from(
    ["[xmppd]", "[host:a]", "[component:b]", "[x]", "c2s_timeout = 1", "type = 1", "data_path =", " 2", "?"]
)


@given(text=st.lists(LINES | st.text(max_size=5)).map("\n".join))
def test_any_text_is_a_configuration_or_an_error_of_one_line(text: str) -> None:
    try:
        config = load_bytes(text.encode(), "etc/xmppd.cfg", OPTIONS)
    except ConfigError as error:
        assert str(error).startswith("etc/xmppd.cfg:")
        assert str(error).isprintable()
    else:
        assert config.hosts
