"""Pinned host memory for copying batches to a CUDA device."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


def pinned(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Allocate page-locked host memory, which the device can access by DMA."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


class PinnedSlot:
    """Buffers for one batch, grown as needed and reused once their copy has finished."""

    def __init__(self) -> None:
        self._buffers: dict[object, torch.Tensor] = {}
        self._copied: torch.cuda.Event | None = None
        self._rooms = 0

    def claim(self) -> None:
        """Wait until this slot's previous copy has finished."""
        self._rooms = 0
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None

    def room(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        """Return a pinned array to be filled with one of the batch's inputs."""
        self._rooms += 1
        room = self._buffer(("room", self._rooms), prod(shape) * dtype.itemsize).numpy().view(dtype).reshape(shape)
        return cast("NDArray[np.generic]", room)

    def pin(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor itself if it is in one of this slot's buffers, otherwise a pinned copy."""
        if any(buffer.data_ptr() == tensor.data_ptr() for buffer in self._buffers.values()):
            return tensor
        buffer = self._buffer(name, tensor.numel() * tensor.element_size())
        # NumPy copies on this thread only; torch would use all the cores, which prep needs.
        np.copyto(buffer.numpy(), tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        return buffer.view(tensor.dtype).view(tensor.shape)

    def _buffer(self, key: object, size: int) -> torch.Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[key] = pinned((_rounded(size),), torch.uint8)
        return buffer[:size]

    def busy_until(self, copied: torch.cuda.Event) -> None:
        """Keep the slot from being reused before this event."""
        self._copied = copied


class PinnedRing:
    """Slots used in rotation."""

    def __init__(self, slots: int) -> None:
        self._slots = [PinnedSlot() for _ in range(slots)]
        self._turns: Iterator[PinnedSlot] = self._endlessly()

    def next(self) -> PinnedSlot:
        """Return the least recently used slot, ready for use."""
        slot = next(self._turns)
        slot.claim()
        return slot

    def _endlessly(self) -> Iterator[PinnedSlot]:
        while True:
            yield from self._slots


def _rounded(size: int) -> int:
    """Round up to a power of two, so that slowly growing batches do not pin new memory each time."""
    return 1 << max(12, (size - 1).bit_length())
