"""The old keys: one for each role and each process, so that every restart makes new ones."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis

INTERVAL_S = 5.0
EXPIRE_S = 30


class Stats:
    """The counters of one process."""

    def __init__(self, client: redis.Redis, role: str) -> None:
        self.identity = f"{role}:{socket.gethostname()}:{os.getpid()}"
        self._key = f"embedding:stats:{self.identity}"
        self._client = client
        self._counts: dict[str, int] = {}
        self._next = 0.0

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter; publish now and then."""
        self._counts[name] = self._counts.get(name, 0) + number
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_S
            self._client.hset(self._key, mapping=dict(self._counts))
            self._client.expire(self._key, EXPIRE_S)
