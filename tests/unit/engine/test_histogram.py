from __future__ import annotations

import math
import threading
from random import Random

import pytest

from legit_embedding.engine.histogram import SECONDS, Histogram


def test_one_by_one_and_all_at_once_are_the_same() -> None:
    random = Random(0)
    values = [random.expovariate(10) for _ in range(1000)] + list(SECONDS)
    single, many = Histogram(SECONDS), Histogram(SECONDS)
    for value in values:
        single.observe(value)
    many.observe_all(values[:500])
    many.observe_all(values[500:])
    assert single.snapshot().buckets == many.snapshot().buckets
    assert single.snapshot().sum == pytest.approx(many.snapshot().sum)


def test_buckets_are_cumulative_and_a_bound_is_in_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0, times=3)
    histogram.observe(1.5)
    histogram.observe(99.0)
    seen = histogram.snapshot()
    assert seen.buckets == ((1.0, 3), (2.0, 4), (math.inf, 5))
    assert (seen.count, seen.sum, seen.mean) == (5, 103.5, 103.5 / 5)
    assert histogram.mean == seen.mean


def test_nothing_seen() -> None:
    histogram = Histogram((1.0,))
    seen = histogram.snapshot()
    assert (seen.count, seen.mean, histogram.mean) == (0, 0.0, 0.0)


def test_threads_lose_nothing() -> None:
    histogram = Histogram((1.0,))

    def observe() -> None:
        for _ in range(2000):
            histogram.observe(0.5)
            histogram.observe_all([0.5, 2.0])

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.snapshot().buckets == ((1.0, 16_000), (math.inf, 24_000))
