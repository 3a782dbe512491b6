"""Registry of batches that have left their accumulator and are not settled yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legit_embedding.engine.batching.batch import Batch
    from legit_embedding.engine.outcomes import Outcomes


class InFlightBatches:
    """Registry of all batches that are neither waiting nor settled, so that shutdown finds every one of them.

    The loop adds batches and the completion thread releases them, but another thread may call `end` at any time when
    the loop is stuck on the device. Only the thread that claims a batch settles it.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._batches: set[Batch] = set()
        self._over = False

    def __len__(self) -> int:
        return len(self._batches)

    def take(self, batch: Batch) -> bool:
        """Add a batch. Returns False if the engine has ended, after giving the batch's items back."""
        self._batches.add(batch)
        # Order matters: if `end` missed the batch added above, `_over` was set before it and is seen here.
        if self._over:
            self._give_back(batch)
            return False
        return True

    def release(self, batch: Batch) -> None:
        """Remove a batch that is settled or was replaced by its halves."""
        self._batches.discard(batch)

    def end(self) -> None:
        """Give back all unclaimed batches, and every batch added later."""
        self._over = True
        for batch in tuple(self._batches):
            self._give_back(batch)

    def _give_back(self, batch: Batch) -> None:
        if batch.claim():
            self._outcomes.give_back(batch.deliveries)
        self._batches.discard(batch)
