"""Greenlets for embedding tasks, so that waiting tasks hold no thread.

An embedding task is traced by Celery's own tracer, from its start signal to its stored result, in its own greenlet.
When the task's body waits for a vector, the greenlet is suspended and its thread goes on to the next task; when the
vector is confirmed, the same thread resumes the greenlet. Signals, ``STARTED``, runtimes, ``autoretry_for``, chains and
chords are therefore Celery's own, at the right moments, while thousands of tasks wait on a few threads. These threads
do nothing but tracing: prep has its own threads, so it never delays a greenlet.
"""

from __future__ import annotations

import threading
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")


class TaskGreenlet(greenlet):
    """A greenlet that traces one task."""

    thread: GreenletThread
    owner: object = None
    """The object that the task runs for, which its body can look up."""


class GreenletThread(threading.Thread):
    """Starts continuations, and resumes them when the result they wait for has arrived."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._inbox: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._home: greenlet | None = None

    def run(self) -> None:
        """Serve the inbox until `stop`."""
        self._home = getcurrent()
        while (step := self._inbox.get()) is not None:
            step()

    @property
    def behind(self) -> int:
        """The number of steps that wait for this thread."""
        return self._inbox.qsize()

    def begin(self, run: Callable[[], None], owner: object = None) -> None:
        """Run a callable, which must not raise, in a continuation of this thread."""
        self._inbox.put(partial(self._begin, run, owner))

    def resume(self, continuation: TaskGreenlet) -> None:
        """Resume a suspended continuation."""
        self._inbox.put(continuation.switch)

    def set_aside(self) -> None:
        """Suspend the current continuation and return to the inbox until `resume` is called."""
        cast("greenlet", self._home).switch()

    def stop(self, timeout: float) -> None:
        """End the thread once its inbox is empty, waiting up to `timeout` seconds."""
        self._inbox.put(None)
        self.join(timeout)

    def _begin(self, run: Callable[[], None], owner: object) -> None:
        continuation = TaskGreenlet(run)
        continuation.thread = self
        continuation.owner = owner
        continuation.switch()


def current_owner() -> object:
    """The owner of the current continuation; None outside of one."""
    current = getcurrent()
    return current.owner if isinstance(current, TaskGreenlet) else None


def wait_for(future: Future[T]) -> T:
    """Wait for a future's result: without holding a thread on ``gpubatch``, and blocking on every other pool.

    Raises:
        Exception: the exception set on the future.
    """
    current = getcurrent()
    if isinstance(current, TaskGreenlet) and not future.done():
        thread = current.thread
        future.add_done_callback(lambda _: thread.resume(current))
        thread.set_aside()
    return future.result()
