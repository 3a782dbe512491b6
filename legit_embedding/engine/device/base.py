"""Device interface used by the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from legit_embedding.engine.device.choice import Choice

    Tensors = Mapping[str, torch.Tensor]
    Forward = Callable[[Tensors], torch.Tensor]


class Pending(Protocol):
    """Batch launched on the device."""

    seconds: float
    """Compute time in seconds; set once `wait` returns."""

    def wait(self) -> NDArray[np.float32]:
        """Wait for the vectors, ``[n, dim]``, without holding the GIL.

        Raises:
            Exception: the model or the device failed.
        """


class Device(Protocol):
    """Runs batches one after another while the launching thread prepares the next.

    Called only by the loop's thread, except for `Pending.wait`, which the completion thread calls after `adopt_thread`.
    """

    torch_device: torch.device
    choice: Choice
    """The device and the reason for choosing it."""
    reads_block: bool
    """True if a model that reads from the device blocks the thread that launches it."""

    def dtype(self, precision: str) -> torch.dtype:
        """Return the dtype of the weights for this precision setting."""

    def collating(self) -> AbstractContextManager[None]:
        """Return a context manager for collating the next batch to be staged."""

    def stage(self, inputs: Tensors) -> Tensors:
        """Start copying a collated batch to the device."""

    def launch(self, forward: Forward, inputs: Tensors) -> Pending:
        """Start computing a staged batch and copying its vectors back."""

    def free_bytes(self) -> int:
        """Return the memory currently available to batches."""

    def used_bytes(self) -> int:
        """Return the memory held by this process."""

    def watch_peak(self) -> None:
        """Reset the peak."""

    def peak_bytes(self) -> int | None:
        """Return the peak since `watch_peak` above what was held then, or None if the device does not report it."""

    def release_cache(self) -> None:
        """Return cached memory to the device."""

    def probe(self) -> None:
        """Check the device with a trivial operation.

        Raises:
            Exception: the device is permanently broken.
        """

    def adopt_thread(self) -> None:
        """Prepare the calling thread to wait for batches."""

    def close(self) -> None:
        """Release the device's resources other than the models."""

    def abandon(self, *held: object) -> None:
        """Shut down after the engine has failed, instead of `close`: the device may be permanently broken.

        Args:
            held: objects that refer to batches in flight, which must not be freed on a broken GPU.
        """
