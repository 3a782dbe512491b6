"""The limit on messages of ordinary tasks, which follows Celery's settings and not the engine's batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.worker import state

if TYPE_CHECKING:
    from kombu.transport import virtual

UNLIMITED = -1


class OrdinaryMessages:
    """Counts the messages of tasks that are not embedding tasks.

    The prefetch count is sized for the device's batches. Ordinary tasks gain nothing from that: messages held beyond
    the worker's threads could be processed by other workers.

    Args:
        consumer: Celery's consumer.
    """

    def __init__(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's consumer
        self._consumer = consumer
        self._tags: set[str] = set()
        deferred = {name for name, task in consumer.app.tasks.items() if getattr(task, "deferred", False)}
        self.others = frozenset(deferred)
        """The names of the embedding tasks."""

    def took(self, message: dict[str, Any], tag: str) -> None:
        """Count a message that was fetched from the broker.

        A message in Celery's protocol 1 does not name its task here, and is not counted.
        """
        name = message["headers"].get("task")
        if isinstance(name, str) and name not in self.others:
            self._tags.add(tag)

    def room(self, qos: virtual.QoS) -> int:
        """The number of messages that may still be fetched; `UNLIMITED` if Celery's settings set no limit."""
        limit = self._limit()
        if limit == 0:
            return UNLIMITED
        self._tags.intersection_update(qos._delivered)  # noqa: SLF001 - kombu has no other list of what is held
        held = self._tags | self._running() if self._consumer.app.conf.worker_disable_prefetch else self._tags
        # Celery does not count tasks with an ETA towards its own prefetch count.
        scheduled = {request.message.delivery_tag for request in tuple(state.scheduled_requests)}
        waiting = len(held & scheduled)
        return max(0, limit - len(held) + waiting)

    def _running(self) -> set[str]:
        """The delivery tags of tasks that have started, acknowledged or not."""
        requests = tuple(state.reserved_requests)
        return {request.message.delivery_tag for request in requests if request.name not in self.others}

    def _limit(self) -> int:
        consumer = self._consumer
        threads: int = getattr(consumer.controller, "max_concurrency", None) or consumer.pool.num_processes
        if consumer.app.conf.worker_disable_prefetch:
            return threads
        return threads * int(consumer.prefetch_multiplier)
