"""The bound on what a worker holds, by a clock that the test turns."""

from __future__ import annotations

import pytest

from legit_embedding.config import EngineConfig
from legit_embedding.pipeline import held_tasks as module
from legit_embedding.pipeline.held_tasks import HeldBySource, HeldTasks

BATCHES = {"quick": 16, "slow": 4}
HOLD_S = 3.0


class Clock:
    """Stands in for the module's `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(*models: str) -> HeldTasks:
    return HeldTasks(models, HOLD_S, BATCHES.__getitem__)


def work(hold: HeldTasks, clock: Clock, model: str, per_second: int, seconds: int) -> None:
    for _ in range(10 * seconds):
        hold.opened(model, per_second // 10)
        clock.now += 0.1
        hold.closed(model, per_second // 10)
        hold.bound()


def test_it_starts_with_two_full_batches(clock: Clock) -> None:
    assert make("quick").bound() == make("quick").room() == 32
    assert make("quick", "slow").bound() == 40


def test_it_grows_to_seconds_of_the_measured_throughput(clock: Clock) -> None:
    hold = make("quick")
    work(hold, clock, "quick", 1000, 20)
    assert hold.bound() == pytest.approx(3000, rel=0.03)


def test_it_grows_with_the_first_tasks_that_are_settled(clock: Clock) -> None:
    hold = make("quick")
    clock.now += 60
    hold.opened("quick", 32)
    clock.now += 0.5
    assert hold.bound() == 32
    hold.closed("quick", 25)
    clock.now += 0.125
    assert hold.bound() == pytest.approx(HOLD_S * 25 / 0.625, rel=0.06)


def test_one_quick_answer_is_no_throughput(clock: Clock) -> None:
    hold = make("slow")
    for _ in range(5):
        hold.opened("slow")
        clock.now += 0.001
        hold.closed("slow")
    clock.now += 0.1
    assert hold.bound() == pytest.approx(HOLD_S * 5 / 0.5, abs=1)


def test_it_shrinks_with_the_throughput_but_not_below_two_full_batches(clock: Clock) -> None:
    hold = make("quick")
    work(hold, clock, "quick", 1000, 20)
    work(hold, clock, "quick", 100, 40)
    assert hold.bound() == pytest.approx(300, rel=0.03)
    hold.opened("quick")
    clock.now += 120
    assert hold.bound() == 32


def test_a_pause_says_nothing_about_the_throughput(clock: Clock) -> None:
    hold = make("quick")
    work(hold, clock, "quick", 1000, 20)
    for pause in (0.05, 3600):
        clock.now += pause
        assert hold.bound() == pytest.approx(3000, rel=0.03)
    hold.opened("quick", 100)
    clock.now += 10
    hold.closed("quick", 100)
    clock.now += 3600
    # Fifteen working seconds in all, of which the last ten, at 10 per second, weigh most.
    assert 300 < hold.bound() < 600


def test_room_is_what_is_not_held(clock: Clock) -> None:
    hold = make("quick", "slow")
    for _ in range(10):
        hold.opened("quick")
    assert hold.room() == 30
    hold.closed("quick")
    assert hold.room() == 31


def test_a_slow_model_does_not_hoard_in_the_room_of_a_quick_one(clock: Clock) -> None:
    hold = make("quick", "slow")
    work(hold, clock, "quick", 1000, 20)
    assert hold.room() > 2500
    for _ in range(8):
        hold.opened("slow")
    assert hold.room() == 0
    hold.closed("slow")
    assert hold.room() > 2500


def test_tasks_of_no_known_model_count(clock: Clock) -> None:
    hold = make("quick")
    for _ in range(40):
        hold.opened("")
    assert hold.room() == -8


def test_the_bounds_of_the_sources(clock: Clock) -> None:
    holds = HeldBySource(["quick"], EngineConfig(max_in_flight=50), BATCHES.__getitem__)
    assert (holds.prefetch, holds.room(0), holds.room(30), holds.room(60)) == (32, 32, 20, -10)
    assert (holds.room(0, far=30), holds.room(60, far=30), holds.room(60, far=5000)) == (32, 20, 32)
    assert holds.room(95, far=5000) == 5, "no more than as many again"
    for _ in range(10):
        holds.by_origin["celery"].opened("quick")
    assert holds.room(10) == 32, "another source's bound is not used up"
    work(holds.by_origin["celery"], clock, "quick", 1000, 20)
    assert (holds.prefetch, holds.room(10)) == (50, 32)
