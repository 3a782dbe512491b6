"""Batches currently on the device, and the estimate of when it will be free."""

from __future__ import annotations

from collections import deque

_LEAD_S = 0.002
_LEAD_FACTOR = 2.0
_SMOOTHING = 0.2


class DeviceQueue:
    """Launched batches in launch order. A batch lands when its vectors have arrived.

    Args:
        depth: the most batches that may be on the device at once.
    """

    def __init__(self, depth: int = 2) -> None:
        self.depth = depth
        self._expected: deque[float] = deque()
        self._free_at = 0.0
        self._preparing_s = 0.0
        self._progress_at = 0.0

    def __len__(self) -> int:
        return len(self._expected)

    @property
    def full(self) -> bool:
        """True if another batch would only wait on the device rather than here, where it can still gain items."""
        return len(self._expected) >= self.depth

    def launched(self, expected_s: float, preparing_s: float, now: float) -> None:
        """Record a launch.

        Args:
            expected_s: the expected compute time, in seconds.
            preparing_s: the time from packing to launch, in seconds.
            now: the current time, by `time.monotonic`.
        """
        if not self._expected:
            self._free_at = self._progress_at = now
        self._expected.append(expected_s)
        self._free_at += expected_s
        self._preparing_s += _SMOOTHING * (preparing_s - self._preparing_s)

    def landed(self, now: float) -> None:
        """Record that the oldest launched batch has landed."""
        self._expected.popleft()
        self._progress_at = now
        self._free_at = now + sum(self._expected)

    def spare(self, now: float) -> float:
        """Return how many seconds a partial batch can still wait for more items without idling the device."""
        if not self._expected:
            return 0.0
        return self._free_at - now - max(_LEAD_S, _LEAD_FACTOR * self._preparing_s)

    def stalled_for(self, now: float) -> float:
        """Return the seconds since the device last made progress, 0 if it has no batch."""
        return now - self._progress_at if self._expected else 0.0
