"""The batches that have left their accumulator and are not settled yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legit_embedding.engine.batching.batch import Batch
    from legit_embedding.engine.outcomes import Outcomes


class InFlightBatches:
    """Every batch that is neither waiting nor settled, so that the end of the engine finds all of them.

    The loop takes batches in and the completions let them go, yet another thread may end it all at any moment, when the
    loop is stuck on the device. Whoever claims a batch settles it; nobody else does.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._batches: set[Batch] = set()
        self._over = False

    def __len__(self) -> int:
        return len(self._batches)

    def take(self, batch: Batch) -> bool:
        """Take a batch in; False if the engine has ended, and then its items are given back already."""
        self._batches.add(batch)
        # In this order: an end that does not see the batch has not begun, and is seen here.
        if self._over:
            self._give_back(batch)
            return False
        return True

    def release(self, batch: Batch) -> None:
        """Let go of a batch that is settled, or that was replaced by its parts."""
        self._batches.discard(batch)

    def end(self) -> None:
        """Give back all batches that nobody has claimed, and every later one."""
        self._over = True
        for batch in tuple(self._batches):
            self._give_back(batch)

    def _give_back(self, batch: Batch) -> None:
        if batch.claim():
            self._outcomes.give_back(batch.deliveries)
        self._batches.discard(batch)
