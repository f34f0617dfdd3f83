"""A server for each test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conversations.process import RunningServer


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


@pytest.fixture
def server(make_server: Callable[..., RunningServer]) -> RunningServer:
    """A server that runs, with romeo and juliet."""
    running = make_server().start()
    running.user("romeo", "juliet")
    return running
