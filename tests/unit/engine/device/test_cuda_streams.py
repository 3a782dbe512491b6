"""The CUDA device's own bookkeeping, on streams that are pretended: `test_cuda` is for a real one."""

from __future__ import annotations

import subprocess
import sys
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from legit_embedding.engine.device import cuda, wreck
from legit_embedding.engine.device import pinned as staging
from legit_embedding.engine.device.choice import Choice
from legit_embedding.engine.device.cuda import CudaDevice
from legit_embedding.models.stacking import stack


class FakeEvent:
    def __init__(self, **options: bool) -> None:
        self.waited = 0

    def record(self, stream: FakeStream) -> None: ...

    def synchronize(self) -> None:
        self.waited += 1

    def elapsed_time(self, end: FakeEvent) -> float:
        return 5.0


class FakeStream:
    def __init__(self, *args: object) -> None:
        self.waits: list[object] = []

    def record_event(self) -> FakeEvent:
        return FakeEvent()

    def wait_event(self, event: FakeEvent) -> None:
        self.waits.append(event)

    def wait_stream(self, stream: FakeStream) -> None:
        self.waits.append(stream)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    """A CUDA device whose memory is the CPU's, and whose streams do nothing."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(wreck, "_parked", [])
    for module in (cuda, staging):
        monkeypatch.setattr(module, "pinned", lambda shape, dtype: torch.empty(shape, dtype=dtype))

    def forbidden(*args: object) -> None:
        raise AssertionError("record_stream: its destructor throws on a broken device")

    monkeypatch.setattr(torch.Tensor, "record_stream", forbidden)
    return CudaDevice(Choice("cpu", "a test"))


def batch() -> dict[str, torch.Tensor]:
    return {"x": torch.arange(6.0).reshape(3, 2)}


def test_what_several_streams_use_is_kept_until_the_vectors_are_there(device):
    staged = {"x": torch.ones(3, 2)}
    made: list[weakref.ref[torch.Tensor]] = []

    def forward(inputs):
        vectors = inputs["x"] + 1
        made.append(weakref.ref(vectors))
        return vectors

    kept = weakref.ref(staged["x"])
    pending = device.launch(forward, staged)
    del staged
    assert kept() is not None
    assert made[0]() is not None
    assert np.array_equal(pending.wait(), np.full((3, 2), 2.0))
    assert pending.seconds == 0.005
    assert kept() is None
    assert made[0]() is None


def test_staged_tensors_are_copies_that_a_later_batch_does_not_change(device):
    first = device.stage(batch())
    device.stage({"x": torch.zeros(3, 2)})
    assert torch.equal(first["x"], batch()["x"])


def test_after_a_batch_that_failed_no_copy_overtakes_the_kernels_that_still_run(device):
    with pytest.raises(ZeroDivisionError):
        device.launch(lambda inputs: 1 / 0, device.stage(batch()))
    assert device._inward.waits == [device._compute]


def test_a_slot_is_not_used_again_before_its_copies_are_over_even_if_one_failed(device, monkeypatch):
    monkeypatch.setattr(staging.PinnedSlot, "pin", lambda *args: 1 / 0)
    slot = device._ring._slots[0]
    with pytest.raises(ZeroDivisionError):
        device.stage(batch())
    assert slot._copied is not None
    assert device._compute.waits == [slot._copied]


class Images:
    """Collates as real models do."""

    def __init__(self, *more: str) -> None:
        self.more = more

    def collate(self, arrays):
        stacked = {"pixels": torch.from_numpy(stack(arrays))}
        return stacked | {name: torch.arange(float(len(arrays))) for name in self.more}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_batch_is_stacked_straight_into_pinned_memory(device, monkeypatch, dtype: type):
    arrays = [np.full((3, 4, 4), number, dtype) for number in range(1, 6)]
    with device.collating():
        inputs = Images().collate(arrays)
    monkeypatch.setattr(np, "copyto", lambda *args: pytest.fail("it was copied once more"))
    staged = device.stage(inputs)
    assert np.array_equal(staged["pixels"].numpy(), np.stack(arrays))
    buffers = device._ring._slots[0]._buffers.values()
    assert staged["pixels"].data_ptr() in {buffer.data_ptr() for buffer in buffers}


def test_what_is_not_stacked_there_is_copied(device):
    with device.collating():
        inputs = Images("others").collate([np.ones((2, 2), np.uint8)] * 3)
    staged = device.stage(inputs)
    assert staged["others"].tolist() == [0, 1, 2]
    assert staged["others"].data_ptr() != inputs["others"].data_ptr()


def test_batches_take_turns_in_the_slots_and_do_not_change_each_other(device):
    staged = []
    for number in range(4):
        with device.collating():
            inputs = Images().collate([np.full((2, 2), number, np.uint8)] * (4 - number))
        staged.append(device.stage(inputs)["pixels"])
    assert [int(pixels.max()) for pixels in staged] == [0, 1, 2, 3]


def test_elsewhere_a_stack_is_an_array_of_its_own(device):
    with device.collating():
        pass
    first, second = stack([np.ones(2)] * 2), stack([np.zeros(2)] * 2)
    assert (first.sum(), second.sum()) == (4, 0)


def test_an_abandoned_device_is_parked_with_all_that_is_in_flight(device):
    held = object()
    device.abandon(held)
    assert wreck._parked == [device, held]


PARKED = """
import os, sys, atexit
from legit_embedding.engine.device import wreck
class Mine:
    def __del__(self):
        os.abort()

atexit.register(print, "goodbye")
if "park" in sys.argv:
    wreck.park(Mine())
"""


def test_a_process_with_parked_memory_says_goodbye_and_frees_nothing():
    run = subprocess.run([sys.executable, "-c", PARKED, "park"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (wreck.EXIT_CODE, "goodbye\n")
    assert subprocess.run([sys.executable, "-c", PARKED], capture_output=True, check=False).returncode == 0
