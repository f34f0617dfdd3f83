"""One line in the log when something begins to fail, and one when it works again."""

from __future__ import annotations

from twisted.logger import Logger

__all__ = ["Health"]


class Health:
    """Whether writing, or reading, works. `what` names it in the log."""

    log = Logger()

    def __init__(self, what: str) -> None:
        self._what = what
        self.is_failing = False

    def report(self, broken: str | None) -> None:
        """Say how the last try went: None, or the reason of a failure in one line."""
        if broken is not None and not self.is_failing:
            self.log.error("storage fails at {what}: {reason}", what=self._what, reason=broken)
        elif broken is None and self.is_failing:
            self.log.info("storage is back at {what}", what=self._what)
        self.is_failing = broken is not None
