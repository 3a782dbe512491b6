"""The bound on the tasks that a worker holds, in seconds of its own measured work."""

from __future__ import annotations

import time
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

from legit_embedding.engine.stats import DecayingRate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from legit_embedding.config import EngineConfig

FULL_BATCHES = 2
"""The batches of each model that may always be held: one computes while the next is collected."""
_LOOK_S = 0.1
"""The interval at which rates are measured, in seconds: three workers at once notice a change within one read."""


class HeldTasks:
    """Counts the tasks that one kind of source has brought, and how many it may bring. Thread-safe.

    A model's bound is `hold_s` seconds of its measured throughput, and at least two full batches; so it starts small,
    and grows as fast as the worker shows itself to be. The bound of all is the sum. A source cannot know a task's model
    before it has read the task: it reads until the sum is reached, or any one model has reached its own bound.

    Args:
        models: the queues of the registry.
        hold_s: how many seconds of work may be held.
        full_batch: returns the number of items in a model's full batch.
    """

    def __init__(self, models: Iterable[str], hold_s: float, full_batch: Callable[[str], int]) -> None:
        self._hold_s = hold_s
        self._full_batch = full_batch
        self._lock = Lock()
        self._held: Counter[str] = Counter()
        self._settled: Counter[str] = Counter()
        self._total = 0
        self._looked_at = -_LOOK_S
        self._rates = {model: DecayingRate(time.monotonic()) for model in models}
        self._bounds: dict[str, int] = {}

    def opened(self, model: str, count: int = 1) -> None:
        """Count tasks that were taken; those that name no known model count towards the sum only."""
        with self._lock:
            self._held[model] += count
            self._total += count

    def closed(self, model: str, count: int = 1) -> None:
        """Count tasks out that are settled."""
        with self._lock:
            self._held[model] -= count
            self._settled[model] += count
            self._total -= count

    def bound(self) -> int:
        """The most tasks that may be held, whichever models they are for."""
        with self._lock:
            self._look(time.monotonic())
            return sum(self._bounds.values())

    def room(self) -> int:
        """The number of further tasks that may be taken; 0 or less means none."""
        with self._lock:
            self._look(time.monotonic())
            if any(self._held[model] >= bound for model, bound in self._bounds.items()):
                return 0
            return sum(self._bounds.values()) - self._total

    def _look(self, now: float) -> None:
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        for model, rate in self._rates.items():
            rate.add(self._settled.pop(model, 0), now)
            by_time = int(self._hold_s * rate.per_second(now))
            self._bounds[model] = max(by_time, FULL_BATCHES * self._full_batch(model))


class HeldBySource:
    """The bounds of all sources: what is read from streams, and what Celery prefetches; HTTP has bounds of its own.

    Args:
        models: the queues of the registry.
        config: the engine's settings.
        full_batch: returns the number of items in a model's full batch.
    """

    def __init__(self, models: Iterable[str], config: EngineConfig, full_batch: Callable[[str], int]) -> None:
        self._most = config.max_in_flight
        self._read, self._prefetched = (HeldTasks(models, config.hold_s, full_batch) for _ in range(2))
        self.by_origin = {"stream": self._read, "local": self._read, "celery": self._prefetched}
        """By the kind of a task's origin."""

    def room(self, in_flight: int) -> int:
        """The number of further tasks to read, with so many in flight from all sources; 0 or less means none."""
        return min(self._most - in_flight, self._read.room())

    @property
    def prefetch(self) -> int:
        """The number of unacknowledged messages to hold."""
        return min(self._most, self._prefetched.bound())
