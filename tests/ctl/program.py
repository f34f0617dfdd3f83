"""Runs `xmppctl` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .conftest import World

ROOT = Path(__file__).parents[2]


def command(config_path: Path, *argv: str) -> list[str]:
    return [sys.executable, "-m", "xmppd.ctl.main", "-c", str(config_path), *argv]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Ended:
    """How a process ended, and what it wrote."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr


def xmppctl(config_path: Path, *argv: str, text: str = "") -> Ended:
    done = subprocess.run(
        command(config_path, *argv),
        input=text,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return Ended(done)


def beside(world: World, config_path: Path, *argv: str) -> Ended:
    """Run xmppctl while the server of this process answers."""
    process = subprocess.Popen(
        command(config_path, *argv),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    world.until(lambda: process.poll() is not None)
    out, err = process.communicate()
    return Ended(subprocess.CompletedProcess(argv, process.returncode, out, err))
