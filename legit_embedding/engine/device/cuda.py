"""A CUDA device: copies in, computation and copies out on a stream each."""

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
"""One for each batch on the device, and one that is being filled."""


class CudaDevice:
    """One GPU; everything here runs on the loop's thread, which thereby owns the process's only CUDA context."""

    thorough = True

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
        """Bfloat16 where the device has it, else float16, unless a precision is asked for by name."""
        named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if precision in named:
            return named[precision]
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def collating(self) -> AbstractContextManager[None]:
        """Let the batch be stacked straight into pinned memory."""
        self._slot = self._ring.next()
        return stacking_into(self._slot.room)

    def stage(self, inputs: Tensors) -> Tensors:
        """Copy through pinned memory on the inward stream; the compute stream will wait for it."""
        slot, self._slot = self._slot or self._ring.next(), None
        try:
            with torch.cuda.stream(self._inward):
                return {
                    name: slot.pin(name, tensor).to(self.torch_device, non_blocking=True)
                    for name, tensor in inputs.items()
                }
        finally:
            # Also where the device has no memory for the last of them: the others are on their way.
            copied = self._inward.record_event()
            slot.busy_until(copied)
            self._compute.wait_event(copied)

    def launch(self, forward: Forward, inputs: Tensors) -> CudaPending:
        """Launch the kernels, and the copy of the vectors on the outward stream."""
        started, ended, arrived = _timer(), _timer(), _arrival()
        try:
            with torch.inference_mode(), torch.cuda.stream(self._compute):
                started.record(self._compute)
                vectors = forward(inputs).float()
                ended.record(self._compute)
        except BaseException:
            # Kernels that were launched still read what is staged: no later copy may take its place before they have.
            self._inward.wait_stream(self._compute)
            raise
        self._outward.wait_event(ended)
        with torch.inference_mode(), torch.cuda.stream(self._outward):
            host = pinned(vectors.shape, torch.float32)
            host.copy_(vectors, non_blocking=True)
            arrived.record(self._outward)
        return CudaPending(started, ended, arrived, host, (inputs, vectors))

    def free_bytes(self) -> int:
        """What the driver has free, and what torch holds without using it."""
        free, _ = torch.cuda.mem_get_info(self.torch_device)
        cached = torch.cuda.memory_reserved(self.torch_device) - torch.cuda.memory_allocated(self.torch_device)
        return free + cached

    def used_bytes(self) -> int:
        """What torch's tensors take."""
        return torch.cuda.memory_allocated(self.torch_device)

    def watch_peak(self) -> None:
        """Empty the cache, so that the peak of what is reserved is what the next batch needs, fragments included."""
        torch.cuda.synchronize(self.torch_device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.torch_device)
        self._held = torch.cuda.memory_reserved(self.torch_device)

    def peak_bytes(self) -> int | None:
        """The peak of what torch reserved since `watch_peak`."""
        return torch.cuda.max_memory_reserved(self.torch_device) - self._held

    def release_cache(self) -> None:
        """Give torch's cache back to the driver; waits for what is computing."""
        gc.collect()
        torch.cuda.empty_cache()

    def probe(self) -> None:
        """One kernel and one synchronisation: after a sticky error even these fail."""
        torch.zeros(1, device=self.torch_device).add_(1)
        torch.cuda.synchronize(self.torch_device)

    def adopt_thread(self) -> None:
        """Make this the thread's device, so that waiting does not open a context on device 0."""
        torch.cuda.set_device(self.torch_device)

    def close(self) -> None:
        """Free the pinned buffers."""
        self._ring = PinnedRing(_SLOTS)

    def abandon(self, *held: object) -> None:
        """Free nothing any more."""
        wreck.park(self, *held)


class CudaPending:
    """A batch on its way through the streams.

    It keeps the tensors that more than one stream uses until the vectors are there. The allocator could be told to
    (`record_stream`), but then their destructors would ask a device for events that may be broken.
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
        """Wait for the vectors, and copy them out of pinned memory, which is scarce."""
        self._arrived.synchronize()
        self.seconds = self._started.elapsed_time(self._ended) / 1000
        self._held = None
        vectors: NDArray[np.float32] = self._host.numpy().copy()
        return vectors


def _timer() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _arrival() -> torch.cuda.Event:
    # Blocking: the thread that waits for it must not spin on a core that preparation needs.
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
