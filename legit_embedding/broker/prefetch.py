"""How many messages the worker holds."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks


class Prefetch(bootsteps.StartStopStep):
    """Sets the prefetch count from the engine's capacity, for every connection.

    Celery's own is ``-c`` times the multiplier, which would bound a batch by the number of threads. A batch is only
    ever as large as the unacknowledged messages allow, so the worker holds at least twice its largest batch.
    """

    requires = (Tasks,)

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Called for each connection; Celery has counted by threads, and after a reconnection by what still runs."""
        parent.qos.value = parent.initial_prefetch_count = max(parent.initial_prefetch_count, parent.pool.prefetch)
        parent.qos.update()
