"""Items of a remote model that remember what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from legit_embedding.engine.delivery import Delivery
from legit_embedding.errors import TaskError
from tests.remotes import vector

if TYPE_CHECKING:
    from legit_embedding.models.backend import Recipe

NAME = "far"


class Item(Delivery):
    """One text."""

    def __init__(self, text: str, recipe: Recipe, prompt: str | None = None, deadline: float | None = None) -> None:
        self.text = text
        self.model = NAME
        self.prepared = recipe.texts([text], [prompt])[0]
        self.deadline = deadline
        self.cancelled = None
        self.outcomes: list[Any] = []

    def done(self, vector: Any, queue_s: float, compute_s: float) -> None:
        self.outcomes.append(vector)

    def failed(self, error: TaskError) -> None:
        self.outcomes.append(error)

    def given_back(self) -> None:
        self.outcomes.append("given back")

    @property
    def outcome(self) -> Any:
        """What it ended in; None before."""
        assert len(self.outcomes) <= 1, f"{self.text} was settled {len(self.outcomes)} times"
        return self.outcomes[0] if self.outcomes else None

    @property
    def code(self) -> str | None:
        """The error code, if it ended in one."""
        return self.outcome.code if isinstance(self.outcome, TaskError) else None

    @property
    def is_right(self) -> bool:
        """Whether it got its own vector, once."""
        return isinstance(self.outcome, np.ndarray) and np.allclose(self.outcome, vector(self.text), atol=1e-6)
