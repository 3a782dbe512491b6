"""Where one model's prepared items wait for the device."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.batching.packer import Limits, Pack, Shelf
    from legit_embedding.engine.delivery import Delivery

ITEM_OVERHEAD_BYTES = 1024
"""What a waiting item takes besides its array: its delivery, its task and their strings."""
_ROOM_AGAIN = 0.75
"""A full accumulator has room again when it is this full, so that its sources do not stop and go at every item."""


class Accumulator:
    """A queue bounded in bytes and items. Many threads put, the loop packs.

    The bound is kept by the sources, which ask `full` before they prepare more: `put` itself takes what comes, because
    an item that is already prepared has nowhere else to go.

    Args:
        shelf: the order in which the items wait.
        max_bytes: how many bytes may wait.
        max_items: how many items may wait.
        on_room: called when the queue was full and is no longer, from the thread that made room.
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

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def cost(self) -> int:
        """The sum of the waiting items' costs, without padding."""
        return self._shelf.cost

    def put(self, delivery: Delivery) -> bool:
        """Let an item wait; False if the queue is closed."""
        size = delivery.prepared.array.nbytes + ITEM_OVERHEAD_BYTES
        with self._lock:
            if self._closed:
                return False
            delivery.queued_at = time.monotonic()
            self._shelf.add(delivery)
            self.bytes += size
            if self.bytes >= self._max_bytes or len(self._shelf) >= self._max_items:
                self.full = True
        return True

    def pack(self, limits: Limits, now: float) -> Pack:
        """Take the next batch; `now` is Unix time."""
        with self._lock:
            pack = self._shelf.pack(limits, now)
            self.bytes -= sum(map(_size, pack.deliveries)) + sum(map(_size, pack.refused))
            room = self._has_room_again()
        if room:
            self._on_room()
        return pack

    def remove(self, delivery: Delivery) -> bool:
        """Take one item out; False if it does not wait here."""
        with self._lock:
            if not self._shelf.remove(delivery):
                return False
            self.bytes -= _size(delivery)
            room = self._has_room_again()
        if room:
            self._on_room()
        return True

    def oldest_since(self) -> float | None:
        """When the oldest item came, by `time.monotonic`."""
        with self._lock:
            oldest = self._shelf.oldest()
        return oldest.queued_at if oldest is not None else None

    def close(self) -> list[Delivery]:
        """Take everything out, and nothing more in."""
        with self._lock:
            self._closed = True
            self.full = True
            self.bytes = 0
            return self._shelf.clear()

    def _has_room_again(self) -> bool:
        if not self.full or self._closed:
            return False
        self.full = self.bytes > _ROOM_AGAIN * self._max_bytes or len(self._shelf) > _ROOM_AGAIN * self._max_items
        return not self.full


def _size(delivery: Delivery) -> int:
    return delivery.prepared.array.nbytes + ITEM_OVERHEAD_BYTES
