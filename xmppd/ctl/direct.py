"""Commands without a server: `xmppctl` carries them out itself, on the store."""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, cast

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import globalLogBeginner

from xmppd import service
from xmppd.config import Config
from xmppd.ctl import commands
from xmppd.ctl.commands import Arguments, CommandError
from xmppd.storage import StorageError


class Direct:
    """The server's hosts and its store, without its doors: nothing listens. Raises `CommandError` when the
    store cannot be used, `ConfigError` when the configuration cannot.

    The reactor runs in a thread of its own, so that the caller may simply wait, and be interrupted. There is
    only one in a process, and it runs only once: so there is one `Direct` as well.
    """

    def __init__(self, config: Config) -> None:
        # What failed is said by xmppctl itself, and not by a log on the terminal.
        globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
        self._reactor = cast(Any, the_reactor)
        os.umask(0o077)  # what is made now is the server's, as if it had made it
        try:
            store = service.open_store(config, self._reactor)
        except StorageError as error:
            raise CommandError(str(error)) from None
        self._server = service.build_server(config, store, self._reactor)
        self._thread = threading.Thread(target=self._reactor.run, args=(False,), name="reactor", daemon=True)

    def __enter__(self) -> Direct:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After an interruption too: what was begun is committed.
        self._run(self._close())
        self._reactor.callFromThread(self._reactor.stop)
        self._thread.join()

    async def _close(self) -> None:
        while self._server.tasks.busy:
            await self._server.tasks.all_ended()
        await self._server.store.close()

    def call(self, name: str, arguments: Arguments) -> Any:
        """Carry out a command and return the result; raises `CommandError`."""
        return self._run(commands.run(self._server, None, name, arguments))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the reactor's thread, and wait for its end."""

        def begin() -> Deferred[Any]:
            return Deferred.fromCoroutine(coroutine)

        return blockingCallFromThread(self._reactor, begin)
