from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from legit_embedding.engine.device import cpu as module
from legit_embedding.engine.device.cpu import CpuDevice
from legit_embedding.engine.device.open import open_device
from legit_embedding.errors import ConfigError
from tests.unit.engine.backends import LIMIT_S
from tests.waiting import wait_for


@pytest.fixture
def cpu():
    device = CpuDevice()
    yield device
    device.close()


def test_batches_run_in_the_order_of_their_launch_beside_the_launching_thread(cpu):
    gate, order, threads = threading.Event(), [], set()

    def forward(inputs):
        assert gate.wait(LIMIT_S)
        threads.add(threading.current_thread().name)
        order.append(int(inputs["x"][0]))
        return inputs["x"].double().reshape(1, 1)

    launched = [cpu.launch(forward, {"x": torch.tensor([n])}) for n in range(5)]
    assert order == []
    gate.set()
    vectors = [pending.wait() for pending in launched]
    assert order == [0, 1, 2, 3, 4]
    assert [float(each[0, 0]) for each in vectors] == [0, 1, 2, 3, 4]
    assert all(each.dtype == np.float32 for each in vectors)
    assert threads == {"engine-cpu"}
    assert all(pending.seconds > 0 for pending in launched)


def test_what_a_batch_raises_comes_out_where_it_is_waited_for(cpu):
    pending = cpu.launch(lambda inputs: 1 / 0, {})
    with pytest.raises(ZeroDivisionError):
        pending.wait()
    assert cpu.launch(lambda inputs: torch.ones(1, 1), {}).wait() == 1


def test_no_gradients_are_kept(cpu):
    weights = torch.ones(1, 1, requires_grad=True)
    seen = []
    cpu.launch(lambda inputs: seen.append((weights * 2).requires_grad) or torch.ones(1, 1), {}).wait()
    assert seen == [False]


def test_a_closed_device_has_no_thread():
    device = CpuDevice()
    device.close()
    wait_for(lambda: not device._stream.is_alive(), LIMIT_S, "the thread to end")


@pytest.mark.parametrize(("pause_s", "returns"), [(0.0, 4), (1000.0, 0)])
def test_freed_memory_is_returned_between_batches_when_that_is_due(cpu, monkeypatch, pause_s, returns):
    monkeypatch.setattr(module, "RETURN_S", pause_s)
    order = []
    monkeypatch.setattr(module, "return_free_memory", lambda: order.append("returned"))
    launched = [cpu.launch(lambda inputs: order.append("batch") or torch.ones(1, 1), {}) for _ in range(5)]
    launched[-1].wait()
    assert order[: 5 + returns] == (["batch", "returned"] * 4 + ["batch"] if returns else ["batch"] * 5)


def test_an_idle_device_returns_freed_memory_once(cpu, monkeypatch):
    monkeypatch.setattr(module, "RETURN_S", 0.05)
    returned = threading.Semaphore(0)
    monkeypatch.setattr(module, "return_free_memory", returned.release)
    cpu.launch(lambda inputs: torch.ones(1, 1), {}).wait()
    assert returned.acquire(timeout=LIMIT_S)
    assert not returned.acquire(timeout=0.5)
    cpu.launch(lambda inputs: torch.ones(1, 1), {}).wait()
    assert returned.acquire(timeout=LIMIT_S)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_cpu_computes_in_float32_unless_told_otherwise(cpu, precision, dtype):
    assert cpu.dtype(precision) is dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    device = open_device("auto")
    assert device.torch_device.type == "cpu"
    device.close()
    with pytest.raises(ConfigError, match="torch sees 0 CUDA devices"):
        open_device("cuda")
