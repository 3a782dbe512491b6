from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.engine.batching.packer import Limits, padded_cost, shelf_for
from legit_embedding.engine.batching.priority import PriorityShelf
from tests.unit.engine.backends import Item

NOW = 1_000.0


def shelf(kind: str = "image", share: float = 0.8) -> PriorityShelf:
    return PriorityShelf(partial(shelf_for, kind), share)


def put(where: PriorityShelf, *numbers: int, interactive: bool = False, length: int = 1) -> list[Item]:
    items = [Item(number, length=length) for number in numbers]
    for item in items:
        item.interactive = interactive
        item.queued_at = float(item.number)
        where.add(item)
    return items


def test_interactive_items_go_first_and_bulk_items_fill_the_batch():
    waiting = shelf()
    bulk = put(waiting, 1, 2, 3)
    interactive = put(waiting, 4, 5, interactive=True)
    assert waiting.oldest() is bulk[0]
    assert waiting.pack(Limits(4, 4), NOW).deliveries == [*interactive, bulk[0], bulk[1]]
    assert waiting.pack(Limits(4, 4), NOW).deliveries == [bulk[2]]
    assert (len(waiting), waiting.cost, waiting.oldest()) == (0, 0, None)


@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_each_sort_gets_its_share_while_both_wait(kind, share):
    waiting = shelf(kind, share)
    put(waiting, *range(1000))
    put(waiting, *range(1000, 2000), interactive=True)
    taken = [item for _ in range(100) for item in waiting.pack(Limits(4, 4), NOW).deliveries]
    assert sum(item.interactive for item in taken) / len(taken) == pytest.approx(share, abs=0.01)


def test_a_few_interactive_items_among_many_bulk_ones_never_wait_for_a_second_batch():
    waiting = shelf()
    put(waiting, *range(10_000))
    for number in range(10_000, 10_500):
        [item] = put(waiting, number, interactive=True)
        assert item in waiting.pack(Limits(4, 4), NOW).deliveries


def test_bulk_items_fill_an_interactive_batch_until_its_time_doubles():
    limits = Limits(100, 100, fixed_cost=6)
    waiting = shelf()
    put(waiting, *range(1000))
    interactive = put(waiting, 1000, 1001, interactive=True)
    taken = waiting.pack(limits, NOW).deliveries
    assert taken[:2] == interactive
    assert len(taken) == 10, "6 + 10 is twice 6 + 2"
    assert len(waiting.pack(limits, NOW).deliveries) == 100, "nobody waits for it"


@pytest.mark.parametrize("fixed_cost", [0, 5, 50])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_small_interactive_batches_take_no_more_than_their_share_of_the_time(fixed_cost, share):
    limits = Limits(100, 100, fixed_cost=fixed_cost)
    waiting = shelf("text", share)
    put(waiting, *range(10_000), length=50)
    time = {True: 0.0, False: 0.0}
    for number in range(2000):
        put(waiting, 10_000 + number, interactive=True, length=2)
        taken = waiting.pack(limits, NOW).deliveries
        assert len({item.interactive for item in taken}) == 1, "their lengths are too different"
        time[taken[0].interactive] += fixed_cost + sum(item.prepared.cost for item in taken)
    assert time[True] / sum(time.values()) == pytest.approx(share, abs=0.05)


def test_bulk_items_that_do_not_fit_beside_interactive_ones_get_batches_of_their_own():
    waiting = shelf("text")
    put(waiting, *range(100), length=100)
    put(waiting, *range(100, 400), interactive=True, length=1)
    batches = [waiting.pack(Limits(100, 4), NOW).deliveries for _ in range(50)]
    assert sum(not batch[0].interactive for batch in batches) == 10


def test_no_debt_is_kept_from_when_only_one_sort_waited():
    waiting = shelf()
    put(waiting, *range(1000), interactive=True)
    for _ in range(50):
        waiting.pack(Limits(4, 4), NOW)
    put(waiting, *range(1000, 1100))
    assert all(item.interactive for _ in range(4) for item in waiting.pack(Limits(4, 4), NOW).deliveries)


@pytest.mark.parametrize("kind", ["image", "text"])
@given(items=st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=80), cost=st.integers(1, 400))
def test_every_item_leaves_once_within_the_limits(kind, items, cost):
    waiting = shelf(kind)
    left = {
        item
        for number, (interactive, length) in enumerate(items)
        for item in put(waiting, number, interactive=interactive, length=length)
    }
    while left:
        assert len(waiting) == len(left)
        assert waiting.cost == sum(item.prepared.cost for item in left)
        pack = waiting.pack(Limits(cost, 10), NOW)
        taken = set(pack.deliveries)
        assert taken
        assert taken <= left
        assert len(taken) == len(pack.deliveries) <= 10
        costs = [item.prepared.cost for item in taken]
        assert len(taken) == 1 or padded_cost(kind, costs) <= cost
        assert pack.useful == sum(costs)
        left -= taken
    assert (len(waiting), waiting.cost) == (0, 0)


def test_cancelled_and_expired_items_are_refused_and_removed_from_both():
    waiting = shelf()
    bulk = put(waiting, 1, 2)
    interactive = put(waiting, 3, 4, interactive=True)
    assert waiting.remove(bulk[0])
    assert not waiting.remove(bulk[0])
    interactive[0].cancelled = "revoked"
    bulk[1].deadline = NOW - 1
    pack = waiting.pack(Limits(10, 10), NOW)
    assert (pack.deliveries, pack.refused) == ([interactive[1]], [interactive[0], bulk[1]])
    put(waiting, 5)
    put(waiting, 6, interactive=True)
    assert [item.number for item in waiting.clear()] == [6, 5]
    assert (len(waiting), waiting.cost) == (0, 0)
