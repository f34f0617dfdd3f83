"""A real server for conversations: a twistd process on loopback, with ports and data of its own."""

from __future__ import annotations

import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.ports import free_port

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 30.0  # seconds until a test gives up; nothing waits that long unless it is broken
CHECKOUT = Path(__file__).resolve().parents[2]


def program(name: str) -> str:
    """A program of the environment that runs the tests."""
    return str(Path(sys.executable).parent / name)


class LoggedProcess:
    """A server in the foreground that says in its log when it is ready. What differs is up to each class."""

    READY = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.tls_port = free_port()
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """The command line, in the foreground."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What the process has in its environment."""
        return {**os.environ, "PYTHONUNBUFFERED": "1"}

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        self.process = subprocess.Popen(
            self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", env=self.environment(),
        )  # fmt: skip
        self._new: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self.process, self._new), daemon=True)
        self._reader.start()
        self.wait_for(self.READY)
        return self

    def _read(self, process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
        # The end of one process may be read after the next was started.
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def wait_for(self, text: str, patience: float = PATIENCE) -> str:
        """The next line of the log that has `text` in it."""
        while True:
            try:
                line = self._new.get(timeout=patience)
            except queue.Empty:
                raise AssertionError(f"no {text!r} in the log:\n{self.log()}") from None
            assert line is not None, f"the server ended before {text!r}:\n{self.log()}"
            self.lines.append(line)
            if text in line:
                return line

    def log(self) -> str:
        """What has been read of the log so far, and what is there to be read."""
        while not self._new.empty():
            line = self._new.get()
            if line is not None:
                self.lines.append(line)
        return "".join(self.lines)

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """End it in order; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it as a crash does."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        assert self.process is not None
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)  # the log is whole
        return status

    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.poll() is None

    def close(self) -> None:
        """Whatever the test did: nothing is left running."""
        if self.process is not None and self.is_running():
            self.process.kill()
            self.process.wait(PATIENCE)


class RunningServer(LoggedProcess):
    """One twistd. `start` waits for ``xmppd ready``; `stop` asks it to end and returns its status."""

    READY = "xmppd ready"

    def __init__(self, folder: Path, extra: str = "", sections: str = "[host:localhost]\n") -> None:
        super().__init__(folder)
        self.http_port = free_port()
        self.https_port = free_port()
        self.s2s_port = free_port()
        self.s2s_tls_port = free_port()
        self.config = folder / "xmppd.cfg"
        self.said = ""  # by xmppctl, the last time
        self.write_config(extra, sections)

    def write_config(self, extra: str = "", sections: str = "[host:localhost]\n") -> None:
        """Write the configuration: loopback, this test's ports, and what the test adds."""
        self.config.write_text(
            "[xmppd]\ndata_path = var\ncertificates = certs\ninterfaces = 127.0.0.1\n"
            f"c2s_ports = {self.port}\nc2s_direct_tls_ports = {self.tls_port}\n"
            f"http_ports = {self.http_port}\nhttps_ports = {self.https_port}\n"
            f"s2s_ports = {self.s2s_port}\ns2s_direct_tls_ports = {self.s2s_tls_port}\n{extra}\n{sections}"
        )

    def command(self) -> list[str]:
        """The command line, in the foreground."""
        pid_file = f"--pidfile={self.folder / 'twistd.pid'}"
        return [program("twistd"), "-n", pid_file, "xmppd", "-c", str(self.config)]

    def user(self, *names: str, password: str = "secret", domain: str = "localhost") -> None:
        """Make accounts at a host."""
        accounts = "".join(f"{name}@{domain} {password}\n" for name in names)
        self.xmppctl("user", "create", "--file", "-", typed=accounts)

    def xmppctl(self, *arguments: str, typed: str = "") -> str:
        """Run xmppctl, with `typed` on its standard input; what it prints."""
        done = subprocess.run(
            [program("xmppctl"), "-c", str(self.config), *arguments],
            input=typed, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        self.said = done.stdout
        assert done.returncode == 0, done.stderr
        return done.stdout


def unverified() -> ssl.SSLContext:
    """TLS without a look at the certificate, which is self-signed here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
