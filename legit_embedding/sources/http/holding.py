"""Bounds on what all requests together hold."""

from __future__ import annotations

import threading

from legit_embedding.sources.http.problems import unavailable


class Allowance:
    """The allowance of items and bytes that may be held. Thread-safe."""

    def __init__(self, items: int, size: int) -> None:
        self._most = (items, size)
        self._lock = threading.Lock()
        self.items = self.size = 0

    def take(self, items: int, size: int) -> bool:
        """Take a part; False, and nothing is taken, if not so much is left."""
        with self._lock:
            if self.items + items > self._most[0] or self.size + size > self._most[1]:
                return False
            self._add(items, size)
            return True

    def has_room(self, size: int) -> bool:
        """Return True if so many bytes are left."""
        return self.size + size <= self._most[1]

    def give(self, items: int, size: int) -> None:
        """Return a part."""
        with self._lock:
            self._add(-items, -size)

    def _add(self, items: int, size: int) -> None:
        self.items += items
        self.size += size


class Hold:
    """The part of the allowance that one request takes."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._items = self.size = 0

    def has_room(self, size: int) -> bool:
        """Return True if the other requests have left so many bytes."""
        return self._allowance.has_room(size)

    def take(self, *, items: int = 0, size: int = 0) -> None:
        """Take more.

        Raises:
            HttpError: 503: the other requests have left too little.
        """
        if not self._allowance.take(items, size):
            detail = "too many items or bytes are in progress: http.max_in_flight"
            raise unavailable("overloaded", detail, "in_flight")
        self._items += items
        self.size += size

    def release(self) -> None:
        """Return everything. Called once nothing of the request is held any more, from any thread. Idempotent."""
        items, size, self._items, self.size = self._items, self.size, 0, 0
        self._allowance.give(items, size)
