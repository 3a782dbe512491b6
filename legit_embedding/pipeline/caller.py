"""Who a job reports to: the caller that brought it, the sink that writes its answer, and its trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from legit_embedding.errors import GivenBackError, TaskError
    from legit_embedding.sinks.answer import Recipient
    from legit_embedding.wire.messages import Embedded, Result, Written


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The end of a task in a prep-only worker: a tensor in the hand-off directory, for another worker to embed."""

    path: Path
    model: str
    truncated: bool
    repaired: bool = False


class Caller(Protocol):
    """Whoever brought one task: told how it ended, exactly once.

    The call comes from one of the pipeline's threads. It must be quick; what it raises is logged and goes no further.
    """

    def written(self, written: Written) -> None:
        """The answer, good or bad, is confirmed: acknowledge the task."""

    def handed_over(self, handed: HandedOver) -> None:
        """The task is prepared, and another worker embeds it."""

    def given_back(self, error: GivenBackError) -> None:
        """The task is unanswered and the caller's again; the error says why."""


@dataclass(frozen=True, slots=True)
class OnOutcome:
    """A caller that treats all outcomes alike: one function gets whichever it is."""

    told: Callable[[Written | HandedOver | GivenBackError], None]

    def written(self, written: Written) -> None:
        """Pass the confirmed answer on."""
        self.told(written)

    def handed_over(self, handed: HandedOver) -> None:
        """Pass the tensor's place on."""
        self.told(handed)

    def given_back(self, error: GivenBackError) -> None:
        """Pass the reason on."""
        self.told(error)


class Sink(Protocol):
    """Gets answers written."""

    def put(self, job: Recipient, result: Result) -> None:
        """Take a job's answer; ends in one call of the job's `written` or `unwritten`."""


class Trace(Protocol):
    """One task's moments, kept for its spans."""

    def computed(self, prep_s: float, queue_s: float, compute_s: float) -> None:
        """The vector is there; what came before it lasted so long, in seconds."""

    def end(self, task_id: str, model: str, outcome: Embedded | TaskError) -> None:
        """The answer is confirmed."""


class Tracer(Protocol):
    """Begins traces."""

    def begin(self, raw: object, headers: Mapping[str, str] | None) -> Trace:
        """A task was accepted."""

    def close(self) -> None:
        """Send what is left."""
