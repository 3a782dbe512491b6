from __future__ import annotations

import threading

from legit_embedding.engine.answers import Answers
from legit_embedding.engine.batch import Batch
from legit_embedding.engine.custody import Custody
from tests.unit.engine.backends import Item


def batch(*numbers: int) -> Batch:
    return Batch("images", "image", [Item(n) for n in numbers])


def test_a_batch_can_be_claimed_once():
    made = batch(1)
    assert made.claim()
    assert not made.claim()


def test_the_end_gives_back_what_nobody_has_claimed():
    custody = Custody(Answers())
    free, claimed, released = batch(1, 2), batch(3), batch(4)
    for each in (free, claimed, released):
        assert custody.take(each)
    assert claimed.claim()
    custody.release(released)
    custody.end()
    custody.end()
    assert [item.outcome for item in free.deliveries] == ["given back", "given back"]
    assert claimed.deliveries[0].outcome is released.deliveries[0].outcome is None


def test_what_comes_after_the_end_is_given_back():
    custody = Custody(Answers())
    custody.end()
    late = batch(1)
    assert not custody.take(late)
    assert late.deliveries[0].settled == 1
    assert len(custody) == 0


def test_an_end_in_the_middle_of_arrivals_misses_none():
    for _ in range(30):
        custody = Custody(Answers())
        batches = [batch(n) for n in range(200)]
        arriving = threading.Thread(target=lambda b=batches, c=custody: [c.take(each) for each in b])
        arriving.start()
        custody.end()
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
