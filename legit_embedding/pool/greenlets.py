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
from typing import TYPE_CHECKING, Any, TypeVar, cast

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

MOST_TOGETHER = 128
"""The most calls that are made as one; further steps wait meanwhile."""


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
        self._calls: list[tuple[TaskGreenlet, Callable[[Sequence[Any]], Sequence[Any]], object]] = []

    def run(self) -> None:
        """Serve the inbox until `stop`."""
        self._home = getcurrent()
        while (step := self._inbox.get()) is not None:
            step()
            while self._calls and (self._inbox.empty() or len(self._calls) >= MOST_TOGETHER):
                self._call_together()
        while self._calls:
            self._call_together()

    @property
    def behind(self) -> int:
        """The number of steps that wait for this thread."""
        return self._inbox.qsize() + len(self._calls)

    def begin(self, run: Callable[[], None], owner: object = None) -> None:
        """Run a callable, which must not raise, in a continuation of this thread."""
        self._inbox.put(partial(self._begin, run, owner))

    def resume(self, continuation: TaskGreenlet) -> None:
        """Resume a suspended continuation."""
        self._inbox.put(continuation.switch)

    def set_aside(self) -> Any:  # noqa: ANN401 - what the continuation is resumed with
        """Suspend the current continuation and return to the inbox until `resume` is called."""
        return cast("greenlet", self._home).switch()

    def join_call(self, current: TaskGreenlet, call: Callable[[Sequence[T]], Sequence[R | Exception]], item: T) -> R:
        """See `together`."""
        self._calls.append((current, call, item))
        result: R | Exception = self.set_aside()
        if isinstance(result, Exception):
            raise result
        return result

    def _call_together(self) -> None:
        calls, self._calls = self._calls, []
        for call in dict.fromkeys(call for _, call, _ in calls):
            joined = [(continuation, item) for continuation, its, item in calls if its == call]
            try:
                results = call([item for _, item in joined])
            except Exception as error:  # noqa: BLE001 - each continuation raises it
                results = [error] * len(joined)
            for (continuation, _), result in zip(joined, results, strict=True):
                continuation.switch(result)

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


def together(call: Callable[[Sequence[T]], Sequence[R | Exception]], item: T) -> R:
    """Have `call` made once for the items of all continuations of this thread that get here in the same turn.

    Args:
        call: gives a result, or an error to raise, for each item; outside of a continuation it gets one item.
        item: the caller's own.

    Raises:
        Exception: the item's own error, or that of the whole call.
    """
    current = getcurrent()
    if isinstance(current, TaskGreenlet):
        return current.thread.join_call(current, call, item)
    (result,) = call([item])
    if isinstance(result, Exception):
        raise result
    return result


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
