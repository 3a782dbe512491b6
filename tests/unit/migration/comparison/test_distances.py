"""Quantiles from bins: never better than the true ones, and near them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.migration.comparison.distances import NEAREST, QUANTILES, Distances


def spread(distances):
    made = Distances()
    for part in np.array_split(1.0 - np.asarray(distances, np.float64), 3):
        made.add(part)
    return made


@given(st.lists(st.floats(-12, 0.3).map(lambda decade: 10.0**decade), min_size=1, max_size=200))
def test_quantiles_are_near_and_never_better(distances):
    made = spread(distances)
    cosines = np.sort(1.0 - np.array(distances))
    for share in QUANTILES:
        true = cosines[min(len(cosines) - 1, int(share * len(cosines)))]
        found = made.quantile(share)
        assert found <= true + 1e-12
        assert (1 - found) <= max(1.0234 * (1 - true), NEAREST) + 1e-12


def test_least_and_mean_are_exact():
    made = spread([0.0, 0.5, 2.0, 1e-3])
    assert (made.count, made.least) == (4, -1.0)
    assert made.mean == pytest.approx(1 - 2.501 / 4)


def test_rounding_above_one_is_the_nearest_bin():
    made = Distances()
    made.add(np.array([1.0 + 1e-15, 1.0]))
    assert made.least == 1.0
    assert made.quantile(0.5) == 1.0
    assert made.decades() == [(NEAREST, 2)]


def test_nothing_is_no_error():
    made = Distances()
    made.add(np.array([]))
    assert (made.count, made.decades()) == (0, [])
