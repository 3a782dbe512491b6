"""The order of interactive and bulk items of one model."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.engine.batching.packer import Limits, Pack, Shelf
    from legit_embedding.engine.delivery import Delivery

_TOLERANCE = 1e-6


class PriorityShelf:
    """Two shelves: a batch starts with interactive items, and bulk items fill it up as far as they hardly delay it.

    While both wait, interactive items get at most `share` of the model's time on average. What bulk items are short of
    adds up as a debt, in full batches; once that is large enough for a batch of their own, the next one starts with
    bulk items and interactive ones fill it up. So bulk items never starve.

    Args:
        make: makes an empty shelf.
        share: the share of interactive items, between 0 and 1.
    """

    def __init__(self, make: Callable[[], Shelf], share: float) -> None:
        self._interactive, self._bulk = make(), make()
        self._share = share
        self._debt = 0.0

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

    def __iter__(self) -> Iterator[Delivery]:
        return chain(self._interactive, self._bulk)

    @property
    def cost(self) -> int:
        """The sum of the waiting items' costs, without padding."""
        return self._interactive.cost + self._bulk.cost

    def add(self, delivery: Delivery) -> None:
        """Append an item to its shelf."""
        self._of(delivery).add(delivery)

    def remove(self, delivery: Delivery) -> bool:
        """Remove an item. Returns False if it is on no shelf."""
        return self._of(delivery).remove(delivery)

    def pack(self, limits: Limits, now: float, pack: Pack | None = None) -> Pack:
        """Take the next batch."""
        if not (len(self._interactive) and len(self._bulk)):
            self._debt = 0.0
            return (self._interactive if len(self._interactive) else self._bulk).pack(limits, now, pack)
        # The tolerance is for sums of shares that binary fractions don't represent exactly.
        is_bulks_turn = self._debt > self._share - _TOLERANCE
        if is_bulks_turn:
            pack = self._interactive.pack(limits, now, self._bulk.pack(limits, now, pack))
        else:
            pack = self._interactive.pack(limits, now, pack)
            pack = self._bulk.pack(limits.beside(pack.padded) if pack.deliveries else limits, now, pack)
        if pack.deliveries:
            bulk = sum(not delivery.interactive for delivery in pack.deliveries) / len(pack.deliveries)
            size = limits.fraction(pack.padded, len(pack.deliveries))
            self._debt = max(0.0, self._debt + size * (1 - self._share - bulk))
        return pack

    def oldest(self) -> Delivery | None:
        """Return the item that has waited longest."""
        found = [each for shelf in (self._interactive, self._bulk) if (each := shelf.oldest()) is not None]
        return min(found, key=lambda each: each.queued_at, default=None)

    def clear(self) -> list[Delivery]:
        """Remove and return everything, interactive items first."""
        return self._interactive.clear() + self._bulk.clear()

    def _of(self, delivery: Delivery) -> Shelf:
        return self._interactive if delivery.interactive else self._bulk
