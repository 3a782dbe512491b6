from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest
import torch

from legit_embedding.engine.batching.packer import MAX_ITEMS
from legit_embedding.engine.device.cpu import CpuDevice
from legit_embedding.engine.sizing.cost_model import Line, estimate_bytes
from legit_embedding.engine.sizing.profile import BATCH_S, Plan, Point, batch_cost, make_plan, run, survey
from tests.unit.engine.backends import Model
from tests.unit.engine.devices import MeteredDevice


def saturating(numbers: list[int]) -> float:
    """1 ms fixed, 1 ms an item."""
    return 0.001 + 0.001 * len(numbers)


def points(*measured: tuple[int, float, int | None]) -> list[Point]:
    return [Point(1, *each) for each in measured]


def test_a_survey_doubles_the_cost_until_the_speed_no_longer_grows():
    device = MeteredDevice(saturating, free=10**12)
    measured = survey(device, Model(), Model().forward, 1e12)
    assert [point.cost for point in measured][:4] == [1, 2, 4, 8]
    assert 64 <= measured[-1].cost <= 512


def test_a_survey_stays_within_the_budget():
    device = MeteredDevice(saturating)
    measured = survey(device, Model(), Model().forward, 20_000)
    assert max(point.bytes or 0 for point in measured) <= 20_000
    assert len(measured) > 2


def test_a_survey_ends_where_no_batch_has_more_items():
    device = MeteredDevice(lambda numbers: 1e-6, free=10**12)  # ever faster
    assert survey(device, Model(), Model().forward, 1e12)[-1].items == MAX_ITEMS


class Unmetered(MeteredDevice):
    """Does not know the memory of a batch, as a CPU."""

    def peak_bytes(self) -> int | None:
        return None


def test_memory_that_is_not_measured_is_guessed():
    measured = survey(Unmetered(saturating), Model(), Model().forward, budget := 20_000)
    each = estimate_bytes("image", Model().samples(1)[0].nbytes)
    assert len(measured) > 2
    assert each.at(measured[-1].cost) <= budget < each.at(2 * measured[-1].cost)


def test_speed_limits_a_batch_on_a_cpu_too():
    plan = make_plan("m", "image", 0, survey(Unmetered(saturating), Model(), Model().forward, 1e9), 1e9, 8)
    assert plan.knee == 32
    assert (plan.target(), plan.limited_by()) == (64, "speed")


def test_a_survey_that_ends_while_speed_still_grows_has_found_no_knee():
    assert make_plan("m", "image", 0, points((1, 0.1, 10), (2, 0.1, 20), (4, 0.1, 40)), 1000, 1).knee is None
    assert make_plan("m", "image", 0, points((1, 0.1, 10), (2, 0.11, 20), (4, 0.2, 40)), 1000, 1).knee == 4
    assert make_plan("m", "image", 0, points((1, 0.1, 10), (2, 0.11, 20), (4, 0.22, 40)), 1000, 1).knee == 2


def test_an_item_that_takes_long_is_a_batch():
    device = Unmetered(lambda numbers: 5.0 * len(numbers))
    plan = make_plan("m", "image", 0, survey(device, Model(), Model().forward, 1e9), 1e9, 8)
    assert (plan.target(), plan.limited_by()) == (1, "time")


@pytest.mark.parametrize(
    ("measured", "fits_into_a_second"),
    [
        (((1, 0.70, None), (2, 0.72, None)), 44),  # the first was disturbed: twice as many take as long
        (((1, 0.80, None), (2, 0.72, None)), 44),
        (((1, 0.35, None), (2, 0.90, None)), 2),  # the second was
        (((1, 0.40, None), (2, 0.40, None), (4, 0.40, None)), 160),
        (((1, 0.40, None), (2, 0.30, None), (4, 0.20, None)), 320),
    ],
)
def test_a_busy_host_does_not_make_batches_of_a_slow_model_unlimited(
    measured: tuple[tuple[int, float, None], ...], fits_into_a_second: int
) -> None:
    plan = make_plan("m", "image", 0, points(*measured), 1e12, 1)
    assert plan.target() == fits_into_a_second
    assert plan.limited_by() == "time"
    assert plan.target(pace=2.0) <= max(1, fits_into_a_second // 2)


def test_a_disturbed_measurement_of_the_first_size_is_not_the_only_one():
    of_one = chain([0.4], repeat(0.8))  # the warm-up was not disturbed
    device = Unmetered(lambda numbers: next(of_one) if len(numbers) == 1 else 0.4 * len(numbers))
    assert [point.seconds for point in survey(device, Model(), Model().forward, 1e9)][:2] == [0.4, 0.8]


def test_memory_and_speed_make_the_plan():
    device = MeteredDevice(saturating, item_bytes=1000)
    plan = make_plan("m", "image", 5, survey(device, Model(), Model().forward, 1e9), 201_500, 1)
    assert plan.bytes.base == pytest.approx(1000)
    assert plan.bytes.slope == pytest.approx(1000)
    assert plan.largest == 200
    assert plan.knee == 32
    assert plan.speed == pytest.approx(1000, rel=0.03)
    assert plan.target() == 64
    assert plan.limited_by() == "speed"


def test_a_plan_without_a_measured_knee_takes_what_memory_allows():
    plan = make_plan("m", "text", 0, points((64, 0.001, None), (128, 0.002, None)), 64 * 1024 * 1000, 8)
    assert plan.knee is None
    assert plan.target() == plan.largest == 1000
    assert plan.limited_by() == "memory"


def test_a_slow_device_gets_batches_that_do_not_hold_it_for_long():
    plan = Plan("m", "image", 0, Line(0, 1), Line(0.5, 0.4), largest=1000, knee=None, speed=2.5)
    assert plan.target() == BATCH_S // 0.4
    assert plan.limited_by() == "time"
    assert plan.target(pace=2.0) == BATCH_S // 0.8


def test_fixed_time_does_not_limit_a_batch():
    plan = Plan("m", "image", 0, Line(0, 1), Line(30.0, 0.0), largest=1000, knee=None, speed=30)
    assert plan.target() == 1000


def test_free_padding_is_what_another_batch_would_cost():
    plan = Plan("m", "text", 0, Line(0, 1), Line(0.001, 0.0001), largest=3200, knee=None, speed=1)
    assert plan.free_padding() == 10
    costly = Plan("m", "text", 0, Line(0, 1), Line(1.0, 0.0001), largest=3200, knee=None, speed=1)
    assert costly.free_padding() == 100


def test_it_can_be_printed_as_json():
    plan = make_plan("m", "image", 5, points((1, 0.1, 10), (2, 0.2, 20)), 1000, 1)
    figures = plan.as_dict()
    assert figures["model"] == "m"
    assert figures["bytes"]["slope"] == pytest.approx(10)
    assert figures["target"] == plan.target()


def test_vectors_of_the_wrong_shape_are_told():
    model = Model()
    model.on_vectors = lambda numbers, vectors: vectors[:, :3]
    with pytest.raises(ValueError, match=r"gave vectors of shape \(2, 3\), not \(2, 4\)"):
        run(CpuDevice(), model, model.forward, model.samples(2))


def test_vectors_that_are_not_finite_are_told():
    model = Model()
    model.on_vectors = lambda numbers, vectors: vectors * torch.nan
    with pytest.raises(ValueError, match="NaN"):
        run(CpuDevice(), model, model.forward, model.samples(2))


def test_texts_cost_what_their_longest_makes_of_them():
    arrays = [np.zeros(length, np.int64) for length in (3, 5, 4)]
    assert batch_cost("text", arrays) == 15
    assert batch_cost("image", arrays) == 3
