"""The worker's prefetch count."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks


class Prefetch(bootsteps.StartStopStep):
    """Sets the prefetch count from the engine's capacity, for every connection.

    Celery's default is ``-c`` times the multiplier, which would bound a batch by the number of threads. A batch can
    only be as large as the number of unacknowledged messages, so the worker holds at least twice its largest batch.
    """

    requires = (Tasks,)

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Set the count for a new connection; Celery counts threads and, after a reconnection, running tasks."""
        parent.qos.value = parent.initial_prefetch_count = max(parent.initial_prefetch_count, parent.pool.prefetch)
        parent.qos.update()
