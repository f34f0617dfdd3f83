"""Servers of other projects, as the distribution packages them: each an ordinary process with data of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conversations.process import CHECKOUT, PATIENCE, LoggedProcess, RunningServer
from tests.support.ports import free_port
from xmppd.net.certificates import self_signed

# What Prosody's storage driver for XEP-0227 has a place for. It has none for offline messages and blocked contacts.
PROSODY_STORES = ("accounts", "roster", "vcard", "private", "archive-archive", "pep-pubsub")

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"  # of programs that ordinary users do not look for


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, in files."""
    paths = folder / "localhost.crt", folder / "localhost.key"
    for path, content in zip(paths, self_signed("localhost", time.time()), strict=True):
        path.write_bytes(content)
    return paths


class RealProsody(LoggedProcess):
    """Prosody, with accounts at `domain`."""

    domain = "localhost"
    READY = "Activated service 'c2s_direct_tls'"

    def __init__(self, folder: Path, options: str = 'authentication = "internal_hashed"') -> None:
        if shutil.which("prosody") is None or shutil.which("prosody-migrator") is None:
            pytest.skip("prosody missing; on Debian: apt-get install prosody")
        super().__init__(folder)
        self.data = folder / "data"
        self.data.mkdir()
        self.config = folder / "prosody.cfg.lua"
        crt, key = certificate(folder)
        # Without `run_as_root` it ends at once where the tests run as root.
        self.config.write_text(
            f"""run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{self.data}"
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{ {self.tls_port} }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "vcard", "private", "blocklist", "pep", "mam", "ping" }}
modules_disabled = {{ "s2s" }}
default_archive_policy = true
{options}
VirtualHost "localhost"
    ssl = {{ certificate = "{crt}", key = "{key}" }}
"""
        )

    def command(self) -> list[str]:
        """The command line, in the foreground."""
        return ["prosody", "-F", "--config", str(self.config)]

    def user(self, *names: str, password: str = "secret") -> None:
        """Make accounts."""
        for name in names:
            self._run(["prosodyctl", "--config", str(self.config), "register", name, self.domain, password])

    def export(self, folder: Path, stores: tuple[str, ...] = PROSODY_STORES) -> list[Path]:
        """Have it write its accounts into `folder`, by XEP-0227; the files, one for each account."""
        self._migrate(folder, "native", "xep0227", stores)
        return sorted(folder.glob("*.xml"))

    def take(self, folder: Path, stores: tuple[str, ...] = PROSODY_STORES) -> None:
        """Have it read the accounts in `folder`: files of XEP-0227, each with one account and named for it."""
        # Who has no archive, and the host has none, is an error to it.
        self._migrate(folder, "xep0227", "native", stores, "--keep-going")

    def _migrate(self, folder: Path, source: str, target: str, stores: tuple[str, ...], *options: str) -> None:
        names = ", ".join(f'"{store}"' for store in stores)
        config = self.folder / "migrator.cfg.lua"
        config.write_text(
            f"local hosts = {{ localhost = {{ {names} }} }}\n"
            f'native {{ hosts = hosts; type = "internal"; path = "{self.data}" }}\n'
            'xep0227 { hosts = hosts; type = "xep0227" }\n'
        )
        # The driver has its files in the data folder, and that is written in the program: it is no option.
        program = Path(shutil.which("prosody-migrator") or "").read_text()
        line = next(line for line in program.splitlines() if line.startswith("CFG_DATADIR="))
        migrator = self.folder / "migrator"
        migrator.write_text(program.replace(line, f"CFG_DATADIR='{folder}';"))
        migrator.chmod(0o700)
        folder.mkdir(exist_ok=True)
        self._run([str(migrator), "--root", *options, "--config", str(config), source, target])

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


class RealEjabberd(LoggedProcess):
    """ejabberd, with accounts at `domain`; what ejabberdctl does is asked for over its HTTP API."""

    domain = "localhost"
    READY = "is started in the node"

    def __init__(self, folder: Path, options: str = "auth_password_format: scram") -> None:
        found = sorted(Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.beam"))
        if not found or shutil.which("erl") is None:
            pytest.skip("ejabberd missing; on Debian: apt-get install ejabberd")
        super().__init__(folder)
        self.libraries = found[-1].parents[2]
        self.code = found[-1].parent
        self.api_port = free_port()
        self.config = folder / "ejabberd.yml"
        crt, key = certificate(folder)
        bundle = folder / "localhost.pem"
        bundle.write_bytes(crt.read_bytes() + key.read_bytes())
        self.config.write_text(
            f"""hosts: [localhost]
loglevel: info
certfiles: ["{bundle}"]
listen:
  - {{port: {self.port}, ip: 127.0.0.1, module: ejabberd_c2s, starttls: true}}
  - {{port: {self.tls_port}, ip: 127.0.0.1, module: ejabberd_c2s, tls: true}}
  - {{port: {self.api_port}, ip: 127.0.0.1, module: ejabberd_http, request_handlers: {{/api: mod_http_api}}}}
api_permissions: {{tests: {{who: all, what: "*"}}}}
modules:
  mod_admin_extra: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_disco: {{}}
  mod_mam: {{default: always}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub: {{plugins: [flat, pep]}}
  mod_roster: {{}}
  mod_vcard: {{}}
{options}
"""
        )

    def command(self) -> list[str]:
        """The command line. ejabberdctl itself wants a user of its own; and a node without a name needs no epmd."""
        return [
            "erl", "-noinput", "-pa", str(self.code), "-mnesia", "dir", f'"{self.folder / "mnesia"}"', "-s", "ejabberd",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Where its files are."""
        return {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_LIBS": str(self.libraries),
            "ERL_CRASH_DUMP_BYTES": "0",
            "EJABBERD_CONFIG_PATH": str(self.config),
            "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
        }

    def call(self, command: str, **arguments: str) -> object:
        """Run a command of ejabberdctl; what it answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}/api/{command}", json.dumps(arguments).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def user(self, *names: str, password: str = "secret") -> None:
        """Make accounts."""
        for name in names:
            self.call("register", user=name, host=self.domain, password=password)

    def export(self, folder: Path) -> list[Path]:
        """Have it write its accounts into `folder`, by XEP-0227; the files, the one that includes the others first."""
        folder.mkdir(exist_ok=True)
        assert self.call("export_piefxis", dir=str(folder)) in (0, "")
        return sorted(folder.glob("*.xml"), key=lambda path: len(path.name))

    def take(self, file: Path) -> None:
        """Have it read the accounts in a file of XEP-0227."""
        assert self.call("import_piefxis", file=str(file)) in (0, "")


class RealNginx(LoggedProcess):
    """nginx in front of a server, configured as the documentation says; ``https_port`` is its own for HTTP."""

    READY = "start worker process "
    MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

    def __init__(self, folder: Path, server: RunningServer, c2s_ports: tuple[int, int]) -> None:
        if shutil.which("nginx", path=PATH) is None or not self.MODULE.exists():
            pytest.skip("nginx missing; on Debian: apt-get install nginx libnginx-mod-stream")
        super().__init__(folder)
        self.https_port = free_port()
        self.config = folder / "nginx.conf"
        crt, key = certificate(folder)
        text = (CHECKOUT / "docs" / "proxies.rst").read_text()
        http, stream = re.findall(r"::\n\n((?:    .*\n)+)", text[text.index("\nnginx\n") :])[:2]
        for shown, real in {
            "listen 443": f"listen 127.0.0.1:{self.https_port}", "listen [::]:443 ssl;": "",
            "/etc/ssl/example.org.crt": str(crt), "/etc/ssl/example.org.key": str(key),
            "127.0.0.1:5280": f"127.0.0.1:{server.http_port}",
        }.items():  # fmt: skip
            assert shown in http
            http = http.replace(shown, real)
        for shown, real in {
            "192.0.2.1:5222": f"127.0.0.1:{self.port}", "127.0.0.1:6222": f"127.0.0.1:{c2s_ports[0]}",
            "192.0.2.1:5223": f"127.0.0.1:{self.tls_port}", "127.0.0.1:6223": f"127.0.0.1:{c2s_ports[1]}",
        }.items():  # fmt: skip
            assert shown in stream
            stream = stream.replace(shown, real)
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.config.write_text(
            f"load_module {self.MODULE};\n{'user root;' if os.geteuid() == 0 else ''}\ndaemon off;\n"
            f"pid {folder}/nginx.pid;\nerror_log stderr notice;\nworker_processes 1;\n"
            f"events {{ worker_connections 64; }}\nhttp {{\naccess_log off;\n{temporary}{http}}}\n{stream}"
        )

    def command(self) -> list[str]:
        """See `LoggedProcess`."""
        nginx = shutil.which("nginx", path=PATH)
        assert nginx is not None
        return [nginx, "-e", "stderr", "-p", str(self.folder), "-c", str(self.config)]
