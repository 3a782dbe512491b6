from __future__ import annotations

import threading

from legit_embedding.engine.batching.batch import Batch
from legit_embedding.engine.in_flight import InFlightBatches
from legit_embedding.engine.outcomes import Outcomes
from tests.unit.engine.backends import Item


def batch(*numbers: int) -> Batch:
    return Batch("images", "image", [Item(n) for n in numbers])


def test_a_batch_can_be_claimed_once():
    made = batch(1)
    assert made.claim()
    assert not made.claim()


def test_the_end_gives_back_what_nobody_has_claimed():
    in_flight = InFlightBatches(Outcomes())
    free, claimed, released = batch(1, 2), batch(3), batch(4)
    for each in (free, claimed, released):
        assert in_flight.take(each)
    assert claimed.claim()
    in_flight.release(released)
    in_flight.end()
    in_flight.end()
    assert [item.outcome for item in free.deliveries] == ["given back", "given back"]
    assert claimed.deliveries[0].outcome is released.deliveries[0].outcome is None


def test_what_comes_after_the_end_is_given_back():
    in_flight = InFlightBatches(Outcomes())
    in_flight.end()
    late = batch(1)
    assert not in_flight.take(late)
    assert late.deliveries[0].settled == 1
    assert len(in_flight) == 0


def test_an_end_in_the_middle_of_arrivals_misses_none():
    for _ in range(30):
        in_flight = InFlightBatches(Outcomes())
        batches = [batch(n) for n in range(200)]
        arriving = threading.Thread(target=lambda b=batches, c=in_flight: [c.take(each) for each in b])
        arriving.start()
        in_flight.end()
        arriving.join()
        assert all(each.deliveries[0].settled == 1 for each in batches)


def test_halves_have_all_items_and_remember_that_they_are_halves():
    whole = Batch("texts", "text", [Item(n, length=n) for n in range(1, 6)])
    whole.memory_failed_at = 70
    parts = whole.halves()
    assert [item.number for part in parts for item in part.deliveries] == [1, 2, 3, 4, 5]
    assert all(part.split and part.memory_failed_at == 70 for part in parts)
    assert (whole.cost, whole.useful) == (25, 15)
    assert [part.cost for part in parts] == [4, 15]
