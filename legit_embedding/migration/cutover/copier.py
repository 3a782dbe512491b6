"""Copies of tasks for the new worker, sent from a thread of their own: the original never waits for its copy."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

from legit_embedding.migration.cutover.outbox import BacklogError, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery

WAITING = 256
"""Copies that may wait for the thread; further ones are dropped."""
FLUSH_S = 2.0
"""The time that a process that ends waits for its last copies."""
TURN_S = 0.1

_logger = logging.getLogger(__name__)


class Copier:
    """Sends copies with their results to another stream; whatever goes wrong with one, it is dropped and counted.

    Args:
        app: finds the application to send by; called in the copier's thread.
        queue: the new worker's queue.
    """

    def __init__(self, app: Callable[[], Celery], queue: str) -> None:
        self._app = app
        self._queue = queue
        self._owner: int | None = None
        self._starting = threading.Lock()
        self._troubled = False
        self._outbox: Outbox | None = None
        self.copied = 0
        self.dropped = 0

    def put(self, name: str, argument: object, stream: str) -> None:
        """Take a task to copy; never waits for the broker and never raises."""
        try:
            copy = _readdressed(argument, stream)
            if copy is not None:
                self._start()
                self._waiting.put_nowait((name, copy))
        except Full:
            self._drop("they come faster than they can be sent")
        except Exception as error:  # noqa: BLE001 - nothing about a copy may hurt the original
            self._drop(error)

    def close(self, timeout: float = FLUSH_S) -> None:
        """Send what is waiting, and stop."""
        if self._owner == os.getpid():
            self._stopping.set()
            self._thread.join(timeout)

    def _start(self) -> None:
        """Start the thread, once in each process: a fork does not inherit it."""
        if self._owner == os.getpid():
            return
        with self._starting:
            if self._owner == os.getpid():
                return
            self._waiting: Queue[tuple[str, Any]] = Queue(WAITING)
            self._stopping = threading.Event()
            self._outbox = None
            self._thread = threading.Thread(target=self._run, name="shadow-copies", daemon=True)
            self._thread.start()
            self._owner = os.getpid()
            atexit.register(self.close)

    def _run(self) -> None:
        while True:
            try:
                name, copy = self._waiting.get(timeout=TURN_S)
            except Empty:
                if self._stopping.is_set():
                    return
            else:
                self._send(name, copy)

    def _send(self, name: str, copy: object) -> None:
        try:
            if self._outbox is None:
                self._outbox = Outbox(self._app(), self._queue)
            self._outbox.send(name, copy)
        except BacklogError as error:
            self._drop(error)
        except Exception as error:  # noqa: BLE001 - as in put
            self._drop(error)
            self._forget_connection()
        else:
            self.copied += 1
            self._troubled = False

    def _forget_connection(self) -> None:
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            with suppress(Exception):
                outbox.close()

    def _drop(self, reason: object) -> None:
        """Count it, and say so once in a row."""
        self.dropped += 1
        if not self._troubled:
            _logger.warning("shadow copies are dropped for now: %s", reason)
        self._troubled = True


def _readdressed(argument: object, stream: str) -> object:
    """The same task, or the same batch, with its result elsewhere; None for what carries no task."""
    if isinstance(argument, list):
        copies = [_with_reply_to(task, stream) for task in argument if isinstance(task, dict)]
        return copies or None
    return _with_reply_to(argument, stream) if isinstance(argument, dict) else None


def _with_reply_to(task: Mapping[str, Any], stream: str) -> dict[str, Any]:
    copy = {key: value for key, value in task.items() if key != "return_embedding"}
    return copy | {"reply_to": stream}
