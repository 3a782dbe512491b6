"""Splitting of failed batches, so that one bad item does not fail the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from legit_embedding.engine.batching.batch import Batch
    from legit_embedding.engine.in_flight import InFlightBatches
    from legit_embedding.engine.model_queue import ModelQueue
    from legit_embedding.engine.outcomes import Outcomes
    from legit_embedding.errors import TaskError


class Halving:
    """Replaces a batch by parts of it, or answers its items; each batch is claimed first."""

    def __init__(self, outcomes: Outcomes, in_flight: InFlightBatches) -> None:
        self._outcomes = outcomes
        self._in_flight = in_flight

    def split(self, queue: ModelQueue, batch: Batch) -> None:
        """Schedule both halves of a batch in its place."""
        self.divide(queue, batch, batch.halves())

    def divide(self, queue: ModelQueue, batch: Batch, parts: Iterable[Batch]) -> None:
        """Schedule these batches in the place of the one that holds their items."""
        if not batch.claim():
            return
        for part in parts:
            if self._in_flight.take(part):
                queue.retry(part)
        self._in_flight.release(batch)

    def answer(self, batch: Batch, error: TaskError) -> None:
        """Fail a batch's items with an error."""
        if batch.claim():
            self._outcomes.fail(batch.deliveries, error)
        self._in_flight.release(batch)
