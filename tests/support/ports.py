"""Ports for the servers of the tests."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below those that the kernel gives to connections, so that none of these takes a port before its server does; and each
# process that runs tests beside others has its own.
FIRST, COUNT, PROCESSES = 12_000, 5_000, 4
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
_start = random.SystemRandom().randrange(COUNT)
_ports = itertools.cycle(FIRST + _worker * COUNT + (_start + number) % COUNT for number in range(COUNT))


def free_port() -> int:
    """A port that nobody has at this moment, and that no other test is given."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
