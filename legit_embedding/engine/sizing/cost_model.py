"""Memory model: bytes by batch cost, and the resulting limit on batch cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.config import Kind

CPU_MEMORY_SHARE = 0.5
"""Part of the memory available in the host, or in the process's control group, that batches may use on the CPU. The
rest is for decoding, for Redis and for whatever else the host runs: their needs are not measured."""
CPU_UNKNOWN_BYTES = 256 * 1024 * 1024
"""Memory that batches may use on the CPU where the system does not say what is available."""
CPU_BYTES_PER_TOKEN = 64 * 1024
"""Approximate activations per token on the CPU: a base-sized encoder in float32 at 512 tokens, attention included."""
CPU_BYTES_PER_ARRAY_BYTE = 100
"""Approximate activations per byte of an image's uint8 array on the CPU: a large vision transformer takes 15 MB for
224 px."""

_UNLIMITED = 1 << 30
_GROWTH = 0.01
"""Minimum fraction of the largest batch's bytes that the fitted slope must explain for the fit to be used."""
_LEAST_VARIABLE = 1 / 16
"""Minimum fraction of the time per cost that depends on the cost: batches are not planned to be 16 times as large as
would fit into the same time at the measured speed."""
_RECOVERY_BATCHES = 32
_RECOVERY_STEP = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """Line ``y = base + slope * x`` with non-negative coefficients."""

    base: float
    slope: float

    def at(self, x: float) -> float:
        """Return the value at `x`."""
        return self.base + self.slope * x

    def reach(self, y: float) -> int:
        """Return the largest `x` at which the line does not exceed `y`, at least 1."""
        if self.slope <= 0:
            return _UNLIMITED
        return max(1, min(_UNLIMITED, int((y - self.base) / self.slope)))


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """Fit a least-squares line through the points, or a line through the origin if all share one `x`."""
    xs, ys = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    if np.ptp(xs) == 0:
        return Line(0.0, float(ys.max() / max(xs.max(), 1.0)))
    slope, base = np.polyfit(xs, ys, 1)
    if base < 0:  # fit the best line through the origin instead
        return Line(0.0, max(0.0, float(xs @ ys / (xs @ xs))))
    return Line(float(max(base, 0.0)), 0.0) if slope < 0 else Line(float(base), float(slope))


def fit_seconds(points: Sequence[tuple[float, float]]) -> Line:
    """Fit a batch's seconds by its cost.

    On a busy host a small batch can take as long as one of twice its size. A line through both would promise that any
    batch takes as long, so some of the time at the best measured speed is always taken to depend on the cost.

    Args:
        points: pairs of cost and seconds, at least one.
    """
    line = fit_line(points)
    least = _LEAST_VARIABLE * min(seconds / cost for cost, seconds in points)
    if line.slope >= least:
        return line
    return Line(max(0.0, min(seconds - least * cost for cost, seconds in points)), least)


def fit_bytes(points: Sequence[tuple[float, float]], least: float = 1.0) -> Line:
    """Fit bytes by cost, raising the line until no measured point is above it.

    Points that do not grow with cost say nothing about larger batches. This happens when the first measurements include
    one-off allocations, or when the allocator reserves one large segment for each. In that case the largest point's
    bytes are divided by its cost to give the slope.

    Args:
        points: pairs of cost and bytes.
        least: the minimum bytes per unit of cost, above zero, so that no measurement implies unlimited batches.
    """
    line = fit_line(points)
    cost, used = max(points)
    if line.slope * cost < _GROWTH * used:
        line = Line(0.0, used / max(cost, 1.0))
    slope = max(line.slope, least)
    excess = max(y - (line.base + slope * x) for x, y in points)
    return Line(line.base + max(0.0, excess), slope)


def estimate_bytes(kind: Kind, array_bytes: int) -> Line:
    """Estimate bytes by cost where they cannot be measured, from tokens or from the size of one image's array."""
    per_cost = CPU_BYTES_PER_TOKEN if kind == "text" else CPU_BYTES_PER_ARRAY_BYTE * max(1, array_bytes)
    return Line(0.0, float(per_cost))


class Ceiling:
    """Current limit on a model's batch cost due to memory, never above the planned limit.

    Running out of memory halves it, and successful batches slowly raise it again. Memory used by other programs on the
    device lowers it for as long as it is in use.
    """

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._learned = planned
        self._allowed = planned
        self._clean = 0

    @property
    def cost(self) -> int:
        """Current limit on batch cost."""
        return min(self._learned, self._allowed)

    def shrink(self, cost: int) -> int:
        """Lower the ceiling after a batch of this cost ran out of memory. Returns the previous ceiling."""
        before = self._learned
        self._learned = max(1, min(before, cost) // 2)
        self._clean = 0
        return before

    def restore(self, cost: int) -> None:
        """Undo a `shrink`: a single item caused the failure, not the batch's size."""
        self._learned = min(self._planned, max(self._learned, cost))

    def went_well(self) -> None:
        """Record a batch that did not run out of memory."""
        if self._learned == self._planned:
            return
        self._clean += 1
        if self._clean == _RECOVERY_BATCHES:
            self._clean = 0
            step = max(1, int(_RECOVERY_STEP * self._planned))
            self._learned = min(self._planned, self._learned + step)

    def allow(self, cost: int) -> None:
        """Set the limit that follows from the memory free now."""
        self._allowed = max(1, min(self._planned, cost))
