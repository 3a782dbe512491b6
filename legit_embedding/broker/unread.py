"""The warning about embedding tasks that wait in a queue which this worker does not read."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks
from kombu.transport import redis as redis_transport
from redis.exceptions import RedisError

from legit_embedding import process
from legit_embedding.task import EmbeddingTask

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

CELERYS_DEFAULT = "celery"
"""The queue of a producer that names none, unless its own settings do."""
FIRST_LOOKS_S = (0.0, 5.0)
EVERY_S = 60.0
_OLDEST = 8
"""Messages looked at, per queue."""


class UnreadQueues(bootsteps.StartStopStep):
    """Looks into the queues that the application knows and the worker does not read; one round trip per minute.

    A message counts when it was among the oldest at two looks in a row: no other worker reads that queue either.
    """

    requires = (Tasks,)

    def __init__(self, parent: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's consumer and its options
        super().__init__(parent, **kwargs)
        self._consumer = parent
        self._seen: dict[str, set[bytes]] = {}
        self._timers: list[Any] = []

    def start(self, parent: Any) -> None:  # noqa: ANN401
        """Look at once, soon, and then every minute, on the worker's event loop."""
        if isinstance(parent.task_consumer.channel, redis_transport.Channel):
            self._timers = [parent.timer.call_after(seconds, self.look) for seconds in FIRST_LOOKS_S]
            self._timers.append(parent.timer.call_repeatedly(EVERY_S, self.look))

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002
        """Look no more over this connection."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []

    def look(self) -> None:
        """Compare the oldest messages of each unread queue with those of the last look."""
        queues = sorted(self._unread())
        try:
            with self._consumer.task_consumer.channel.conn_or_acquire() as client:
                pipe = client.pipeline(transaction=False)
                for queue in queues:
                    pipe.llen(queue)
                    pipe.lrange(queue, -_OLDEST, -1)
                replies = pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            log.debug("The queues that are not read cannot be looked at: %s", error)
            return
        notices = {}
        for queue, length, oldest in zip(queues, replies[::2], replies[1::2], strict=True):
            before, self._seen[queue] = self._seen.get(queue, set()), set(_messages(oldest))
            names = self._embedding_tasks(before & self._seen[queue])
            if names:
                notices[queue] = _notice(queue, length, names, self._consumer.app.amqp.queues.consume_from)
        self._tell(notices)

    def _tell(self, notices: dict[str, str]) -> None:
        if not process.is_running():
            return
        told = process.current().notices
        for queue in notices.keys() - told.keys():
            log.warning("%s", notices[queue])
        told.clear()
        told.update(notices)

    def _unread(self) -> set[str]:
        amqp, conf = self._consumer.app.amqp, self._consumer.app.conf
        known = {CELERYS_DEFAULT, conf.task_default_queue, *map(str, amqp.queues)}
        return known - set(map(str, amqp.queues.consume_from))

    def _embedding_tasks(self, messages: Iterable[bytes]) -> list[str]:
        tasks = self._consumer.app.tasks
        return sorted({name for name in map(_task, messages) if isinstance(tasks.get(name), EmbeddingTask)})


def _messages(reply: object) -> list[bytes]:
    return reply if isinstance(reply, list) else []  # an error: the key may be something else than a queue


def _task(message: bytes) -> str:
    try:
        return str(json.loads(message)["headers"]["task"])
    except (ValueError, TypeError, KeyError):
        return ""


def _notice(queue: str, length: int, names: list[str], read: Iterable[str]) -> str:
    ours = ",".join(sorted(map(str, read)))
    waiting = "1 message waits" if length == 1 else f"{length:,} messages wait"
    return (
        f"{waiting} in the queue {queue!r}, which no worker reads, {', '.join(names)} among them: "
        f"send with queue={ours.partition(',')[0]!r}, or start the worker with -Q {ours},{queue}"
    )
