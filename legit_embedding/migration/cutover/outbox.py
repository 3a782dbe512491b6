"""A connection of the copies' own: what happens to it is no business of the originals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import celery
from celery._state import _get_active_apps

if TYPE_CHECKING:
    from celery import Celery

BACKLOG = 1000
"""Nothing is sent while more than this waits in the queue: nothing may pile up for a worker that is away."""
LOOK_S = 1.0
"""The interval between looks at the queue's length."""
CONNECT_S = 2.0


class BacklogError(Exception):
    """The queue is too long."""


class Outbox:
    """Sends tasks to one queue, as long as somebody takes them from there.

    Args:
        app: whose broker it is.
        queue: the queue.
    """

    def __init__(self, app: Celery, queue: str) -> None:
        self._app = app
        self._queue = queue
        self._connection = app.connection_for_write(connect_timeout=CONNECT_S)
        self._producer = app.amqp.Producer(self._connection, auto_declare=False)
        self._next_look = 0.0
        self._length = 0

    def send(self, name: str, argument: object) -> None:
        """Send one task, with an id of its own and nobody who waits for its return value.

        Raises:
            BacklogError: too many are waiting already.
            Exception: whatever the broker's library raises.
        """
        if self._look() > BACKLOG:
            message = f"the queue {self._queue} holds more than {BACKLOG} tasks"
            raise BacklogError(message)
        options = {"queue": self._queue, "producer": self._producer, "ignore_result": True, "retry": False}
        self._app.send_task(name, args=(argument,), **options)

    def close(self) -> None:
        """Let the connection go."""
        self._connection.release()

    def _look(self) -> int:
        now = time.monotonic()
        if now >= self._next_look:
            self._length = self._measured()
            self._next_look = now + LOOK_S
        return self._length

    def _measured(self) -> int:
        with self._connection.channel() as channel:
            try:
                return int(channel.queue_declare(self._queue, passive=True).message_count)
            except self._connection.channel_errors:  # no such queue yet
                return 0


def app_of(route: object) -> Celery:
    """The application that has this object in its ``task_routes``; the current one where none has."""
    for app in list(_get_active_apps()):
        if app.configured and route in _listed(app.conf.task_routes):
            return app
    return celery.current_app


def _listed(routes: object) -> tuple[object, ...] | list[object]:
    return routes if isinstance(routes, tuple | list) else (routes,)
