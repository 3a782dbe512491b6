"""The end of the river in a prep-only worker: tensors for another worker's device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from legit_embedding.job import HandedOver

if TYPE_CHECKING:
    from legit_embedding.errors import ErrorCode
    from legit_embedding.job import Job
    from legit_embedding.prep.handoff import HandOffDirectory

_LARGEST_BATCH = 64


class HandOver:
    """Stands where the engine stands, and writes prepared items to the hand-off directory."""

    def __init__(self, handoffs: HandOffDirectory) -> None:
        self._handoffs = handoffs

    def start(self) -> None:
        """Nothing to load: a prep-only worker has no model."""

    def submit(self, delivery: Job) -> None:
        """Write the item and settle its job with the path."""
        array = delivery.prepared.array
        if delivery.kind == "text":
            array = np.stack([array, np.ones_like(array)])
        path = self._handoffs.write(array)
        item = delivery.prepared
        delivery.settle(HandedOver(path, delivery.model, item.truncated, item.repaired))

    def has_room(self, model: str) -> bool:  # noqa: ARG002 - the engine's signature
        """A directory has no accumulator."""
        return True

    def cancel(self, delivery: Job, code: ErrorCode) -> None:
        """An item is held only while it is written."""

    def largest_batch(self) -> int:
        """What keeps the prep threads busy."""
        return _LARGEST_BATCH

    def info(self) -> dict[str, Any]:
        """Nothing is batched here."""
        return {}

    def close(self, *, give_back: bool, timeout: float) -> None:
        """Nothing is held."""
