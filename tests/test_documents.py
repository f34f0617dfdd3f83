"""What the repository says is true: the shipped configuration, the reference of options, the README's commands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from xmppd import settings
from xmppd.config import reference
from xmppd.core import modules

CHECKOUT = Path(__file__).resolve().parents[1]


def test_the_reference_of_options_is_made_from_their_declarations() -> None:
    written = (CHECKOUT / "docs" / "options.rst").read_text()
    assert written == reference(settings.declared()), "python -m xmppd.settings > docs/options.rst"


def test_the_shipped_configuration_loads(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "etc" / "xmppd.cfg", tmp_path)
    config = settings.read(tmp_path / "xmppd.cfg")
    assert list(config.hosts) == ["localhost"]
    assert config.warnings == []


def test_what_the_shipped_configuration_shows_as_defaults_are_the_defaults(tmp_path: Path) -> None:
    text = (CHECKOUT / "etc" / "xmppd.cfg").read_text()
    known = {option.name: option for group in settings.declared().values() for option in group}
    shown = re.findall(r"^#(\w+) =(.*)$", text, re.MULTILINE)
    assert len(shown) > 10
    for name, value in shown:
        assert name in known, name
        if name != "contact_info":  # an example
            assert known[name].kind.parse(value.strip()) == known[name].kind.parse(known[name].default), name
    (tmp_path / "xmppd.cfg").write_text(re.sub(r"^#(\w+ =|    \w+ =)", r"\1", text, flags=re.MULTILINE))
    settings.read(tmp_path / "xmppd.cfg")


def test_every_default_module_exists_and_is_documented_as_one_file() -> None:
    for name in modules.DEFAULT:
        module = modules.find(name)
        assert module.__doc__ and callable(module.setup), name


@pytest.mark.parametrize("heading", ["Quick start", "Tests"])
def test_the_readme_has_one_command_under(heading: str) -> None:
    text = (CHECKOUT / "README.rst").read_text()
    section = text.split(f"\n{heading}\n", 1)[1]
    block = re.search(r"::\n\n((?:    .+\n)+)", section)
    assert block is not None
    assert len(block[1].splitlines()) == 1


def test_links_of_the_readme_lead_somewhere() -> None:
    for document in (CHECKOUT / "README.rst", *(CHECKOUT / "docs").glob("*.rst")):
        for target in re.findall(r"`[^`]+<([^>:]+)>`_", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_example_module_of_the_documentation_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (CHECKOUT / "docs" / "modules.rst").read_text()
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    module, conversation = (re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks)
    (tmp_path / "greetings.py").write_text(module)
    monkeypatch.setattr(modules.package, "__path__", [*modules.package.__path__, str(tmp_path)])
    namespace: dict[str, object] = {}
    exec(f"from tests.support.world import World\n{conversation}", namespace)
    namespace["test_a_client_is_greeted"]()  # type: ignore[operator]
