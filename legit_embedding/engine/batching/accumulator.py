"""Per-model queue of prepared items waiting for the device."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from legit_embedding.engine.batching.packer import unwanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from legit_embedding.engine.batching.packer import Limits, Pack, Shelf
    from legit_embedding.engine.delivery import Delivery

ITEM_OVERHEAD_BYTES = 1024
"""Estimated memory per waiting item besides its array: its delivery, its task and their strings."""
_ROOM_AGAIN = 0.75
"""Fraction of the bounds below which a full accumulator has room again: hysteresis, so that sources do not toggle."""


class Accumulator:
    """Queue bounded in bytes and items, filled by many threads and packed by the loop.

    The sources enforce the bound by checking `full` before they prepare more. `put` itself accepts every item, because
    an item that is already prepared has nowhere else to go. Interactive items don't count: their sources bound them,
    and they may not keep bulk items out.

    Args:
        shelf: holds the items and decides their order.
        max_bytes: the most bytes that may wait.
        max_items: the most items that may wait.
        on_room: called when the queue is no longer full, from the thread that made room.
    """

    def __init__(self, shelf: Shelf, max_bytes: int, max_items: int, on_room: Callable[[], None]) -> None:
        self._shelf = shelf
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._on_room = on_room
        self._lock = threading.Lock()
        self._closed = False
        self.full = False
        self.bytes = 0
        self._bulk = self._bulk_bytes = 0

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def cost(self) -> int:
        """The sum of the waiting items' costs, without padding."""
        return self._shelf.cost

    def put(self, delivery: Delivery) -> bool:
        """Enqueue an item. Returns False if the queue is closed."""
        with self._lock:
            if self._closed:
                return False
            delivery.queued_at = time.monotonic()
            self._shelf.add(delivery)
            self._count([delivery], 1)
            if self._bulk_bytes >= self._max_bytes or self._bulk >= self._max_items:
                self.full = True
        return True

    def pack(self, limits: Limits, now: float) -> Pack:
        """Take the next batch; `now` is Unix time."""
        with self._lock:
            pack = self._shelf.pack(limits, now)
            self._count(pack.deliveries, -1)
            self._count(pack.refused, -1)
            room = self._has_room_again()
        if room:
            self._on_room()
        return pack

    def remove(self, delivery: Delivery) -> bool:
        """Remove one item. Returns False if it is not in the queue."""
        return bool(self._take(lambda: [delivery]))

    def take_unwanted(self, now: float) -> list[Delivery]:
        """Remove and return the items that were cancelled or have expired; `now` is Unix time."""
        return self._take(lambda: [delivery for delivery in self._shelf if unwanted(delivery, now)])

    def oldest_since(self) -> float | None:
        """Return the `time.monotonic` at which the oldest item was queued, or None if the queue is empty."""
        with self._lock:
            oldest = self._shelf.oldest()
        return oldest.queued_at if oldest is not None else None

    def close(self) -> list[Delivery]:
        """Close the queue and return everything that was waiting."""
        with self._lock:
            self._closed = True
            self.full = True
            self.bytes = 0
            return self._shelf.clear()

    def _take(self, which: Callable[[], list[Delivery]]) -> list[Delivery]:
        with self._lock:
            taken = [delivery for delivery in which() if self._shelf.remove(delivery)]
            self._count(taken, -1)
            room = bool(taken) and self._has_room_again()
        if room:
            self._on_room()
        return taken

    def _has_room_again(self) -> bool:
        if not self.full or self._closed:
            return False
        self.full = self._bulk_bytes > _ROOM_AGAIN * self._max_bytes or self._bulk > _ROOM_AGAIN * self._max_items
        return not self.full

    def _count(self, deliveries: Iterable[Delivery], sign: int) -> None:
        for delivery in deliveries:
            size = sign * (delivery.prepared.array.nbytes + ITEM_OVERHEAD_BYTES)
            self.bytes += size
            if not delivery.interactive:
                self._bulk += sign
                self._bulk_bytes += size
