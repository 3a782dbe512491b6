"""A device as the loop sees it."""

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
    """A batch that the device has been given."""

    seconds: float
    """How long it computed; known after `wait`."""

    def wait(self) -> NDArray[np.float32]:
        """Wait for the vectors, ``[n, dim]``, without holding the GIL.

        Raises:
            Exception: what the model or the device raised.
        """


class Device(Protocol):
    """Runs batches one after the other, while the thread that launches them prepares the next.

    Only the loop's thread calls it, but for `Pending.wait`, which the completions' thread calls after `adopt_thread`.
    """

    torch_device: torch.device
    choice: Choice
    """Which device this is, and why this one."""
    thorough: bool
    """Whether it pays to look for each model's knee here before the start."""

    def dtype(self, precision: str) -> torch.dtype:
        """The type of the weights under this precision setting."""

    def collating(self) -> AbstractContextManager[None]:
        """Within this the next batch is put together, which then is staged."""

    def stage(self, inputs: Tensors) -> Tensors:
        """Start the copy of a collated batch to the device."""

    def launch(self, forward: Forward, inputs: Tensors) -> Pending:
        """Start the computation of a staged batch, and the copy of its vectors back."""

    def free_bytes(self) -> int:
        """What batches could take at the moment."""

    def used_bytes(self) -> int:
        """What this process holds."""

    def watch_peak(self) -> None:
        """Forget the peak so far."""

    def peak_bytes(self) -> int | None:
        """The peak since `watch_peak`, beyond what was held then; None where the device does not say."""

    def release_cache(self) -> None:
        """Give memory that is kept for later batches back to the device."""

    def probe(self) -> None:
        """Do something trivial.

        Raises:
            Exception: the device is broken for good.
        """

    def adopt_thread(self) -> None:
        """Let this thread wait for batches."""

    def close(self) -> None:
        """Give up what the device holds besides the models."""

    def abandon(self, *held: object) -> None:
        """Called instead of `close` when the engine has failed: the device may be broken for good.

        Args:
            held: what refers to batches in flight. On a broken GPU it must not be freed.
        """
