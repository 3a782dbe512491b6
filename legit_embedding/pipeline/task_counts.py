"""The pipeline's own counters; the engine, the writer and the sources keep theirs."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from legit_embedding.engine.histogram import SECONDS, Histogram
from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from legit_embedding.wire.result import Result

OK = "ok"
MODEL_FAULTS = frozenset({"non_finite", "model_failed", "poisoned"})
"""Error codes that are the fault of the worker or its models, not of the producer."""
UNKNOWN = ""
"""The model of a task that names none of ours: values that producers send must not become labels."""

LAST_ERRORS = 12
LONGEST_DETAIL = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that was answered with an error."""

    at: float
    """Unix time in seconds."""
    model: str
    """The model's queue, or `UNKNOWN`."""
    code: str
    detail: str
    """The error's sentence, cut to `LONGEST_DETAIL` characters."""
    task_id: str


class TaskCounts:
    """Counters since the start of the process. Thread-safe.

    Args:
        models: the queues of the registry.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self.prep_seconds = {model: Histogram(SECONDS) for model in models}
        # A rate can only be computed for a counter that starts at zero.
        self._outcomes: Counter[tuple[str, str]] = Counter(dict.fromkeys(((name, OK) for name in self.prep_seconds), 0))
        self._truncated: Counter[str] = Counter()
        self._prep_retries: Counter[str] = Counter()
        self._failures: deque[Failure] = deque(maxlen=LAST_ERRORS)
        self._lock = Lock()

    def prepared(self, model: str, seconds: float, items: int) -> None:
        """Count items that were prepared together in this many seconds."""
        if items:
            self.prep_seconds[model].observe(seconds / items, items)

    def prep_retried(self, model: str) -> None:
        """Count an item that is to be prepared again later."""
        with self._lock:
            self._prep_retries[model] += 1

    def answered(self, model: str, result: Result) -> None:
        """Count a confirmed answer, under ``ok`` or its error code."""
        answer = result.outcome
        name, truncated = (answer.code, False) if isinstance(answer, TaskError) else (OK, answer.truncated)
        with self._lock:
            if isinstance(answer, TaskError):
                detail = answer.detail[:LONGEST_DETAIL]
                self._failures.append(Failure(time.time(), model, name, detail, result.address.task_id))
            self._outcomes[model, name] += 1
            if truncated:
                self._truncated[model] += 1

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """The number of answered tasks by model and outcome."""
        with self._lock:
            return dict(self._outcomes)

    @property
    def last_errors(self) -> tuple[Failure, ...]:
        """The last tasks that were answered with an error, oldest first."""
        with self._lock:
            return tuple(self._failures)

    @property
    def truncated(self) -> dict[str, int]:
        """The number of embedded texts that were truncated to their model's limit, by model."""
        with self._lock:
            return dict(self._truncated)

    @property
    def prep_retries(self) -> dict[str, int]:
        """The number of postponed preparations, by model."""
        with self._lock:
            return dict(self._prep_retries)
