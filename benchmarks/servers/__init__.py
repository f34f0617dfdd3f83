"""The servers that are compared; the drivers know how each is configured, started and given accounts."""

from __future__ import annotations

from benchmarks.servers.base import DOMAIN, FAR, PUSH, SECRET, Certificate, Needs, NotStarted, Server
from benchmarks.servers.ejabberd import Ejabberd
from benchmarks.servers.ours import Xmppd
from benchmarks.servers.prosody import Prosody

SERVERS: dict[str, type[Server]] = {server.name: server for server in (Prosody, Ejabberd, Xmppd)}
PEERS = (Prosody.name, Ejabberd.name)

__all__ = [
    "DOMAIN", "FAR", "PEERS", "PUSH", "SECRET", "SERVERS", "Certificate", "Needs", "NotStarted", "Server", "Xmppd",
]  # fmt: skip
