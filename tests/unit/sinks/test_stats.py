from __future__ import annotations

from legit_embedding.sinks.stats import Counters


def test_buckets_are_cumulative() -> None:
    counters = Counters()
    for seconds in (0.0005, 0.001, 0.3, 60.0):
        counters.confirmed(seconds)
    stats = counters.snapshot(pending=3, pending_bytes=30)
    buckets = dict(stats.write_s_buckets)
    assert (buckets[0.001], buckets[0.25], buckets[0.5], buckets[10.0], buckets[float("inf")]) == (2, 2, 3, 3, 4)
    assert stats.batches == 4
    assert stats.write_s_sum == 60.3015
    assert (stats.pending, stats.pending_bytes) == (3, 30)
