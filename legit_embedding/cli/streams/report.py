"""Backlog, rates and estimated completion, from successive snapshots of the streams."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legit_embedding.telemetry.glance import Consumer, Glance, Look

WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class TaskReport:
    """Report on the task stream; the field names are the keys of ``--json``."""

    stream: str
    length: int
    group: str | None
    lag: int | None
    pending: int
    oldest_age_s: float | None
    arrivals_per_s: float | None
    finished_per_s: float | None
    empty_in_s: float | None
    consumers: tuple[Consumer, ...]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """Report on a result stream or the dead letter."""

    stream: str
    length: int
    added: int | None
    per_s: float | None
    oldest_age_s: float | None
    newest_age_s: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Report on all streams of one server."""

    server: str
    at: float
    measured_s: float
    """Period over which the rates were measured; 0 means not yet, and they are null."""
    tasks: TaskReport
    dead_letter: StreamReport
    results: tuple[StreamReport, ...]


class Meter:
    """Makes a report from each snapshot, with rates over the snapshots of the last half minute.

    Args:
        server: the server's public address.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._looks: deque[Glance] = deque()

    def report(self, now: Glance) -> Report:
        """Add a snapshot, and report on it with rates from the earlier ones."""
        self._looks.append(now)
        while now.tasks.at - self._looks[0].tasks.at > WINDOW_S and len(self._looks) > 2:  # noqa: PLR2004
            self._looks.popleft()
        before = self._looks[0]
        return Report(
            server=self._server,
            at=now.tasks.at,
            measured_s=round(now.tasks.at - before.tasks.at, 3),
            tasks=_tasks(before.tasks, now.tasks),
            dead_letter=_stream(before.dead_letter, now.dead_letter),
            results=tuple(map(_stream, before.results, now.results)),
        )


def _tasks(before: Look, now: Look) -> TaskReport:
    group = now.group
    arrivals = _per_second(before, now, before.added, now.added)
    finished = _per_second(before, now, _done(before), _done(now))
    return TaskReport(
        stream=now.stream,
        length=now.length,
        group=group.name if group else None,
        lag=group.lag if group else now.length,
        pending=group.pending if group else 0,
        oldest_age_s=now.age(group.oldest if group else now.oldest),
        arrivals_per_s=arrivals,
        finished_per_s=finished,
        empty_in_s=_empty_in(now.backlog, arrivals, finished),
        consumers=group.consumers if group else (),
    )


def _stream(before: Look, now: Look) -> StreamReport:
    return StreamReport(
        stream=now.stream,
        length=now.length,
        added=now.added,
        per_s=_per_second(before, now, before.added, now.added),
        oldest_age_s=now.age(now.oldest),
        newest_age_s=now.age(now.newest),
    )


def _done(look: Look) -> int | None:
    """Return the number of entries ever finished; None if unknown."""
    return None if look.added is None or look.backlog is None else look.added - look.backlog


def _per_second(before: Look, now: Look, first: int | None, last: int | None) -> float | None:
    seconds = now.at - before.at
    if first is None or last is None or seconds <= 0 or last < first:
        # A counter that decreased belongs to a recreated stream.
        return None
    return round((last - first) / seconds, 3)


def _empty_in(backlog: int | None, arrivals: float | None, finished: float | None) -> float | None:
    """Seconds until the backlog is empty at these rates; None if that is never or unknown."""
    if backlog == 0:
        return 0.0
    if backlog is None or arrivals is None or finished is None or finished <= arrivals:
        return None
    return round(backlog / (finished - arrivals), 1)
