"""All the counters of one pipeline, at one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from legit_embedding.engine.engine import Engine
from legit_embedding.pipeline.task_counts import MODEL_FAULTS, OK
from legit_embedding.sources.stream.source import SourceStats

if TYPE_CHECKING:
    from legit_embedding.engine.histogram import Distribution
    from legit_embedding.engine.stats import EngineStats, ModelStats
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.sinks.stats import WriterStats

WINDOW_S = 15.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Counts since the start, and what is under way."""

    at: float
    """By `time.monotonic`."""
    in_flight: int
    prep_waiting: dict[str, int]
    engine: EngineStats | None
    """None in a prep-only worker."""
    writer: WriterStats
    source: SourceStats
    outcomes: dict[tuple[str, str], int]
    """By model and outcome."""
    truncated: dict[str, int]
    prep_retries: dict[str, int]
    prep_seconds: dict[str, Distribution] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, ModelStats]:
        """What the engine says of each model."""
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
        """Tasks answered with an error that the model is to blame for."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome in MODEL_FAULTS)

    @property
    def device_waiting(self) -> int:
        """Prepared items that wait for the device."""
        return sum(model.waiting for model in self.models.values())

    @property
    def queue_depth(self) -> int:
        """Items that wait here: for prep, and for the device."""
        return sum(self.prep_waiting.values()) + self.device_waiting

    @property
    def batch_size_avg(self) -> float:
        """Items a batch, over all models."""
        batches = sum(model.batches for model in self.models.values())
        return sum(model.items for model in self.models.values()) / batches if batches else 0.0


def read(pipeline: Pipeline) -> Reading:
    """Read every counter; takes no lock for long."""
    tally, engine = pipeline.tally, pipeline.engine
    return Reading(
        at=time.monotonic(),
        in_flight=pipeline.in_flight,
        prep_waiting={model: pipeline.stage.waiting(model) for model in pipeline.registry.queues()},
        engine=engine.stats() if isinstance(engine, Engine) else None,
        writer=pipeline.writer.stats(),
        source=_together([source.stats() for source in pipeline.sources]),
        outcomes=tally.outcomes,
        truncated=tally.truncated,
        prep_retries=tally.prep_retries,
        prep_seconds={model: histogram.snapshot() for model, histogram in tally.prep_seconds.items()},
    )


def _together(stats: list[SourceStats]) -> SourceStats:
    return SourceStats(
        read=sum(each.read for each in stats),
        reclaimed=sum(each.reclaimed for each in stats),
        dead=sum(each.dead for each in stats),
        held=sum(each.held for each in stats),
        waiting=sum(each.waiting for each in stats),
    )
