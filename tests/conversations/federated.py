"""Three servers that find each other by a name server of the test: ours, Prosody and ejabberd."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509

from tests.conversations.names import NameServer
from tests.conversations.peers import RealEjabberd, RealProsody
from tests.conversations.process import LoggedProcess, RunningServer
from tests.support.authority import Issued, authority, issue
from tests.support.ports import free_port

S = TypeVar("S", bound=LoggedProcess)

OURS, PROSODY, EJABBERD = "xmppd.example", "prosody.example", "ejabberd.example"
APP = "push"  # the first label of components


class Land:
    """What the servers of one test have in common: names, and an authority whose certificates some of them have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = NameServer()
        self.authority: Issued = authority()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self.authority.pem)
        self._kept: list[LoggedProcess] = []

    def keep(self, server: S) -> S:
        """Have a server end when the test does."""
        self._kept.append(server)
        return server

    def close(self) -> None:
        """The test is over."""
        for server in self._kept:
            server.close()
        self.names.close()

    def certificate(self, folder: Path, domain: str, trusted: bool) -> tuple[Path, Path]:
        """A certificate for a domain and all below it, by the authority or by nobody."""
        names = [x509.DNSName(domain), x509.DNSName(f"*.{domain}")]
        return issue(self.authority if trusted else None, *names, common_name=domain).write(folder, domain)


class OurServer(RunningServer):
    """Ours, at ``xmppd.example`` or another domain."""

    def __init__(
        self, land: Land, trusted: bool, config: str = "", direct_tls: bool = False, domain: str = OURS
    ) -> None:
        folder = land.folder / domain
        folder.mkdir()
        self.domain = domain
        self.component_port = free_port()
        self.land = land
        super().__init__(folder)
        land.certificate(folder / "certs", domain, trusted)
        land.names.add(domain, self.s2s_port, self.s2s_tls_port if direct_tls else None)
        land.names.add(f"{APP}.{domain}", self.s2s_port)
        self.configure(config)

    def configure(self, config: str = "") -> None:
        """Write the configuration."""
        self.write_config(
            f"dns_servers = 127.0.0.1:{self.land.names.port}\ns2s_ca_file = {self.land.ca_file}\n"
            f"component_ports = {self.component_port}\nsmacks_hibernation_time = 5m\n{config}",
            f"[host:{self.domain}]\n[component:{APP}.{self.domain}]\nsecret = secret\n",
        )

    def status(self) -> str:
        """``xmppctl s2s list``."""
        return self.xmppctl("s2s", "list")


class FederatedProsody(RealProsody):
    """Prosody, at ``prosody.example``, with a component."""

    domain = PROSODY
    READY = "Activated service 's2s'"

    def __init__(self, land: Land, trusted: bool, bidi: bool) -> None:
        folder = land.folder / "prosody"
        folder.mkdir()
        super().__init__(folder)
        if not list(Path("/usr/lib").glob("*/lua/5.4/lunbound.so")):
            pytest.skip("lua-unbound missing; on Debian: apt-get install lua-unbound")
        self.s2s_port = free_port()
        self.component_port = free_port()
        land.names.add(PROSODY, self.s2s_port)
        land.names.add(f"{APP}.{PROSODY}", self.s2s_port)
        crt, key = land.certificate(folder, PROSODY, trusted)
        modules = ["roster", "saslauth", "tls", "disco", "vcard", "ping", "dialback", "smacks", "offline"]
        modules += ["s2s_bidi"] if bidi else []
        self.config.write_text(
            f"""run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{self.data}"
log = {{ {{ levels = {{ min = "debug" }}, to = "console" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{ {self.tls_port} }}
s2s_ports = {{ {self.s2s_port} }}
s2s_direct_tls_ports = {{ }}
component_ports = {{ {self.component_port} }}
modules_enabled = {{ {", ".join(f'"{name}"' for name in modules)} }}
authentication = "internal_hashed"
s2s_require_encryption = true
s2s_secure_auth = {"true" if trusted else "false"}
unbound = {{
    resolvconf = false; hoststxt = false; forward = {{ "127.0.0.1@{land.names.port}" }};
    options = {{ ["do-not-query-localhost:"] = "no"; ["module-config:"] = "iterator" }};
}}
ssl = {{ cafile = "{land.ca_file}"; certificate = "{crt}"; key = "{key}" }}
VirtualHost "{PROSODY}"
Component "{APP}.{PROSODY}"
    component_secret = "secret"
"""
        )


class FederatedEjabberd(RealEjabberd):
    """ejabberd, at ``ejabberd.example``, with a component."""

    domain = EJABBERD

    def __init__(self, land: Land, trusted: bool) -> None:
        folder = land.folder / "ejabberd"
        folder.mkdir()
        super().__init__(folder)
        self.s2s_port = free_port()
        self.component_port = free_port()
        land.names.add(EJABBERD, self.s2s_port)
        land.names.add(f"{APP}.{EJABBERD}", self.s2s_port)
        crt, key = land.certificate(folder, EJABBERD, trusted)
        bundle = folder / "bundle.pem"
        bundle.write_bytes(crt.read_bytes() + key.read_bytes())
        (folder / "inetrc").write_text(
            '{resolv_conf, ""}.\n{hosts_file, ""}.\n{lookup, [dns]}.\n'
            f"{{nameserver, {{127,0,0,1}}, {land.names.port}}}.\n"
        )
        self.config.write_text(
            f"""hosts: [{EJABBERD}]
loglevel: debug
certfiles: ["{bundle}"]
ca_file: "{land.ca_file}"
s2s_use_starttls: required
listen:
  - {{port: {self.port}, ip: 127.0.0.1, module: ejabberd_c2s, starttls: true}}
  - {{port: {self.tls_port}, ip: 127.0.0.1, module: ejabberd_c2s, tls: true}}
  - {{port: {self.s2s_port}, ip: 127.0.0.1, module: ejabberd_s2s_in}}
  - {{port: {self.api_port}, ip: 127.0.0.1, module: ejabberd_http, request_handlers: {{/api: mod_http_api}}}}
  - port: {self.component_port}
    ip: 127.0.0.1
    module: ejabberd_service
    hosts: {{{APP}.{EJABBERD}: {{password: secret}}}}
api_permissions: {{tests: {{who: all, what: "*"}}}}
auth_password_format: scram
modules:
  mod_admin_extra: {{}}
  mod_disco: {{}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  {"mod_s2s_dialback: {}" if not trusted else "mod_version: {}"}
  mod_vcard: {{}}
"""
        )

    def command(self) -> list[str]:
        """See `RealEjabberd`; with name servers of its own."""
        program, *others = super().command()
        return [program, "-kernel", "inetrc", f'"{self.folder / "inetrc"}"', *others]
