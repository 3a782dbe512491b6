"""The one interface between the engine and what feeds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.errors import ErrorCode, TaskError
    from legit_embedding.models.backend import Prepared


class Delivery(ABC):
    """A prepared item on its way through the device.

    Exactly one of `done`, `failed` and `given_back` is called, once, from one of the engine's threads or from the
    thread that called `Engine.submit`, `Engine.cancel` or `Engine.close`. None may block or raise. Deliveries are
    compared by identity.
    """

    __slots__ = ("cancelled", "deadline", "model", "prepared", "queued_at")

    model: str
    prepared: Prepared
    deadline: float | None
    """Unix time in seconds after which the item is answered with ``expired``; looked at when a batch is packed."""
    queued_at: float
    """`time.monotonic` at `Engine.submit`, set by the engine."""
    cancelled: ErrorCode | None
    """Set by anyone, at any time, best through `Engine.cancel`, which answers a waiting item at once: an item not yet
    on the device fails with this code, and one that is on it has its vector dropped and fails with it too."""

    @abstractmethod
    def done(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> None:
        """The item's vector, ``[dim]``, finite; how long it waited for the device, and how long its batch computed."""

    @abstractmethod
    def failed(self, error: TaskError) -> None:
        """The item cannot be embedded."""

    @abstractmethod
    def given_back(self) -> None:
        """The engine stopped before the item was embedded: it is its source's again, unanswered."""
