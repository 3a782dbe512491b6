from __future__ import annotations

import pytest
import torch

from legit_embedding.engine.device.cpu import CpuDevice
from legit_embedding.engine.recovery import Fault, diagnose, is_lost
from legit_embedding.errors import ConfigError
from tests.unit.engine.devices import BrokenDevice

MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA out of memory."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
    ),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuda runtime error (2) : CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
]
DEVICE = [
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA driver error: unspecified launch failure"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"),
]


@pytest.fixture(scope="module")
def broken():
    device = BrokenDevice()
    device.broken = True
    yield device
    device.close()


@pytest.mark.parametrize("error", MEMORY, ids=str)
def test_lack_of_memory_is_told_even_from_a_device_that_seems_broken(broken, error):
    assert diagnose(error, broken) is Fault.MEMORY


@pytest.mark.parametrize("error", DEVICE, ids=str)
def test_a_device_error_is_sticky_only_if_nothing_works_any_more(broken, error):
    assert diagnose(error, broken) is Fault.DEVICE
    device = CpuDevice()
    assert diagnose(error, device) is Fault.BATCH
    device.close()


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="this torch has no AcceleratorError")
def test_an_accelerator_error_is_a_device_error(broken):
    assert diagnose(torch.AcceleratorError("something new"), broken) is Fault.DEVICE


def test_an_error_that_came_of_a_broken_device_says_so_too(broken):
    refusal = ConfigError("the model does not work")
    refusal.__cause__ = DEVICE[0]
    assert is_lost(refusal, broken)
    assert not is_lost(ConfigError("no such model"), broken)
    assert not is_lost(refusal, CpuDevice())


@pytest.mark.parametrize("error", [ValueError("out of memory queue"), KeyError("x"), RuntimeError("shapes")], ids=str)
def test_anything_else_is_the_batch(broken, error):
    assert diagnose(error, broken) is Fault.BATCH
