"""The distribution of cosines, in constant memory."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS_A_DECADE = 100
NEAREST = 1e-9
FARTHEST = 2.0
"""Between opposite vectors."""

QUANTILES = (0.0, 0.0001, 0.001, 0.01, 0.05, 0.25, 0.5)

_EDGES = NEAREST * 10 ** (np.arange(1 + int(np.ceil(BINS_A_DECADE * log10(FARTHEST / NEAREST)))) / BINS_A_DECADE)


class Distances:
    """Counts of the distance ``1 - cosine`` in fixed bins, a hundred a decade from 1e-9 to 2; all below is one bin.

    Least and mean are exact. A quantile is the far edge of its bin, so the true one is never worse, and its distance
    from 1 is at most 2.4% smaller (or 1e-9).
    """

    def __init__(self) -> None:
        self._counts = np.zeros(len(_EDGES) + 1, np.int64)
        self._sum = 0.0
        self._farthest = 0.0

    def add(self, cosines: NDArray[np.float64]) -> None:
        """Count some more."""
        distances = np.clip(1.0 - cosines, 0.0, FARTHEST)
        self._counts += np.bincount(np.searchsorted(_EDGES, distances), minlength=len(self._counts))
        self._sum += float(distances.sum())
        self._farthest = max(self._farthest, float(distances.max(initial=0.0)))

    @property
    def count(self) -> int:
        """The number of pairs."""
        return int(self._counts.sum())

    @property
    def least(self) -> float:
        """The smallest cosine."""
        return 1.0 - self._farthest

    @property
    def mean(self) -> float:
        """The mean cosine."""
        return 1.0 - self._sum / max(1, self.count)

    def quantile(self, share: float) -> float:
        """The cosine that this share of the pairs is at or below."""
        nearer = np.cumsum(self._counts)
        bin_number = int(np.searchsorted(nearer, max(1.0, self.count - share * self.count)))
        far_edge = _EDGES[min(bin_number, len(_EDGES) - 1)]
        return max(self.least, 1.0 - float(far_edge))

    def decades(self) -> list[tuple[float, int]]:
        """The filled bins: each one's far edge, as a distance, and how many are in it."""
        return [(float(_EDGES[min(number, len(_EDGES) - 1)]), int(self._counts[number])) for number in self._filled()]

    def _filled(self) -> NDArray[np.intp]:
        return np.flatnonzero(self._counts)
