"""What is on the device at the moment, and when it will be free."""

from __future__ import annotations

from collections import deque

_LEAD_S = 0.002
_LEAD_FACTOR = 2.0
_SMOOTHING = 0.2


class DeviceQueue:
    """Batches in the order of their launch. A batch lands when its vectors have arrived.

    Args:
        depth: how many there may be at once.
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
        """Whether another batch would only wait longer there than here, where better company may come along."""
        return len(self._expected) >= self.depth

    def launched(self, expected_s: float, preparing_s: float, now: float) -> None:
        """A batch was launched.

        Args:
            expected_s: how long it will probably compute.
            preparing_s: how long it took from its packing to its launch.
            now: the time, by `time.monotonic`.
        """
        if not self._expected:
            self._free_at = self._progress_at = now
        self._expected.append(expected_s)
        self._free_at += expected_s
        self._preparing_s += _SMOOTHING * (preparing_s - self._preparing_s)

    def landed(self, now: float) -> None:
        """The batch launched first has landed."""
        self._expected.popleft()
        self._progress_at = now
        self._free_at = now + sum(self._expected)

    def spare(self, now: float) -> float:
        """For how long a batch that is not full yet can still wait for company without the device running dry."""
        if not self._expected:
            return 0.0
        return self._free_at - now - max(_LEAD_S, _LEAD_FACTOR * self._preparing_s)

    def stalled_for(self, now: float) -> float:
        """How long there has been something on the device, and nothing landed."""
        return now - self._progress_at if self._expected else 0.0
