"""Pairs the records of two sides, a bucket at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from legit_embedding.migration.comparison.spill import BUCKETS
from legit_embedding.migration.comparison.tally import Pair, Side, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from legit_embedding.migration.comparison.record import Record
    from legit_embedding.migration.comparison.spill import Spill

Couple = tuple["Record", "Record"]


@dataclass(frozen=True, slots=True)
class Expected:
    """When a task that only one side has is missing on the other; outside of this it is not judged."""

    since_ms: float = -inf
    until_ms: float = inf
    right_is_subset: bool = False

    def on_right(self, record: Record) -> bool:
        """True if the right side should have had this one of the left."""
        return not self.right_is_subset and self._in_time(record)

    def on_left(self, record: Record) -> bool:
        """True if the left side should have had this one of the right."""
        return self._in_time(record)

    def _in_time(self, record: Record) -> bool:
        return record.at_ms is None or self.since_ms <= record.at_ms <= self.until_ms


def pair(left: Spill, right: Spill, tally: Tally, expected: Expected, step: Callable[[], None]) -> None:
    """Compare everything; `step` is called after each of the `BUCKETS`."""
    for bucket in range(BUCKETS):
        ours, theirs = _first_ones(left.bucket(bucket), tally.left), _first_ones(right.bucket(bucket), tally.right)
        _count_missing(ours, theirs, tally, expected)
        both = [(record, theirs[task_id]) for task_id, record in ours.items() if task_id in theirs]
        for couples in _by_dim(both, tally).values():
            _measure(couples, tally)
        step()


def _first_ones(records: Iterable[Record], side: Side) -> dict[str, Record]:
    first: dict[str, Record] = {}
    for record in records:
        side.results += 1
        if first.setdefault(record.task_id, record) is not record:
            side.duplicates += 1
    _describe(first.values(), side)
    return first


def _describe(records: Iterable[Record], side: Side) -> None:
    for record in records:
        if record.vector:
            norm = float(np.linalg.norm(np.frombuffer(record.vector, np.float32).astype(np.float64)))
            side.dims[record.dim] += 1
            side.norm_least, side.norm_most = min(side.norm_least, norm), max(side.norm_most, norm)
        elif record.status == "unreadable":
            side.unreadable += 1
        else:
            side.errors[record.error] += 1


def _count_missing(ours: dict[str, Record], theirs: dict[str, Record], tally: Tally, expected: Expected) -> None:
    alone = [record for task_id, record in ours.items() if task_id not in theirs]
    tally.right.lacks(record.task_id for record in alone if expected.on_right(record))
    tally.not_judged += sum(not expected.on_right(record) for record in alone)
    alone = [record for task_id, record in theirs.items() if task_id not in ours]
    tally.left.lacks(record.task_id for record in alone if expected.on_left(record))
    tally.not_judged += sum(not expected.on_left(record) for record in alone)


def _by_dim(both: Iterable[Couple], tally: Tally) -> dict[int, list[Couple]]:
    """The couples whose vectors can be compared, by their length; the others are counted."""
    comparable: dict[int, list[Couple]] = defaultdict(list)
    for couple in both:
        ours, theirs = couple
        if not ours.vector and not theirs.vector:
            tally.both_failed += 1
        elif not ours.vector or not theirs.vector:
            tally.one_sided(ours.task_id)
        elif ours.dim != theirs.dim:
            tally.dims_differ += 1
        else:
            tally.models_differ += ours.model != theirs.model
            comparable[ours.dim].append(couple)
    return comparable


def _measure(couples: list[Couple], tally: Tally) -> None:
    ours, theirs = (_matrix(couple[side].vector for couple in couples) for side in (0, 1))
    cosines = _dots(ours, theirs) / np.sqrt(_dots(ours, ours) * _dots(theirs, theirs))
    tally.distances.add(cosines)
    tally.measured(_pairs(couples, cosines))


def _pairs(couples: list[Couple], cosines: NDArray[np.float64]) -> Iterator[Pair]:
    for (record, _), cosine in zip(couples, cosines, strict=True):
        yield Pair(float(cosine), record.task_id, record.model)


def _matrix(vectors: Iterable[bytes]) -> NDArray[np.float32]:
    rows = list(vectors)
    return np.frombuffer(b"".join(rows), np.float32).reshape(len(rows), -1)


def _dots(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row, summed in double precision without a copy of either side."""
    dots: NDArray[np.float64] = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    return dots
