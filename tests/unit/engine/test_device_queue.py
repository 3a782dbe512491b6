from __future__ import annotations

import pytest

from legit_embedding.engine.device_queue import DeviceQueue


@pytest.mark.parametrize("depth", [2, 3])
def test_it_takes_as_many_batches_as_it_is_deep(depth: int):
    device_queue = DeviceQueue(depth)
    for _ in range(depth):
        assert not device_queue.full
        device_queue.launched(1.0, 0.0, now=0.0)
    assert device_queue.full
    device_queue.landed(now=1.0)
    assert not device_queue.full
    assert len(device_queue) == depth - 1


def test_an_empty_device_waits_for_nobody():
    assert DeviceQueue().spare(now=5.0) == 0


def test_a_batch_that_is_not_full_waits_until_shortly_before_the_device_is_free():
    device_queue = DeviceQueue()
    device_queue.launched(1.0, preparing_s=0.0, now=10.0)
    assert device_queue.spare(now=10.0) == pytest.approx(1.0, abs=0.01)
    assert 0 < device_queue.spare(now=10.9) < 0.1
    assert device_queue.spare(now=10.999) < 0


def test_slow_preparation_is_given_more_time():
    quick, slow = DeviceQueue(), DeviceQueue()
    for device_queue, preparing in ((quick, 0.001), (slow, 0.2)):
        for n in range(20):
            device_queue.launched(1.0, preparing, now=float(n))
            device_queue.landed(now=n + 1.0)
        device_queue.launched(1.0, preparing, now=50.0)
    assert slow.spare(now=50.0) < quick.spare(now=50.0) - 0.3


def test_a_late_batch_moves_the_estimate():
    device_queue = DeviceQueue()
    device_queue.launched(1.0, 0.0, now=0.0)
    device_queue.launched(2.0, 0.0, now=0.0)
    device_queue.landed(now=5.0)
    assert device_queue.spare(now=5.0) == pytest.approx(2.0, abs=0.01)


def test_it_knows_for_how_long_nothing_has_landed():
    device_queue = DeviceQueue()
    assert device_queue.stalled_for(now=100.0) == 0
    device_queue.launched(1.0, 0.0, now=100.0)
    device_queue.launched(1.0, 0.0, now=101.0)
    assert device_queue.stalled_for(now=103.0) == 3
    device_queue.landed(now=103.0)
    assert device_queue.stalled_for(now=104.0) == 1
    device_queue.landed(now=104.0)
    assert device_queue.stalled_for(now=200.0) == 0
