"""The queue of unconfirmed answers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Condition, RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.sinks.answer import Answer


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on unconfirmed answers and on the batches they are divided into."""

    pending: int = 8192
    pending_bytes: int = 128 * 1024 * 1024
    batch: int = 128
    batch_bytes: int = 4 * 1024 * 1024
    in_flight: int = 32
    """Batches sent concurrently: at a round trip of 77 ms a busy worker's commits take 107 ms in the median, and 32
    batches of 128 are 38,000 entries per second."""


class Backlog:
    """A queue in which answers count until they are released, not only until they are taken. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = RLock()
        self._changed = Condition(self._lock)  # which takes the lock in Python: twice as slow
        self._waiting: deque[Answer] = deque()
        self._taken: dict[int, Answer] = {}
        self._bytes = 0
        self._was_full = False
        self._idle = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._taken)

    @property
    def waiting(self) -> int:
        """The number of answers that are in no batch yet."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """The approximate size of all answers held, in bytes."""
        return self._bytes

    def put(self, *answers: Answer) -> bool:
        """Append answers; True if the taker had found the queue empty and must be woken."""
        size = sum([answer.size for answer in answers])
        with self._lock:
            if self._closed:
                return False
            self._waiting.extend(answers)
            self._bytes += size
            wake, self._idle = self._idle, False
            return wake

    def take(self) -> list[Answer]:
        """Take up to one batch; if it is empty, the caller is idle until `put` returns True."""
        batch: list[Answer] = []
        size = 0
        with self._changed:
            while self._waiting and len(batch) < self._limits.batch:
                size += self._waiting[0].size
                if batch and size > self._limits.batch_bytes:
                    break
                batch.append(self._waiting.popleft())
            self._taken.update((id(answer), answer) for answer in batch)
            self._idle = not batch
        return batch

    def release(self, answers: Sequence[Answer]) -> bool:
        """Remove confirmed answers; True if there is room again after `has_room` has returned False."""
        with self._changed:
            for answer in answers:
                if self._taken.pop(id(answer), None) is not None:
                    self._bytes -= answer.size
            if not len(self):
                self._changed.notify_all()
            again = self._was_full and self._roomy()
            self._was_full = self._was_full and not again
            return again

    def has_room(self) -> bool:
        """True if the limits allow more answers."""
        with self._changed:
            room = self._roomy()
            self._was_full = self._was_full or not room
            return room

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until all answers are released; False if the timeout came first."""
        with self._changed:
            return self._changed.wait_for(lambda: not len(self), timeout)

    def close(self) -> None:
        """Accept no further answers."""
        with self._changed:
            self._closed = True

    def rest(self) -> list[Answer]:
        """Remove and return all unreleased answers, taken ones first."""
        with self._changed:
            rest = [*self._taken.values(), *self._waiting]
            self._taken.clear()
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()
            return rest

    def _roomy(self) -> bool:
        return len(self) < self._limits.pending and self._bytes < self._limits.pending_bytes
