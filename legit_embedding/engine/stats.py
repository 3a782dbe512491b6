"""What the engine says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

_WINDOW_S = 5.0


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

    def ran(self, items: int, useful: int, padded: int, seconds: float) -> None:
        """The device finished a batch."""
        self.batches += 1
        self.items += items
        self.useful += useful
        self.padded += padded
        self.device_s += seconds
        self.largest = max(self.largest, padded)

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
