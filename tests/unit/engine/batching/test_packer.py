from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legit_embedding.engine.batching.packer import (
    WASTE_LIMIT,
    FifoShelf,
    LengthShelf,
    Limits,
    Pack,
    Shelf,
    length_class,
    padded_cost,
    shelf_for,
)
from tests.unit.engine.backends import Item

LENGTHS = st.integers(min_value=1, max_value=600)
LIMITS = st.builds(
    Limits,
    cost=st.integers(min_value=1, max_value=5000),
    items=st.integers(min_value=1, max_value=40),
    free_padding=st.integers(min_value=0, max_value=200),
)
NOW = 1_000.0


def queue(shelf: Shelf, lengths: list[int], start: int = 0) -> list[Item]:
    items = [Item(start + n, length=length) for n, length in enumerate(lengths)]
    for item in items:
        item.queued_at = float(item.number)
        shelf.add(item)
    return items


def costs(pack: Pack) -> list[int]:
    return [delivery.prepared.cost for delivery in pack.deliveries]


@pytest.mark.parametrize("kind", ["image", "text"])
@given(lengths=st.lists(LENGTHS, max_size=120), limits=LIMITS)
def test_every_item_leaves_once_in_batches_within_the_limits(kind, lengths, limits):
    shelf = shelf_for(kind)
    waiting = set(queue(shelf, lengths))

    while waiting:
        oldest = min(waiting, key=lambda item: item.queued_at)
        assert shelf.oldest() is oldest
        pack = shelf.pack(limits, NOW)
        taken = set(pack.deliveries)

        assert oldest in taken, "the oldest item was passed over"
        assert len(taken) == len(pack.deliveries) <= limits.items
        assert taken <= waiting
        assert len(taken) == 1 or padded_cost(kind, costs(pack)) <= limits.cost
        assert pack.useful == sum(costs(pack))
        waiting -= taken
        assert len(shelf) == len(waiting)
        assert shelf.cost == sum(item.prepared.cost for item in waiting)

    assert shelf.pack(limits, NOW).deliveries == []
    assert shelf.oldest() is None


@given(lengths=st.lists(LENGTHS, min_size=1, max_size=120), limits=LIMITS)
@settings(max_examples=60, deadline=None)
def test_padding_stays_small_or_cheaper_than_another_batch(lengths, limits):
    shelf = LengthShelf()
    queue(shelf, lengths)

    while len(shelf):
        packed = costs(shelf.pack(limits, NOW))
        padded = padded_cost("text", packed)
        assert padded - sum(packed) <= max(limits.free_padding, WASTE_LIMIT * padded)


@given(
    items=st.lists(st.tuples(LENGTHS, st.sampled_from(["good", "cancelled", "expired", "in time"])), max_size=80),
    limits=LIMITS,
    kind=st.sampled_from(["image", "text"]),
)
@settings(max_examples=60, deadline=None)
def test_unwanted_items_are_set_apart_and_no_wanted_one_is(items, limits, kind):
    shelf = shelf_for(kind)
    queued = queue(shelf, [length for length, _ in items])
    for item, (_, fate) in zip(queued, items, strict=True):
        item.cancelled = "revoked" if fate == "cancelled" else None
        item.deadline = {"expired": NOW - 1, "in time": NOW + 1}.get(fate)

    packed, refused = [], []
    while len(shelf):
        pack = shelf.pack(limits, NOW)
        packed += pack.deliveries
        refused += pack.refused

    unwanted = {item for item, (_, fate) in zip(queued, items, strict=True) if fate in {"cancelled", "expired"}}
    assert set(refused) == unwanted
    assert set(packed) == set(queued) - unwanted
    assert len(packed) + len(refused) == len(queued)
    assert shelf.cost == 0


@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=60),
    data=st.data(),
    kind=st.sampled_from(["image", "text"]),
)
@settings(max_examples=60, deadline=None)
def test_an_item_can_be_taken_out_of_the_middle(lengths, data, kind):
    shelf = shelf_for(kind)
    items = queue(shelf, lengths)
    gone = data.draw(st.sets(st.sampled_from(items)))
    for item in gone:
        assert shelf.remove(item)
        assert not shelf.remove(item)

    assert len(shelf) == len(items) - len(gone)
    assert set(shelf.clear()) == set(items) - gone
    assert len(shelf) == shelf.cost == 0


def test_images_leave_in_the_order_in_which_they_came():
    shelf = FifoShelf()
    items = queue(shelf, [1] * 10)
    packs = [shelf.pack(Limits(4, 100), NOW).deliveries for _ in range(3)]
    assert packs == [items[:4], items[4:8], items[8:]]


def test_an_item_over_the_limit_goes_alone():
    for shelf in (FifoShelf(), LengthShelf()):
        items = queue(shelf, [900, 900, 10])
        assert shelf.pack(Limits(500, 100), NOW).deliveries == items[:1]


def mixed_lengths(count: int) -> list[int]:
    chance = random.Random(7)
    return [min(400, max(3, int(chance.lognormvariate(3.5, 0.9)))) for _ in range(count)]


def test_mixed_lengths_under_steady_arrivals_pad_less_than_a_tenth_in_full_batches():
    shelf, limits = LengthShelf(), Limits(4096, 1024)
    arriving = mixed_lengths(12_000)
    queue(shelf, arriving[:2000])
    useful = padded = batches = 0
    for start in range(2000, 12_000, 100):
        queue(shelf, arriving[start : start + 100], start)
        packed = costs(shelf.pack(limits, NOW))
        useful, padded, batches = useful + sum(packed), padded + padded_cost("text", packed), batches + 1

    assert 1 - useful / padded < 0.10
    assert padded / batches > 0.75 * limits.cost


def test_in_the_order_of_arrival_the_same_lengths_would_pad_far_more():
    arriving = mixed_lengths(2000)
    batches = [arriving[start : start + 64] for start in range(0, 2000, 64)]
    padded = sum(padded_cost("text", batch) for batch in batches)
    assert 1 - sum(arriving) / padded > 0.5


def test_packing_looks_only_at_what_it_takes_however_many_wait():
    looks = 0

    class Watched(Item):
        __slots__ = ("_cancelled",)

        @property
        def cancelled(self):
            nonlocal looks
            looks += 1
            return self._cancelled

        @cancelled.setter
        def cancelled(self, value):
            self._cancelled = value

    for shelf in (FifoShelf(), LengthShelf()):
        looks = 0
        for n, length in enumerate(mixed_lengths(20_000)):
            item = Watched(n, length=length)
            item.queued_at = float(n)
            shelf.add(item)
        taken = len(shelf.pack(Limits(4096, 1024), NOW).deliveries)
        assert looks <= taken + 2


def test_length_classes_are_ordered_and_narrow():
    classes = [length_class(length) for length in range(1, 9000)]
    assert classes == sorted(classes)
    for length in range(1, 8000):
        if length_class(length) == length_class(length + 1):
            shortest = classes.index(length_class(length)) + 1
            assert (length + 1) / shortest <= 1.061
    assert len(set(classes)) < 130
