"""The bound on the tasks that a worker holds, in seconds of its own measured work."""

from __future__ import annotations

import math
import time
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from legit_embedding.config import EngineConfig

FULL_BATCHES = 2
"""The batches of each model that may always be held: one computes while the next is collected."""
_LOOK_S = 0.1
"""The interval at which rates are measured, in seconds: three workers at once notice a change within one read."""
_WINDOW_S = 5.0
"""The working time, in seconds, over which a model's throughput is averaged, with weights that decay."""

_LEAST_S = 0.5
"""The working time that is assumed at the least, in seconds: that one task was refused at once says nothing yet."""


class Throughput:
    """A model's settled tasks per second of the time in which some were held: a pause says nothing about the speed.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self.held = 0
        self._settled = 0
        self._worked_s = 0.0
        self._since = 0.0
        """When the first of the held tasks came, or the last look at them; by `time.monotonic`."""
        self._amount = self._window_s = 0.0
        """Settled tasks, and the seconds that they took, both faded alike."""

    def opened(self, count: int) -> None:
        """Count tasks that were taken."""
        if not self.held:
            self._since = time.monotonic()
        self.held += count

    def closed(self, count: int) -> None:
        """Count tasks out that are settled."""
        self.held -= count
        self._settled += count
        if not self.held:
            self._worked_s += time.monotonic() - self._since

    def per_second(self, now: float) -> float:
        """Include what was settled by now in the average, and return it; 0 until a task was held."""
        if self.held:
            self._worked_s += now - self._since
            self._since = now
        if self._worked_s:
            faded = math.exp(-self._worked_s / _WINDOW_S)
            latest_s = _WINDOW_S * (1 - faded)
            self._amount = self._amount * faded + self._settled / self._worked_s * latest_s
            self._window_s = self._window_s * faded + latest_s
            self._settled, self._worked_s = 0, 0.0
        return self._amount / max(self._window_s, _LEAST_S)


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
        self._total = 0
        self._looked_at = -_LOOK_S
        self._models = {model: Throughput() for model in models}
        self._bounds: dict[str, int] = {}

    def opened(self, model: str, count: int = 1) -> None:
        """Count tasks that were taken; those that name no known model count towards the sum only."""
        known = self._models.get(model)
        with self._lock:
            self._total += count
            if known is not None:
                known.opened(count)

    def closed(self, model: str, count: int = 1) -> None:
        """Count tasks out that are settled."""
        known = self._models.get(model)
        with self._lock:
            self._total -= count
            if known is not None:
                known.closed(count)

    def bound(self) -> int:
        """The most tasks that may be held, whichever models they are for."""
        with self._lock:
            self._look(time.monotonic())
            return sum(self._bounds.values())

    def room(self) -> int:
        """The number of further tasks that may be taken; 0 or less means none."""
        with self._lock:
            self._look(time.monotonic())
            if any(each.held >= self._bounds[model] for model, each in self._models.items()):
                return 0
            return sum(self._bounds.values()) - self._total

    def _look(self, now: float) -> None:
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        for model, each in self._models.items():
            by_time = int(self._hold_s * each.per_second(now))
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

    def room(self, in_flight: int, far: int = 0) -> int:
        """The number of further tasks to ask for; 0 or less means none.

        Args:
            in_flight: the tasks in flight from all sources.
            far: the number of tasks that the way from a distant server holds, in addition to those in flight.
        """
        return min(self._most + min(far, self._most) - in_flight, self._read.room())

    @property
    def prefetch(self) -> int:
        """The number of unacknowledged messages to hold."""
        return min(self._most, self._prefetched.bound())
