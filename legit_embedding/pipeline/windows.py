"""Texts longer than their model's limit, which pass through the engine as one item per window."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from legit_embedding.engine.delivery import Delivery
from legit_embedding.models.vectors import averaged

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.engine.engine import Engine
    from legit_embedding.engine.front import Front
    from legit_embedding.errors import ErrorCode, TaskError
    from legit_embedding.pipeline.job import Job


class Windows:
    """The engine as a processor: a text with windows is submitted as one item per window, anything else as it is.

    Args:
        engine: embeds deliveries.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.start = engine.start
        self.has_room = engine.has_room
        self.cancel = engine.cancel
        self.full_batch = engine.full_batch
        self.stats = engine.stats
        self.progress = engine.progress
        self.close = engine.close

    def front(self, model: str) -> Front | None:  # noqa: ARG002 - there is one engine
        """The engine."""
        return self.engine

    def submit(self, delivery: Job) -> None:
        """Take a prepared job."""
        if not delivery.prepared.windows:
            self.engine.submit(delivery)
            return
        gathering = Gathering(delivery)
        for number in range(len(delivery.prepared.windows)):
            self.engine.submit(Window(gathering, number))


class Gathering:
    """The windows of one job, which is settled once: when the last vector is there, or when the first window fails."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._vectors: list[NDArray[np.float32] | None] = [None] * len(job.prepared.windows)
        self._left = len(self._vectors)
        self._over = False
        self._queue_s = self._compute_s = 0.0
        self._lock = threading.Lock()

    def put(self, number: int, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> None:
        """Store a window's vector; the last one completes the job."""
        with self._lock:
            self._vectors[number] = vector
            self._left -= 1
            self._queue_s = max(self._queue_s, queue_s)
            self._compute_s = max(self._compute_s, compute_s)
            if self._left or self._over:
                return
            self._over = True
        job = self.job
        weights = [window.cost for window in job.prepared.windows]
        vectors = [found for found in self._vectors if found is not None]
        mean = averaged(vectors, weights, normalize=job.tower.config.normalize)
        job.done(mean, self._queue_s, self._compute_s)

    def end(self, settle: Callable[[], None]) -> None:
        """Settle the job without a vector, because a window has none."""
        with self._lock:
            if self._over:
                return
            self._over = True
        settle()


class Window(Delivery):
    """One window of a job, a separate item for the engine."""

    __slots__ = ("_gathering", "_number", "interactive")

    def __init__(self, gathering: Gathering, number: int) -> None:
        job = gathering.job
        self._gathering = gathering
        self._number = number
        self.model = job.model
        self.prepared = job.prepared.windows[number]
        self.deadline = job.deadline
        self.interactive = job.interactive

    @property
    def cancelled(self) -> ErrorCode | None:  # type: ignore[override]
        """The job's cancellation code."""
        return self._gathering.job.cancelled

    def done(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> None:
        """Keep the vector for the job."""
        self._gathering.put(self._number, vector.copy(), queue_s, compute_s)

    def failed(self, error: TaskError) -> None:
        """Fail the job."""
        self._gathering.end(lambda: self._gathering.job.failed(error))

    def given_back(self) -> None:
        """Give the job back."""
        self._gathering.end(self._gathering.job.given_back)
