"""The two extension points of a worker, and the moments of a task's life.

A *source* brings tasks, and is told how each of them ended. A *processor* takes what is prepared, and reports on it.
Celery, the task stream, and whatever else brings tasks are sources; the engine, and the hand-over to another worker's
device, are processors. The pipeline between them knows neither.

The moments of a task, in order:

| moment | who moves it there | what then holds |
|---|---|---|
| accepted | a source calls `Pipeline.submit` | the pipeline answers for it; the source waits, without a thread |
| prepared | a prep thread | its content is an array in memory; `Processor.submit` has it |
| on the device | the processor | it can no longer be taken back, only its vector dropped |
| written | the sink, when Redis has confirmed the answer | `Caller.written`: the source acknowledges it |
| given back | the pipeline, when it stops or cannot answer | `Caller.given_back`: the source keeps it for another try |

Each task ends in `Caller.written`, `Caller.handed_over` or `Caller.given_back`, exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from legit_embedding.engine.stats import EngineStats, Progress
    from legit_embedding.errors import ErrorCode
    from legit_embedding.pipeline.job import Job
    from legit_embedding.redis_io.health import Health


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counts of one source since its start; `held` and `waiting` are of this moment."""

    read: int = 0
    """Tasks given to the pipeline, each delivery counted."""
    reclaimed: int = 0
    """Tasks taken over from workers that are gone."""
    dead: int = 0
    """Tasks moved to the dead letter."""
    held: int = 0
    """Tasks that are in flight here."""
    waiting: int = 0
    """Tasks to be tried again, not in flight yet."""


class Source(Protocol):
    """Brings tasks: calls `Pipeline.submit` for each while `Pipeline.room` says that there is room.

    `Pipeline.add_source` starts it, and the pipeline stops and closes it. It has at most a thread of its own.
    """

    def start(self) -> None:
        """Begin to read. What it reads from need not be there yet."""

    def wake(self) -> None:
        """There may be room again. Called from any thread; quick."""

    def stop_reading(self) -> None:
        """Bring nothing more. When this returns no task is being submitted, and none will be."""

    def close(self, timeout: float) -> None:
        """Let go of what is not settled, and end the thread within `timeout` seconds. Idempotent."""

    def alive(self) -> bool:
        """Whether the thread runs."""

    def health(self) -> Health:
        """Whether tasks can be read."""

    def stats(self) -> SourceStats:
        """Counters of this moment."""


class Processor(Protocol):
    """Takes prepared jobs and reports each: `Job.done`, `Job.failed`, `Job.given_back` or `Job.handed_over`, once."""

    def start(self) -> None:
        """Get ready: load models, open devices.

        Raises:
            ConfigError: it cannot, with the reason in one line.
        """

    def submit(self, delivery: Job) -> None:
        """Take a prepared job. Never blocks; called from a prep thread that has asked `has_room` before."""

    def has_room(self, model: str) -> bool:
        """Whether more of a model may be prepared; the processor's `on_room` tells when that is so again."""

    def cancel(self, delivery: Job, code: ErrorCode) -> None:
        """Fail a job with this code: at once if it waits, else when its turn is over. Called from any thread."""

    def largest_batch(self) -> int:
        """How many items all full batches have together; sources hold twice as many."""

    def stats(self) -> EngineStats | None:
        """Counters of this moment; None where nothing is computed."""

    def progress(self) -> Progress | None:
        """Whether it gets on; None where there is no loop that could stop."""

    def info(self) -> dict[str, Any]:
        """A few figures for people."""

    def close(self, *, give_back: bool, timeout: float) -> None:
        """Stop within `timeout` seconds; what is not finished by then is given back."""
