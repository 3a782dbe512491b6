"""Who was answered, how often and when."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Answer(NamedTuple):
    """One answer, as a consumer sees it."""

    task_id: str
    at: float
    """Unix seconds."""
    embedding: str
    """Base64 of little-endian float32."""


@dataclass
class Tally:
    """The answers to the tasks of one phase; those to other tasks are not its business."""

    expected: frozenset[str]
    counts: Counter[str] = field(default_factory=Counter)
    at: dict[str, float] = field(default_factory=dict)
    embeddings: dict[str, str] = field(default_factory=dict)

    def add(self, answers: Iterable[Answer]) -> int:
        """Count some answers; returns how many of them were to these tasks."""
        ours = [answer for answer in answers if answer.task_id in self.expected]
        for answer in ours:
            self.counts[answer.task_id] += 1
            self.at.setdefault(answer.task_id, answer.at)
            self.embeddings.setdefault(answer.task_id, answer.embedding)
        return len(ours)

    @property
    def answered(self) -> int:
        """The number of tasks with an answer."""
        return len(self.counts)

    @property
    def complete(self) -> bool:
        """True if every task has one."""
        return self.answered == len(self.expected)

    @property
    def lost(self) -> int:
        """The number of tasks without one."""
        return len(self.expected) - self.answered

    @property
    def doubled(self) -> int:
        """The number of answers beyond the first."""
        return self.counts.total() - self.answered

    def latencies(self, sent: dict[str, float]) -> list[float]:
        """Seconds from sending to the first answer."""
        return [at - sent[task_id] for task_id, at in self.at.items()]


def percentile(values: Sequence[float], percent: float) -> float:
    """A value that so many percent do not exceed."""
    return float(np.percentile(values, percent, method="inverted_cdf"))
