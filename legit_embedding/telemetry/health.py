"""Whether the worker does its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.engine.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.pipeline.pipeline import Pipeline

STALL_S = 30.0
"""How long the loop, or the device, may be without progress. A batch holds a device for two seconds at most by plan."""
FAILURES = 8
"""How many batches in a row may end without one good vector. A bad item alone in its batch counts, so a few are no
sign of a bad model."""


def problems(pipeline: Pipeline, stall_s: float = STALL_S) -> list[str]:
    """What is wrong with a pipeline that has started, one sentence each; nothing when it is well."""
    return [*_of_engine(pipeline.engine, stall_s), *_of_links(pipeline)]


def stalled(engine: object, stall_s: float) -> bool:
    """Whether the device loop lives, and it or the device has been without progress for longer than this."""
    return isinstance(engine, Engine) and engine.alive() and not engine.healthy(stall_s)


def _of_engine(engine: object, stall_s: float) -> Iterator[str]:
    if not isinstance(engine, Engine):
        return
    if not engine.alive():
        yield "the device loop has ended"
    elif stalled(engine, stall_s):
        yield f"the device loop has made no progress for more than {stall_s:g} s"
    for name, model in engine.stats().models.items():
        if model.failed_in_row >= FAILURES:
            yield f"the model {name} has failed {model.failed_in_row} times in a row"


def _of_links(pipeline: Pipeline) -> Iterator[str]:
    writer = pipeline.writer.health()
    if not writer.ok:
        yield f"results cannot be written: {writer.error}"
    for outage in pipeline.outages:
        if not outage.health.ok:
            yield f"{outage.link} is out of order: {outage.health.error}"
    if full := pipeline.writer.results_full:
        yield full
    for source in pipeline.sources:
        health = source.health()
        if not health.ok:
            yield f"the task stream cannot be read: {health.error}"
