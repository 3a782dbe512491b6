"""SIGQUIT that arrives while the main thread holds a lock which the shutdown needs: for a worker, by ``-I``.

The variable ``QUIT_UNDER_LOCK`` says which; the signal comes as soon as thirty tasks are in progress.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from celery.events.dispatcher import EventDispatcher
from celery.worker import state

from legit_embedding.pool.threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import Callable

LOCKS: dict[str, tuple[type, str]] = {
    "events": (EventDispatcher, "_publish"),
    "threads": (WorkerThreads, "_spawn_missing"),
}
"""A class and its method that is only called with the lock held."""
TASKS = 30
"""More than the events that Celery sends at a time: each task that is withdrawn makes one."""


def _interrupt(owner: type, name: str) -> None:
    method: Callable[..., Any] = getattr(owner, name)
    came = False

    def interrupted(self: object, *args: Any, **options: Any) -> Any:
        nonlocal came
        if not came and threading.current_thread() is threading.main_thread() and len(state.active_requests) >= TASKS:
            came = True
            print("SIGQUIT comes", flush=True)
            signal.raise_signal(signal.SIGQUIT)
        return method(self, *args, **options)

    setattr(owner, name, interrupted)


_interrupt(*LOCKS[os.environ["QUIT_UNDER_LOCK"]])
