"""The tasks that wait in what a worker reads, and how soon they will be done."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Depth:
    """The unfinished tasks of one source."""

    source: str
    """``stream:NAME``, ``queue:NAME``, or ``unacknowledged``: messages of any queue that workers hold."""
    items: int | None
    """Tasks not yet taken and tasks in progress; None if the server cannot tell."""
    unread: int | None = None
    """Of a stream: the entries that no worker has read; None if the server cannot tell."""
    oldest_age_s: float | None = None
    """Of a stream: the age of the oldest unfinished entry, in seconds; None if there is none."""


@dataclass(frozen=True, slots=True)
class TaskBacklog:
    """The unfinished tasks of all sources at one moment."""

    at: float
    """Time of the look by `time.monotonic`, in seconds."""
    depths: tuple[Depth, ...]
    dead_letters: int
    """The length of the dead-letter stream."""
    items_per_s: float
    """Tasks that all living workers answered with a vector, per second, in the last quarter of a minute."""

    @property
    def items(self) -> int | None:
        """The unfinished tasks of all sources; None if one of them cannot be told."""
        known = [depth.items for depth in self.depths if depth.items is not None]
        return sum(known) if len(known) == len(self.depths) else None

    @property
    def empty_in_s(self) -> float | None:
        """Seconds until all of them are done at that rate; infinite at none, None if the number is unknown."""
        items = self.items
        if not items:
            return items
        return items / self.items_per_s if self.items_per_s > 0 else math.inf


def desired(items: int, target: int, least: int, most: int) -> int:
    """The number of workers for a backlog: ``clamp(ceil(items / target), least, most)``, as Kubernetes computes it."""
    return min(most, max(least, math.ceil(items / target)))


@dataclass(slots=True)
class BacklogBoard:
    """The latest look at the backlog, for whoever shows it; the heartbeat looks every few seconds."""

    latest: TaskBacklog | None = None
    count_queues: Callable[[], Sequence[Depth]] = field(default=tuple)
    """Counts the messages of the queues that this worker reads."""
