"""nbxmpp, the library of Gajim, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conversations.process import PATIENCE, LoggedProcess

NBXMPP = "7.4.0"
PYTHONS = ("python3", "/usr/bin/python3")  # Debian's has what Debian's packages bring
INSTALL_PATIENCE = 300.0  # seconds for pip, which downloads
_NEEDS = "import gi; gi.require_version('Soup', '3.0'); from gi.repository import Gio, GLib, Soup"
_TLS = "; assert Gio.TlsBackend.get_default().supports_tls()"


def python_with_gi() -> str:
    """A Python that has PyGObject and libsoup; the test is skipped where there is none."""
    for python in PYTHONS:
        try:
            done = subprocess.run([python, "-c", _NEEDS + _TLS], capture_output=True, timeout=PATIENCE, check=False)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("PyGObject or libsoup missing; on Debian: apt-get install python3-gi gir1.2-soup-3.0")


def install(folder: Path) -> None:
    """Have nbxmpp and what it needs in a folder; PyGObject is not among that."""
    packages = [f"nbxmpp=={NBXMPP}", "precis-i18n", "packaging", "idna"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *packages],
        capture_output=True, text=True, timeout=INSTALL_PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


class RealGajim(LoggedProcess):
    """nbxmpp, logged in to a server; see nbxmpp_client.py for what it does there."""

    READY = '"event": "connected"'

    def __init__(self, folder: Path, python: str, installed: Path, port: int, name: str, resource: str) -> None:
        super().__init__(folder)
        self.python = python
        self.installed = installed
        self.arguments = [str(port), name, resource]

    def command(self) -> list[str]:
        """The command line."""
        return [self.python, str(Path(__file__).with_name("nbxmpp_client.py")), *self.arguments]

    def environment(self) -> dict[str, str]:
        """Where nbxmpp is."""
        return {**os.environ, "PYTHONPATH": str(self.installed), "GIO_USE_PROXY_RESOLVER": "dummy"}

    def tells(self, event: str) -> dict[str, str]:
        """The next event of this kind."""
        told: dict[str, str] = json.loads(self.wait_for(f'"event": "{event}"'))
        return told

    def told(self, event: str) -> list[str]:
        """The XML of all events of a kind that were read so far."""
        events = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [happened["xml"] for happened in events if happened["event"] == event]
