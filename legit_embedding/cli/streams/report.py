"""What two looks at the streams say: how much there is, how fast it moves, and when it will be done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legit_embedding.cli.streams.glance import Consumer, Glance, Look

WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The task stream; the field names are the keys of ``--json``."""

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
    """A result stream, or the dead letter."""

    stream: str
    length: int
    added: int | None
    per_s: float | None
    oldest_age_s: float | None
    newest_age_s: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """All streams of one server."""

    server: str
    at: float
    measured_s: float
    """Over how long the rates were measured; 0: not at all, so they are null."""
    tasks: TaskReport
    dead_letter: StreamReport
    results: tuple[StreamReport, ...]


class Meter:
    """Reports on each look, with rates over the last half minute of looks.

    Args:
        server: the server's public address.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._looks: deque[Glance] = deque()

    def report(self, now: Glance) -> Report:
        """Take a look in, and say what it means beside the earlier ones."""
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
    """How many entries were ever finished."""
    return None if look.added is None or look.backlog is None else look.added - look.backlog


def _per_second(before: Look, now: Look, first: int | None, last: int | None) -> float | None:
    seconds = now.at - before.at
    if first is None or last is None or seconds <= 0 or last < first:
        # A counter that went back belongs to a stream that was made anew.
        return None
    return round((last - first) / seconds, 3)


def _empty_in(backlog: int | None, arrivals: float | None, finished: float | None) -> float | None:
    """Seconds until nothing is left, at these rates; None where that is never, or not known."""
    if backlog == 0:
        return 0.0
    if backlog is None or arrivals is None or finished is None or finished <= arrivals:
        return None
    return round(backlog / (finished - arrivals), 1)
