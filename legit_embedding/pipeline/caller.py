"""The parties that a job reports to: its caller, the sink that writes its answer, and its trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from legit_embedding.errors import GivenBackError, TaskError
    from legit_embedding.sinks.answer import Recipient
    from legit_embedding.wire.result import Embedded, Result, Written


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The outcome of a task in a prep-only worker: a tensor in the hand-off directory, for another worker to embed."""

    path: Path
    model: str
    truncated: bool
    repaired: bool = False


class Caller(Protocol):
    """The submitter of one task, told exactly once how the task ended.

    The methods are called from one of the pipeline's threads. They must be quick; exceptions are logged and dropped.
    """

    def written(self, written: Written) -> None:
        """Acknowledge the task: its answer, a vector or an error, is confirmed."""

    def handed_over(self, handed: HandedOver) -> None:
        """Note that the task is prepared and another worker embeds it."""

    def given_back(self, error: GivenBackError) -> None:
        """Take back the unanswered task; the error gives the reason."""


@dataclass(frozen=True, slots=True)
class OnOutcome:
    """A caller that passes every outcome to one function."""

    told: Callable[[Written | HandedOver | GivenBackError], None]

    def written(self, written: Written) -> None:
        """Pass the confirmed answer on."""
        self.told(written)

    def handed_over(self, handed: HandedOver) -> None:
        """Pass the hand-off on."""
        self.told(handed)

    def given_back(self, error: GivenBackError) -> None:
        """Pass the reason on."""
        self.told(error)


class Sink(Protocol):
    """Writes answers."""

    def put(self, job: Recipient, result: Result) -> None:
        """Accept a job's answer; leads to exactly one call of the job's `written` or `unwritten`."""


class Trace(Protocol):
    """Timings of one task, recorded for its spans."""

    def computed(self, prep_s: float, queue_s: float, compute_s: float) -> None:
        """Record that the vector is computed, with the duration of each stage in seconds."""

    def end(self, task_id: str, model: str, outcome: Embedded | TaskError) -> None:
        """Finish the trace: the answer is confirmed."""


class Tracer(Protocol):
    """Creates traces."""

    def begin(self, raw: object, headers: Mapping[str, str] | None) -> Trace:
        """Begin the trace of an accepted task."""

    def close(self) -> None:
        """Send the remaining spans."""
