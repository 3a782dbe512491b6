"""What is measured of each model before the first item comes."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from legit_embedding.engine.batching.packer import MAX_ITEMS, padded_cost
from legit_embedding.engine.outcomes import Vectors
from legit_embedding.engine.sizing.cost_model import Line, estimate_bytes, fit_bytes, fit_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.config import Kind
    from legit_embedding.engine.device.base import Device, Forward, Pending
    from legit_embedding.engine.device.choice import Choice
    from legit_embedding.models.backend import Backend

SURVEY_S = 1.5
"""How long one model is measured, warming up left out; the last batch begins before that."""
BATCH_S = 2.0
"""How long one batch should hold the device at most: nothing else reaches it meanwhile. Only a slow device, a CPU say,
is that slow below the knee, and there larger batches would not be faster."""
KNEE = 0.97
"""The part of the best speed that is good enough."""
_PAST_KNEE = 2
_AHEAD = 3.0
"""A full batch takes the device so many times as long as its launch takes the host, if it can."""
IN_FLIGHT = 2
"""Batches on the device at once: one computes, one is staged behind it."""
MOST_IN_FLIGHT = 3
"""The same where launches take so long that the device could run dry between them."""
_NO_TIME = Line(0.0, 0.0)
_FIRST_COST = {"image": 1, "text": 64}
_SPEED_GAIN = 1.015
_HASTY_POINTS = 2
_OUT_OF_LINE = 3.0
"""A batch of twice the cost takes twice the time; one that takes more than this has paid for something else as well."""
_TOKEN_BYTES = 16
"""A token's id and mask, as they are copied to the device: a batch takes at least its inputs."""


class Compilation(StrEnum):
    """How a model's forward pass is compiled."""

    NO = "no"
    BY_BLOCKS = "by blocks"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Point:
    """One batch, measured."""

    items: int
    cost: int
    seconds: float
    bytes: int | None
    """The peak of what it took besides the weights; None where the device does not say."""
    host_s: float = 0.0
    """What its launch took the host: to put it together, and to start its copy and its kernels."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model's batches are sized. Costs are images, or padded tokens."""

    model: str
    kind: Kind
    weights_bytes: int
    bytes: Line
    """The peak of a batch's bytes by its cost."""
    seconds: Line
    """A batch's time on the device by its cost."""
    largest: int
    """The largest batch cost that memory has room for."""
    knee: int | None
    """The smallest cost that reaches 97% of the best speed; None where it was not looked for."""
    speed: float
    """The best speed seen, in cost a second."""
    host: Line = _NO_TIME
    """The host's time for a launch by the batch's cost."""
    device: Choice | None = None
    """Where it was measured."""
    compiled: Compilation = Compilation.NO
    """How its forward pass is compiled."""
    start_s: Mapping[str, float] = field(default_factory=dict)
    """The seconds that its start took, by what they were spent on."""

    def target(self, pace: float = 1.0) -> int:
        """The cost at which a batch is full: larger ones would not be faster, or hold the device too long, or not fit.

        At twice the knee a batch's fixed costs are below 2% of it. Where the host is slow to launch, it takes more.

        Args:
            pace: how much slower than measured the device turned out to be.
        """
        by_knee = _PAST_KNEE * self.knee if self.knee is not None else self.largest
        by_knee = max(by_knee, self._ahead_from(pace))
        by_time = self.seconds.reach(self.seconds.base + BATCH_S / pace)
        return max(1, min(self.largest, by_knee, by_time))

    def in_flight(self) -> int:
        """How many batches should be on the device at once, so that it never waits for the host.

        Two where it was not measured thoroughly: that is a CPU, which is its own host.
        """
        cost = self.target()
        quick = self.knee is None or self.seconds.at(cost) >= _AHEAD * self.host.at(cost)
        return IN_FLIGHT if quick else MOST_IN_FLIGHT

    def _ahead_from(self, pace: float) -> int:
        """The smallest cost at which a batch takes long enough for the next launches; 0 where there is none."""
        short = _AHEAD * self.host.base - pace * self.seconds.base
        gain = pace * self.seconds.slope - _AHEAD * self.host.slope
        return math.ceil(short / gain) if short > 0 and gain > 0 else 0

    def free_padding(self) -> int:
        """Padding that costs less than another batch would, at most a thirty-second part of a full batch."""
        most = self.target() // 32
        return min(most, int(self.seconds.base / self.seconds.slope)) if self.seconds.slope > 0 else most

    def as_dict(self) -> dict[str, Any]:
        """For a table, or JSON."""
        return asdict(self) | {"target": self.target()}


def make_plan(model: str, kind: Kind, weights_bytes: int, points: Sequence[Point], budget: float, image: int) -> Plan:
    """Derive the plan from what was measured.

    Args:
        model: the model's name in the registry.
        kind: how cost is counted.
        weights_bytes: what the weights take.
        points: at least one measured batch.
        budget: the bytes that one batch may take.
        image: the bytes of one image's array, for an estimate where nothing was measured.
    """
    measured = [(float(point.cost), float(point.bytes)) for point in points if point.bytes is not None]
    least = image if kind == "image" else _TOKEN_BYTES
    used = fit_bytes(measured, least) if measured else estimate_bytes(kind, image)
    speeds = {point.cost: point.cost / point.seconds for point in points}
    best = max(speeds.values())
    enough = [cost for cost, speed in speeds.items() if speed >= KNEE * best]
    return Plan(
        model=model,
        kind=kind,
        weights_bytes=weights_bytes,
        bytes=used,
        seconds=fit_line([(float(point.cost), point.seconds) for point in points]),
        largest=used.reach(budget),
        knee=min(enough) if len(speeds) > _HASTY_POINTS else None,
        speed=best,
        host=fit_line([(float(point.cost), point.host_s) for point in points]),
    )


def survey(device: Device, backend: Backend, forward: Forward, budget: float) -> list[Point]:
    """Measure batches of doubling cost until speed or memory ends, or time is up.

    Where the device is not to be measured thoroughly, two costs: enough to know what a batch takes of time. The first
    batch of all is not measured: it loads the libraries and makes their workspaces.
    """
    cost = _FIRST_COST[backend.kind]
    run(device, backend, forward, backend.samples(cost))
    started = time.monotonic()
    points: list[Point] = []
    while len(points) < _HASTY_POINTS or (device.thorough and _worth_another(points, budget, started)):
        points.append(_measure(device, backend, forward, cost, points[-1] if points else None))
        cost *= 2
    return points


def _worth_another(points: Sequence[Point], budget: float, started: float) -> bool:
    last = points[-1]
    if time.monotonic() - started > SURVEY_S or 2 * (last.bytes or 0) > budget or last.items >= MAX_ITEMS:
        return False
    speeds = [point.cost / point.seconds for point in points]
    return len(speeds) < 3 or speeds[-1] > _SPEED_GAIN * speeds[-3]  # noqa: PLR2004 - two doublings without a gain


def _measure(device: Device, backend: Backend, forward: Forward, cost: int, before: Point | None) -> Point:
    arrays = backend.samples(cost)
    device.watch_peak()
    seconds, host_s = _timed(device, backend, forward, arrays)
    peak = device.peak_bytes()
    # The first batch of a shape pays for allocations and for choosing kernels. A slow one need not be that exact,
    # unless it is far slower than the batch before it lets expect.
    if seconds <= SURVEY_S / 4:
        repeats = 2
    else:
        repeats = 1 if before is not None and seconds > _OUT_OF_LINE * before.seconds else 0
    for _ in range(repeats):
        seconds, host_s = map(min, (seconds, host_s), _timed(device, backend, forward, arrays))
    return Point(len(arrays), batch_cost(backend.kind, arrays), max(seconds, 1e-9), peak, host_s)


def run(device: Device, backend: Backend, forward: Forward, arrays: Sequence[NDArray[np.generic]]) -> float:
    """Take one batch through the device and check what comes out; its seconds.

    Raises:
        ValueError: the model does not answer with one finite vector of its dimension an item.
    """
    return _timed(device, backend, forward, arrays)[0]


def _timed(
    device: Device, backend: Backend, forward: Forward, arrays: Sequence[NDArray[np.generic]]
) -> tuple[float, float]:
    """The same, with the host's seconds too."""
    started = time.perf_counter()
    pending = launch(device, backend, forward, arrays)
    host_s = time.perf_counter() - started
    vectors = Vectors(pending.wait(), len(arrays), backend.dim)
    if not all(vectors.finite):
        message = "the vectors of its own samples hold a NaN or an infinity"
        raise ValueError(message)
    return pending.seconds, host_s


def launch(device: Device, backend: Backend, forward: Forward, arrays: Sequence[NDArray[np.generic]]) -> Pending:
    """Give one batch to the device."""
    with device.collating():
        inputs = backend.collate(arrays)
    return device.launch(forward, device.stage(inputs))


def batch_cost(kind: Kind, arrays: Sequence[NDArray[np.generic]]) -> int:
    """The cost of a batch of these arrays."""
    return padded_cost(kind, [len(array) if kind == "text" else 1 for array in arrays])
