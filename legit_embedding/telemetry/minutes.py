"""One line per minute about a busy worker."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from legit_embedding.pipeline.task_counts import OK
from legit_embedding.progress import logger

if TYPE_CHECKING:
    from legit_embedding.pipeline.snapshot import Snapshot

MINUTE_S = 60.0


class Minutes:
    """Logs items per second, what waits, and errors by code; says nothing while the worker is idle."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None

    def tick(self, now: Snapshot) -> None:
        """Log a line if a minute has passed since the last; to be called every few seconds."""
        before = self._before
        if before is None:
            self._before = now
        elif now.at - before.at >= MINUTE_S:
            self._before = now
            outcomes = _by_outcome(now) - _by_outcome(before)
            if outcomes or now.in_flight:
                logger.info("%s", _line(outcomes, now, now.at - before.at))


def _by_outcome(snapshot: Snapshot) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for (_, outcome), count in snapshot.outcomes.items():
        outcomes[outcome] += count
    return outcomes


def _line(outcomes: Counter[str], now: Snapshot, seconds: float) -> str:
    done = outcomes.pop(OK, 0)
    errors = ", ".join(f"{code} {count:,}" for code, count in outcomes.most_common())
    said = f"{done / seconds:,.1f} items/s, {now.queue_depth:,} waiting, {now.in_flight:,} in flight"
    return f"{said}; errors in the last {seconds:.0f} s: {errors}" if errors else said
