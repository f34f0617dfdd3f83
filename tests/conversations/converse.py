"""Converse.js in a browser: the page that it is on, and somebody who uses it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conversations.process import PATIENCE

PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><link rel="stylesheet" href="/dist/converse.min.css"></head><body>
<script type="module">
import "/dist/converse.min.js";
window.converse.plugins.add("told", {{ initialize() {{
  window.api = this._converse.api;
  window.api.listen.on("connected", () => window.tell("online"));
  window.api.listen.on("disconnected", () => window.tell("offline"));
}} }});
window.converse.initialize({options});
</script></body></html>
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing of it is of interest."""


class RealConverse:
    """Somebody at a browser. `ways` are the options of Converse.js that say how it gets to the server."""

    def __init__(self, folder: Path, installed: Path, name: str, ways: dict[str, Any]) -> None:
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("chromium missing; on Debian: apt-get install chromium")
        options = {
            "authentication": "login", "auto_login": True, "jid": f"{name}@localhost/converse", "password": "secret",
            "view_mode": "fullscreen", "allow_non_roster_messaging": True, "assets_path": "/dist/", "i18n": "en",
            "discover_connection_methods": False, "persistent_store": "none", "whitelisted_plugins": ["told"],
            "blacklisted_plugins": ["converse-omemo"], "loglevel": "debug", **ways,
        }  # fmt: skip
        self._root = folder / "page"
        self._root.mkdir()
        (self._root / "index.html").write_text(PAGE.format(options=json.dumps(options)))
        (self._root / "dist").symlink_to(installed / "node_modules" / "converse.js" / "dist")
        script = Path(__file__).with_name("converse.mjs")
        self._site = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(self._root)))
        url = f"http://127.0.0.1:{self._site.server_port}/index.html"
        self._command = ["node", str(script), str(installed), chromium, url]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the rest

    async def arrives(self) -> RealConverse:
        """Open the page, which logs in."""
        threading.Thread(target=self._site.serve_forever, daemon=True).start()
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self._log,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
        )  # fmt: skip
        await self._is_told("online")
        return self

    async def opens(self, jid: str) -> None:
        """Begin a chat."""
        await self._does("open", "opened", jid=jid)

    async def says(self, text: str) -> None:
        """Write into the chat that is open."""
        await self._does("say", "said", text=text)

    async def sees(self, text: str) -> None:
        """Wait until the chat that is open shows a message."""
        await self._does("look", "seen", text=text)

    async def leaves(self) -> None:
        """Log out."""
        await self._does("leave", "left")

    async def _does(self, what: str, told: str, **more: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")
        await self._is_told(told)

    async def _is_told(self, event: str) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await asyncio.wait_for(self._process.stdout.readline(), 2 * PATIENCE)
            except asyncio.TimeoutError:
                raise AssertionError(f"no {event!r}:\n{self.log()}") from None
            told = json.loads(line) if line else {"event": "failed", "text": "it has ended"}
            assert told["event"] != "failed", f"{told['text']}\n{self.log()}"
            if told["event"] == event:
                return

    def log(self) -> str:
        """What the page has said so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-20_000:]

    async def close(self) -> None:
        """End the browser."""
        self._site.shutdown()
        self._site.server_close()
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        self._log.close()
