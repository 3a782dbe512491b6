"""The answers that are not confirmed yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.sinks.answer import Answer


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be unwritten, and how it is cut into batches."""

    pending: int = 8192
    pending_bytes: int = 128 * 1024 * 1024
    batch: int = 128
    batch_bytes: int = 4 * 1024 * 1024
    in_flight: int = 16
    """Batches on their way at once: at a round trip of 77 ms, 16 of 128 are 26,000 entries a second."""


class Backlog:
    """A queue whose answers count until they are released, not only until they are taken. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = Condition()
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
        """Answers that are in no batch yet."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    def put(self, answer: Answer) -> bool:
        """Append an answer; True when whoever takes has found nothing and must be woken."""
        with self._changed:
            if self._closed:
                return False
            self._waiting.append(answer)
            self._bytes += answer.size
            wake, self._idle = self._idle, False
            return wake

    def take(self) -> list[Answer]:
        """Up to one batch; none means that the caller is idle until `put` says to wake it."""
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
        """Forget confirmed answers; True when there is room again after someone found none."""
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
        """Whether the limits allow more."""
        with self._changed:
            room = self._roomy()
            self._was_full = self._was_full or not room
            return room

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until everything is released."""
        with self._changed:
            return self._changed.wait_for(lambda: not len(self), timeout)

    def close(self) -> None:
        """Take nothing more."""
        with self._changed:
            self._closed = True

    def rest(self) -> list[Answer]:
        """Everything unreleased, taken first, leaving nothing."""
        with self._changed:
            rest = [*self._taken.values(), *self._waiting]
            self._taken.clear()
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()
            return rest

    def _roomy(self) -> bool:
        return len(self) < self._limits.pending and self._bytes < self._limits.pending_bytes
