"""The survey on a pretend device whose first batches pay for more than themselves."""

from __future__ import annotations

import pytest

from legit_embedding.engine.sizing.cost_model import fit_bytes
from legit_embedding.engine.sizing.profile import Plan, make_plan, survey
from tests.unit.engine.backends import Model
from tests.unit.engine.devices import MeteredDevice

FIXED_S, ITEM_S = 0.004, 0.0005
ITEM_BYTES, BUDGET = 8 << 20, 40 << 30


class ColdDevice(MeteredDevice):
    """Its first batch loads libraries and makes workspaces; so does the first of `slow_cost` items.

    Args:
        first_s: what the first batch takes longer.
        first_bytes: what it takes besides.
        slow_cost: the number of items whose first batch takes `first_s` longer too, for other kernels.
    """

    def __init__(self, first_s: float, first_bytes: int = 512 << 20, slow_cost: int = 0) -> None:
        super().__init__(self._took, item_bytes=ITEM_BYTES, free=BUDGET)
        self._first = (first_s, first_bytes)
        self._slow_cost = slow_cost
        self._is_cold = True

    def _took(self, numbers: list[int]) -> float:
        extra_s = 0.0
        if self._is_cold or len(numbers) == self._slow_cost:
            extra_s, extra_bytes = self._first
            self._peak += extra_bytes if self._is_cold else 0
            self._slow_cost *= len(numbers) != self._slow_cost
        self._is_cold = False
        return FIXED_S + ITEM_S * len(numbers) + extra_s


def plan_of(device: MeteredDevice) -> Plan:
    model = Model()
    points = survey(device, model, model.forward, BUDGET)
    return make_plan("m", "image", 0, points, BUDGET, 3 * 224 * 224)


@pytest.mark.parametrize("slow_cost", [0, 2, 8])
@pytest.mark.parametrize("first_s", [0.6, 1.6])
def test_the_first_batch_does_not_enter_the_plan(first_s: float, slow_cost: int):
    plan = plan_of(ColdDevice(first_s, slow_cost=slow_cost))
    true = plan_of(ColdDevice(0.0, first_bytes=0))
    assert true.largest == pytest.approx(BUDGET / ITEM_BYTES, rel=0.01)
    assert plan.largest == pytest.approx(true.largest, rel=0.1)
    assert plan.seconds.base == pytest.approx(FIXED_S, rel=0.1)
    assert plan.seconds.slope == pytest.approx(ITEM_S, rel=0.1)
    assert plan.target() == pytest.approx(true.target(), rel=0.1)


@pytest.mark.parametrize(
    "points",
    [
        [(1.0, 64e6), (2.0, 64e6), (4.0, 64e6)],
        [(1.0, 640e6), (2.0, 64e6)],
        [(4.0, 64e6)],
    ],
    ids=["one large piece each", "the first took more", "one point"],
)
def test_bytes_that_do_not_grow_are_shared_out_over_the_cost(points):
    line = fit_bytes(points)
    cost, used = max(points)
    assert line.slope == used / cost
    assert all(line.at(x) >= y for x, y in points)


def test_a_model_that_seems_to_take_nothing_takes_its_inputs():
    device = MeteredDevice(lambda numbers: 0.001, item_bytes=0, free=BUDGET)
    device.peak_bytes = lambda: 0  # type: ignore[method-assign]
    plan = plan_of(device)
    assert plan.largest == BUDGET // (3 * 224 * 224)
