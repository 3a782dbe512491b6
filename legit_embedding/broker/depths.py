"""The length of the queues that this worker reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding.telemetry.backlog import count_queues

if TYPE_CHECKING:
    from kombu.transport.redis import Channel

    from legit_embedding.pipeline.backlog import Depth


class QueueDepths:
    """Counts messages over a connection of its own. Called from any thread.

    Args:
        consumer: Celery's consumer, which may come to read other queues.
        channel: the Redis channel of its connection.
    """

    def __init__(self, consumer: Any, channel: Channel) -> None:  # noqa: ANN401 - Celery's consumer
        self._consumer = consumer
        self._channel = channel

    def __call__(self) -> list[Depth]:
        """Count them now.

        Raises:
            RedisError: the broker is unavailable.
        """
        channel = self._channel
        read = sorted(map(str, self._consumer.app.amqp.queues.consume_from))
        lists = {queue: [channel._q_for_pri(queue, step) for step in channel.priority_steps] for queue in read}  # noqa: SLF001
        with channel.conn_or_acquire() as client:
            return count_queues(client, lists, channel.unacked_key)
