"""Conversion of uint8 pixels to an image tower's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from legit_embedding.models.stacking import stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

BRIGHTEST = 255.0
_SAMPLE_SEED = 0


class Pixels:
    """Rescales and normalises on the device, so that batches are copied as bytes.

    Args:
        mean: the mean per channel, after rescaling.
        std: the standard deviation per channel, after rescaling.
        factor: the rescaling factor for values from 0 to 255.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], factor: float = 1 / BRIGHTEST) -> None:
        self._mean = np.array(mean, np.float32).reshape(-1, 1, 1)
        self._std = np.array(std, np.float32).reshape(-1, 1, 1)
        self._factor = np.float32(factor)

    def to(self, device: torch.device) -> None:
        """Move the constants to the device."""
        self._scale = torch.from_numpy(self._factor / self._std)[None].to(device)
        self._shift = torch.from_numpy(-self._mean / self._std)[None].to(device)

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Stack the images. If some are already normalised, the others are normalised here to match."""
        if len({array.dtype for array in arrays}) > 1:
            arrays = [self._normalised(array) for array in arrays]
        return {"pixels": torch.from_numpy(stack(arrays))}

    def read(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Convert a batch to the tower's input."""
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().mul_(self._scale).add_(self._shift)
        return pixels.to(dtype)

    def _normalised(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        if array.dtype != np.uint8:
            return array
        return (array.astype(np.float32) * self._factor - self._mean) / self._std


def noise(cost: int, size: tuple[int, int]) -> list[NDArray[np.generic]]:
    """Return as many images as the cost, all with the same noise."""
    return [np.random.default_rng(_SAMPLE_SEED).integers(0, 256, (3, *size), np.uint8)] * max(1, cost)
