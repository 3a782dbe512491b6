"""The state of one link to a server: up, or down since when and why."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one part of the worker."""

    ok: bool = True
    error: str = ""
    since: float = 0.0
    """Unix time in seconds at which the part failed; 0 while it is healthy."""


class Outage:
    """Tracks whether a link is down; logs the first failure and the recovery, not each attempt.

    Args:
        link: the name of the link in the log, without secrets.
        meanwhile: the action taken while it is down, for the log.
    """

    def __init__(self, link: str, meanwhile: str = "trying again until it works") -> None:
        self.link = link
        self._meanwhile = meanwhile
        self._health = Health()

    @property
    def health(self) -> Health:
        """The current state."""
        return self._health

    def failed(self, error: str) -> None:
        """Record a failed attempt."""
        if self._health.ok:
            logger.warning("%s is out of order, %s: %s", self.link, self._meanwhile, error)
            self._health = Health(ok=False, error=error, since=time.time())
        else:
            self._health = Health(ok=False, error=error, since=self._health.since)

    def over(self) -> None:
        """Record a successful attempt."""
        if not self._health.ok:
            logger.warning("%s works again after %.1f s", self.link, time.time() - self._health.since)
            self._health = Health()
