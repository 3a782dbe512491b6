"""Pinned host memory through which batches travel to a CUDA device."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def pinned(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Host memory that the device copies from and to by itself."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


class PinnedSlot:
    """Buffers for one batch: one a tensor name, grown as needed, used again once their copy is over."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def claim(self) -> None:
        """Wait until the copy that used this slot last is over."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None

    def pin(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A pinned copy of a tensor."""
        size = prod(tensor.shape) * tensor.element_size()
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = pinned((_rounded(size),), torch.uint8)
        return buffer[:size].view(tensor.dtype).view(tensor.shape).copy_(tensor)

    def busy_until(self, copied: torch.cuda.Event) -> None:
        """The slot may be used again after this event."""
        self._copied = copied


class PinnedRing:
    """Slots in turn."""

    def __init__(self, slots: int) -> None:
        self._slots = [PinnedSlot() for _ in range(slots)]
        self._turns: Iterator[PinnedSlot] = self._endlessly()

    def next(self) -> PinnedSlot:
        """The slot used longest ago, ready for use."""
        slot = next(self._turns)
        slot.claim()
        return slot

    def _endlessly(self) -> Iterator[PinnedSlot]:
        while True:
            yield from self._slots


def _rounded(size: int) -> int:
    """The next power of two, so that slowly growing batches do not pin new memory each time."""
    return 1 << max(12, (size - 1).bit_length())
