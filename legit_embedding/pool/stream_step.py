"""A bootstep that starts the stream source with the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import bootsteps

from legit_embedding import process
from legit_embedding.sources.stream.source import StreamSource

if TYPE_CHECKING:
    from legit_embedding.pipeline.pipeline import Pipeline


class StreamStep(bootsteps.StartStopStep):
    """Reads the task stream beside the Celery queues, on a worker whose pool has a pipeline."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, parent: Any) -> bool:  # noqa: ANN401, ARG002 - Celery's worker
        """True if ``streams.consume`` is on."""
        return process.settings().streams.consume

    def start(self, parent: Any) -> None:  # noqa: ANN401, ARG002
        """Start reading, on a worker with a pipeline that embeds."""
        if process.is_running() and not process.current().prep_only:
            pipeline = process.current()
            pipeline.add_source(stream_source(pipeline))

    def close(self, parent: Any) -> None:  # noqa: ANN401, ARG002
        """Stop reading, as the first step of a shutdown; entries already read are finished."""
        if process.is_running():
            process.current().stop_reading()


def stream_source(pipeline: Pipeline) -> StreamSource:
    """The task stream as a source of this pipeline."""
    settings = pipeline.settings
    return StreamSource(settings.streams, settings.redis, pipeline.worker, pipeline)
