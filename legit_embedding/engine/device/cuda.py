"""CUDA device with separate streams for copies in, computation and copies out."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

from legit_embedding.engine.device import wreck
from legit_embedding.engine.device.pinned import PinnedRing, PinnedSlot, pinned
from legit_embedding.engine.sizing.profile import MOST_IN_FLIGHT
from legit_embedding.models.stacking import stacking_into

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.engine.device.base import Forward, Tensors
    from legit_embedding.engine.device.choice import Choice

_SLOTS = MOST_IN_FLIGHT + 1
"""One slot per batch on the device, plus one being filled."""


class CudaDevice:
    """One GPU, used only by the loop's thread, which therefore owns the process's only CUDA context."""

    reads_block = True

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.torch_device = torch.device(choice.device)
        torch.cuda.set_device(self.torch_device)
        self._ring = PinnedRing(_SLOTS)
        self._inward = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        self._compute = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        self._outward = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        self._held = 0
        self._slot: PinnedSlot | None = None

    def dtype(self, precision: str) -> torch.dtype:
        """Return bfloat16 if the device supports it, otherwise float16, unless a precision is named explicitly."""
        named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if precision in named:
            return named[precision]
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def collating(self) -> AbstractContextManager[None]:
        """Return a context in which the batch is stacked directly into pinned memory."""
        self._slot = self._ring.next()
        return stacking_into(self._slot.room)

    def stage(self, inputs: Tensors) -> Tensors:
        """Copy through pinned memory on the inward stream and make the compute stream wait for the copy."""
        slot, self._slot = self._slot or self._ring.next(), None
        try:
            with torch.cuda.stream(self._inward):
                return {
                    name: slot.pin(name, tensor).to(self.torch_device, non_blocking=True)
                    for name, tensor in inputs.items()
                }
        finally:
            # Also on failure, for example out of memory for the last tensor: the other copies are already in flight.
            copied = self._inward.record_event()
            slot.busy_until(copied)
            self._compute.wait_event(copied)

    def launch(self, forward: Forward, inputs: Tensors) -> CudaPending:
        """Launch the kernels, and copy the vectors back on the outward stream."""
        started, ended, arrived = _timer(), _timer(), _arrival()
        try:
            with torch.inference_mode(), torch.cuda.stream(self._compute):
                started.record(self._compute)
                vectors = forward(inputs).float()
                ended.record(self._compute)
        except BaseException:
            # Kernels already launched still read the staged inputs: later copies must not overwrite them before that.
            self._inward.wait_stream(self._compute)
            raise
        self._outward.wait_event(ended)
        with torch.inference_mode(), torch.cuda.stream(self._outward):
            host = pinned(vectors.shape, torch.float32)
            host.copy_(vectors, non_blocking=True)
            arrived.record(self._outward)
        return CudaPending(started, ended, arrived, host, (inputs, vectors))

    def free_bytes(self) -> int:
        """Return the driver's free memory plus torch's unused cache."""
        free, _ = torch.cuda.mem_get_info(self.torch_device)
        cached = torch.cuda.memory_reserved(self.torch_device) - torch.cuda.memory_allocated(self.torch_device)
        return free + cached

    def used_bytes(self) -> int:
        """Return the memory allocated to torch's tensors."""
        return torch.cuda.memory_allocated(self.torch_device)

    def watch_peak(self) -> None:
        """Empty the cache, so that the peak of reserved memory shows the next batch's need, fragmentation included."""
        torch.cuda.synchronize(self.torch_device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.torch_device)
        self._held = torch.cuda.memory_reserved(self.torch_device)

    def peak_bytes(self) -> int | None:
        """Return the peak of the memory that torch reserved since `watch_peak`."""
        return torch.cuda.max_memory_reserved(self.torch_device) - self._held

    def release_cache(self) -> None:
        """Return torch's cache to the driver; waits for running kernels."""
        gc.collect()
        torch.cuda.empty_cache()

    def probe(self) -> None:
        """Run one kernel and synchronise: after a sticky error even these fail."""
        torch.zeros(1, device=self.torch_device).add_(1)
        torch.cuda.synchronize(self.torch_device)

    def adopt_thread(self) -> None:
        """Set the calling thread's device, so that waiting does not create a context on device 0."""
        torch.cuda.set_device(self.torch_device)

    def close(self) -> None:
        """Free the pinned buffers."""
        self._ring = PinnedRing(_SLOTS)

    def abandon(self, *held: object) -> None:
        """Keep everything allocated until the process exits."""
        wreck.park(self, *held)


class CudaPending:
    """Batch in flight on the streams.

    It keeps tensors used by more than one stream alive until the vectors have arrived. `record_stream` would also do
    that, but then the tensors' destructors would request events from a device that may be broken.
    """

    def __init__(
        self,
        started: torch.cuda.Event,
        ended: torch.cuda.Event,
        arrived: torch.cuda.Event,
        host: torch.Tensor,
        held: object,
    ) -> None:
        self._started = started
        self._ended = ended
        self._arrived = arrived
        self._host = host
        self._held = held
        self.seconds = 0.0

    def wait(self) -> NDArray[np.float32]:
        """Wait for the vectors and copy them out of pinned memory, which is scarce."""
        self._arrived.synchronize()
        self.seconds = self._started.elapsed_time(self._ended) / 1000
        self._held = None
        vectors: NDArray[np.float32] = self._host.numpy().copy()
        return vectors


def _timer() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _arrival() -> torch.cuda.Event:
    # Blocking, so that the waiting thread does not spin on a core that prep needs.
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
