"""Which of a model's waiting items make its next batch."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from legit_embedding.config import Kind
    from legit_embedding.engine.delivery import Delivery

MAX_ITEMS = 1024
"""The most items of a batch, whatever their cost and the model's settings."""
WASTE_LIMIT = 0.08
"""The part of a text batch that may be padding."""
_EXACT_LENGTHS = 16
_CLASS_GROWTH = math.log(1.06)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a batch may be."""

    cost: int
    items: int
    free_padding: int = 0
    """Padding that is always allowed, in tokens, because a batch of its own would cost the device more."""


@dataclass(slots=True)
class Pack:
    """The items of one batch, oldest first taken, and those that were found cancelled or expired on the way."""

    deliveries: list[Delivery] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)
    longest: int = 0
    useful: int = 0
    """The sum of the items' own costs, without padding."""


class Shelf(Protocol):
    """The waiting items of one model, in an order that makes packing cheap. Not thread-safe."""

    cost: int
    """The sum of the waiting items' costs, without padding."""

    def __len__(self) -> int:
        """How many items wait."""

    def add(self, delivery: Delivery) -> None:
        """Put an item behind the others."""

    def remove(self, delivery: Delivery) -> bool:
        """Take an item out again; False if it is not here."""

    def pack(self, limits: Limits, now: float) -> Pack:
        """Take the next batch. The oldest item is always in it, alone if it is over the limit; `now` is Unix time."""

    def oldest(self) -> Delivery | None:
        """The item that has waited longest."""

    def clear(self) -> list[Delivery]:
        """Take everything, in no particular order."""


def shelf_for(kind: Kind) -> Shelf:
    """Texts are grouped by length, images are all alike."""
    return LengthShelf() if kind == "text" else FifoShelf()


def padded_cost(kind: Kind, costs: list[int]) -> int:
    """What a batch of items with these costs takes of the device."""
    if kind == "text":
        return max(costs, default=0) * len(costs)
    return sum(costs)


def unwanted(delivery: Delivery, now: float) -> bool:
    """Whether nobody waits for this item's vector any more; `now` is Unix time."""
    return delivery.cancelled is not None or (delivery.deadline is not None and delivery.deadline < now)


class FifoShelf:
    """First come, first packed."""

    def __init__(self) -> None:
        # An ordered dictionary, not a deque: an item may be cancelled in the middle of thousands.
        self._waiting: OrderedDict[Delivery, None] = OrderedDict()
        self.cost = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, delivery: Delivery) -> None:
        """Put an item behind the others."""
        self._waiting[delivery] = None
        self.cost += delivery.prepared.cost

    def remove(self, delivery: Delivery) -> bool:
        """Take an item out again; False if it is not here."""
        if delivery not in self._waiting:
            return False
        del self._waiting[delivery]
        self.cost -= delivery.prepared.cost
        return True

    def pack(self, limits: Limits, now: float) -> Pack:
        """Take the oldest items that fit together."""
        pack, waiting, size = Pack(), self._waiting, 0
        while waiting and size < limits.items:
            delivery, _ = waiting.popitem(last=False)
            cost = delivery.prepared.cost
            if unwanted(delivery, now):
                pack.refused.append(delivery)
            elif size and pack.useful + cost > limits.cost:
                _put_first(waiting, delivery)
                break
            else:
                pack.deliveries.append(delivery)
                pack.useful += cost
                size += 1
        self.cost -= pack.useful + _cost(pack.refused)
        return pack

    def oldest(self) -> Delivery | None:
        """The item that has waited longest."""
        return next(iter(self._waiting), None)

    def clear(self) -> list[Delivery]:
        """Take everything, oldest first."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self.cost = 0
        return waiting


class LengthShelf:
    """Texts in classes of nearly equal length: first come, first packed within a class.

    A batch begins with the oldest item of all, is filled from its class, and then from the classes nearest to it for as
    long as the padding stays small. So no batch looks at more items than it takes, however many wait.
    """

    def __init__(self) -> None:
        self._classes: dict[int, OrderedDict[Delivery, None]] = {}
        """Only classes in which something waits."""
        self._size = 0
        self.cost = 0

    def __len__(self) -> int:
        return self._size

    def add(self, delivery: Delivery) -> None:
        """Put an item behind the others of its class."""
        cost = delivery.prepared.cost
        index = length_class(cost)
        waiting = self._classes.get(index)
        if waiting is None:
            waiting = self._classes[index] = OrderedDict()
        waiting[delivery] = None
        self._size += 1
        self.cost += cost

    def remove(self, delivery: Delivery) -> bool:
        """Take an item out again; False if it is not here."""
        # Its length would say which class, but an item that is not here may not be prepared yet.
        index = next((index for index, waiting in self._classes.items() if delivery in waiting), None)
        if index is None:
            return False
        del self._classes[index][delivery]
        self._close_if_empty(index)
        self._size -= 1
        self.cost -= delivery.prepared.cost
        return True

    def pack(self, limits: Limits, now: float) -> Pack:
        """Take the oldest item and those that go well with it."""
        pack = Pack()
        while self._classes and not pack.deliveries:
            self._take_oldest(pack, now)
        if pack.deliveries:
            self._fill_up(pack, limits, now)
        self._size -= len(pack.deliveries) + len(pack.refused)
        self.cost -= pack.useful + _cost(pack.refused)
        return pack

    def oldest(self) -> Delivery | None:
        """The item that has waited longest."""
        return next(iter(self._classes[self._oldest_class()])) if self._classes else None

    def clear(self) -> list[Delivery]:
        """Take everything, class by class."""
        waiting = [delivery for each in self._classes.values() for delivery in each]
        self._classes.clear()
        self._size = self.cost = 0
        return waiting

    def _oldest_class(self) -> int:
        return min(self._classes.items(), key=lambda each: next(iter(each[1])).queued_at)[0]

    def _take_oldest(self, pack: Pack, now: float) -> None:
        index = self._oldest_class()
        delivery, _ = self._classes[index].popitem(last=False)
        self._close_if_empty(index)
        if unwanted(delivery, now):
            pack.refused.append(delivery)
        else:
            pack.deliveries.append(delivery)
            pack.useful = pack.longest = delivery.prepared.cost

    def _fill_up(self, pack: Pack, limits: Limits, now: float) -> None:
        """Take from the classes nearest in length first; a class that does not fit ends the way in its direction."""
        start = length_class(pack.longest)
        closed: set[bool] = set()
        for index in sorted(self._classes, key=lambda each: abs(each - start)):
            longer = index > start
            if longer not in closed and not self._fill_from(index, pack, limits, now):
                closed.add(longer)

    def _fill_from(self, index: int, pack: Pack, limits: Limits, now: float) -> bool:
        """Take from one class; whether it is used up."""
        waiting = self._classes[index]
        while waiting:
            delivery, _ = waiting.popitem(last=False)
            if unwanted(delivery, now):
                pack.refused.append(delivery)
            elif not _take(delivery, pack, limits):
                _put_first(waiting, delivery)
                return False
        del self._classes[index]
        return True

    def _close_if_empty(self, index: int) -> None:
        if not self._classes[index]:
            del self._classes[index]


@cache
def length_class(length: int) -> int:
    """Short lengths are a class each; beyond, the lengths within one class differ by at most 6%."""
    if length <= _EXACT_LENGTHS:
        return length
    return _EXACT_LENGTHS + math.ceil(math.log(length / _EXACT_LENGTHS) / _CLASS_GROWTH)


def _take(delivery: Delivery, pack: Pack, limits: Limits) -> bool:
    """Put an item into the pack if it fits and pads little."""
    cost = delivery.prepared.cost
    size = len(pack.deliveries) + 1
    longest = max(pack.longest, cost)
    padded, useful = size * longest, pack.useful + cost
    if size > limits.items or padded > limits.cost:
        return False
    if padded - useful > max(limits.free_padding, WASTE_LIMIT * padded):
        return False
    pack.deliveries.append(delivery)
    pack.longest, pack.useful = longest, useful
    return True


def _put_first(waiting: OrderedDict[Delivery, None], delivery: Delivery) -> None:
    waiting[delivery] = None
    waiting.move_to_end(delivery, last=False)


def _cost(deliveries: list[Delivery]) -> int:
    return sum(delivery.prepared.cost for delivery in deliveries)
