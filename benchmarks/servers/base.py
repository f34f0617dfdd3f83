"""What is the same for each server: a folder and ports of its own, and a process that ends with the benchmark."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cryptography import x509

from benchmarks.client import Target
from benchmarks.measure import LOOK, Processes
from tests.support.authority import issue
from tests.support.ports import free_port

DOMAIN = "bench.example"
FAR = "far.example"  # the other server, where one is needed
PUSH = f"push.{DOMAIN}"  # an external component
SECRET = "secret"  # noqa: S105 - of that component, on loopback
ARCHIVE = "archive.sqlite"
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class NotStarted(Exception):
    """A server could not be started or set up."""


@dataclass(frozen=True)
class Certificate:
    """One certificate (ECDSA P-256, self-signed) for all domains and all servers."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """A new one."""
        names = [x509.DNSName(name) for name in (DOMAIN, f"*.{DOMAIN}", FAR)]
        return cls(*issue(None, *names, common_name=DOMAIN).write(folder, DOMAIN))


@dataclass(frozen=True)
class Needs:
    """What a scenario needs of a server beside the usual."""

    token: bool = False  # login with SASL2, Bind 2 and FAST
    push: bool = False  # XEP-0357, with an app server that is a component
    roster_port: int = 0  # of a backend that has the rosters
    names_port: int = 0  # of a name server by which other servers are found


class Server(ABC):
    """A server at `DOMAIN`, in a folder of its own."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()  # of Debian
    ready: ClassVar[str]  # what is in its log once it has started

    def __init__(self, folder: Path, certificate: Certificate, needs: Needs) -> None:
        self.folder = folder
        self.certificate = certificate
        self.needs = needs
        self.domain = DOMAIN
        self.port, self.tls_port = free_port(), free_port()
        self.s2s_port, self.component_port, self.http_port = free_port(), free_port(), free_port()
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    # ---- for each to say

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Why it cannot be run here; nothing where it can."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Which one it is."""

    @classmethod
    def lacks(cls, needs: Needs) -> str:
        """Why it cannot do what a scenario needs; nothing where it can."""
        return ""

    @abstractmethod
    def configure(self) -> None:
        """Write the configuration."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line, in the foreground."""

    def environment(self) -> dict[str, str]:
        """What its process has in its environment beside ours."""
        return {}

    @abstractmethod
    def create(self, users: Sequence[str]) -> None:
        """Make accounts; it is running."""

    # ---- the same for all

    @property
    def processes(self) -> Processes:
        """Its processes."""
        assert self._process is not None
        return Processes(self._process.pid)

    def target(self) -> Target:
        """Where clients connect to."""
        return Target(self.domain, self.port, self.tls_port, self.certificate.certificate.read_text())

    def ports(self) -> list[int]:
        """Those that have to be open before anything is asked of it."""
        return [self.port, self.tls_port]

    def archive_file(self) -> Path:
        """A new SQLite file in WAL mode, which the file keeps. Without that each commit of the peers takes several
        waits for the disk, and the figures are those of the file system."""
        path = self.data / ARCHIVE
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        return path

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.configure()
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a server that was chosen
                self.command(), cwd=self.folder, env={**os.environ, **self.environment()}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not (self._has_said(self.ready) and all(map(_listens, self.ports()))):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"{self.name} has not started:\n{self.last_words()}")
            time.sleep(LOOK)

    def _has_said(self, text: str) -> bool:
        return self.log.exists() and text in self.log.read_text(errors="replace")

    def last_words(self, lines: int = 15) -> str:
        """The end of what it said."""
        texts = [path.read_text(errors="replace") for path in (self.log, self.folder / "output.log") if path.exists()]
        return "\n".join("\n".join(texts).splitlines()[-lines:])

    def stop(self) -> None:
        """End it and all that it has started."""
        if self._process is None:
            return
        family = self.processes.pids()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        for pid in set(self.processes.pids()) & set(family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process = None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def package_version(package: str) -> str:
    """The version of a package of Debian that is installed."""
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - names from this package
    return asked.stdout or "?"
