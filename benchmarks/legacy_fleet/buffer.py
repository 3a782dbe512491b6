"""Tasks that a solo worker takes in batches, in the manner of celery-batches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.utils.log import get_task_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.worker.consumer import Consumer
    from kombu.message import Message

BATCH_VARIABLE, LINGER_VARIABLE = "LEGACY_BATCH", "LEGACY_LINGER_S"
BATCH = int(os.environ.get(BATCH_VARIABLE, "16"))
LINGER_S = float(os.environ.get(LINGER_VARIABLE, "0.1"))

_logger = get_task_logger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that waits in the buffer; it stays unacknowledged until it is answered."""

    argument: dict[str, Any]
    acknowledge: Callable[[], None]


class BufferedTask(Task):
    """Calls `run` with a list of `Taken`: `BATCH` of them, or what has come within `LINGER_S`.

    All of it happens on the worker's only thread. What is in the buffer when the worker stops was never acknowledged,
    and goes back to the queue.
    """

    abstract = True

    def Strategy(  # noqa: N802 - Celery's name and signature
        self,
        task: Task,
        app: Celery,  # noqa: ARG002
        consumer: Consumer,
    ) -> Callable[..., None]:
        """Make what takes this task's messages."""
        buffer: list[Taken] = []

        def flush() -> None:
            batch, buffer[:] = buffer[:BATCH], buffer[BATCH:]
            if batch:
                task.run(batch)
            if buffer:
                flush()

        def take(message: Message, *_: object, **__: object) -> None:
            def acknowledge() -> None:
                message.ack_log_error(_logger, consumer.connection_errors)

            buffer.append(Taken(message.decode()[0][0], acknowledge))
            if len(buffer) >= BATCH:
                flush()
            elif len(buffer) == 1:
                consumer.timer.call_after(LINGER_S, flush)

        return take
