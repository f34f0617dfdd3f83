"""Prosody, of Debian's package, with the archive in SQLite."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.client import password
from benchmarks.servers.base import DOMAIN, PUSH, SECRET, Needs, NotStarted, Server, package_version

# Debian's modules without those that listen elsewhere or limit rates, and the archive.
MODULES = (
    "disco", "roster", "saslauth", "tls", "dialback", "blocklist", "bookmarks", "carbons", "pep", "private", "smacks",
    "vcard4", "vcard_legacy", "csi_simple", "ping", "register", "time", "uptime", "version", "mam", "admin_shell",
)  # fmt: skip
TOKEN = ("sasl2", "sasl2_bind2", "sasl2_sm", "sasl2_fast")
PUSHING = ("cloud_notify",)
ROSTERS = ("http_roster_admin", "block_subscriptions")
FOLDERS = (Path("/usr/lib/prosody/modules"), Path("/usr/local/lib/prosody/modules"))

# Lua collects its garbage in small steps as Prosody starts it by default, which takes two to three times the processor
# time under load. Prosody's documentation has this setting for Lua 5.4.
COLLECTOR = 'gc = { mode = "generational" }'

UNBOUND = """\
unbound = {
    resolvconf = false; hoststxt = false; forward = { "127.0.0.1@%d" };
    options = { ["do-not-query-localhost:"] = "no"; ["module-config:"] = "iterator" }
}
"""

CONFIGURATION = """\
run_as_root = true
daemonize = false
data_path = "{data}"
pidfile = "{folder}/prosody.pid"
plugin_paths = {{ "/usr/local/lib/prosody/modules" }}
log = {{ {{ levels = {{ min = "info" }}, to = "file", filename = "{log}" }} }}
{collector}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
s2s_ports = {{ {s2s_port} }}
s2s_direct_tls_ports = {{ }}
component_ports = {{ {component_port} }}
http_ports = {{ {http_port} }}
https_ports = {{ }}
admin_socket = "{folder}/prosody.sock"
modules_enabled = {{ {modules} }}
authentication = "internal_hashed"
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = false
ssl = {{ certificate = "{certificate}", key = "{key}" }}
-- Accounts, rosters and offline messages are in files of its own, as by default.
storage = {{ archive = "sql" }}
sql = {{ driver = "SQLite3", database = "{archive}" }}
default_archive_policy = true
archive_expires_after = "never"
max_archive_query_results = 50
{more}
VirtualHost "{domain}"
{component}
"""


class Prosody(Server):
    """Prosody."""

    name = "prosody"
    packages = ("prosody", "prosody-modules", "lua-dbi-sqlite3", "lua-event", "lua-unbound")
    ready = "Activated service 'c2s_direct_tls'"

    @classmethod
    def missing(cls) -> str:
        """See `Server`."""
        if shutil.which("prosody") is None:
            return "prosody is not installed"
        if not list(Path("/usr/lib").glob("*/lua/5.*/dbd/sqlite3.so")):
            return "lua-dbi-sqlite3 is not installed"
        return ""

    @classmethod
    def lacks(cls, needs: Needs) -> str:
        """See `Server`."""
        if needs.names_port and not list(Path("/usr/lib").glob("*/lua/5.*/lunbound.so")):
            return "lua-unbound is not installed"
        smacks = FOLDERS[0] / "mod_smacks.lua"
        if needs.token and smacks.exists() and "function do_enable" not in smacks.read_text():
            return "the mod_sasl2 of prosody-modules needs a later Prosody"
        absent = [
            f"mod_{module}"
            for module in cls._modules(needs)
            if not any((folder / f"mod_{module}{end}").exists() for folder in FOLDERS for end in ("", ".lua"))
        ]
        return f"no {', '.join(absent)} in what is installed" if absent else ""

    @classmethod
    def version(cls) -> str:
        """See `Server`."""
        return package_version("prosody")

    @staticmethod
    def _modules(needs: Needs) -> list[str]:
        more = [*(TOKEN if needs.token else ()), *(PUSHING if needs.push else ())]
        return [*MODULES, *more, *(ROSTERS if needs.roster_port else ())]

    def configure(self) -> None:
        """See `Server`."""
        more = UNBOUND % self.needs.names_port if self.needs.names_port else ""
        if self.needs.roster_port:
            more += f'http_roster_url = "http://127.0.0.1:{self.needs.roster_port}/%s"\n'
            more += f'http_default_host = "{DOMAIN}"\n'
        component = f'Component "{PUSH}"\n    component_secret = "{SECRET}"\n'
        self._config.write_text(
            CONFIGURATION.format(
                data=self.data, folder=self.folder, log=self.log, collector=COLLECTOR, port=self.port,
                tls_port=self.tls_port, s2s_port=self.s2s_port, component_port=self.component_port,
                http_port=self.http_port if self.needs.roster_port else "", domain=DOMAIN, more=more,
                modules=", ".join(f'"{module}"' for module in self._modules(self.needs)),
                certificate=self.certificate.certificate, key=self.certificate.key, archive=self.archive_file(),
                component=component if self.needs.push else "",
            )
        )  # fmt: skip

    @property
    def _config(self) -> Path:
        return self.folder / "prosody.cfg.lua"

    def command(self) -> list[str]:
        """See `Server`."""
        return ["prosody", "-F", "--config", str(self._config)]

    def create(self, users: Sequence[str]) -> None:
        """See `Server`; all in one session of its shell."""
        typed = "".join(f'user:create("{user}@{DOMAIN}", "{password(user)}")\n' for user in users)
        shell = subprocess.run(  # noqa: S603 - names from this package
            ["prosodyctl", "--config", str(self._config), "shell"],  # noqa: S607
            input=f"{typed}quit\n", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if shell.stdout.count("User created") != len(users):
            raise NotStarted(f"prosody did not make the accounts: {shell.stdout[-300:]}{shell.stderr[-300:]}")
