from __future__ import annotations

import pytest

from legit_embedding.wire.call import read_batch, read_one

TEXT = {"task_id": "a", "text": "x"}
OTHER = {"task_id": "b", "text": "y"}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([TEXT], {}),
        ((TEXT,), None),
        ([TEXT], []),
        ([], {"task": TEXT}),
        (None, {"handoff": TEXT}),
        ({}, TEXT),
        ([TEXT], {"colour": "red"}),
    ],
)
def test_one_object_in_every_way(args, kwargs):
    call = read_one(args, kwargs)
    assert (call.raws, call.error) == ((TEXT,), None)
    assert [origin.id for origin in call.origins("c")] == ["c"]


@pytest.mark.parametrize(
    ("args", "kwargs", "raw"),
    [
        ([], {}, None),
        (None, None, None),
        ([5, TEXT], {}, TEXT),
        ([TEXT], {"text": "y"}, TEXT),
        (["x"], OTHER, OTHER),
        ([], {"task": TEXT, "tasks": [OTHER]}, TEXT),
    ],
)
def test_what_does_not_fit_is_answered_under_the_first_legible_id(args, kwargs, raw):
    call = read_one(args, kwargs)
    assert call.error is not None
    assert call.error.code == "invalid_task"
    assert call.raws == (raw,)


def test_each_of_a_batch_has_an_id_of_its_own():
    call = read_batch([[TEXT, OTHER]], {})
    assert (call.raws, call.error) == ((TEXT, OTHER), None)
    assert [origin.id for origin in call.origins("c")] == ["c:0", "c:1"]


def test_an_empty_batch_has_nothing_to_answer():
    call = read_batch([[]], {})
    assert (call.raws, call.error, call.origins("c")) == ((), None, [])


@pytest.mark.parametrize(
    ("args", "kwargs", "raws"),
    [
        ([TEXT], {}, (TEXT,)),
        ([], TEXT, (TEXT,)),
        ([], {}, (None,)),
        ([[TEXT], [OTHER]], {}, (TEXT, OTHER)),
        ([[TEXT]], {"model": "m"}, (TEXT,)),
    ],
)
def test_a_batch_that_does_not_fit(args, kwargs, raws):
    call = read_batch(args, kwargs)
    assert call.error is not None
    assert call.raws == raws
