"""ejabberd, of Debian's package, with the archive in SQLite."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

from benchmarks.client import password
from benchmarks.measure import LOOK
from benchmarks.servers.base import (
    ARCHIVE,
    DOMAIN,
    PUSH,
    SECRET,
    START_SECONDS,
    Needs,
    NotStarted,
    Server,
    package_version,
)

CONFIGURATION = """\
# Debian's modules without those that listen elsewhere or limit rates; the archive is in SQLite.
loglevel: info
log_rotate_count: 0
hosts: ["{domain}"]
certfiles: ["{bundle}"]
c2s_protocol_options: [no_sslv3, no_tlsv1, no_tlsv1_1, cipher_server_preference, no_compression]
disable_sasl_mechanisms: [digest-md5, X-OAUTH2]
auth_password_format: scram
s2s_use_starttls: required
sql_type: sqlite
sql_database: "{archive}"
listen:
  - {{port: {port}, ip: 127.0.0.1, module: ejabberd_c2s, starttls_required: true, {limits}}}
  - {{port: {tls_port}, ip: 127.0.0.1, module: ejabberd_c2s, tls: true, {limits}}}
  - {{port: {s2s_port}, ip: 127.0.0.1, module: ejabberd_s2s_in, shaper: none}}
  - {{port: {http_port}, ip: 127.0.0.1, module: ejabberd_http, request_handlers: {{/api: mod_http_api}}}}
{component}
api_permissions: {{benchmark: {{who: all, what: [register, delete_old_mam_messages]}}}}
shaper_rules:
  max_user_offline_messages: {{1000000: all}}
  max_user_sessions: {{100: all}}
modules:
  mod_adhoc: {{}}
  mod_admin_extra: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_mam: {{db_type: sql, assume_mam_usage: true, default: always}}
  mod_offline: {{access_max_user_messages: max_user_offline_messages}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub: {{plugins: [flat, pep]}}
  mod_push: {{}}
  mod_push_keepalive: {{}}
  mod_roster: {{versioning: true}}
  mod_s2s_dialback: {{}}
  mod_stream_mgmt: {{resend_on_timeout: if_offline}}
  mod_vcard: {{search: false}}
  mod_vcard_xupdate: {{}}
  mod_version: {{}}
"""

# With the default backlog of 5, connections of several clients at a time are refused and tried again after a second.
LIMITS = "shaper: none, access: all, max_stanza_size: 262144, backlog: 1024"
# The threads of an idle Erlang machine spin for a while by default, which is processor time without work.
NO_SPINNING = ("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")


class Ejabberd(Server):
    """ejabberd."""

    name = "ejabberd"
    packages = ("ejabberd", "erlang-p1-sqlite3")
    ready = "is started in the node"

    @classmethod
    def missing(cls) -> str:
        """See `Server`."""
        if cls._code() is None or shutil.which("erl") is None:
            return "ejabberd is not installed"
        if not list(Path("/usr/lib/erlang/lib").glob("p1_sqlite3-*/ebin")):
            return "erlang-p1-sqlite3 is not installed"
        return ""

    @classmethod
    def lacks(cls, needs: Needs) -> str:
        """See `Server`."""
        if needs.token:
            return "Debian's version has no SASL2"
        return "it has no such module" if needs.roster_port else ""

    @classmethod
    def version(cls) -> str:
        """See `Server`."""
        return package_version("ejabberd")

    @staticmethod
    def _code() -> Path | None:
        found = sorted(Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.beam"))
        return found[-1].parent if found else None

    def configure(self) -> None:
        """See `Server`."""
        bundle = self.folder / "bundle.pem"
        bundle.write_text(self.certificate.certificate.read_text() + self.certificate.key.read_text())
        component = (
            f"  - {{port: {self.component_port}, ip: 127.0.0.1, module: ejabberd_service, shaper_rule: none, "
            f"hosts: {{{PUSH}: {{password: {SECRET}}}}}}}"
        )
        (self.folder / "ejabberd.yml").write_text(
            CONFIGURATION.format(
                domain=DOMAIN, bundle=bundle, archive=self.archive_file(), port=self.port, tls_port=self.tls_port,
                s2s_port=self.s2s_port, http_port=self.http_port, limits=LIMITS,
                component=component if self.needs.push else "",
            )
        )  # fmt: skip
        lookup = "{lookup, [file, native]}.\n"
        if self.needs.names_port:
            lookup = (
                '{resolv_conf, ""}.\n{hosts_file, ""}.\n{lookup, [dns]}.\n'
                f"{{nameserver, {{127,0,0,1}}, {self.needs.names_port}}}.\n"
            )
        (self.folder / "inetrc").write_text(lookup)

    def command(self) -> list[str]:
        """See `Server`. The node has no name, so that no process beside it has to run for names of nodes."""
        return [
            "erl", "-kernel", "inetrc", f'"{self.folder / "inetrc"}"', "-noinput", "+K", "true", "+P", "250000",
            *NO_SPINNING, "-pa", str(self._code()), "-mnesia", "dir", f'"{self.data / "mnesia"}"', "-s", "ejabberd",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """See `Server`."""
        code = self._code()
        assert code is not None
        return {
            "HOME": str(self.folder),
            "ERL_LIBS": str(code.parents[1]),
            "ERL_MAX_PORTS": "32000",
            "ERL_CRASH_DUMP_BYTES": "0",
            "EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.log),
        }

    def ports(self) -> list[int]:
        """See `Server`."""
        return [*super().ports(), self.http_port]

    def create(self, users: Sequence[str]) -> None:
        """See `Server`; by its HTTP API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        for user in users:
            account = {"user": user, "host": DOMAIN, "password": password(user)}
            status, said = _call(connection, "register", account)
            if status != HTTPStatus.OK:
                raise NotStarted(f"ejabberd did not make the account {user}: {said}")
        self._open_archive(connection)
        connection.close()

    def _open_archive(self, connection: http.client.HTTPConnection) -> None:
        """The database is opened when it is needed first, and what comes until then may be lost, with errors in the
        log. So something harmless needs it, and what counts begins when it is open."""
        _call(connection, "delete_old_mam_messages", {"type": "chat", "days": 10_000})
        deadline = time.monotonic() + START_SECONDS
        while not self.processes.has_open(self.data / ARCHIVE):
            if time.monotonic() > deadline:
                raise NotStarted("ejabberd has not opened its archive")
            time.sleep(LOOK)


def _call(connection: http.client.HTTPConnection, command: str, arguments: Mapping[str, object]) -> tuple[int, str]:
    """Run a command of ejabberdctl; the status of HTTP, and what it says."""
    connection.request("POST", f"/api/{command}", json.dumps(arguments), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()
