"""Post-processing of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def shortened(vector: NDArray[np.float32], length: int, *, normalize: bool) -> NDArray[np.float32]:
    """Truncate a vector, and renormalise it if it was normalised; a vector that is not longer is returned as it is."""
    if length >= len(vector):
        return vector
    return _normalised(vector[:length]) if normalize else vector[:length]


def averaged(vectors: Sequence[NDArray[np.float32]], weights: Sequence[int], *, normalize: bool) -> NDArray[np.float32]:
    """Return the weighted mean of vectors, normalised if they were."""
    mean = np.average(np.stack(vectors), axis=0, weights=weights).astype(np.float32)
    return _normalised(mean) if normalize else mean


def _normalised(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector
