"""Models that do what a test asks, and deliveries that remember what became of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from legit_embedding.config import Kind, ModelConfig
from legit_embedding.engine.delivery import Delivery
from legit_embedding.errors import ErrorCode, TaskError
from legit_embedding.models.backend import Prepared, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

DIM: Final = 4
LIMIT_S: Final = 20.0
"""How long anything in these tests may take at most."""


class Item(Delivery):
    """Counts its callbacks and keeps what they brought."""

    __slots__ = ("__weakref__", "content", "interactive", "number", "on_settled", "outcome", "settled", "times")

    def __init__(
        self, number: int, model: str = "images", length: int | None = None, deadline: float | None = None
    ) -> None:
        self.model = model
        size = 1 if length is None else length
        self.prepared = Prepared(np.full(size, number, np.int64), size)
        self.deadline = deadline
        self.cancelled: ErrorCode | None = None
        self.interactive = False
        self.content = b""
        self.number = number
        self.settled = 0
        self.outcome: NDArray[np.float32] | TaskError | str | None = None
        self.times: tuple[float, float] | None = None
        self.on_settled: Callable[[Item], None] | None = None

    def done(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> None:
        self.times = (queue_s, compute_s)
        self._settle(vector)

    def failed(self, error: TaskError) -> None:
        self._settle(error)

    def given_back(self) -> None:
        self._settle("given back")

    @property
    def code(self) -> str | None:
        """The error code, if it ended in one."""
        return self.outcome.code if isinstance(self.outcome, TaskError) else None

    @property
    def was_given_back(self) -> bool:
        """Whether it came back unanswered, once."""
        return self.settled == 1 and isinstance(self.outcome, str)

    @property
    def is_right(self) -> bool:
        """Whether it got its own vector, once."""
        return (
            self.settled == 1
            and isinstance(self.outcome, np.ndarray)
            and np.array_equal(self.outcome, vector(self.number))
        )

    def _settle(self, outcome: Any) -> None:
        self.settled += 1
        self.outcome = outcome
        if self.on_settled is not None:
            self.on_settled(self)


def vector(number: int) -> NDArray[np.float32]:
    """The vector that `Model` gives for a number."""
    return np.array([number, number % 7, number % 11, 1], np.float32)


class Model:
    """Gives each item a vector made from its number, and lets a test look into and interfere with each batch."""

    def __init__(self, kind: Kind = "image", name: str | None = None, **config: Any) -> None:
        self.name = name or f"{kind}s"
        self.config = ModelConfig(kind=kind, backend="a test", **config)
        self.batches: list[list[int]] = []
        """The numbers of each batch that ran after the start, 0 for warming up left out."""
        self.collated: list[list[int]] = []
        self.loads: list[tuple[torch.device, torch.dtype, str]] = []
        self.on_load: Callable[[], None] = lambda: None
        self.on_forward: Callable[[list[int]], None] = lambda numbers: None
        self.on_vectors: Callable[[list[int], torch.Tensor], torch.Tensor] = lambda numbers, vectors: vectors

    @property
    def kind(self) -> Kind:
        return self.config.kind

    @property
    def dim(self) -> int:
        return DIM

    def recipe(self) -> Recipe:
        raise NotImplementedError

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        self.loads.append((device, dtype, threading.current_thread().name))
        self.on_load()

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        numbers = [int(array[0]) for array in arrays]
        if any(numbers):
            self.collated.append(numbers)
        return {"numbers": torch.tensor(numbers)}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        numbers = inputs["numbers"].tolist()
        if any(numbers):
            self.batches.append(numbers)
            self.on_forward(numbers)
        vectors = torch.from_numpy(np.stack([vector(number) for number in numbers]))
        return self.on_vectors(numbers, vectors)

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        if self.kind == "image":
            return [np.zeros(1, np.int64)] * cost
        return [np.zeros(min(cost, 64), np.int64)] * max(1, cost // 64)


class Gate:
    """Holds batches up until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, numbers: list[int]) -> None:
        self.reached.set()
        assert self._open.wait(LIMIT_S), "nobody opened the gate"

    def open(self) -> None:
        self._open.set()
