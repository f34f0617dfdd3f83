"""What it costs to log in, by the way in which a client does it.

Run as ``python -m benchmarks.login`` in a checkout; ``README.rst`` says what is measured.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import random
import re
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.conversations.process import RunningServer
from tests.conversations.raw import HEADER, RawClient

PASSWORD = "secret"  # noqa: S105 - of accounts that are made for this
WARM_UP = 10
SETTLE = 0.005  # seconds after a login until its processor time is read
SM = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"
BIND = f"<bind xmlns='urn:xmpp:bind:0'><tag>bench</tag>{SM}<enable xmlns='urn:xmpp:carbons:2'/></bind>"
FAST = "<fast xmlns='urn:xmpp:fast:0'/>"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


class Client:
    """A client of `name`, and what it keeps from one login to the next."""

    def __init__(self, server: RunningServer, name: str) -> None:
        self.server = server
        self.name = name
        self.agent = f"<user-agent id='{uuid.uuid4()}'><software>bench</software></user-agent>"
        self.token = ""
        self.sm_id = ""
        self.flights = 0  # of the last login: how often it had to wait for the server after the TLS handshake
        self.raw = RawClient(server, direct_tls=True)

    def connect(self) -> None:
        """A new connection, under TLS."""
        self.raw.close()
        self.raw = RawClient(self.server, direct_tls=True)
        self.flights = 0

    def ask(self, text: str, until: str) -> str:
        """Send something, and wait for what answers it."""
        self.flights += 1
        self.raw.send(text)
        return self.raw.read_until(until)

    # ---- the ways in

    def scram(self, begin: Callable[[str], str], respond: Callable[[str], str], hash_name: str, until: str) -> str:
        """The two messages of SCRAM, in the words of either profile; the answer to the last."""
        bare = f"n={self.name},r={uuid.uuid4().hex}"
        challenge = self.ask(begin(b64(f"n,,{bare}")), "</challenge>")
        server_first = base64.b64decode(re.findall(r">([^<]+)</challenge>", challenge)[0]).decode()
        parts = dict(part.split("=", 1) for part in server_first.split(","))
        salted = hashlib.pbkdf2_hmac(hash_name, PASSWORD.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", hash_name)
        without_proof = f"c=biws,r={parts['r']}"
        signed = f"{bare},{server_first},{without_proof}".encode()
        signature = hmac.digest(hashlib.new(hash_name, key).digest(), signed, hash_name)
        proof = b64(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
        return self.ask(respond(b64(f"{without_proof},p={proof}")), until)

    def by_sasl(self) -> None:
        """SCRAM-SHA-1 by SASL, a new stream, a resource, stream management and carbons: one after the other."""
        sasl = "urn:ietf:params:xml:ns:xmpp-sasl"
        self.ask(HEADER, "</stream:features>")
        self.scram(
            lambda data: f"<auth xmlns='{sasl}' mechanism='SCRAM-SHA-1'>{data}</auth>",
            lambda data: f"<response xmlns='{sasl}'>{data}</response>",
            "sha1",
            "</success>",
        )
        self.ask(HEADER, "</stream:features>")
        self.ask("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</iq>")
        self.ask(SM, "<enabled ")
        self.ask("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>", "id='c'")

    def by_sasl2(self, more: str = "") -> None:
        """SCRAM-SHA-1 by SASL2, and all the rest with it."""
        ns = "urn:xmpp:sasl:2"
        self.ask(HEADER, "</stream:features>")
        answer = self.scram(
            lambda data: f"<authenticate xmlns='{ns}' mechanism='SCRAM-SHA-1'><initial-response>{data}"
            f"</initial-response>{self.agent}{BIND}{more}</authenticate>",
            lambda data: f"<response xmlns='{ns}'>{data}</response>",
            "sha1",
            "</stream:features>",
        )
        self._keep(answer)

    def by_token(self, more: str = BIND, until: str = "</success><stream:features>") -> None:
        """A token, all in one flight."""
        shown = self.name.encode() + b"\0" + hmac.digest(self.token.encode(), b"Initiator", "sha256")
        answer = self.ask(
            f"{HEADER}<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'><initial-response>{b64(shown)}"
            f"</initial-response>{self.agent}{FAST}{more}</authenticate>",
            until,
        )
        self._keep(answer)

    def by_resumption(self) -> None:
        """A token, and the session that there was."""
        self.by_token(f"<resume xmlns='urn:xmpp:sm:3' previd='{self.sm_id}' h='0'/>", "</success>")

    def _keep(self, answer: str) -> None:
        if "<success" not in answer:
            raise SystemExit(f"the login failed: {answer}")
        for token in re.findall(r" token='([^']+)'", answer):
            self.token = token
        for sm_id in re.findall(r"<enabled [^>]*?id='([^']+)'", answer):
            self.sm_id = sm_id


KINDS: dict[str, Callable[[Client], None]] = {
    "SASL, bind, enable": Client.by_sasl,
    "SASL2 with Bind 2": Client.by_sasl2,
    "token with Bind 2": Client.by_token,
    "token with resumption": Client.by_resumption,
}


def measure(server: RunningServer, logins: int, seed: int) -> dict[str, dict[str, float]]:
    """Let clients log in, each in a way of its own, mixed at random."""
    assert server.process is not None
    clock = (~server.process.pid << 3) | 2  # see archive.py
    clients = {kind: Client(server, f"user{number}") for number, kind in enumerate(KINDS)}
    for client in clients.values():
        client.by_sasl2("<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>")
    turns = [kind for kind in KINDS for _ in range(logins)]
    random.Random(seed).shuffle(turns)
    worked: dict[str, list[float]] = {kind: [] for kind in KINDS}
    waited: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn, kind in enumerate([*[kind for kind in KINDS for _ in range(WARM_UP)], *turns]):
        client = clients[kind]
        before = time.clock_gettime_ns(clock)
        start = time.perf_counter()
        client.connect()
        KINDS[kind](client)
        end = time.perf_counter()
        time.sleep(SETTLE)
        if turn >= WARM_UP * len(KINDS):
            worked[kind].append((time.clock_gettime_ns(clock) - before) / 1e6)
            waited[kind].append((end - start) * 1000)
    found = {}
    for kind, client in clients.items():
        percentiles = statistics.quantiles(waited[kind], n=100, method="inclusive")
        found[kind] = {
            "cpu_ms": statistics.fmean(worked[kind]), "p50_ms": percentiles[49], "p99_ms": percentiles[98],
            "round_trips": client.flights,
        }  # fmt: skip
        client.raw.close()
    return found


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logins", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder), "c2s_rate = 1G").start()
        try:
            server.user(*(f"user{number}" for number in range(len(KINDS))))
            found = measure(server, given.logins, given.seed)
        finally:
            server.close()
    table = Table("way", "round trips", "CPU ms", "p50 ms", "p99 ms")
    for kind, figures in found.items():
        row = (f"{figures['cpu_ms']:.2f}", f"{figures['p50_ms']:.2f}", f"{figures['p99_ms']:.2f}")
        table.add_row(kind, str(figures["round_trips"]), *row)
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
