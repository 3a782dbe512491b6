"""Items that go to the device together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from legit_embedding.engine.batching.packer import padded_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.config import Kind
    from legit_embedding.engine.delivery import Delivery


class Batch:
    """Some items of one model, from the moment they leave its accumulator until they are answered or given back.

    Args:
        model: the model's name in the registry.
        kind: how cost is counted.
        deliveries: the items, at least one.
        split_from: the larger batch that failed, of which this one is a part.
    """

    __slots__ = (
        "_claim",
        "cost",
        "deliveries",
        "kind",
        "lone_failures",
        "memory_failed_at",
        "model",
        "not_before",
        "sound",
        "split",
        "useful",
    )

    def __init__(self, model: str, kind: Kind, deliveries: Sequence[Delivery], split_from: Batch | None = None) -> None:
        costs = [delivery.prepared.cost for delivery in deliveries]
        self.model = model
        self.kind: Kind = kind
        self.deliveries = deliveries
        self.useful = sum(costs)
        self.cost = padded_cost(kind, costs)
        self.split = split_from is not None
        self.memory_failed_at: int | None = split_from.memory_failed_at if split_from is not None else None
        """The ceiling under which this batch, or the one it is a part of, first ran out of memory."""
        self.lone_failures = 0
        """How often its only item ran out of memory."""
        self.not_before = 0.0
        """When it may go to the device again, by `time.monotonic`."""
        self.sound = True
        """Whether the model gave it a vector that is one, once it has landed."""
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Win the right to settle these items: True for exactly one caller, ever."""
        return self._claim.acquire(blocking=False)

    def halves(self) -> list[Batch]:
        """Two batches of half the items each."""
        middle = len(self.deliveries) // 2
        parts = (self.deliveries[:middle], self.deliveries[middle:])
        return [Batch(self.model, self.kind, part, split_from=self) for part in parts]
