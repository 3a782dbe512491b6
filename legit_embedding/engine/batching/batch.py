"""Batch of items that run on the device together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from legit_embedding.engine.batching.packer import padded_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.config import Kind
    from legit_embedding.engine.delivery import Delivery


class Batch:
    """Items of one model, from the time they leave its accumulator until they are answered or given back.

    Items with the same content have one row in the input and share its vector; the costs are those of the rows.

    Args:
        model: the model's name in the registry.
        kind: the model's input kind, which decides how cost is counted.
        deliveries: the items, at least one.
        split_from: the larger batch that failed and was split into this one.
    """

    __slots__ = (
        "_claim",
        "attempts",
        "cost",
        "deliveries",
        "distinct",
        "kind",
        "lone_failures",
        "memory_failed_at",
        "model",
        "not_before",
        "rows",
        "sound",
        "split",
        "useful",
    )

    def __init__(self, model: str, kind: Kind, deliveries: Sequence[Delivery], split_from: Batch | None = None) -> None:
        first: dict[bytes | int, Delivery] = {}
        for delivery in deliveries:
            first.setdefault(delivery.content or id(delivery), delivery)
        places = {key: row for row, key in enumerate(first)}
        self.model = model
        self.kind: Kind = kind
        self.deliveries = deliveries
        self.distinct = list(first.values())
        """The items that are computed: the first of each content."""
        self.rows = [places[delivery.content or id(delivery)] for delivery in deliveries]
        """The row of each delivery's vector."""
        costs = [delivery.prepared.cost for delivery in self.distinct]
        self.useful = sum(costs)
        self.cost = padded_cost(kind, costs)
        self.split = split_from is not None
        self.memory_failed_at: int | None = split_from.memory_failed_at if split_from is not None else None
        """The ceiling in force when this batch, or the one it was split from, first ran out of memory."""
        self.attempts: int = split_from.attempts if split_from is not None else 0
        """Number of times a remote failed on this batch, or on the one it was split from."""
        self.lone_failures = 0
        """Number of times the batch ran out of memory with a single item."""
        self.not_before = 0.0
        """Earliest time of the next attempt, by `time.monotonic`."""
        self.sound = True
        """True unless the batch has landed and none of its vectors is finite."""
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Claim the right to settle these items. Returns True to exactly one caller."""
        return self._claim.acquire(blocking=False)

    def halves(self) -> list[Batch]:
        """Split into two batches of half the items each."""
        middle = len(self.deliveries) // 2
        parts = (self.deliveries[:middle], self.deliveries[middle:])
        return [Batch(self.model, self.kind, part, split_from=self) for part in parts]
