from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legit_embedding.engine.sizing.cost_model import (
    CPU_BYTES_PER_TOKEN,
    Ceiling,
    Line,
    estimate_bytes,
    fit_bytes,
    fit_line,
)

POINTS = st.lists(
    st.tuples(st.integers(1, 100_000).map(float), st.floats(0, 1e10)), min_size=1, max_size=12, unique_by=lambda p: p[0]
)


@given(base=st.floats(0, 1e9), slope=st.floats(1, 1e6))
@settings(deadline=None)
def test_a_line_is_found_again(base, slope):
    line = Line(base, slope)
    found = fit_line([(x, line.at(x)) for x in (1.0, 2.0, 4.0, 8.0, 64.0)])
    assert found.at(128) == pytest.approx(line.at(128), rel=1e-6)


@given(POINTS)
@settings(deadline=None)
def test_no_measured_batch_takes_more_than_the_fit_says(points):
    line = fit_bytes(points)
    assert line.base >= 0
    assert line.slope >= 0
    assert all(line.at(x) >= y * (1 - 1e-9) for x, y in points)


@given(base=st.floats(0, 1e9), slope=st.floats(0.001, 1e6), budget=st.floats(0, 1e12))
@settings(deadline=None)
def test_the_largest_cost_within_a_budget_is_within_it_or_one(base, slope, budget):
    cost = Line(base, slope).reach(budget)
    assert cost == 1 or Line(base, slope).at(cost) <= budget * (1 + 1e-9)


def test_one_point_gives_a_line_through_zero():
    assert fit_line([(4.0, 100.0)]) == Line(0.0, 25.0)


def test_without_a_measurement_texts_count_by_tokens_and_images_by_their_array():
    assert estimate_bytes("text", 8).reach(256 << 20) == (256 << 20) // CPU_BYTES_PER_TOKEN == 4096
    assert estimate_bytes("image", 3 * 224 * 224).reach(256 << 20) == 17


class TestCeiling:
    def test_out_of_memory_halves_it(self):
        ceiling = Ceiling(64)
        assert ceiling.shrink(64) == 64
        assert ceiling.cost == 32

    def test_a_small_batch_out_of_memory_lowers_it_below_that_batch(self):
        ceiling = Ceiling(64)
        ceiling.shrink(10)
        assert ceiling.cost == 5

    def test_it_ends_at_one(self):
        ceiling = Ceiling(64)
        for _ in range(20):
            ceiling.shrink(ceiling.cost)
        assert ceiling.cost == 1

    def test_it_recovers_slowly_and_not_beyond_the_plan(self):
        ceiling = Ceiling(100)
        ceiling.shrink(100)
        heights = []
        for _ in range(1000):
            ceiling.went_well()
            heights.append(ceiling.cost)
        assert heights[30] == 50
        assert heights[31] == 55
        assert heights[-1] == max(heights) == 100

    def test_it_is_restored_when_an_item_was_to_blame(self):
        ceiling = Ceiling(64)
        before = ceiling.shrink(64)
        ceiling.shrink(32)
        ceiling.restore(before)
        assert ceiling.cost == 64

    def test_another_tenant_lowers_it_while_it_is_there(self):
        ceiling = Ceiling(64)
        ceiling.allow(20)
        assert ceiling.cost == 20
        ceiling.shrink(64)
        assert ceiling.cost == 20
        ceiling.allow(500)
        assert ceiling.cost == 32

    @given(st.lists(st.sampled_from(["shrink", "well", "restore", "allow"]), max_size=60), st.integers(1, 5000))
    @settings(deadline=None)
    def test_it_stays_between_one_and_the_plan(self, events, planned):
        ceiling = Ceiling(planned)
        for event in events:
            if event == "shrink":
                ceiling.shrink(ceiling.cost)
            elif event == "well":
                ceiling.went_well()
            else:
                getattr(ceiling, event)(planned * 3)
            assert 1 <= ceiling.cost <= planned
