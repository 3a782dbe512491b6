"""Plain threads for ordinary tasks."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerThreads:
    """A resizable set of threads that run callables in the order of submission.

    The threads are daemons, started when first needed: unlike those of `concurrent.futures`, a thread that is stuck in
    a task does not prevent a cold shutdown from ending the process. The callables must not raise.

    Args:
        limit: the most threads.
        name: what the threads' names begin with.
        begin: called by each thread before its first callable.
    """

    def __init__(self, limit: int, name: str, begin: Callable[[], None] | None = None) -> None:
        self._limit = limit
        self._name = name
        self._begin = begin
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._unfinished = 0

    def __len__(self) -> int:
        return len(self._threads)

    def submit(self, run: Callable[[], None]) -> None:
        """Run a callable on the next free thread."""
        with self._lock:
            self._unfinished += 1
            self._spawn_missing()
        self._queue.put(run)

    def resize(self, limit: int) -> None:
        """Change the number of threads; surplus threads end when they are next idle."""
        with self._lock:
            self._limit = limit
            surplus = len(self._threads) - limit
            self._spawn_missing()
        for _ in range(surplus):
            self._queue.put(None)

    def abandon(self, thread: threading.Thread) -> None:
        """Stop counting a thread that is stuck, and start another one in its place."""
        with self._lock:
            self._threads.discard(thread)
            self._unfinished -= 1
            self._spawn_missing()

    def take_back(self) -> list[Callable[[], None]]:
        """Remove and return the callables that no thread has begun; they will not be run."""
        waiting: list[Callable[[], None]] = []
        with suppress(Empty):
            while True:
                run = self._queue.get_nowait()
                if run is not None:
                    waiting.append(run)
        with self._lock:
            self._unfinished -= len(waiting)
        return waiting

    def stop(self, timeout: float) -> None:
        """End every thread once the queue is empty, waiting up to `timeout` seconds for each."""
        threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join(timeout)

    def _spawn_missing(self) -> None:
        while len(self._threads) < min(self._limit, self._unfinished):
            name = f"{self._name}-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.add(thread)
            thread.start()

    def _serve(self) -> None:
        if self._begin is not None:
            self._begin()
        while (run := self._queue.get()) is not None:
            run()
            with self._lock:
                if threading.current_thread() not in self._threads:
                    return
                self._unfinished -= 1
        with self._lock:
            self._threads.discard(threading.current_thread())
