from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legit_embedding.engine.scheduler import MAX_DEBT_S, Scheduler

WEIGHTS = st.lists(st.floats(min_value=0.2, max_value=5), min_size=2, max_size=5)


def run(scheduler: Scheduler, ready: list[str], seconds: dict[str, float], until: float) -> dict[str, float]:
    """Serve these models, always ready, for so many seconds of device time."""
    used = dict.fromkeys(ready, 0.0)
    while sum(used.values()) < until:
        model = scheduler.next(ready)
        scheduler.serve(model, seconds[model])
        used[model] += seconds[model]
    return used


@given(weights=WEIGHTS, data=st.data())
@settings(max_examples=40, deadline=None)
def test_shares_converge_to_the_weights_whatever_a_batch_takes(weights, data):
    names = [f"m{n}" for n in range(len(weights))]
    seconds = {name: data.draw(st.floats(min_value=0.005, max_value=0.5)) for name in names}
    scheduler = Scheduler(dict(zip(names, weights, strict=True)))
    used = run(scheduler, names, seconds, until=60 * sum(seconds.values()))

    for name, weight in zip(names, weights, strict=True):
        fair = weight / sum(weights) * sum(used.values())
        assert used[name] == pytest.approx(fair, rel=0.1, abs=sum(seconds.values()))


@given(st.floats(min_value=0.1, max_value=10))
@settings(max_examples=20, deadline=None)
def test_wrong_estimates_change_nothing_once_they_are_corrected(error):
    scheduler = Scheduler({"a": 1, "b": 3})
    used = {"a": 0.0, "b": 0.0}
    late: list[tuple[str, float]] = []
    for _ in range(4000):
        model = scheduler.next(["a", "b"])
        actual = {"a": 0.05, "b": 0.02}[model]
        estimate = actual * (error if model == "a" else 1)
        scheduler.serve(model, estimate)
        used[model] += actual
        late.append((model, actual - estimate))
        if len(late) > 2:  # as many as there are batches on the device
            scheduler.correct(*late.pop(0))
    assert used["b"] / used["a"] == pytest.approx(3, rel=0.1)


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=100))
@settings(deadline=None)
def test_somebody_who_is_ready_is_always_served(turns):
    scheduler = Scheduler(dict.fromkeys("abcd", 1.0))
    for ready in turns:
        model = scheduler.next(ready)
        assert model in ready
        scheduler.serve(model, 0.1)


def test_a_model_that_wakes_up_is_next_but_has_saved_nothing():
    scheduler = Scheduler({"busy": 1, "idle": 1})
    run(scheduler, ["busy"], {"busy": 0.1}, until=100)
    assert scheduler.next(["busy", "idle"]) == "idle"
    used = run(scheduler, ["busy", "idle"], {"busy": 0.1, "idle": 0.1}, until=20)
    assert used["idle"] == pytest.approx(used["busy"], abs=0.21)


def test_a_model_that_empties_its_queue_each_time_cannot_escape_its_debts():
    scheduler = Scheduler({"heavy": 1, "light": 1})
    used = {"heavy": 0.0, "light": 0.0}
    heavy_waits = True
    for _ in range(2000):
        model = scheduler.next(["heavy", "light"] if heavy_waits else ["light"])
        seconds = {"heavy": 1.0, "light": 0.1}[model]
        scheduler.serve(model, seconds)
        used[model] += seconds
        heavy_waits = model != "heavy"
    assert used["heavy"] == pytest.approx(used["light"], rel=0.1)


def test_equals_take_turns():
    scheduler = Scheduler(dict.fromkeys("abc", 1.0))
    order = []
    for _ in range(6):
        model = scheduler.next(["a", "b", "c"])
        scheduler.serve(model, 0.0)
        order.append(model)
    assert sorted(order[:3]) == sorted(order[3:]) == ["a", "b", "c"]


def test_one_endless_batch_bars_its_model_for_a_bounded_time():
    scheduler = Scheduler({"a": 1, "b": 1})
    scheduler.serve("a", 3600.0)
    used = run(scheduler, ["b"], {"b": 0.5}, until=MAX_DEBT_S + 0.5)
    assert used["b"] <= MAX_DEBT_S + 1
    assert scheduler.next(["a", "b"]) == "a"


def test_a_weight_can_change_while_it_runs():
    scheduler = Scheduler({"a": 1, "b": 1})
    seconds = {"a": 0.03, "b": 0.05}
    run(scheduler, ["a", "b"], seconds, until=50)
    scheduler.set_weight("a", 4)
    used = run(scheduler, ["a", "b"], seconds, until=100)
    assert used["a"] / used["b"] == pytest.approx(4, rel=0.1)
    with pytest.raises(ValueError, match="above zero"):
        scheduler.set_weight("a", 0)


def test_random_arrivals_share_what_both_want():
    chance = random.Random(3)
    scheduler = Scheduler({"a": 2, "b": 1})
    used = {"a": 0.0, "b": 0.0}
    for _ in range(20_000):
        ready = [name for name in "ab" if chance.random() < 0.9]
        if not ready:
            continue
        model = scheduler.next(ready)
        seconds = chance.uniform(0.01, 0.1)
        scheduler.serve(model, seconds)
        used[model] += seconds
    # A tenth of the turns is not shared, and a model cannot save up for them.
    assert used["a"] / sum(used.values()) == pytest.approx(2 / 3, rel=0.1)
