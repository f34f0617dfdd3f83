"""Everything at once for a long time, with restarts and crashes: nothing may be lost, and nothing may grow.

Run as ``python -m benchmarks.soak`` in a checkout; ``README.rst`` says what is done.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.conversations.soak import RESOURCES, soak

FEWEST = 3 * len(RESOURCES)  # clients: somebody who stays, somebody who comes and goes, and somebody to talk to


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long it goes on (60)")
    parser.add_argument("--clients", type=int, default=20, help="how many there are, two of each user (20)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of what is drawn (at random)")
    parser.add_argument("--folder", type=Path, help="an empty one for the data, which stays there (a temporary one)")
    given = parser.parse_args()
    if given.clients < FEWEST or given.minutes <= 0:
        parser.error(f"there are at least {FEWEST} clients, and it takes some time")
    return given


def main() -> None:
    """Run, and say how it was; exit status 1 where something is wrong."""
    given = options()
    say(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="xmppd-soak-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        before = os.times()
        outcome = asyncio.run(soak(folder, given.clients, given.minutes, given.seed, say))
        after = os.times()
    worked = sum(after[:4]) - sum(before[:4])
    say(f"{outcome}\nprocessors, of clients and server: {worked / (after.elapsed - before.elapsed):.2f} in the mean")
    if outcome.problems:
        say("\n".join(["", "wrong:", *outcome.problems]))
        sys.exit(1)
    say("nothing is lost, nothing came twice, nothing has grown")


if __name__ == "__main__":
    main()
