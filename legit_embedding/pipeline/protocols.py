"""The two extension points of a worker, and the stages of a task's life.

A *source* brings tasks, and is told how each of them ended. A *processor* takes prepared items, and reports on each.
Celery and the task stream are sources; the engine, remote models and the hand-over to another worker's device are
processors. The pipeline between them depends on none of them.

The stages of a task, in order:

| stage | reached when | meaning |
|---|---|---|
| accepted | a source calls `Pipeline.submit` | the pipeline is responsible for it; the source waits, without a thread |
| prepared | a prep thread has prepared it | its content is an array in memory, passed to `Processor.submit` |
| on the device | the processor runs its batch | it can no longer be taken back; only its vector can be dropped |
| written | Redis has confirmed the answer to the sink | `Caller.written`: the source acknowledges it |
| given back | the pipeline stops or cannot answer | `Caller.given_back`: the source keeps it for another attempt |

Each task ends in `Caller.written`, `Caller.handed_over` or `Caller.given_back`, exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from legit_embedding.engine.front import Front
    from legit_embedding.engine.stats import EngineStats, Progress
    from legit_embedding.errors import ErrorCode
    from legit_embedding.pipeline.job import Job
    from legit_embedding.redis_io.health import Health


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counters of one source since its start; `held` and `waiting` are current values."""

    read: int = 0
    """Tasks submitted to the pipeline, counting each delivery."""
    reclaimed: int = 0
    """Tasks reclaimed from workers that are gone."""
    dead: int = 0
    """Tasks moved to the dead letter."""
    held: int = 0
    """Tasks in flight here."""
    waiting: int = 0
    """Tasks to be retried, not in flight yet."""


class Source(Protocol):
    """Brings tasks: calls `Pipeline.submit` for each, while `Pipeline.room` reports room.

    `Pipeline.add_source` starts it, and the pipeline stops and closes it. It has at most one thread of its own.
    """

    name: str
    """The name of its thread, for messages about it."""

    def start(self) -> None:
        """Begin to read. The server it reads from need not be available yet."""

    def wake(self) -> None:
        """Check for room again. Called from any thread; must be quick."""

    def stop_reading(self) -> None:
        """Stop bringing tasks. When this returns no task is being submitted, and none will be."""

    def close(self, timeout: float) -> None:
        """Release unsettled tasks, and end the thread within `timeout` seconds. Idempotent."""

    def alive(self) -> bool:
        """True while the thread runs."""

    def health(self) -> Health:
        """The state of the link that tasks are read over."""

    def stats(self) -> SourceStats:
        """Current counters."""


class Processor(Protocol):
    """Takes prepared jobs and reports each once: `Job.done`, `Job.failed`, `Job.given_back` or `Job.handed_over`."""

    def start(self) -> None:
        """Load models and open devices.

        Raises:
            ConfigError: it cannot start; the reason is given in one line.
        """

    def submit(self, delivery: Job) -> None:
        """Take a prepared job. Never blocks; called from a prep thread that has asked `has_room` before."""

    def has_room(self, model: str) -> bool:
        """True if more items of a model may be prepared; the processor's `on_room` reports when that becomes true."""

    def cancel(self, delivery: Job, code: ErrorCode) -> None:
        """Fail a job with this code: at once if it waits, else when its batch is over. Called from any thread."""

    def full_batch(self, model: str) -> int:
        """The number of items in a model's full batch; sources may always hold two of them."""

    def stats(self) -> EngineStats | None:
        """Current counters; None if nothing is computed."""

    def progress(self) -> Progress | None:
        """Evidence that the loop makes progress; None if there is no loop."""

    def front(self, model: str) -> Front | None:
        """Whatever holds this model's queue; None if nothing is batched."""

    def close(self, *, give_back: bool, timeout: float) -> None:
        """Stop within `timeout` seconds; unfinished jobs are given back."""
