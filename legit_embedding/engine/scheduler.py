"""Fair scheduling of device time between models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_DEBT_S = 10.0
"""Limit on a model's debt, in seconds, so that one very slow batch does not block the model for long."""


class Scheduler:
    """Deficit round robin on measured device time, with a negligible quantum.

    A model's credit is the device time it is owed, divided by its weight. The model with the largest credit runs next
    and is charged for the time its batch takes. On each turn all models are granted the same amount, chosen so that the
    selected model has zero credit. Credit above zero is discarded, because idle models must not accumulate it; debt is
    kept.

    Args:
        weights: each model's share of device time, in any unit.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._credit = dict.fromkeys(weights, 0.0)
        self._served = dict.fromkeys(weights, 0)
        self._turn = 0

    def set_weight(self, model: str, weight: float) -> None:
        """Change a model's share.

        Raises:
            ValueError: the weight is not positive.
        """
        if not weight > 0:
            message = f"a weight must be above zero, not {weight}"
            raise ValueError(message)
        self._weights[model] = weight

    def weight(self, model: str) -> float:
        """Return a model's share, in the common unit of all weights."""
        return self._weights[model]

    def next(self, ready: Iterable[str]) -> str:
        """Choose the model that runs next; ties go to the least recently served one."""
        return max(ready, key=lambda model: (self._credit[model], -self._served[model]))

    def serve(self, model: str, seconds: float) -> None:
        """Record a launch of the chosen model and charge its expected time."""
        level = self._credit[model]
        for each, owed in self._credit.items():
            self._credit[each] = min(owed - level, 0.0)
        self._turn += 1
        self._served[model] = self._turn
        self.correct(model, seconds)

    def correct(self, model: str, seconds: float) -> None:
        """Charge the difference between a batch's actual and expected time, which may be negative."""
        self._credit[model] = max(self._credit[model] - seconds / self._weights[model], -MAX_DEBT_S)
