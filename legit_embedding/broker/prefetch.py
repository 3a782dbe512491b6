"""The worker's prefetch count."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import state
from celery.worker.consumer.tasks import Tasks
from kombu.transport import virtual

EVERY_S = 0.5
"""The interval at which the count follows the measured throughput, in seconds."""
LEAST_STATIC = 256
"""The count where a broker takes it only once per connection: it cannot start small and grow."""


class Prefetch(bootsteps.StartStopStep):
    """Keeps the prefetch count at what the pool wants to hold: some seconds of its measured throughput.

    Celery's default is ``-c`` times the multiplier, which would bound a batch by the number of threads.
    """

    requires = (Tasks,)

    def __init__(self, parent: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's consumer and its options
        super().__init__(parent, **kwargs)
        self._timer: Any = None

    def start(self, parent: Any) -> None:  # noqa: ANN401
        """Set the count for a new connection; Celery counts threads and, after a reconnection, running tasks."""
        # With quorum queues RabbitMQ takes no other count later.
        is_static = not parent.qos_global and not isinstance(parent.task_consumer.channel, virtual.Channel)
        parent.qos.value = parent.initial_prefetch_count = max(_wanted(parent), LEAST_STATIC if is_static else 0)
        parent.qos.update()
        if not is_static:
            self._timer = parent.timer.call_repeatedly(EVERY_S, self.follow, (parent,))

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002
        """Follow no more over this connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def follow(self, parent: Any) -> None:  # noqa: ANN401
        """Set the count to what the pool wants now; the worker's event loop passes a change on."""
        # Celery does not count tasks with an ETA towards the count, and adds one for each.
        wanted = _wanted(parent) + len(state.scheduled_requests)
        parent.qos.value = min(wanted, parent.qos.max_prefetch or wanted)


def _wanted(consumer: Any) -> int:  # noqa: ANN401
    return max(int(consumer.max_prefetch_count), int(consumer.pool.prefetch))
