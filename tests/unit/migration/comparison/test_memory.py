"""Eight times the results, the same memory."""

from __future__ import annotations

import tracemalloc

import numpy as np

from legit_embedding.migration.comparison.pairing import Expected, pair
from legit_embedding.migration.comparison.record import Record
from legit_embedding.migration.comparison.spill import Spill
from legit_embedding.migration.comparison.tally import Side, Tally

MEGABYTE = 1024 * 1024


def peak(count):
    vector = np.random.default_rng(0).standard_normal(128).astype(np.float32).tobytes()
    tally = Tally(Side("left"), Side("right"))
    tracemalloc.start()
    try:
        with Spill() as left, Spill() as right:
            for spill in (left, right):
                spill.fill(Record(f"task-{number}", vector=vector) for number in range(count))
            pair(left, right, tally, Expected(), lambda: None)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert tally.distances.count == count


def test_memory_does_not_follow_the_number_of_results():
    few, many = peak(3000), peak(24_000)
    assert many - few < 2 * MEGABYTE, "of 25 MB of vectors"
