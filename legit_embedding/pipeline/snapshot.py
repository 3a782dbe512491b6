"""All counters and states of one pipeline at one moment, for telemetry."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from legit_embedding.pipeline.protocols import SourceStats
from legit_embedding.pipeline.task_counts import MODEL_FAULTS, OK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from legit_embedding.config import Settings
    from legit_embedding.engine.histogram import Distribution
    from legit_embedding.engine.stats import EngineStats, ModelStats, Progress
    from legit_embedding.models.registry import Registry
    from legit_embedding.pipeline.backlog import BacklogBoard
    from legit_embedding.pipeline.protocols import Source
    from legit_embedding.pipeline.task_counts import Failure, TaskCounts
    from legit_embedding.redis_io.health import Outage
    from legit_embedding.sinks.direct import DirectSink
    from legit_embedding.sinks.stats import WriterStats
    from legit_embedding.sinks.writer import StreamWriter

WINDOW_S = 15.0

Phase = Literal["starting", "running", "stopping"]


class Observed(Protocol):
    """The part of a pipeline that telemetry depends on."""

    settings: Settings
    worker: str
    registry: Registry
    prep_only: bool
    backlog: BacklogBoard

    def snapshot(self) -> Snapshot:
        """The counters and states at this moment."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters since the start, and current values."""

    at: float
    """Time of the snapshot by `time.monotonic`, in seconds."""
    phase: Phase
    dead_thread: str | None
    """The name of a thread that should be running and is not."""
    progress: Progress | None
    """The progress of the processor's loop; None if it has no loop."""
    faults: tuple[str, ...]
    """One sentence per fault of the links that carry tasks and answers."""
    in_flight: int
    prep_waiting: dict[str, int]
    engine: EngineStats | None
    """None in a prep-only worker."""
    writer: WriterStats
    source: SourceStats
    outcomes: dict[tuple[str, str], int]
    """Number of answered tasks by model and outcome."""
    truncated: dict[str, int]
    prep_retries: dict[str, int]
    prep_seconds: dict[str, Distribution] = field(default_factory=dict)
    last_errors: tuple[Failure, ...] = ()
    """The last tasks that ended in an error, oldest first."""
    prep_process_deaths: int | None = None
    """The prep processes that have died; None if there are none."""
    notices: tuple[str, ...] = ()
    """Warnings of a worker that is well otherwise, one sentence each."""
    probes: Mapping[str, str] = field(default_factory=dict)
    """The models whose last probe failed, or is not answered in time, with the reason."""

    @classmethod
    def now(cls, *, counts: TaskCounts, **read: Any) -> Snapshot:  # noqa: ANN401 - the fields above
        """Take a snapshot, with the pipeline's own counts."""
        return cls(
            at=time.monotonic(),
            outcomes=counts.outcomes,
            truncated=counts.truncated,
            last_errors=counts.last_errors,
            prep_retries=counts.prep_retries,
            prep_seconds={model: histogram.snapshot() for model, histogram in counts.prep_seconds.items()},
            **read,
        )

    @property
    def models(self) -> dict[str, ModelStats]:
        """The engine's statistics for each model."""
        return self.engine.models if self.engine is not None else {}

    @property
    def prepared(self) -> int:
        """Items that prep has finished."""
        return sum(each.count for each in self.prep_seconds.values())

    @property
    def embedded(self) -> int:
        """Tasks answered with a vector."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome == OK)

    @property
    def failed(self) -> int:
        """Tasks answered with an error."""
        return sum(self.outcomes.values()) - self.embedded

    @property
    def failed_on_device(self) -> int:
        """Tasks answered with an error that is the model's fault."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome in MODEL_FAULTS)

    @property
    def device_waiting(self) -> int:
        """Prepared items that wait for the device."""
        return sum(model.waiting for model in self.models.values())

    @property
    def queue_depth(self) -> int:
        """Items that wait in this worker, for prep and for the device."""
        return sum(self.prep_waiting.values()) + self.device_waiting

    @property
    def batch_size_avg(self) -> float:
        """Average number of items per batch, over all models."""
        batches = sum(model.batches for model in self.models.values())
        return sum(model.items for model in self.models.values()) / batches if batches else 0.0


def faults(writer: StreamWriter | DirectSink, outages: Sequence[Outage], sources: Sequence[Source]) -> Iterator[str]:
    """Describe each fault of the links that carry tasks and answers in a sentence."""
    health = writer.health()
    if not health.ok:
        yield f"results cannot be written: {health.error}"
    for outage in outages:
        if not outage.health.ok:
            yield f"{outage.link} is out of order: {outage.health.error}"
    if writer.results_full:
        yield writer.results_full
    for source in sources:
        health = source.health()
        if not health.ok:
            yield f"the task stream cannot be read: {health.error}"


def together(stats: list[SourceStats]) -> SourceStats:
    """Add up the counters of several sources."""
    return SourceStats(
        read=sum(each.read for each in stats),
        reclaimed=sum(each.reclaimed for each in stats),
        dead=sum(each.dead for each in stats),
        held=sum(each.held for each in stats),
        waiting=sum(each.waiting for each in stats),
    )
