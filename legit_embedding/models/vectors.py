"""What happens to a vector after the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def shortened(vector: NDArray[np.float32], length: int, *, normalize: bool) -> NDArray[np.float32]:
    """The first components, normalised again where the vector was; a vector that is not longer stays as it is."""
    if length >= len(vector):
        return vector
    return _normalised(vector[:length]) if normalize else vector[:length]


def averaged(vectors: Sequence[NDArray[np.float32]], weights: Sequence[int], *, normalize: bool) -> NDArray[np.float32]:
    """The mean of some vectors, weighted, and normalised where they were."""
    mean = np.average(np.stack(vectors), axis=0, weights=weights).astype(np.float32)
    return _normalised(mean) if normalize else mean


def _normalised(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector
