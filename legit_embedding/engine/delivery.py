"""Interface between the engine and its sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.errors import ErrorCode, TaskError
    from legit_embedding.models.backend import Prepared


class Delivery(ABC):
    """Prepared item on its way through the device.

    Exactly one of `done`, `failed` and `given_back` is called, once, from one of the engine's threads or from the
    thread that called `Engine.submit`, `Engine.cancel` or `Engine.close`. They must not block or raise. Deliveries are
    compared by identity.
    """

    __slots__ = ("cancelled", "deadline", "model", "prepared", "queued_at")

    model: str
    prepared: Prepared
    interactive: bool = False
    """True if somebody waits for the item: it goes before bulk items of its model."""
    content: bytes = b""
    """Digest of the prepared item; items of one batch with the same digest are computed once. Empty if unknown."""
    deadline: float | None
    """Unix time in seconds after which the item is answered with ``expired``; checked when a batch is packed."""
    queued_at: float
    """`time.monotonic` at `Engine.submit`, set by the engine."""
    cancelled: ErrorCode | None
    """Error code to fail with, or None. May be set from any thread at any time, preferably through `Engine.cancel`,
    which answers a waiting item at once. If the item is already on the device, its vector is dropped."""

    @abstractmethod
    def done(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> None:
        """Receive the item's finite vector, ``[dim]``, its time in the queue, and its batch's compute time."""

    @abstractmethod
    def failed(self, error: TaskError) -> None:
        """Receive the reason why the item cannot be embedded."""

    @abstractmethod
    def given_back(self) -> None:
        """Take the item back unanswered: the engine stopped before embedding it."""
