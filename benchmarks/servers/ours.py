"""xmppd, of this checkout."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.client import password
from benchmarks.servers.base import DOMAIN, PUSH, SECRET, Certificate, Needs, NotStarted, Server
from tests.conversations.process import CHECKOUT, program

# The limits to the rates of streams are off; nothing else is tuned.
CONFIGURATION = """\
[xmppd]
data_path = {data}
certificates = {folder}/certs
interfaces = 127.0.0.1
c2s_ports = {port}
c2s_direct_tls_ports = {tls_port}
s2s_ports = {s2s_port}
s2s_direct_tls_ports =
component_ports = {component_port}
http_ports = {http_port}
https_ports =
c2s_rate = 1G
s2s_rate = 1G
{more}
"""


class Xmppd(Server):
    """xmppd; with other hosts than the one that is compared, and with more options, where they are given."""

    name = "xmppd"
    ready = "xmppd ready"

    def __init__(
        self, folder: Path, certificate: Certificate, needs: Needs, hosts: Sequence[str] = (DOMAIN,), more: str = ""
    ) -> None:
        super().__init__(folder, certificate, needs)
        self.hosts = hosts
        self.domain = hosts[0]
        self.log = folder / "output.log"  # twistd writes it to its standard output
        self._more = more
        self._config = folder / "xmppd.cfg"

    @classmethod
    def missing(cls) -> str:
        """See `Server`."""
        return "" if Path(program("twistd")).exists() else "twistd is not in this environment"

    @classmethod
    def version(cls) -> str:
        """See `Server`."""
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"],  # noqa: S607
            cwd=CHECKOUT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return asked.stdout.strip() or "?"

    def configure(self) -> None:
        """See `Server`."""
        certificates = self.folder / "certs"
        certificates.mkdir(exist_ok=True)
        for host in self.hosts:
            shutil.copy(self.certificate.certificate, certificates / f"{host}.crt")
            shutil.copy(self.certificate.key, certificates / f"{host}.key")
        more, sections = self._more, "".join(f"[host:{host}]\n" for host in self.hosts)
        if self.needs.names_port:
            more += f"dns_servers = 127.0.0.1:{self.needs.names_port}\n"
        if self.needs.roster_port:
            sections += (
                "modules_enabled = http_roster_admin, block_subscriptions\n"
                f"http_roster_url = http://127.0.0.1:{self.needs.roster_port}/%s\n"
            )
        if self.needs.push:
            sections += f"[component:{PUSH}]\nsecret = {SECRET}\n"
        self._config.write_text(
            CONFIGURATION.format(
                data=self.data, folder=self.folder, port=self.port, tls_port=self.tls_port, s2s_port=self.s2s_port,
                component_port=self.component_port if self.needs.push else "",
                http_port=self.http_port if self.needs.roster_port else "", more=more,
            )
            + sections
        )  # fmt: skip

    def command(self) -> list[str]:
        """See `Server`."""
        pid_file = f"--pidfile={self.folder / 'twistd.pid'}"
        return [program("twistd"), "-n", pid_file, "xmppd", "-c", str(self._config)]

    def create(self, users: Sequence[str]) -> None:
        """See `Server`; at each host."""
        accounts = "".join(f"{user}@{host} {password(user)}\n" for host in self.hosts for user in users)
        self.xmppctl("user", "create", "--file", "-", typed=accounts)

    def xmppctl(self, *arguments: str, typed: str = "") -> str:
        """Run xmppctl with `typed` on its standard input; what it prints."""
        done = subprocess.run(  # noqa: S603 - our own program
            [program("xmppctl"), "-c", str(self._config), *arguments],
            input=typed, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise NotStarted(f"xmppctl {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
        return done.stdout
