"""How many messages the worker holds."""

from __future__ import annotations

from typing import Any

from celery import bootsteps


class Prefetch(bootsteps.StartStopStep):
    """Sets the prefetch count from the engine's capacity, for every connection.

    Celery's own is ``-c`` times the multiplier, which would bound a batch by the number of threads. A batch is only
    ever as large as the unacknowledged messages allow, so the worker holds at least twice its largest batch.
    """

    def __init__(self, parent: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's consumer and its options
        super().__init__(parent, **kwargs)
        self._apply(parent)

    def stop(self, parent: Any) -> None:  # noqa: ANN401
        """Called between two connections, after Celery has lowered the count by what is still running."""
        self._apply(parent)

    @staticmethod
    def _apply(consumer: Any) -> None:  # noqa: ANN401
        consumer.initial_prefetch_count = max(consumer.initial_prefetch_count, consumer.pool.prefetch)
