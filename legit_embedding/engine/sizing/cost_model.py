"""How many bytes a batch takes, and how large a batch may therefore be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.config import Kind

CPU_BATCH_BYTES = 256 * 1024 * 1024
"""What the activations of one batch may take on the CPU, where no allocator says what they do take."""
CPU_BYTES_PER_TOKEN = 64 * 1024
"""A token's activations on the CPU, roughly: a base-sized encoder in float32 at 512 tokens, attention included."""
CPU_BYTES_PER_ARRAY_BYTE = 100
"""An image's activations on the CPU for each byte of its uint8 array, roughly: a large vision transformer takes 15 MB
for 224 px."""

_UNLIMITED = 1 << 30
_GROWTH = 0.01
"""The part of the largest batch's bytes that must grow with its cost, if they can be said to grow."""
_RECOVERY_BATCHES = 32
_RECOVERY_STEP = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """``y = base + slope * x``, both at least zero."""

    base: float
    slope: float

    def at(self, x: float) -> float:
        """The value at `x`."""
        return self.base + self.slope * x

    def reach(self, y: float) -> int:
        """The largest `x` at which the line is not above `y`, at least 1."""
        if self.slope <= 0:
            return _UNLIMITED
        return max(1, min(_UNLIMITED, int((y - self.base) / self.slope)))


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through points, or the line through zero if there is one point only."""
    xs, ys = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    if np.ptp(xs) == 0:
        return Line(0.0, float(ys.max() / max(xs.max(), 1.0)))
    slope, base = np.polyfit(xs, ys, 1)
    if base < 0:  # then the best line without a base
        return Line(0.0, max(0.0, float(xs @ ys / (xs @ xs))))
    return Line(float(max(base, 0.0)), 0.0) if slope < 0 else Line(float(base), float(slope))


def fit_bytes(points: Sequence[tuple[float, float]], least: float = 1.0) -> Line:
    """Bytes by cost: the fitted line, raised until none of the measured points is above it.

    Points that do not grow with the cost, because something else was measured with the first ones or the allocator took
    one large piece for each, say nothing about larger batches: then the largest point is shared out over its cost.

    Args:
        points: cost and bytes.
        least: what each unit of cost takes at least, above zero: whatever was measured, memory is not unlimited.
    """
    line = fit_line(points)
    cost, used = max(points)
    if line.slope * cost < _GROWTH * used:
        line = Line(0.0, used / max(cost, 1.0))
    slope = max(line.slope, least)
    excess = max(y - (line.base + slope * x) for x, y in points)
    return Line(line.base + max(0.0, excess), slope)


def estimate_bytes(kind: Kind, array_bytes: int) -> Line:
    """Bytes by cost where they cannot be measured: by tokens, or by the size of one image's array."""
    per_cost = CPU_BYTES_PER_TOKEN if kind == "text" else CPU_BYTES_PER_ARRAY_BYTE * max(1, array_bytes)
    return Line(0.0, float(per_cost))


class Ceiling:
    """The largest batch cost that memory allows one model at the moment, never above what was planned.

    Three things move it. Running out of memory halves it; batches that go well let it recover, slowly; and other
    programs' use of the device lowers it for as long as it lasts.
    """

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._learned = planned
        self._allowed = planned
        self._clean = 0

    @property
    def cost(self) -> int:
        """The largest batch cost of this moment."""
        return min(self._learned, self._allowed)

    def shrink(self, cost: int) -> int:
        """A batch of this cost ran out of memory; the ceiling before it did."""
        before = self._learned
        self._learned = max(1, min(before, cost) // 2)
        self._clean = 0
        return before

    def restore(self, cost: int) -> None:
        """It was not the size of a batch after all, but one of its items."""
        self._learned = min(self._planned, max(self._learned, cost))

    def went_well(self) -> None:
        """A batch ended without running out of memory."""
        if self._learned == self._planned:
            return
        self._clean += 1
        if self._clean == _RECOVERY_BATCHES:
            self._clean = 0
            step = max(1, int(_RECOVERY_STEP * self._planned))
            self._learned = min(self._planned, self._learned + step)

    def allow(self, cost: int) -> None:
        """What the memory that is free now has room for."""
        self._allowed = max(1, min(self._planned, cost))
