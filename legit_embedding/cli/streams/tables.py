"""Tables of a report on the streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import count, duration, printable, rate

if TYPE_CHECKING:
    from rich.console import RenderableType

    from legit_embedding.cli.streams.report import Report, StreamReport, TaskReport


def board(report: Report, note: str = "") -> RenderableType:
    """Lay out a report as tables.

    Args:
        report: the report to show.
        note: a line below the tables.
    """
    parts: list[RenderableType] = [_tasks(report.tasks, report.server), _consumers(report.tasks), _others(report)]
    if note:
        parts.append(Text(printable(note), style="bold red"))
    return Group(*parts)


def _tasks(tasks: TaskReport, server: str) -> Group:
    columns = ("Length", "Not read", "Pending", "Oldest", "Arriving", "Finishing", "Empty in")
    row = (
        count(tasks.length),
        count(tasks.lag),
        count(tasks.pending),
        duration(tasks.oldest_age_s),
        rate(tasks.arrivals_per_s),
        rate(tasks.finished_per_s),
        _empty_in(tasks),
    )
    return table(f"Tasks: {tasks.stream} at {server}", columns, [row], right=columns)


def _empty_in(tasks: TaskReport) -> str:
    if tasks.empty_in_s is None and tasks.finished_per_s is not None:
        return "never"
    return duration(tasks.empty_in_s)


def _consumers(tasks: TaskReport) -> Group:
    if tasks.group is None:
        return Group(Text("No consumer group yet: no worker has read this stream", style="bold"))
    rows = [(each.name, count(each.pending), duration(each.idle_s)) for each in tasks.consumers]
    columns = ("Consumer", "Pending", "Last seen")
    return table(f"Consumers of {tasks.group}", columns, rows, right=columns[1:])


def _others(report: Report) -> Group:
    rows = [("results", *_row(stream)) for stream in report.results] + [("dead letter", *_row(report.dead_letter))]
    columns = ("", "Stream", "Length", "Arriving", "Oldest", "Newest")
    return table("Results and dead letter", columns, rows, right=columns[2:])


def _row(stream: StreamReport) -> tuple[str, ...]:
    return (
        stream.stream,
        count(stream.length),
        rate(stream.per_s),
        duration(stream.oldest_age_s),
        duration(stream.newest_age_s),
    )
