"""Measurement of models at startup, and the batching plan derived from it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from legit_embedding.engine.batching.packer import MAX_ITEMS, padded_cost
from legit_embedding.engine.outcomes import Vectors
from legit_embedding.engine.sizing.cost_model import Line, estimate_bytes, fit_bytes, fit_line, fit_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.config import Kind
    from legit_embedding.engine.device.base import Device, Forward, Pending
    from legit_embedding.engine.device.choice import Choice
    from legit_embedding.models.backend import Backend

SURVEY_S = 1.5
"""Time budget for measuring one model, excluding warm-up. No cost is measured that would exceed it, but for the first
two."""
BATCH_S = 1.0
"""Maximum time that one batch should occupy the device, since nothing else can run meanwhile. Only a slow device such
as a CPU takes this long below the knee, and there larger batches would not be faster."""
KNEE = 0.97
"""Fraction of the best speed that defines the knee."""
_STEEP = 1.25
"""Gain in speed from the last doubling above which a survey that ran out of time has not come near the knee: past the
knee the gain is at most 1.03."""
_PAST_KNEE = 2
_AHEAD = 3.0
"""Desired ratio of a full batch's device time to the host time of its launch."""
IN_FLIGHT = 2
"""Batches on the device at once: one computing and one staged behind it."""
MOST_IN_FLIGHT = 3
"""Batches on the device at once where launches are slow enough to leave the device idle between batches."""
_NO_TIME = Line(0.0, 0.0)
_FIRST_COST = {"image": 1, "text": 64}
_SPEED_GAIN = 1.015
_HASTY_POINTS = 2
_OUT_OF_LINE = 3.0
"""Factor over the previous batch's time beyond which a measurement is repeated. Doubling the cost should double the
time, so anything slower includes a one-off expense."""
_TOKEN_BYTES = 16
"""Bytes of a token's id and mask on the device, the minimum memory per token."""


class Compilation(StrEnum):
    """Compilation modes of a model's forward pass."""

    NO = "no"
    BY_BLOCKS = "by blocks"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Point:
    """Measurement of one batch."""

    items: int
    cost: int
    seconds: float
    bytes: int | None
    """Peak memory besides the weights; None if the device does not report it."""
    host_s: float = 0.0
    """Host time of its launch: collating it and starting its copy and its kernels."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Batch sizing of one model. Costs are counted in images or padded tokens."""

    model: str
    kind: Kind
    weights_bytes: int
    bytes: Line
    """Peak bytes of a batch by cost."""
    seconds: Line
    """Device time of a batch by cost."""
    largest: int
    """Largest batch cost that fits in memory."""
    knee: int | None
    """Smallest cost that reaches 97% of the best speed; None if it was not measured."""
    speed: float
    """Best measured speed, in cost per second."""
    host: Line = _NO_TIME
    """Host time of a launch by the batch's cost."""
    device: Choice | None = None
    """Device on which it was measured."""
    compiled: Compilation = Compilation.NO
    """Compilation of the forward pass."""
    start_s: Mapping[str, float] = field(default_factory=dict)
    """Startup time in seconds by phase."""

    def target(self, pace: float = 1.0, *, attended: bool = False) -> int:
        """Return the cost of a full batch: a larger one would not be faster, or would take too long, or would not fit.

        At twice the knee, fixed costs are below 2% of a batch's time. Where launches are slow, the target is higher.

        Args:
            pace: the ratio of observed to measured batch time.
            attended: stop at the knee, because somebody may wait for this batch's end.
        """
        return max(1, min(self._limits(pace, attended=attended).values()))

    def limited_by(self) -> str:
        """Return the reason why a full batch is not larger: memory, speed or time."""
        limits = self._limits(1.0)
        return min(limits, key=lambda name: limits[name])

    def _limits(self, pace: float, *, attended: bool = False) -> dict[str, int]:
        limits = {"memory": self.largest, "time": self.seconds.reach(self.seconds.base + BATCH_S / pace)}
        if self.knee is not None:
            limits["speed"] = max((1 if attended else _PAST_KNEE) * self.knee, self._ahead_from(pace))
        return limits

    def in_flight(self) -> int:
        """Return the number of batches to keep on the device so that it never waits for the host.

        Two if the knee was not measured, which is the case where a single item takes long.
        """
        cost = self.target()
        quick = self.knee is None or self.seconds.at(cost) >= _AHEAD * self.host.at(cost)
        return IN_FLIGHT if quick else MOST_IN_FLIGHT

    def _ahead_from(self, pace: float) -> int:
        """Return the smallest cost whose device time covers the next launches, or 0 if there is none."""
        short = _AHEAD * self.host.base - pace * self.seconds.base
        gain = pace * self.seconds.slope - _AHEAD * self.host.slope
        return math.ceil(short / gain) if short > 0 and gain > 0 else 0

    def free_padding(self) -> int:
        """Return the padding that costs less than a separate batch would, at most 1/32 of a full batch."""
        return int(min(self.target() // 32, self.fixed_cost()))

    def fixed_cost(self) -> float:
        """Return the cost whose computation takes as long as a batch's fixed part; infinite if cost takes no time."""
        return self.seconds.base / self.seconds.slope if self.seconds.slope > 0 else math.inf

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the target as a dictionary, for tables and JSON."""
        return asdict(self) | {"target": self.target(), "limited_by": self.limited_by()}


def make_plan(model: str, kind: Kind, weights_bytes: int, points: Sequence[Point], budget: float, image: int) -> Plan:
    """Derive the plan from measurements.

    Args:
        model: the model's name in the registry.
        kind: the model's input kind, which decides how cost is counted.
        weights_bytes: the size of the weights.
        points: measured batches, at least one.
        budget: the bytes that one batch may take.
        image: the bytes of one image's array, for an estimate where memory was not measured.
    """
    measured = [(float(point.cost), float(point.bytes)) for point in points if point.bytes is not None]
    least = image if kind == "image" else _TOKEN_BYTES
    used = fit_bytes(measured, least) if measured else estimate_bytes(kind, image)
    speeds = {point.cost: point.cost / point.seconds for point in points}
    best = max(speeds.values())
    enough = [cost for cost, speed in speeds.items() if speed >= KNEE * best]
    is_measured = len(speeds) > _HASTY_POINTS and speeds[points[-1].cost] < _STEEP * speeds[points[-2].cost]
    return Plan(
        model=model,
        kind=kind,
        weights_bytes=weights_bytes,
        bytes=used,
        seconds=fit_seconds([(float(point.cost), point.seconds) for point in points]),
        largest=used.reach(budget),
        knee=min(enough) if is_measured else None,
        speed=best,
        host=fit_line([(float(point.cost), point.host_s) for point in points]),
    )


def survey(device: Device, backend: Backend, forward: Forward, budget: float) -> list[Point]:
    """Measure batches of doubling cost until speed stops improving, or memory or time runs out.

    At least two costs are measured, to estimate a batch's time. The very first batch loads libraries and allocates
    their workspaces, so its time counts only if the next batch of its size was disturbed and took longer.
    """
    cost = _FIRST_COST[backend.kind]
    guess = estimate_bytes(backend.kind, backend.samples(1)[0].nbytes)
    first_s = run(device, backend, forward, backend.samples(cost))
    began = time.monotonic()
    points: list[Point] = []
    left, took = SURVEY_S, 0.0
    while len(points) < _HASTY_POINTS or (2 * took < left and _worth_another(points, guess, budget)):
        points.append(_measure(device, backend, forward, cost, points[-1] if points else None))
        now = time.monotonic()
        left, took, began = left - (now - began), now - began, now
        cost *= 2
    return [replace(points[0], seconds=min(points[0].seconds, max(first_s, 1e-9))), *points[1:]]


def _worth_another(points: Sequence[Point], guess: Line, budget: float) -> bool:
    last = points[-1]
    used = guess.at(last.cost) if last.bytes is None else last.bytes
    if 2 * used > budget or last.items >= MAX_ITEMS:
        return False
    speeds = [point.cost / point.seconds for point in points]
    return len(speeds) < 3 or speeds[-1] > _SPEED_GAIN * speeds[-3]  # noqa: PLR2004 - two doublings without a gain


def _measure(device: Device, backend: Backend, forward: Forward, cost: int, before: Point | None) -> Point:
    arrays = backend.samples(cost)
    device.watch_peak()
    seconds, host_s = _timed(device, backend, forward, arrays)
    peak = device.peak_bytes()
    # The first batch of a shape includes allocation and kernel selection, so it is repeated. Slow batches need less
    # precision and are repeated only if they are far slower than the previous batch suggests.
    if seconds <= SURVEY_S / 4:
        repeats = 2
    else:
        repeats = 1 if before is not None and seconds > _OUT_OF_LINE * before.seconds else 0
    for _ in range(repeats):
        seconds, host_s = map(min, (seconds, host_s), _timed(device, backend, forward, arrays))
    return Point(len(arrays), batch_cost(backend.kind, arrays), max(seconds, 1e-9), peak, host_s)


def run(device: Device, backend: Backend, forward: Forward, arrays: Sequence[NDArray[np.generic]]) -> float:
    """Run one batch on the device, check its vectors and return its compute time in seconds.

    Raises:
        ValueError: the model does not return one finite vector of its dimension per item.
    """
    return _timed(device, backend, forward, arrays)[0]


def _timed(
    device: Device, backend: Backend, forward: Forward, arrays: Sequence[NDArray[np.generic]]
) -> tuple[float, float]:
    """Run one batch like `run` and return its compute time and the host time of its launch."""
    started = time.perf_counter()
    pending = launch(device, backend, forward, arrays)
    host_s = time.perf_counter() - started
    vectors = Vectors(pending.wait(), len(arrays), backend.dim)
    if not all(vectors.finite):
        message = "the vectors of its own samples hold a NaN or an infinity"
        raise ValueError(message)
    return pending.seconds, host_s


def launch(device: Device, backend: Backend, forward: Forward, arrays: Sequence[NDArray[np.generic]]) -> Pending:
    """Collate, stage and launch one batch."""
    with device.collating():
        inputs = backend.collate(arrays)
    return device.launch(forward, device.stage(inputs))


def in_units(kind: Kind, cost: int) -> str:
    """Format a batch's cost with its unit."""
    one = "image" if kind == "image" else "token"
    return f"{cost:,} {one}" if cost == 1 else f"{cost:,} {one}s"


def batch_cost(kind: Kind, arrays: Sequence[NDArray[np.generic]]) -> int:
    """Return the cost of a batch of these arrays."""
    return padded_cost(kind, [len(array) if kind == "text" else 1 for array in arrays])
