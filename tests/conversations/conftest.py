"""Servers for the tests that ask for one, and the clients that they are played with."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conversations import gajim
from tests.conversations.gajim import RealGajim
from tests.conversations.process import RunningServer
from tests.conversations.resumable import Make, NodeClient, SlixmppClient

XMPP_JS = "0.14"  # the version of @xmpp/client
CONVERSE_JS = "14.0"
PLAYWRIGHT = "1.65"
KINDS = ("slixmpp", "xmpp.js")
INSTALL_PATIENCE = 300.0  # seconds for npm, which downloads
COUPLES = 20  # of users of a server that several tests have; made at once, which takes no longer than for one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other, whatever runs beside them: each is several processes already. The soak is the longest, and
    mostly waits."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("soak" if item.path.stem == "test_soak" else "conversations"))


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Makes servers, not started yet, and ends those that a test leaves running."""
    made: list[RunningServer] = []

    def make(extra: str = "", sections: str = "[host:localhost]\n") -> RunningServer:
        folder = tmp_path / f"server{len(made)}"
        folder.mkdir()
        made.append(RunningServer(folder, extra, sections))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def romeo_and_juliet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a server that has these two users; made once, since xmppctl takes its second."""
    server = RunningServer(tmp_path_factory.mktemp("romeo-and-juliet"))
    server.user("romeo", "juliet")
    return server.folder / "var"


@pytest.fixture
def server(make_server: Callable[..., RunningServer], romeo_and_juliet: Path) -> RunningServer:
    """A server that runs, with romeo and juliet."""
    server = make_server()
    shutil.copytree(romeo_and_juliet, server.folder / "var")
    return server.start()


@pytest.fixture(scope="session")
def xmpp_js(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where @xmpp/client is installed; once, where pytest has a cache."""
    return from_npm(f"xmpp-client-{XMPP_JS}-ws", [f"@xmpp/client@{XMPP_JS}", "ws@8"], pytestconfig, tmp_path_factory)


@pytest.fixture(scope="session")
def converse_js(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where Converse.js is installed, with what lets a browser be played; once, as `xmpp_js`."""
    packages = [f"converse.js@{CONVERSE_JS}", f"playwright-core@{PLAYWRIGHT}"]
    return from_npm(f"converse-{CONVERSE_JS}", packages, pytestconfig, tmp_path_factory)


def from_npm(name: str, packages: list[str], config: pytest.Config, paths: pytest.TempPathFactory) -> Path:
    """The folder where packages of npm are installed; skips where that is missing."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} missing; on Debian: apt-get install nodejs npm")

    def install(folder: Path) -> None:
        done = subprocess.run(
            ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", *packages],
            cwd=folder, capture_output=True, text=True, timeout=INSTALL_PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    return installed("node", name, install, config, paths)


def installed(
    kind: str, name: str, install: Callable[[Path], None], config: pytest.Config, paths: pytest.TempPathFactory
) -> Path:
    """The folder that `install` has filled; once, where pytest has a cache."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    place = cache.mkdir(kind) if cache is not None else paths.mktemp(kind)
    folder = place / name
    if not folder.exists():
        # Renamed when it is whole: another run may look for it at the same time.
        with tempfile.TemporaryDirectory(dir=place) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            install(made)
            if not folder.exists():
                made.rename(folder)
    return folder


@pytest.fixture
def make_gajim(
    tmp_path: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[int, str, str], RealGajim]]:
    """Makes clients with nbxmpp, for a port, a user and a resource, and ends them."""
    python = gajim.python_with_gi()
    folder = installed("python", f"nbxmpp-{gajim.NBXMPP}", gajim.install, pytestconfig, tmp_path_factory)
    made: list[RealGajim] = []

    def make(port: int, name: str, resource: str) -> RealGajim:
        made.append(RealGajim(tmp_path, python, folder, port, name, resource))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The client that the test is about."""
    return str(request.param)


@pytest.fixture
def make(kind: str, request: pytest.FixtureRequest) -> Make:
    """Makes clients of one kind."""
    if kind == "slixmpp":
        return SlixmppClient
    folder: Path = request.getfixturevalue("xmpp_js")
    return lambda server, link, name, resource: NodeClient(folder, link, name, resource)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server for tests that leave it running; each has a couple of its own there."""
    running = RunningServer(tmp_path_factory.mktemp("server")).start()
    running.user(*(f"{name}{number}" for name in ("romeo", "juliet") for number in range(COUPLES)))
    yield running
    running.close()


@pytest.fixture(scope="module")
def couples() -> Iterator[tuple[str, str]]:
    """The couples of `lasting`."""
    return iter([(f"romeo{number}", f"juliet{number}") for number in range(COUPLES)])


@pytest.fixture
def couple(lasting: RunningServer, couples: Iterator[tuple[str, str]]) -> tuple[str, str]:
    """The names of a romeo and a juliet that no other test has, on a server that runs."""
    if not lasting.is_running():  # a test that restarts it has failed half-way
        lasting.start()
    return next(couples)
