"""Soft and hard time limits of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.utils.timer2 import Timer

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on a task's run time, in seconds from when it was accepted; None for no limit."""

    soft: float | None = None
    hard: float | None = None

    def __bool__(self) -> bool:
        return bool(self.soft or self.hard)


class Clock:
    """One timer thread for all time limits of a pool, started with the first limit."""

    def __init__(self) -> None:
        self._timer: Any = Timer()

    def watch(self, limits: Limits, soft: Callable[[], None], hard: Callable[[], None]) -> Callable[[], None]:
        """Call `soft` and `hard` when their limits have passed; returns a callable that cancels both."""
        self._timer.ensure_started()
        calls = [(limits.soft, soft), (limits.hard, hard)]
        entries = [self._timer.call_after(seconds, call) for seconds, call in calls if seconds]

        def stop() -> None:
            for entry in entries:
                entry.cancel()

        return stop

    def close(self) -> None:
        """Stop the timer thread."""
        if self._timer.running:
            self._timer.stop()
