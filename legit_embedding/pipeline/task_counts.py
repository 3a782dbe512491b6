"""What the pipeline counts beside the engine, the writer and the sources, which count for themselves."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

from legit_embedding.engine.histogram import SECONDS, Histogram
from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from legit_embedding.wire.result import Result

OK = "ok"
MODEL_FAULTS = frozenset({"non_finite", "model_failed", "poisoned"})
"""Answers that speak of the worker or its models, rather than of what a producer sent."""
UNKNOWN = ""
"""The model of a task that names none of ours: what producers send must not become labels."""


class TaskCounts:
    """Counts from the start of the process; any thread may count.

    Args:
        models: the names in the registry.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self.prep_seconds = {model: Histogram(SECONDS) for model in models}
        # A rate is only seen from a zero on.
        self._outcomes: Counter[tuple[str, str]] = Counter(dict.fromkeys(((name, OK) for name in self.prep_seconds), 0))
        self._truncated: Counter[str] = Counter()
        self._prep_retries: Counter[str] = Counter()
        self._lock = Lock()

    def prepared(self, model: str, seconds: float, items: int) -> None:
        """So many items were prepared together, in so many seconds."""
        if items:
            self.prep_seconds[model].observe(seconds / items, items)

    def prep_retried(self, model: str) -> None:
        """An item is to be prepared again later."""
        with self._lock:
            self._prep_retries[model] += 1

    def answered(self, model: str, result: Result) -> None:
        """An answer is confirmed: ``ok``, or an error code."""
        answer = result.outcome
        name, truncated = (answer.code, False) if isinstance(answer, TaskError) else (OK, answer.truncated)
        with self._lock:
            self._outcomes[model, name] += 1
            if truncated:
                self._truncated[model] += 1

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many tasks were answered how, by model and outcome."""
        with self._lock:
            return dict(self._outcomes)

    @property
    def truncated(self) -> dict[str, int]:
        """How many embedded texts were cut to their model's limit."""
        with self._lock:
            return dict(self._truncated)

    @property
    def prep_retries(self) -> dict[str, int]:
        """How many preparations were put off, by model."""
        with self._lock:
            return dict(self._prep_retries)
