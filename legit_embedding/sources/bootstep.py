"""Starts the stream source with the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import bootsteps

from legit_embedding import runtime
from legit_embedding.errors import GivenBackError
from legit_embedding.sources.streams import StreamSource

if TYPE_CHECKING:
    from legit_embedding.job import Outcome
    from legit_embedding.pipeline import Pipeline
    from legit_embedding.sources.entries import Entry


class StreamStep(bootsteps.StartStopStep):
    """Reads the task stream beside the Celery queues, on a worker whose pool has a pipeline."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, parent: Any) -> bool:  # noqa: ANN401, ARG002 - Celery's worker
        """Whether ``streams.consume`` is on."""
        return runtime.settings().streams.consume

    def start(self, parent: Any) -> None:  # noqa: ANN401, ARG002
        """Start reading; other pools make their pipeline at the first task, and read no stream."""
        if runtime.is_running():
            pipeline = runtime.current()
            pipeline.add_source(stream_source(pipeline))

    def close(self, parent: Any) -> None:  # noqa: ANN401, ARG002
        """Called first at a shutdown: reading stops at once, what was read is finished."""
        if runtime.is_running():
            runtime.current().stop_reading()


def stream_source(pipeline: Pipeline) -> StreamSource:
    """The task stream as a source of this pipeline."""

    def submit(entry: Entry) -> None:
        entry_id = entry.origin.id

        def settled(outcome: Outcome) -> None:
            if isinstance(outcome, GivenBackError):
                source.given_back(entry_id)
            else:
                source.settled(entry_id)

        if entry.error is not None:
            pipeline.refuse(entry.raw, entry.origin, entry.error, settled)
        else:
            pipeline.submit(entry.raw, entry.origin, settled)

    settings = pipeline.settings
    source = StreamSource(settings.streams, settings.redis, pipeline.worker, submit, pipeline.room)
    return source
