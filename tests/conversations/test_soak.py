"""Everything at once, with restarts and crashes, for two minutes; `XMPPD_SOAK_MINUTES` says for how many.

The long form is ``python -m benchmarks.soak``. It prints the `XMPPD_SEED` that its moments come from.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from tests.conversations.ledger import Entry, Ledger, Way
from tests.conversations.load import Key
from tests.conversations.soak import soak

MINUTES = float(os.environ.get("XMPPD_SOAK_MINUTES", "2"))
CLIENTS = 12


def test_soak(tmp_path: Path) -> None:
    seed = int(os.environ.get("XMPPD_SEED") or random.randrange(2**32))
    print(f"XMPPD_SEED={seed}")
    outcome = asyncio.run(soak(tmp_path, CLIENTS, MINUTES, seed, print))
    print(outcome)
    assert outcome.problems == []
    assert min(outcome.happened[what] for what in ("kill", "term", "resets", "deafness", "logins", "logouts")) > 0


# ---- the ledger sees what is wrong


def ledger_of(*arrivals: tuple[str, int]) -> Ledger:
    """Romeo's phone has sent Juliet three messages; both have a phone and a desk."""
    ledger = Ledger()
    for name in ("romeo", "juliet"):
        for resource in ("phone", "desk"):
            ledger.enroll(f"{name}/{resource}", steady=True)
    keys = [ledger.sent("romeo/phone", "juliet") for _ in range(3)]
    for key in keys:
        ledger.acknowledged(key)
    for device, number in arrivals:
        way: Way = "sent" if device == "romeo/desk" else "direct"
        ledger.got(device, keys[number], way, f"{device.partition('/')[0]}-{number}", delayed=False)
    return ledger


ALL = tuple((device, number) for device in ("juliet/phone", "juliet/desk", "romeo/desk") for number in range(3))


def test_the_ledger_is_content_when_all_is_well() -> None:
    ledger = ledger_of(*ALL)
    assert ledger.problems() == []
    entries = [Entry(f"juliet-{number}", Key("romeo/phone", "juliet", number)) for number in range(3)]
    assert ledger.check_archive("juliet", entries) == []


def test_the_ledger_reports_what_is_lost() -> None:
    assert ledger_of(*ALL[:5], *ALL[6:]).problems() == [
        "romeo/phone to juliet, number 2 did not reach juliet/desk; sent at first, acknowledged at first"
    ]


def test_the_ledger_reports_what_came_twice_and_what_was_swapped() -> None:
    (twice,) = ledger_of(*ALL, ALL[0]).problems()
    assert "juliet/phone got romeo/phone to juliet, number 0 twice (direct)" in twice
    (swapped,) = ledger_of(ALL[1], ALL[0], *ALL[2:]).problems()
    assert "juliet/phone got romeo/phone to juliet, number 0 after number 1 (direct)" in swapped


def test_the_ledger_reports_what_is_wrong_with_an_archive() -> None:
    ledger = ledger_of(*ALL)
    entries = [Entry(f"juliet-{number}", Key("romeo/phone", "juliet", number)) for number in (0, 2, 1, 1)]
    assert len(ledger.check_archive("juliet", entries)) == 2
    assert len(ledger.check_archive("juliet", entries[:2])) == 1
    other = [entries[0]._replace(id="other"), entries[2], entries[1]]
    assert len(ledger.check_archive("juliet", other)) == 2
