"""The CUDA device for real. `test_device` shows the same interface on the CPU."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from legit_embedding.engine.device.open import open_device
from legit_embedding.errors import ConfigError
from tests.unit.engine.backends import LIMIT_S, Item, Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.device.base import Device
    from legit_embedding.engine.engine import Engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.fixture
def cuda():
    device = open_device("cuda:0")
    yield device
    device.close()


def heavy(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Tens of milliseconds of work that depends on all of the input."""
    square = inputs["x"].float().mean() + torch.ones(4096, 4096, device=inputs["x"].device) / 4096
    for _ in range(100):
        square = square @ square / square.mean().clamp(min=1e-3) / 4096
    return inputs["x"].float() + 0 * square[0, 0]


def batch(n: int, rows: int = 8) -> dict[str, torch.Tensor]:
    return {"x": torch.full((rows, 16), n, dtype=torch.uint8)}


def test_vectors_come_back_right_through_reused_buffers(cuda: Device):
    cuda.adopt_thread()
    launched = [cuda.launch(heavy, cuda.stage(batch(n, rows=1 + n % 5))) for n in range(40)]
    for n, pending in enumerate(launched):
        vectors = pending.wait()
        assert vectors.dtype == np.float32
        assert np.array_equal(vectors, np.full((1 + n % 5, 16), n))
        assert pending.seconds > 0


def test_a_launch_does_not_wait_for_the_device(cuda: Device):
    cuda.launch(heavy, cuda.stage(batch(1))).wait()
    started = time.perf_counter()
    launched = [cuda.launch(heavy, cuda.stage(batch(n))) for n in range(2)]
    launching = time.perf_counter() - started
    for pending in launched:
        pending.wait()
    # Had it waited for the first batch, it would have taken at least as long as that.
    assert launching < min(pending.seconds for pending in launched)


def test_the_peak_is_what_a_batch_takes(cuda: Device):
    size = 256 * 1024 * 1024

    def large(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return inputs["x"].float() + torch.zeros(size, dtype=torch.uint8, device="cuda")[0]

    cuda.watch_peak()
    cuda.launch(large, cuda.stage(batch(1))).wait()
    peak = cuda.peak_bytes()
    assert peak is not None
    assert size <= peak < 1.5 * size


def test_free_memory_counts_what_torch_only_keeps(cuda: Device):
    cuda.release_cache()
    before = cuda.free_bytes()
    held = torch.zeros(1 << 28, dtype=torch.uint8, device="cuda")
    assert before - cuda.free_bytes() >= 1 << 28
    del held
    assert before - cuda.free_bytes() < 1 << 26


def test_a_device_that_works_is_not_broken(cuda: Device):
    cuda.probe()


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="CUDA devices"):
        open_device("cuda:99")


class CudaModel(Model):
    """Computes on the device, and takes memory there."""

    item_bytes = 1 << 20

    def forward(self, inputs):
        numbers = inputs["numbers"]
        assert numbers.is_cuda
        torch.zeros(len(numbers) * self.item_bytes, dtype=torch.uint8, device=numbers.device)
        columns = [numbers, numbers % 7, numbers % 11, torch.ones_like(numbers)]
        return torch.stack(columns, dim=1).float()


def embed_on_the_gpu(make_engine: Callable[..., Engine], model: Model, items: list[Item]) -> Engine:
    engine = make_engine(model, on="cuda:0")
    for item in items:
        engine.submit(item)
    engine.start()
    assert engine.drain(LIMIT_S)
    assert all(item.is_right for item in items)
    return engine


def test_the_engine_runs_on_it_and_plans_by_memory(make_engine):
    engine = embed_on_the_gpu(make_engine, CudaModel(), [Item(n) for n in range(1, 5000)])
    plan = engine.plans()["images"]
    assert plan.bytes.slope == pytest.approx(CudaModel.item_bytes, rel=0.3)
    assert plan.knee is not None


def test_out_of_memory_on_the_device_is_survived(make_engine):
    class Greedy(CudaModel):
        def forward(self, inputs):
            if len(inputs["numbers"]) > 16:
                torch.zeros(1 << 50, dtype=torch.uint8, device=inputs["numbers"].device)
            return super().forward(inputs)

        def samples(self, cost):
            return super().samples(min(cost, 16))

    engine = embed_on_the_gpu(make_engine, Greedy(), [Item(n) for n in range(1, 500)])
    assert engine.stats().models["images"].ooms > 0


def test_only_the_engines_threads_touch_cuda(cuda: Device):
    """The thread that waits uses the loop's context: it makes none of its own."""
    pending = cuda.launch(heavy, cuda.stage(batch(3)))
    seen = []

    def wait() -> None:
        cuda.adopt_thread()
        seen.append((pending.wait()[0, 0], torch.cuda.current_device()))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(LIMIT_S)
    assert seen == [(3.0, 0)]
