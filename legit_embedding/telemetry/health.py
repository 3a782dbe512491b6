"""Whether the worker does its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.pipeline.snapshot import Snapshot

STALL_S = 30.0
"""How long the loop, or the device, may be without progress. A batch holds a device for two seconds at most by plan."""
FAILURES = 8
"""How many batches in a row may end without one good vector. A bad item alone in its batch counts, so a few are no
sign of a bad model."""


def problems(snapshot: Snapshot, stall_s: float = STALL_S) -> list[str]:
    """What is wrong with a pipeline that has started, one sentence each; nothing when it is well."""
    return [*_of_processor(snapshot, stall_s), *snapshot.faults]


def is_stuck(snapshot: Snapshot, stall_s: float) -> bool:
    """Whether the device loop lives, and it or the device has been without progress for longer than this."""
    progress = snapshot.progress
    return progress is not None and progress.alive and progress.stalled_s > stall_s


def _of_processor(snapshot: Snapshot, stall_s: float) -> Iterator[str]:
    if snapshot.progress is None:
        return
    if not snapshot.progress.alive:
        yield "the device loop has ended"
    elif is_stuck(snapshot, stall_s):
        yield f"the device loop has made no progress for more than {stall_s:g} s"
    for name, model in snapshot.models.items():
        if model.failed_in_row >= FAILURES:
            yield f"the model {name} has failed {model.failed_in_row} times in a row"
