"""Items of one batch with the same content are computed once, and each is answered."""

from __future__ import annotations

from collections import Counter

from tests.unit.engine.backends import LIMIT_S, Item, Model
from tests.waiting import wait_for


def items(*numbers: int) -> list[Item]:
    made = [Item(number) for number in numbers]
    for item in made:
        item.content = str(item.number).encode()
    return made


def test_each_content_is_one_row_and_every_item_gets_its_vector(make_engine):
    model = Model()
    engine = make_engine(model)
    submitted = items(5, 3, 5, 5, 8, 3)
    for item in submitted:
        engine.submit(item)
    engine.start()
    assert engine.drain(LIMIT_S)
    assert Counter(number for batch in model.batches for number in batch) == {5: 1, 3: 1, 8: 1}
    assert all(item.is_right for item in submitted)
    wait_for(lambda: engine.stats().models["images"].items == 6, LIMIT_S, "the items to be counted")


def test_items_of_unknown_content_have_rows_of_their_own(make_engine):
    model = Model()
    engine = make_engine(model)
    submitted = [Item(5), Item(5), *items(5, 5)]
    for item in submitted:
        engine.submit(item)
    engine.start()
    assert engine.drain(LIMIT_S)
    assert model.batches == [[5, 5, 5]]
    assert all(item.is_right for item in submitted)


def test_repeats_of_a_poisoned_item_fail_and_their_neighbours_do_not(make_engine):
    model = Model()

    def poisoned(numbers):
        if 3 in numbers:
            raise ValueError("three")

    model.on_forward = poisoned
    engine = make_engine(model)
    bad, good = items(3, 3, 3), items(4, 7, 4)
    for pair in zip(bad, good, strict=True):
        for item in pair:
            engine.submit(item)
    engine.start()
    assert engine.drain(LIMIT_S)
    assert [(item.code, item.settled) for item in bad] == [("poisoned", 1)] * 3
    assert all(item.is_right for item in good)


def test_a_vector_that_is_not_finite_fails_all_that_share_it(make_engine):
    model = Model()
    model.on_vectors = lambda numbers, vectors: vectors.masked_fill(
        (vectors[:, :1] == 3).expand_as(vectors), float("nan")
    )
    engine = make_engine(model)
    bad, good = items(3, 3), items(4)
    for item in [*bad, *good]:
        engine.submit(item)
    engine.start()
    assert engine.drain(LIMIT_S)
    assert [item.code for item in bad] == ["non_finite", "non_finite"]
    assert good[0].is_right
