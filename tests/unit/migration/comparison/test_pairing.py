"""What is counted, what is missing, and what is judged."""

from __future__ import annotations

import numpy as np
import pytest

from legit_embedding.migration.comparison.pairing import Expected, pair
from legit_embedding.migration.comparison.record import Record
from legit_embedding.migration.comparison.spill import BUCKETS, Spill
from legit_embedding.migration.comparison.tally import Side, Tally
from legit_embedding.migration.comparison.verdict import problems


def good(task_id, vector=(1.0, 0.0), at_ms=None, model="m"):
    return Record(task_id, model=model, at_ms=at_ms, vector=np.array(vector, np.float32).tobytes())


def bad(task_id):
    return Record(task_id, "error", error="undecodable")


ALL = Expected()


def compared(left, right, expected=ALL):
    tally, steps = Tally(Side("left"), Side("right")), []
    with Spill() as ours, Spill() as theirs:
        ours.fill(left)
        theirs.fill(right)
        pair(ours, theirs, tally, expected, lambda: steps.append(1))
    assert len(steps) == BUCKETS
    return tally


def test_the_same_on_both_sides_agrees():
    rng = np.random.default_rng(0)
    records = [good(f"t{n}", rng.standard_normal(8)) for n in range(3000)]
    tally = compared(records, records[::-1])
    assert tally.distances.count == 3000
    assert tally.distances.least == pytest.approx(1, abs=1e-12)
    assert problems(tally, 0.999) == []


def test_cosines_are_numpys_whatever_the_norm():
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((200, 16)), rng.standard_normal((200, 16)) * 7
    tally = compared(
        (good(f"t{n}", each) for n, each in enumerate(left)), (good(f"t{n}", each) for n, each in enumerate(right))
    )
    a, b = left.astype(np.float32).astype(float), right.astype(np.float32).astype(float)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert [each.cosine for each in tally.worst] == pytest.approx(sorted(cosines)[:10])
    assert [each.task_id for each in tally.worst] == [f"t{n}" for n in np.argsort(cosines)[:10]]
    assert tally.right.norm_most == pytest.approx(np.linalg.norm(b, axis=1).max())


def test_a_cosine_below_the_limit_is_a_problem():
    tally = compared([good("t", (1, 0))], [good("t", (1, 0.05))])
    assert problems(tally, 0.9) == []
    assert problems(tally, 0.999) == ["the smallest cosine is 0.998752, below 0.999"]


def test_what_is_missing_is_counted_and_named():
    tally = compared([good("a"), good("b"), good("c")], [good("b"), good("d")])
    assert (tally.right.missing, sorted(tally.right.missing_examples)) == (2, ["a", "c"])
    assert (tally.left.missing, tally.left.missing_examples) == (1, ["d"])
    assert problems(tally, 0.999) == ["1 task is missing in left", "2 tasks are missing in right"]


def test_duplicates_are_counted_and_the_first_counts():
    tally = compared([good("a"), good("a", (0, 1))], [good("a")])
    assert (tally.left.results, tally.left.duplicates, tally.distances.count) == (2, 1, 1)
    assert problems(tally, 0.999) == []


def test_a_subset_lacks_nothing():
    left, right = [good("a"), good("b")], [good("b")]
    tally = compared(left, right, Expected(right_is_subset=True))
    assert problems(tally, 0.999) == []
    assert tally.not_judged == 1
    tally = compared(right, left, Expected(right_is_subset=True))
    assert problems(tally, 0.999) == ["1 task is missing in left"]


def test_what_is_too_old_or_too_young_is_not_missing():
    left = [good("old", at_ms=1), good("due", at_ms=5), good("young", at_ms=9), good("both", at_ms=5)]
    tally = compared(left, [good("both", at_ms=10)], Expected(since_ms=2, until_ms=8))
    assert tally.right.missing_examples == ["due"]
    assert tally.not_judged == 2


def test_errors():
    tally = compared([bad("a"), bad("b"), good("c")], [bad("a"), good("b"), bad("c")])
    assert (tally.both_failed, sorted(tally.one_failed)) == (1, ["b", "c"])
    assert tally.left.errors == {"undecodable": 2}
    assert problems(tally, 0.999) == [
        "no task has a vector on both sides",
        "2 tasks have a vector on one side and an error on the other",
    ]


def test_lengths_and_models():
    tally = compared([good("a"), good("b", model="x")], [good("a", (1, 0, 0)), good("b")])
    assert (tally.dims_differ, tally.models_differ) == (1, 1)
    assert (tally.left.dims, tally.right.dims) == ({2: 2}, {2: 1, 3: 1})
    assert problems(tally, 0.999) == ["1 pair of vectors differs in length"]


def test_an_unreadable_vector_is_a_problem():
    tally = compared([good("a"), Record("b", "unreadable")], [good("a"), good("b")])
    assert problems(tally, 0.999) == [
        "1 vector in left cannot be read",
        "1 task has a vector on one side and an error on the other",
    ]


def test_nothing_to_compare_is_a_problem():
    assert problems(compared([], []), 0.999) == ["no task has a vector on both sides"]


def test_the_file_goes_away(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spill() as spill:
        spill.fill([good("a")])
        [folder] = tmp_path.iterdir()
        assert list(folder.iterdir())
    assert not folder.exists()
