"""Selection of the waiting items that form a model's next batch."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.config import Kind
    from legit_embedding.engine.delivery import Delivery

MAX_ITEMS = 1024
"""Upper bound on the items per batch, regardless of their cost and the model's settings."""
WASTE_LIMIT = 0.08
"""Maximum fraction of a text batch that may be padding."""
_EXACT_LENGTHS = 16
_CLASS_GROWTH = math.log(1.06)


@dataclass(frozen=True, slots=True)
class Limits:
    """Size limits for a batch."""

    cost: int
    items: int
    free_padding: int = 0
    """Padding that is always allowed, in tokens, because a separate batch would cost the device more."""
    fixed_cost: float = math.inf
    """The cost whose computation takes as long as the part of a batch's time that does not depend on its cost."""

    def beside(self, cost: int) -> Limits:
        """Return the limits up to which a batch of this cost can be filled while its time at most doubles."""
        return replace(self, cost=int(min(self.cost, 2 * cost + self.fixed_cost)))

    def fraction(self, cost: int, items: int) -> float:
        """Return the time of a batch as a fraction of a full one's, or its share of the items if that is more."""
        if math.isinf(self.fixed_cost):
            return 1.0
        return max((self.fixed_cost + cost) / (self.fixed_cost + self.cost), items / self.items)


@dataclass(slots=True)
class Pack:
    """Items of one batch, and those found to be cancelled or expired while packing it."""

    deliveries: list[Delivery] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)
    longest: int = 0
    useful: int = 0
    """The sum of the items' own costs, without padding."""

    @property
    def padded(self) -> int:
        """The cost with padding."""
        return max(self.useful, self.longest * len(self.deliveries))


class Shelf(Protocol):
    """Waiting items of one model, ordered so that packing is cheap. Not thread-safe."""

    @property
    def cost(self) -> int:
        """The sum of the waiting items' costs, without padding."""

    def __len__(self) -> int:
        """Return the number of waiting items."""

    def __iter__(self) -> Iterator[Delivery]:
        """Go through the waiting items, in no particular order."""

    def add(self, delivery: Delivery) -> None:
        """Append an item."""

    def remove(self, delivery: Delivery) -> bool:
        """Remove an item. Returns False if it is not on the shelf."""

    def pack(self, limits: Limits, now: float, pack: Pack | None = None) -> Pack:
        """Take the next batch, or fill up one that another shelf has begun; `now` is Unix time.

        A batch always has the shelf's oldest item, alone if that exceeds the limit, unless another has begun it.
        """

    def oldest(self) -> Delivery | None:
        """Return the item that has waited longest."""

    def clear(self) -> list[Delivery]:
        """Remove and return everything, in no particular order."""


def shelf_for(kind: Kind) -> Shelf:
    """Return an empty shelf for this kind: texts are grouped by length, images all cost the same."""
    return LengthShelf() if kind == "text" else FifoShelf()


def padded_cost(kind: Kind, costs: list[int]) -> int:
    """Return the cost of a batch of items with these costs, padding included."""
    if kind == "text":
        return max(costs, default=0) * len(costs)
    return sum(costs)


def unwanted(delivery: Delivery, now: float) -> bool:
    """Return True if the item was cancelled or has expired; `now` is Unix time."""
    return delivery.cancelled is not None or (delivery.deadline is not None and delivery.deadline < now)


class FifoShelf:
    """Shelf that packs items in order of arrival."""

    def __init__(self) -> None:
        # An OrderedDict rather than a deque, because cancellation removes items from the middle of the queue.
        self._waiting: OrderedDict[Delivery, None] = OrderedDict()
        self.cost = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._waiting)

    def add(self, delivery: Delivery) -> None:
        """Append an item."""
        self._waiting[delivery] = None
        self.cost += delivery.prepared.cost

    def remove(self, delivery: Delivery) -> bool:
        """Remove an item. Returns False if it is not on the shelf."""
        if delivery not in self._waiting:
            return False
        del self._waiting[delivery]
        self.cost -= delivery.prepared.cost
        return True

    def pack(self, limits: Limits, now: float, pack: Pack | None = None) -> Pack:
        """Take the oldest items that fit into one batch."""
        pack, waiting = pack or Pack(), self._waiting
        size = len(pack.deliveries)
        while waiting and size < limits.items:
            delivery, _ = waiting.popitem(last=False)
            cost = delivery.prepared.cost
            self.cost -= cost
            if unwanted(delivery, now):
                pack.refused.append(delivery)
            elif size and pack.useful + cost > limits.cost:
                _put_first(waiting, delivery)
                self.cost += cost
                break
            else:
                pack.deliveries.append(delivery)
                pack.useful += cost
                size += 1
        return pack

    def oldest(self) -> Delivery | None:
        """Return the item that has waited longest."""
        return next(iter(self._waiting), None)

    def clear(self) -> list[Delivery]:
        """Remove and return everything, oldest first."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self.cost = 0
        return waiting


class LengthShelf:
    """Shelf that groups texts into classes of similar length, in order of arrival within each class.

    A batch starts with the oldest item overall, is filled from that item's class, and then from the nearest classes as
    long as the padding stays small. Packing therefore examines no more items than it takes, however many are waiting.
    """

    def __init__(self) -> None:
        self._classes: dict[int, OrderedDict[Delivery, None]] = {}
        """Non-empty classes only."""
        self._size = 0
        self.cost = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Delivery]:
        return chain.from_iterable(self._classes.values())

    def add(self, delivery: Delivery) -> None:
        """Append an item to its class."""
        cost = delivery.prepared.cost
        index = length_class(cost)
        waiting = self._classes.get(index)
        if waiting is None:
            waiting = self._classes[index] = OrderedDict()
        waiting[delivery] = None
        self._size += 1
        self.cost += cost

    def remove(self, delivery: Delivery) -> bool:
        """Remove an item. Returns False if it is not on the shelf."""
        # Its length would identify the class, but an item that is not on the shelf may not be prepared yet.
        index = next((index for index, waiting in self._classes.items() if delivery in waiting), None)
        if index is None:
            return False
        del self._classes[index][delivery]
        self._close_if_empty(index)
        self._size -= 1
        self.cost -= delivery.prepared.cost
        return True

    def pack(self, limits: Limits, now: float, pack: Pack | None = None) -> Pack:
        """Take the oldest item and others of similar length."""
        pack = pack or Pack()
        taken, refused, useful = len(pack.deliveries), len(pack.refused), pack.useful
        while self._classes and not pack.deliveries:
            self._take_oldest(pack, now)
        if pack.deliveries:
            self._fill_up(pack, limits, now)
        self._size -= len(pack.deliveries) - taken + len(pack.refused) - refused
        self.cost -= pack.useful - useful + _cost(pack.refused[refused:])
        return pack

    def oldest(self) -> Delivery | None:
        """Return the item that has waited longest."""
        return next(iter(self._classes[self._oldest_class()])) if self._classes else None

    def clear(self) -> list[Delivery]:
        """Remove and return everything, class by class."""
        waiting = list(self)
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
        """Take from the classes nearest in length first; stop in a direction at the first class that does not fit."""
        start = length_class(pack.longest)
        closed: set[bool] = set()
        for index in sorted(self._classes, key=lambda each: abs(each - start)):
            longer = index > start
            if longer not in closed and not self._fill_from(index, pack, limits, now):
                closed.add(longer)

    def _fill_from(self, index: int, pack: Pack, limits: Limits, now: float) -> bool:
        """Take from one class. Returns True if the class is exhausted."""
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
    """Return the class of a length: short lengths have one class each, longer ones share a class within 6%."""
    if length <= _EXACT_LENGTHS:
        return length
    return _EXACT_LENGTHS + math.ceil(math.log(length / _EXACT_LENGTHS) / _CLASS_GROWTH)


def _take(delivery: Delivery, pack: Pack, limits: Limits) -> bool:
    """Add an item to the pack if it fits and adds little padding. Returns True if it was added."""
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
