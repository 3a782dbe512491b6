"""The findings of a comparison."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import nsmallest
from math import inf
from typing import TYPE_CHECKING, Any

from legit_embedding.migration.comparison.distances import QUANTILES, Distances

if TYPE_CHECKING:
    from collections.abc import Iterable

WORST = 10


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two vectors of one task."""

    cosine: float
    task_id: str
    model: str


@dataclass(slots=True)
class Side:
    """The records of one side."""

    name: str
    results: int = 0
    duplicates: int = 0
    """Results beyond the first of a task; only the first is compared."""
    errors: Counter[str] = field(default_factory=Counter)
    """Error results by code, of the tasks' first results."""
    unreadable: int = 0
    dims: Counter[int] = field(default_factory=Counter)
    norm_least: float = inf
    norm_most: float = 0.0
    missing: int = 0
    """Tasks that only the other side has."""
    missing_examples: list[str] = field(default_factory=list)

    def lacks(self, task_ids: Iterable[str]) -> None:
        """Count tasks that are missing here; some are remembered."""
        for task_id in task_ids:
            self.missing += 1
            if len(self.missing_examples) < WORST:
                self.missing_examples.append(task_id)

    def as_json(self) -> dict[str, Any]:
        """The side's part of the report."""
        return {
            "name": self.name,
            "results": self.results,
            "duplicates": self.duplicates,
            "missing": self.missing,
            "missing_examples": self.missing_examples,
            "errors": dict(self.errors),
            "unreadable": self.unreadable,
            "dims": {str(dim): count for dim, count in sorted(self.dims.items())},
            "norm_min": self.norm_least if self.dims else None,
            "norm_max": self.norm_most if self.dims else None,
        }


@dataclass(slots=True)
class Tally:
    """Both sides, and what lies between them."""

    left: Side
    right: Side
    distances: Distances = field(default_factory=Distances)
    worst: list[Pair] = field(default_factory=list)
    both_failed: int = 0
    """Tasks that ended in an error on both sides."""
    one_failed: list[str] = field(default_factory=list)
    """Some of the tasks with a vector on one side only."""
    one_failed_count: int = 0
    dims_differ: int = 0
    models_differ: int = 0
    not_judged: int = 0
    """Tasks on one side only that are too old, too young, or not expected on the other."""

    def measured(self, pairs: Iterable[Pair]) -> None:
        """Keep the worst."""
        self.worst = nsmallest(WORST, [*self.worst, *pairs])

    def one_sided(self, task_id: str) -> None:
        """Count a task that has a vector on one side, and on the other an error."""
        self.one_failed_count += 1
        if len(self.one_failed) < WORST:
            self.one_failed.append(task_id)

    def as_json(self) -> dict[str, Any]:
        """The report's figures."""
        distances = self.distances
        measured = distances.count > 0
        return {
            "left": self.left.as_json(),
            "right": self.right.as_json(),
            "pairs": distances.count,
            "cosine": {
                "min": distances.least if measured else None,
                "mean": distances.mean if measured else None,
                "quantiles": {f"{share:g}": distances.quantile(share) for share in QUANTILES} if measured else {},
            },
            "worst": [{"task_id": pair.task_id, "cosine": pair.cosine, "model": pair.model} for pair in self.worst],
            "both_failed": self.both_failed,
            "one_failed": self.one_failed_count,
            "one_failed_examples": self.one_failed,
            "dims_differ": self.dims_differ,
            "models_differ": self.models_differ,
            "not_judged": self.not_judged,
            "histogram": [{"distance": edge, "pairs": count} for edge, count in distances.decades()],
        }
