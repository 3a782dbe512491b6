"""Counters of the writer."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class WriterStats:
    """Counters since the start; `in_flight`, `pending` and `pending_bytes` are current values."""

    written: int = 0
    already: int = 0
    """Tasks already answered by an earlier delivery or another worker; nothing was written again."""
    refused: int = 0
    """Tasks answered with ``reply_to_refused`` on the default stream."""
    batches: int = 0
    retries: int = 0
    in_flight: int = 0
    pending: int = 0
    pending_bytes: int = 0
    write_s_sum: float = 0.0
    write_s_buckets: tuple[tuple[float, int], ...] = ()
    """Cumulative as in Prometheus: (upper bound in seconds, number of batches confirmed within it)."""


class Counters:
    """Counters that only the writer's thread changes and any thread may read."""

    def __init__(self) -> None:
        self.written = 0
        self.already = 0
        self.refused = 0
        self.retries = 0
        self.in_flight = 0
        self._batches = 0
        self._write_s_sum = 0.0
        self._buckets = [0] * (len(BUCKETS_S) + 1)

    def confirmed(self, seconds: float) -> None:
        """Count a confirmed batch with the time in seconds since its first attempt began."""
        self._batches += 1
        self._write_s_sum += seconds
        self._buckets[bisect_left(BUCKETS_S, seconds)] += 1

    def snapshot(self, pending: int, pending_bytes: int) -> WriterStats:
        """The current counters."""
        return WriterStats(
            written=self.written,
            already=self.already,
            refused=self.refused,
            batches=self._batches,
            retries=self.retries,
            in_flight=self.in_flight,
            pending=pending,
            pending_bytes=pending_bytes,
            write_s_sum=self._write_s_sum,
            write_s_buckets=tuple(zip((*BUCKETS_S, float("inf")), accumulate(self._buckets), strict=True)),
        )
