"""The verdict on whether the two sides agree well enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.cli.shared.terminal import counted

if TYPE_CHECKING:
    from legit_embedding.migration.comparison.tally import Side, Tally


def problems(tally: Tally, min_cosine: float) -> list[str]:
    """The reasons against it; none where they agree."""
    found = [*_missing(tally.left), *_missing(tally.right)]
    if not tally.distances.count:
        found.append("no task has a vector on both sides")
    elif tally.distances.least < min_cosine:
        found.append(f"the smallest cosine is {tally.distances.least:.6f}, below {min_cosine:g}")
    if tally.one_failed_count:
        tasks = counted(tally.one_failed_count, "task has", "tasks have")
        found.append(f"{tasks} a vector on one side and an error on the other")
    if tally.dims_differ:
        found.append(f"{counted(tally.dims_differ, 'pair of vectors differs', 'pairs of vectors differ')} in length")
    return found


def _missing(side: Side) -> list[str]:
    found = [f"{counted(side.missing, 'task is', 'tasks are')} missing in {side.name}"] if side.missing else []
    if side.unreadable:
        found.append(f"{counted(side.unreadable, 'vector', 'vectors')} in {side.name} cannot be read")
    return found
