"""What the engine says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from legit_embedding.engine.histogram import RATIOS, SECONDS, SIZES, Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.engine.device.choice import Choice
    from legit_embedding.engine.histogram import Distribution

_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Whether a loop gets on."""

    alive: bool
    stalled_s: float
    """For how long nothing has moved, in seconds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The device's memory, in bytes, when the loop last looked."""

    used: int = 0
    """What this process holds."""
    free: int = 0
    """What batches could take."""
    is_gpu: bool = False
    """Whether it is a GPU's; a CPU's `free` is a constant."""


@dataclass(frozen=True, slots=True)
class BatchHistograms:
    """How the batches of one model were."""

    wait_s: Distribution
    """An item each: from its submission to the start of its batch."""
    compute_s: Distribution
    items: Distribution
    fill: Distribution
    """The part of what the batch could have held."""


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model; counts grow from the start, the rest is of this moment."""

    waiting: int
    waiting_bytes: int
    batches: int
    items: int
    """Items that were in a batch which the device finished."""
    device_s: float
    share: float
    """The part of all models' device time."""
    padding_waste: float
    """The part of the device's work that was padding, 0 to 1."""
    ooms: int
    failures: int
    largest_batch: int
    """The largest batch cost that ran."""
    ceiling: int
    """The largest batch cost that memory allows."""
    target: int
    """The batch cost at which a batch is full."""
    weight: float
    linger_ms: float
    max_batch: int | None
    failed_in_row: int
    """Batches that ended without one good vector since the last that did not."""
    planned_bytes: int
    """The weights, and the largest batch that memory allows."""
    batches_seen: BatchHistograms
    useful_cost: int
    """The sum of the items' own costs, over all batches."""
    padded_cost: int
    """What these batches cost, padding included."""

    @property
    def batch_size_avg(self) -> float:
        """Items a batch."""
        return self.items / self.batches if self.batches else 0.0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The whole engine."""

    models: dict[str, ModelStats]
    busy: float
    """The part of the last seconds in which the device computed, 0 to 1."""
    open_items: int
    """Items submitted and not settled."""
    open_batches: int
    """Batches that left their accumulator and are not settled."""
    on_device: int
    """Batches that compute, or wait on the device."""
    turned_at: float
    """When the loop last turned, by `time.monotonic`."""
    memory: Memory = field(default_factory=Memory)
    device: Choice | None = None
    """Which device it is, and why; None until it is opened."""


class Counters:
    """What the loop counts for one model."""

    def __init__(self) -> None:
        self.batches = 0
        self.items = 0
        self.useful = 0
        self.padded = 0
        self.device_s = 0.0
        self.ooms = 0
        self.largest = 0
        self.failed_in_row = 0
        self._wait_s = Histogram(SECONDS)
        self._compute_s = Histogram(SECONDS)
        self._batch_items = Histogram(SIZES)
        self._fill = Histogram(RATIOS)

    def ran(self, waits: Sequence[float], useful: int, padded: int, seconds: float, fill: float) -> None:
        """The device finished a batch whose items had waited so long, and which was so full."""
        items = len(waits)
        self._wait_s.observe_all(waits)
        self._compute_s.observe(seconds)
        self._batch_items.observe(items)
        self._fill.observe(fill)
        self.batches += 1
        self.items += items
        self.useful += useful
        self.padded += padded
        self.device_s += seconds
        self.largest = max(self.largest, padded)

    def histograms(self) -> BatchHistograms:
        """How the batches were so far."""
        return BatchHistograms(
            self._wait_s.snapshot(), self._compute_s.snapshot(), self._batch_items.snapshot(), self._fill.snapshot()
        )

    @property
    def padding_waste(self) -> float:
        """The part of the padded cost that was padding."""
        return 1 - self.useful / self.padded if self.padded else 0.0


class BusyMeter:
    """The part of the last seconds in which the device computed, older ones counting less and less."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._seconds = 0.0
        self._at = now

    def add(self, seconds: float, now: float) -> None:
        """The device computed for so long until now."""
        self._seconds = self._faded(now) + seconds
        self._at = now

    def fraction(self, now: float) -> float:
        """Busy seconds over all seconds, both faded alike."""
        window = _WINDOW_S * (1 - math.exp(-(now - self._since) / _WINDOW_S))
        return min(1.0, self._faded(now) / window) if window > 0 else 0.0

    def _faded(self, now: float) -> float:
        return self._seconds * math.exp(-(now - self._at) / _WINDOW_S)
