"""Refusals of a server → ever longer pauses of all workers, and at last the end of the run."""

import time
from threading import Condition

REFUSALS = 5  # in a row, that end the run
FIRST_PAUSE = 60.0  # seconds after a refusal; doubled by each further one in a row


class BlockedError(RuntimeError):
    """The server refuses everything; the message says what to do."""


class Breaker:
    """Shared by all workers of a run."""

    def __init__(self) -> None:
        self._change = Condition()
        self._refusals = 0
        self._resume = 0.0
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the run is to end; None while it may go on."""
        return self._reason

    @property
    def pause(self) -> float:
        """Seconds until requests are allowed again."""
        return max(0.0, self._resume - time.monotonic())

    def wait(self) -> bool:
        """Sleep until requests are allowed again; False if the run is to end."""
        with self._change:
            while self._reason is None and (left := self.pause):
                self._change.wait(left)
            return self._reason is None

    def answered(self) -> None:
        """The server answered as it should, or about one source only."""
        with self._change:
            self._refusals = 0

    def refused(self, reason: str) -> None:
        """The server refused, maybe not this source alone."""
        with self._change:
            pause = FIRST_PAUSE * 2**self._refusals
            self._refusals += 1
            self._resume = time.monotonic() + pause
            if self._refusals >= REFUSALS:
                self.stop(f"{self._refusals} refusals in a row, the last: {reason}")

    def stop(self, reason: str) -> None:
        """End the run: nobody waits any longer, downloads break off."""
        with self._change:
            self._reason = reason
            self._change.notify_all()
