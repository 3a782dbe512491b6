"""Whose batch is next on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_DEBT_S = 10.0
"""How far a model can fall behind the others by what it used, so that one very slow batch does not bar it for long."""


class Scheduler:
    """Deficit round robin on measured device time, with a quantum so small that it never shows.

    A model's credit is the device time it is owed, divided by its weight. The model with the largest credit is next;
    what its batch then takes is charged to it. Each turn everybody is granted the same, just so much that the model
    chosen has credit zero. A model cannot save credit while it has nothing to do, so none above
    zero is kept; debts are.

    Args:
        weights: each model's share of device time, in any unit.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._credit = dict.fromkeys(weights, 0.0)
        self._served = dict.fromkeys(weights, 0)
        self._turn = 0

    def set_weight(self, model: str, weight: float) -> None:
        """Change a model's share from now on.

        Raises:
            ValueError: the weight is not above zero.
        """
        if not weight > 0:
            message = f"a weight must be above zero, not {weight}"
            raise ValueError(message)
        self._weights[model] = weight

    def weight(self, model: str) -> float:
        """A model's share, in the unit of all weights."""
        return self._weights[model]

    def next(self, ready: Iterable[str]) -> str:
        """Whose turn it is among these models; of equals, the one served least recently."""
        return max(ready, key=lambda model: (self._credit[model], -self._served[model]))

    def serve(self, model: str, seconds: float) -> None:
        """A batch of the model whose turn it is goes to the device, and will probably take so long."""
        level = self._credit[model]
        for each, owed in self._credit.items():
            self._credit[each] = min(owed - level, 0.0)
        self._turn += 1
        self._served[model] = self._turn
        self.correct(model, seconds)

    def correct(self, model: str, seconds: float) -> None:
        """A batch took so much longer than it was charged with, or, below zero, so much less."""
        self._credit[model] = max(self._credit[model] - seconds / self._weights[model], -MAX_DEBT_S)
