"""Tasks of a login (XEP-0388 section 2.6.3): what a client has to do after it has shown a password, before it is in.

A module that wants a second factor adds a function to ``host.login_tasks``. Who logs in by a token has done all of them
before (XEP-0484 section 4.2), and who logs in by SASL cannot do any, so does not get in where there are some.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.words.xish import domish


class LoginTask(Protocol):
    """One task of one login. Both methods return what ``<task-data/>`` is to ask next, or None when the task is done;
    they raise `AuthenticationFailed` where it cannot be."""

    name: str

    async def begin(self, element: domish.Element) -> bytes | None:
        """The client has chosen the task by ``<next/>``."""

    async def go_on(self, element: domish.Element) -> bytes | None:
        """The client answers by ``<task-data/>``."""


# Which tasks a user, by the localpart, has to do now.
LoginTasks = Callable[[str], Awaitable[Sequence[LoginTask]]]
