"""A delay before tasks are given back to their sources."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Parking:
    """Delays the release of tasks, since a task given back at once would return at once. Thread-safe.

    Args:
        delay_s: the delay of each release, in seconds.
    """

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: threading.Timer | None = None
        self._open = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, release: Callable[[], None]) -> None:
        """Call `release` after the delay, or as soon as the parking is opened."""
        with self._lock:
            if not self._open:
                self._waiting.append((time.monotonic() + self._delay_s, release))
                self._set_timer()
                return
        _call(release)

    def open(self) -> None:
        """Release everything now, and hold no further releases."""
        with self._lock:
            self._open = True
            waiting = [release for _, release in self._waiting]
            self._waiting.clear()
            if self._timer is not None:
                self._timer.cancel()
        for release in waiting:
            _call(release)

    def _set_timer(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = threading.Timer(max(0.0, self._waiting[0][0] - time.monotonic()), self._release_due)
            self._timer.daemon = True
            self._timer.start()

    def _release_due(self) -> None:
        due: list[Callable[[], None]] = []
        with self._lock:
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                due.append(self._waiting.popleft()[1])
            self._timer = None
            self._set_timer()
        for release in due:
            _call(release)


def _call(release: Callable[[], None]) -> None:
    try:
        release()
    except Exception:
        logger.exception("a task that waited could not be given back")
