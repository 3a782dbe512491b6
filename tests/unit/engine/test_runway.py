from __future__ import annotations

import pytest

from legit_embedding.engine.runway import Runway


@pytest.mark.parametrize("depth", [2, 3])
def test_it_takes_as_many_batches_as_it_is_deep(depth: int):
    runway = Runway(depth)
    for _ in range(depth):
        assert not runway.full
        runway.launched(1.0, 0.0, now=0.0)
    assert runway.full
    runway.landed(now=1.0)
    assert not runway.full
    assert len(runway) == depth - 1


def test_an_empty_device_waits_for_nobody():
    assert Runway().spare(now=5.0) == 0


def test_a_batch_that_is_not_full_waits_until_shortly_before_the_device_is_free():
    runway = Runway()
    runway.launched(1.0, preparing_s=0.0, now=10.0)
    assert runway.spare(now=10.0) == pytest.approx(1.0, abs=0.01)
    assert 0 < runway.spare(now=10.9) < 0.1
    assert runway.spare(now=10.999) < 0


def test_slow_preparation_is_given_more_time():
    quick, slow = Runway(), Runway()
    for runway, preparing in ((quick, 0.001), (slow, 0.2)):
        for n in range(20):
            runway.launched(1.0, preparing, now=float(n))
            runway.landed(now=n + 1.0)
        runway.launched(1.0, preparing, now=50.0)
    assert slow.spare(now=50.0) < quick.spare(now=50.0) - 0.3


def test_a_late_batch_moves_the_estimate():
    runway = Runway()
    runway.launched(1.0, 0.0, now=0.0)
    runway.launched(2.0, 0.0, now=0.0)
    runway.landed(now=5.0)
    assert runway.spare(now=5.0) == pytest.approx(2.0, abs=0.01)


def test_it_knows_for_how_long_nothing_has_landed():
    runway = Runway()
    assert runway.stalled_for(now=100.0) == 0
    runway.launched(1.0, 0.0, now=100.0)
    runway.launched(1.0, 0.0, now=101.0)
    assert runway.stalled_for(now=103.0) == 3
    runway.landed(now=103.0)
    assert runway.stalled_for(now=104.0) == 1
    runway.landed(now=104.0)
    assert runway.stalled_for(now=200.0) == 0
