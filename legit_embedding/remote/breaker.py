"""Circuit breaker of a remote model: stops sending to a remote that does not embed, until a probe succeeds.

No library is used: those that work with asyncio (purgatory 3, aiobreaker 1.2) refuse calls while they are open, where
items wait here, and their pauses are fixed, where these grow, vary and follow ``Retry-After``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from legit_embedding.redis_io.connection import Backoff

if TYPE_CHECKING:
    from legit_embedding.redis_io.health import Outage

FAILURES = 3
"""Consecutive failed requests that open the breaker."""
PAUSES = Backoff(first_s=0.5, cap_s=15.0)
"""Pauses between probes, by the number of consecutive failures."""


class Breaker:
    """State of one remote. It begins open, so that the first request is a probe. Used by one thread.

    Args:
        outage: the record of the remote's failures.
        pauses: the pauses between probes.
    """

    def __init__(self, outage: Outage, pauses: Backoff = PAUSES) -> None:
        self.outage = outage
        self.is_open = True
        self._pauses = pauses
        self._failures = 0
        self._not_before = 0.0

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next request, or the next probe if the breaker is open; `now` is monotonic."""
        return max(0.0, self._not_before - now)

    def succeeded(self) -> None:
        """Record a good answer: the breaker closes."""
        self._failures = 0
        self._not_before = 0.0
        self.is_open = False
        self.outage.over()

    def failed(self, reason: str, retry_after_s: float = 0.0) -> None:
        """Record a failed request, and the pause that the remote asks for."""
        self._failures += 1
        self.is_open = self.is_open or self._failures >= FAILURES
        pause = self._pauses.delay(self._failures) if self.is_open else 0.0
        self._not_before = max(self._not_before, time.monotonic() + max(pause, retry_after_s))
        if self.is_open:
            self.outage.failed(reason)

    def trip(self, reason: str) -> None:
        """Open the breaker, so that a probe decides."""
        self.is_open = True
        self.outage.failed(reason)
