"""The processor of a prep-only worker, which stores tensors for another worker's device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from legit_embedding.pipeline.caller import HandedOver

if TYPE_CHECKING:
    from legit_embedding.errors import ErrorCode
    from legit_embedding.pipeline.job import Job
    from legit_embedding.prep.handoff import HandOffDirectory

_FULL_BATCH = 64


class HandOffProcessor:
    """Writes prepared items to the hand-off directory."""

    def __init__(self, handoffs: HandOffDirectory) -> None:
        self._handoffs = handoffs

    def start(self) -> None:
        """Do nothing: a prep-only worker has no model to load."""

    def submit(self, delivery: Job) -> None:
        """Write the item, and pass its location to the job."""
        array = delivery.prepared.array
        if delivery.kind == "text":
            windows = [window.array for window in delivery.prepared.windows] or [array]
            numbers = [np.full_like(window, number) for number, window in enumerate(windows, start=1)]
            array = np.stack([np.concatenate(windows), np.concatenate(numbers)])
        path = self._handoffs.write(array)
        item = delivery.prepared
        delivery.handed_over(HandedOver(path, delivery.tower.model, item.truncated, item.repaired))

    def has_room(self, model: str) -> bool:  # noqa: ARG002 - the engine's signature
        """Always true: a directory has no accumulator."""
        return True

    def cancel(self, delivery: Job, code: ErrorCode) -> None:
        """Do nothing: an item is held only while it is written."""

    def full_batch(self, model: str) -> int:  # noqa: ARG002
        """The number of items that keeps the prep threads busy."""
        return _FULL_BATCH

    def stats(self) -> None:
        """None: nothing is computed here."""

    def progress(self) -> None:
        """None: there is no loop that could stall."""

    def front(self, model: str) -> None:
        """None: nothing is batched here."""

    def close(self, *, give_back: bool, timeout: float) -> None:
        """Do nothing: no items are held."""
