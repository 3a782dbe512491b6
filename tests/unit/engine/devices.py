"""Devices that pretend: no test here needs a GPU, or waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.engine.device.cpu import CpuDevice, CpuPending

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.engine.device.base import Forward, Tensors


class MeteredDevice(CpuDevice):
    """Says that batches took as long and as many bytes as a test wants, and takes no time itself.

    Args:
        seconds: what a batch of these numbers took.
        item_bytes: what each of its items took; the fixed part is a thousand.
        free: what is free.
    """

    def __init__(self, seconds: Callable[[list[int]], float], item_bytes: int = 1000, free: int = 1_000_000) -> None:
        super().__init__()
        self.reads_block = True
        self.free = free
        self._pretended = seconds
        self._item_bytes = item_bytes
        self._peak = 0

    def launch(self, forward: Forward, inputs: Tensors) -> CpuPending:
        numbers = inputs["numbers"].tolist()
        self._peak = max(self._peak, 1000 + len(numbers) * self._item_bytes)
        return _Metered(super().launch(forward, inputs), self._pretended(numbers))

    def free_bytes(self) -> int:
        return self.free

    def watch_peak(self) -> None:
        self._peak = 0

    def peak_bytes(self) -> int | None:
        return self._peak


class _Metered(CpuPending):
    def __init__(self, pending: CpuPending, seconds: float) -> None:
        self._pending = pending
        self.seconds = seconds

    def wait(self) -> NDArray[np.float32]:
        return self._pending.wait()


class SteadyDevice(CpuDevice):
    """Says that every batch took a millisecond, so that plans don't depend on how busy the machine is."""

    def launch(self, forward: Forward, inputs: Tensors) -> CpuPending:
        return _Metered(super().launch(forward, inputs), 0.001)


class BrokenDevice(CpuDevice):
    """Fails at anything as soon as it is `broken`, as a GPU does after a device-side assert."""

    broken = False

    def probe(self) -> None:
        if self.broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
