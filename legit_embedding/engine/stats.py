"""Statistics of the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from legit_embedding.engine.histogram import RATIOS, SECONDS, SIZES, Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from legit_embedding.engine.device.choice import Choice
    from legit_embedding.engine.histogram import Distribution

_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Liveness of a loop."""

    alive: bool
    stalled_s: float
    """Seconds without progress."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The device's memory in bytes, as of the loop's last reading."""

    used: int = 0
    """Memory held by this process."""
    free: int = 0
    """Memory available to batches."""
    is_gpu: bool = False
    """True for a GPU; on a CPU `free` is a constant."""


@dataclass(frozen=True, slots=True)
class BatchHistograms:
    """Distributions over the batches of one model."""

    wait_s: Distribution
    """Per item, from submission to the start of its batch."""
    compute_s: Distribution
    items: Distribution
    fill: Distribution
    """Batch size as a fraction of its limit."""


@dataclass(frozen=True, slots=True)
class RemoteStats:
    """State of a model that is computed elsewhere; counts are cumulative since the start."""

    where: str
    """The remote's address."""
    requests: int
    """Requests in flight."""
    max_requests: int
    errors: Mapping[str, int]
    """Failed requests by the kind of failure."""
    retries: int
    """Batches put off after a failure."""
    is_open: bool
    """True while the circuit breaker is open: nothing but probes is sent."""
    problem: str
    """A sentence about what is wrong; empty while nothing is."""


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Statistics of one model: counts are cumulative since the start, other values are current."""

    waiting: int
    waiting_bytes: int
    batches: int
    items: int
    """Items in batches that the device finished."""
    device_s: float
    share: float
    """Fraction of the device time of all models."""
    padding_waste: float
    """Fraction of the device's work spent on padding, 0 to 1."""
    ooms: int
    failures: int
    largest_batch: int
    """Largest batch cost run so far."""
    ceiling: int
    """Largest batch cost that memory allows."""
    target: int
    """Cost at which a batch is considered full."""
    weight: float
    linger_ms: float
    max_batch: int | None
    failed_in_row: int
    """Consecutive batches without a single finite vector."""
    loaded: bool
    """True once the model is loaded and measured; a remote one always."""
    last_ok_at: float | None
    """Time of the last batch with a finite vector, by `time.monotonic`."""
    planned_bytes: int
    """Memory for the weights plus the largest batch that memory allows."""
    batches_seen: BatchHistograms
    useful_cost: int
    """Sum of the items' own costs over all batches."""
    padded_cost: int
    """Total cost of these batches, padding included."""
    oldest_s: float | None = None
    """Time for which the oldest item has waited, in seconds; None while nothing waits."""
    cache_hits: int = 0
    """Items that were answered from the content cache; they are in none of the other counts."""
    cache_misses: int = 0
    remote: RemoteStats | None = None
    """None for a model that is computed here."""

    @property
    def batch_size_avg(self) -> float:
        """Mean number of items per batch."""
        return self.items / self.batches if self.batches else 0.0

    def __str__(self) -> str:
        batches = "1 batch" if self.batches == 1 else f"{self.batches:,} batches"
        where = f"{self.share:.0%} of the device" if self.remote is None else f"at {self.remote.where}"
        waiting = f", {self.waiting:,} waiting" if self.waiting else ""
        return f"{batches} of {self.batch_size_avg:.1f}, {where}{waiting}"


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Statistics of the engine as a whole."""

    models: dict[str, ModelStats]
    busy: float
    """Fraction of the last few seconds in which the device was computing, 0 to 1."""
    open_items: int
    """Submitted items that are not settled."""
    open_batches: int
    """Unsettled batches that have left their accumulator."""
    on_device: int
    """Batches computing or waiting on the device."""
    turned_at: float
    """Time of the loop's last turn, by `time.monotonic`."""
    memory: Memory = field(default_factory=Memory)
    device: Choice | None = None
    """Device in use and the reason for choosing it; None until it is opened."""


class Counters:
    """Counters that the loop keeps per model."""

    def __init__(self) -> None:
        self.batches = 0
        self.items = 0
        self.useful = 0
        self.padded = 0
        self.device_s = 0.0
        self.ooms = 0
        self.largest = 0
        self.failed_in_row = 0
        self.last_ok_at: float | None = None
        self._wait_s = Histogram(SECONDS)
        self._compute_s = Histogram(SECONDS)
        self._batch_items = Histogram(SIZES)
        self._fill = Histogram(RATIOS)

    def ran(self, waits: Sequence[float], useful: int, padded: int, seconds: float, fill: float) -> None:
        """Record a finished batch with its items' queue times and its fill ratio."""
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
        """Return the distributions so far."""
        return BatchHistograms(
            self._wait_s.snapshot(), self._compute_s.snapshot(), self._batch_items.snapshot(), self._fill.snapshot()
        )

    @property
    def padding_waste(self) -> float:
        """Fraction of the padded cost that was padding."""
        return 1 - self.useful / self.padded if self.padded else 0.0


class DecayingRate:
    """Exponentially decaying average of an amount per second, over about the last five seconds."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._amount = 0.0
        self._at = now

    def add(self, amount: float, now: float) -> None:
        """Add what was done by now."""
        self._amount = self._faded(now) + amount
        self._at = now

    def per_second(self, now: float) -> float:
        """Return the ratio of the amount to elapsed seconds, both decayed alike."""
        window = _WINDOW_S * (1 - math.exp(-(now - self._since) / _WINDOW_S))
        return self._faded(now) / window if window > 0 else 0.0

    def _faded(self, now: float) -> float:
        return self._amount * math.exp(-(now - self._at) / _WINDOW_S)


class BusyMeter(DecayingRate):
    """Decaying average of the fraction of time in which the device was computing; the amounts are seconds."""

    def fraction(self, now: float) -> float:
        """Return the ratio of busy to elapsed seconds, at most 1."""
        return min(1.0, self.per_second(now))
