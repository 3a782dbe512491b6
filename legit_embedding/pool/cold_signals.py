"""Signals for a cold shutdown, handled between two steps of the event loop instead of in the middle of one."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from celery.worker import state
from kombu.asynchronous import get_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

PATIENCE_S = 2.0
"""The time that the event loop has to come by, in seconds; after it the handler runs wherever the main thread is."""
_NUMBERS = tuple(number for name in ("SIGINT", "SIGQUIT", "SIGTERM") if (number := getattr(signal, name, None)))


class ColdSignals:
    """Postpones Celery's handlers for a cold shutdown to a point where the main thread holds no lock.

    Celery withdraws all requests and stops the pool within the signal handler (`on_cold_shutdown`). That waits for
    threads, and takes the lock of the event dispatcher; whichever lock the interrupted main thread holds is not
    released before the handler returns, so both would wait for ever.

    A handler that starts a warm shutdown only sets a flag, and runs at once; so does one whose signal arrives while
    another is being handled, or after the cold shutdown has begun: these are for whoever cannot wait.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Handler] = {}
        self._pending: deque[int] = deque()
        self._told: SimpleQueue[int] = SimpleQueue()  # whose `put` may interrupt itself, as no other queue's may
        self._handled = threading.Event()
        self._depth = 0
        self._is_overdue = False

    def watch(self) -> None:
        """Take the place of Celery's handlers, if this is the main thread of its ``worker`` command."""
        if threading.current_thread() is threading.main_thread() and self._replace():
            threading.Thread(target=self._hurry, name="cold-signals", daemon=True).start()

    def handle(self) -> None:
        """Handle what has arrived; to be called by the main thread while it holds no lock."""
        while self._pending:
            self._call(self._pending.popleft(), None)
        self._handled.set()

    def _replace(self) -> bool:
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler) and getattr(handler, "__name__", "") in {"worker_Cold", "worker_Warm"}:
                self._handlers[number] = handler
                signal.signal(number, self._received)
        return bool(self._handlers)

    def _received(self, number: int, frame: FrameType | None) -> None:
        is_cold = getattr(self._handlers[number], "__name__", "") == "worker_Cold"
        if not is_cold or self._depth or state.should_terminate:
            self._call(number, frame)
        elif self._is_overdue:
            self.handle()
        else:
            self._pending.append(number)
            self._told.put(number)

    def _call(self, number: int, frame: Any) -> None:  # noqa: ANN401 - whatever the interpreter passes
        self._depth += 1
        try:
            self._handlers[number](number, frame)
        finally:
            self._depth -= 1
            self._replace()  # Celery's handlers install others, for when the signal comes again

    def _hurry(self) -> None:
        while True:
            number = self._told.get()
            self._handled.clear()
            hub = get_event_loop()
            if hub is not None and self._pending:
                hub.call_soon(self.handle)
                self._handled.wait(PATIENCE_S)
            if self._pending:
                self._is_overdue = True
                os.kill(os.getpid(), number)
