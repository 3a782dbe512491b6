"""Tasks that wait without holding a thread.

An embedding task is traced by Celery's own tracer, from its start signal to its stored result, in a greenlet of its
own. When the task's body waits for a vector, the greenlet is set aside and its thread goes on to the next task; when
the vector is confirmed, the same thread takes the greenlet up again. So signals, ``STARTED``, runtimes,
``autoretry_for``, chains and chords are Celery's own, at the right moments, while thousands of tasks wait on a few
threads. Nothing but tracing runs here: preparation has threads of its own, which never keep a greenlet waiting.
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
    """One task being traced."""

    thread: GreenletThread
    owner: object = None
    """What the task runs for, so that its body can find it."""


class GreenletThread(threading.Thread):
    """Starts continuations, and takes them up again when what they wait for has come."""

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
        """How many steps wait for this thread."""
        return self._inbox.qsize()

    def begin(self, run: Callable[[], None], owner: object = None) -> None:
        """Run a callable, which must not raise, in a continuation of this thread."""
        self._inbox.put(partial(self._begin, run, owner))

    def resume(self, continuation: TaskGreenlet) -> None:
        """Go on with a continuation that was set aside."""
        self._inbox.put(continuation.switch)

    def set_aside(self) -> None:
        """Called in a continuation: return to the inbox until `resume`."""
        cast("greenlet", self._home).switch()

    def stop(self, timeout: float) -> None:
        """End the thread after what its inbox holds, waiting for it up to `timeout` seconds."""
        self._inbox.put(None)
        self.join(timeout)

    def _begin(self, run: Callable[[], None], owner: object) -> None:
        continuation = TaskGreenlet(run)
        continuation.thread = self
        continuation.owner = owner
        continuation.switch()


def current_owner() -> object:
    """What the current continuation runs for; None outside of one."""
    current = getcurrent()
    return current.owner if isinstance(current, TaskGreenlet) else None


def wait_for(future: Future[T]) -> T:
    """Wait for a future's result: without a thread on ``gpubatch``, and blocking on every other pool.

    Raises:
        Exception: what the future was failed with.
    """
    current = getcurrent()
    if isinstance(current, TaskGreenlet) and not future.done():
        thread = current.thread
        future.add_done_callback(lambda _: thread.resume(current))
        thread.set_aside()
    return future.result()
