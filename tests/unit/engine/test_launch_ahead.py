"""The host launches far enough ahead, however long that takes it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from legit_embedding.engine.sizing.cost_model import Line
from legit_embedding.engine.sizing.profile import Plan, make_plan, survey
from tests.unit.engine.backends import LIMIT_S, Gate, Item, Model
from tests.unit.engine.devices import MeteredDevice
from tests.waiting import wait_for

PER_ITEM_S = 0.001


def plan(host: Line, largest: int = 1000, knee: int | None = 8) -> Plan:
    return Plan("m", "image", 0, Line(0, 1), Line(0.0, PER_ITEM_S), largest, knee, speed=1000, host=host)


@pytest.mark.parametrize(
    ("host", "target", "in_flight"),
    [
        (Line(0.002, 0.0), 16, 2),  # twice the knee is long enough
        (Line(0.030, 0.0), 90, 2),  # three times 30 ms
        (Line(0.030, PER_ITEM_S / 6), 180, 2),  # and putting a larger batch together takes longer
        (Line(0.030, PER_ITEM_S), 16, 3),  # no batch is large enough
    ],
)
def test_a_batch_takes_three_launches_or_three_are_in_flight(host: Line, target: int, in_flight: int):
    assert plan(host).target() == target
    assert plan(host).in_flight() == in_flight


def test_memory_bounds_it_all_the_same():
    assert plan(Line(0.030, 0.0), largest=50).target() == 50
    assert plan(Line(0.030, 0.0), largest=50).in_flight() == 3


def test_a_slower_device_needs_smaller_batches():
    assert plan(Line(0.030, 0.0)).target(pace=2.0) == 45


class SlowToLaunch(MeteredDevice):
    """Takes the host 20 ms for each launch."""

    def stage(self, inputs):
        time.sleep(0.02)
        return super().stage(inputs)


def test_the_survey_measures_the_host():
    device, model = SlowToLaunch(lambda numbers: PER_ITEM_S * len(numbers)), Model()
    points = survey(device, model, model.forward, 1e6)
    assert all(point.host_s >= 0.02 for point in points)
    # A line through what a busy machine delays may be lower at its ends, but not in the middle.
    middle = sum(point.cost for point in points) / len(points)
    assert make_plan("m", "image", 0, points, 1e6, 1).host.at(middle) >= 0.0199


@pytest.mark.parametrize(("slow", "expected"), [(True, 3), (False, 2)])
def test_the_loop_keeps_as_many_on_the_device(start_engine, slow: bool, expected: int):
    kind = SlowToLaunch if slow else MeteredDevice
    model, gate = Model(max_batch=4), Gate()
    model.on_forward = gate
    # Memory for a few items only: no batch is ever long.
    engine = start_engine(model, device=kind(lambda numbers: PER_ITEM_S * len(numbers), free=10_000))
    items = [Item(number) for number in range(1, 41)]
    for item in items:
        engine.submit(item)
    wait_for(lambda: engine.stats().on_device == expected, LIMIT_S, f"{expected} batches on the device")
    assert len(model.collated) == expected
    gate.open()
    assert engine.drain(LIMIT_S)
    assert all(item.is_right for item in items)
    assert np.isfinite(engine.plans()["images"].host.base)


@pytest.mark.parametrize("attended", [True, False])
def test_a_full_batch_is_held_back_while_interactive_items_come(start_engine, monkeypatch, attended: bool):
    """An item that comes next goes before it, instead of waiting for it on the device."""
    monkeypatch.setattr("legit_embedding.engine.loop.ATTENDED_S", 1e6)
    model, gate = Model(max_batch=4), Gate()
    engine = start_engine(model, device=MeteredDevice(lambda numbers: 1000.0))
    before, after = Item(1), Item(2)
    before.interactive, after.interactive = attended, True
    engine.submit(before)
    wait_for(lambda: before.settled, LIMIT_S, "the first item")
    model.on_forward = gate
    for number in range(10, 14):
        engine.submit(Item(number))
    assert gate.reached.wait(LIMIT_S)
    for number in range(14, 18):
        engine.submit(Item(number))
    for _ in range(2):  # during the first one it may still be launched
        since = time.monotonic()
        wait_for(lambda since=since: engine.stats().turned_at > since, LIMIT_S, "a turn of the loop")
    assert engine.stats().on_device == (1 if attended else 2)
    engine.submit(after)
    gate.open()
    assert engine.drain(LIMIT_S)
    assert [2 in numbers for numbers in model.batches].index(True) == (2 if attended else 3)


@pytest.mark.parametrize("attended", [True, False])
def test_batches_stop_at_the_knee_while_interactive_items_come(start_engine, monkeypatch, attended: bool):
    monkeypatch.setattr("legit_embedding.engine.loop.ATTENDED_S", 1e6)
    model, gate = Model(), Gate()
    device = MeteredDevice(lambda numbers: 0.001 + PER_ITEM_S * len(numbers), free=10**9)
    engine = start_engine(model, device=device)
    knee = engine.plans()["images"].knee
    before = Item(1)
    before.interactive = attended
    engine.submit(before)
    wait_for(lambda: before.settled, LIMIT_S, "the first item")
    model.on_forward = gate
    for number in range(10, 10 + 8 * knee):
        engine.submit(Item(number))
    gate.open()
    assert engine.drain(LIMIT_S)
    assert max(map(len, model.batches)) == (knee if attended else 2 * knee)
